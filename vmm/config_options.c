// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The option table: every option that a VM has, once. The command line, the configuration file, the help text and
 * (by a test) man page and shell completion follow it. How a value is split and where errors go is config.c.
 */
#include "vmm/config_option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RING_ENTRIES_MAX 65536
#define NET_PAIRS_MAX	 8
#define DISK_QUEUES_MAX	 16

static int unknown_part(const char *part, struct config_why *why, const char *known)
{
	return config_refuse(why, "\"%.40s\" is not one of %s", part, known);
}

static int set_name(struct config *config, const char *part, const char *value,
		    struct config_why *why)
{
	if (!config_name_ok(value))
		return config_refuse(
			why, "a name is of [A-Za-z0-9_.-]{1,%d} and begins with none of . and -",
			CONFIG_NAME_MAX);
	return config_parse_text(value, &config->name, why);
}

static int set_cpus(struct config *config, const char *part, const char *value,
		    struct config_why *why)
{
	uint64_t cpus;
	int error = config_parse_number(value, 1, CONFIG_CPUS_MAX, &cpus, why);

	if (!error)
		config->cpus = (unsigned int)cpus;
	return error;
}

static int begin_memory(struct config *config, struct config_why *why)
{
	config->backing = RAM_SHMEM;
	config->prealloc = false;
	return 0;
}

static int set_hugetlb(struct config *config, const char *value, struct config_why *why)
{
	for (int backing = RAM_SHMEM; backing <= RAM_HUGETLB_1G; backing++) {
		if (value && !strcmp(value, config_backing_name((enum ram_backing)backing))) {
			config->backing = (enum ram_backing)backing;
			return 0;
		}
	}
	return config_refuse(why, "hugetlb is 2M, 1G or off");
}

static int set_memory(struct config *config, const char *part, const char *value,
		      struct config_why *why)
{
	if (!strcmp(part, "size")) {
		if (!value || !config_parse_size(value, &config->memory_bytes))
			return config_refuse(why,
					     "the size is a number of bytes, or as 512M or 2G");
		return 0;
	}
	if (!strcmp(part, "hugetlb"))
		return set_hugetlb(config, value, why);
	if (!strcmp(part, "prealloc"))
		return config_parse_bool(value, &config->prealloc, why);
	return unknown_part(part, why, "size, hugetlb, prealloc");
}

static int set_kernel(struct config *config, const char *part, const char *value,
		      struct config_why *why)
{
	return config_parse_text(value, &config->kernel, why);
}

static int set_initrd(struct config *config, const char *part, const char *value,
		      struct config_why *why)
{
	return config_parse_text(value, &config->initrd, why);
}

static int set_cmdline(struct config *config, const char *part, const char *value,
		       struct config_why *why)
{
	char *copy = strdup(value);

	if (!copy)
		return config_refuse(why, "no memory");
	free(config->cmdline);
	config->cmdline = copy;
	return 0;
}

static int begin_disk(struct config *config, struct config_why *why)
{
	if (config->ndisks == CONFIG_DISKS_MAX)
		return config_refuse(why, "at most %d disks", CONFIG_DISKS_MAX);
	memset(&config->disk[config->ndisks++], 0, sizeof(struct config_disk));
	return 0;
}

static int set_disk_serial(struct config_disk *disk, const char *value, struct config_why *why)
{
	size_t len = value ? strlen(value) : 0;

	if (len == 0 || len >= sizeof(disk->serial))
		return config_refuse(why, "serial has 1 to %zu characters",
				     sizeof(disk->serial) - 1);
	for (size_t i = 0; i < len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			return config_refuse(why, "serial is printable ASCII");
	memcpy(disk->serial, value, len + 1);
	return 0;
}

static int set_disk(struct config *config, const char *part, const char *value,
		    struct config_why *why)
{
	struct config_disk *disk = &config->disk[config->ndisks - 1];
	uint64_t number;
	int error;

	if (!strcmp(part, "path"))
		return config_parse_text(value, &disk->path, why);
	if (!strcmp(part, "readonly"))
		return config_parse_bool(value, &disk->readonly, why);
	if (!strcmp(part, "cached"))
		return config_parse_bool(value, &disk->cached, why);
	if (!strcmp(part, "serial"))
		return set_disk_serial(disk, value, why);
	if (!strcmp(part, "queues")) {
		error = config_parse_number(value, 1, DISK_QUEUES_MAX, &number, why);
		if (!error)
			disk->nqueues = (uint16_t)number;
		return error;
	}
	return unknown_part(part, why, "path, readonly, cached, serial, queues");
}

static int end_disk(struct config *config, struct config_why *why)
{
	if (!config->disk[config->ndisks - 1].path)
		return config_refuse(why, "path= is missing");
	return 0;
}

/* NET_TAP without a name is "nothing said yet" until end_net(). */
static int begin_net(struct config *config, struct config_why *why)
{
	struct config_net *net;

	if (config->nnets == CONFIG_NETS_MAX)
		return config_refuse(why, "at most %d networks", CONFIG_NETS_MAX);
	net = &config->net[config->nnets++];
	memset(net, 0, sizeof(*net));
	net->kind = NET_TAP;
	net->vhost = true;
	return 0;
}

static int set_mac(struct config_net *net, const char *value, struct config_why *why)
{
	static const uint8_t none[6];
	uint8_t mac[6];
	int end = 0;

	if (!value ||
	    sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2],
		   &mac[3], &mac[4], &mac[5],
		   &end) != 6 || // NOLINT(cert-err34-c): two hex digits cannot overflow
	    end != 17 ||
	    value[end])
		return config_refuse(why, "mac is six pairs of hex digits with colons between");
	if (mac[0] & 1 || !memcmp(mac, none, sizeof(mac)))
		return config_refuse(why, "mac is a group address or all zero");
	memcpy(net->mac, mac, sizeof(mac));
	return 0;
}

static int set_net(struct config *config, const char *part, const char *value,
		   struct config_why *why)
{
	struct config_net *net = &config->net[config->nnets - 1];
	uint64_t number;
	bool on;
	int error;

	if (!strcmp(part, "tap")) {
		if (!value || !*value || strlen(value) > 15 || strchr(value, '/'))
			return config_refuse(why, "tap is the name of an interface");
		return config_parse_text(value, &net->tap, why);
	}
	if (!strcmp(part, "passt")) {
		error = config_parse_bool(value, &on, why);
		if (!error)
			net->kind = on ? NET_PASST : NET_TAP;
		return error;
	}
	if (!strcmp(part, "mac"))
		return set_mac(net, value, why);
	if (!strcmp(part, "vhost"))
		return config_parse_bool(value, &net->vhost, why);
	if (!strcmp(part, "queues")) {
		error = config_parse_number(value, 1, NET_PAIRS_MAX, &number, why);
		if (!error)
			net->npairs = (uint16_t)number;
		return error;
	}
	return unknown_part(part, why, "tap, passt, mac, queues, vhost");
}

static int end_net(struct config *config, struct config_why *why)
{
	const struct config_net *net = &config->net[config->nnets - 1];

	if ((net->kind == NET_PASST) == (net->tap != NULL))
		return config_refuse(why, "give one of tap=NAME and passt");
	return 0;
}

static int set_rng(struct config *config, const char *part, const char *value,
		   struct config_why *why)
{
	return config_parse_bool(value, &config->rng, why);
}

static int set_serial(struct config *config, const char *part, const char *value,
		      struct config_why *why)
{
	if (!strcmp(part, "file")) {
		int error = config_parse_text(value, &config->serial_path, why);

		if (!error)
			config->serial = SERIAL_FILE;
		return error;
	}
	for (int serial = SERIAL_STDIO; serial <= SERIAL_OFF; serial++) {
		if (!value && serial != SERIAL_FILE &&
		    !strcmp(part, config_serial_name((enum config_serial)serial))) {
			config->serial = (enum config_serial)serial;
			return 0;
		}
	}
	return unknown_part(part, why, "stdio, pty, file=PATH, off");
}

static int set_control(struct config *config, const char *part, const char *value,
		       struct config_why *why)
{
	return config_parse_text(value, &config->control_path, why);
}

static int set_sandbox(struct config *config, const char *part, const char *value,
		       struct config_why *why)
{
	for (int sandbox = SANDBOX_ON; sandbox <= SANDBOX_OFF; sandbox++) {
		if (!strcmp(value, config_sandbox_name((enum config_sandbox)sandbox))) {
			config->sandbox = (enum config_sandbox)sandbox;
			return 0;
		}
	}
	return unknown_part(value, why, "on, log, off");
}

#ifdef TERN_ARCH_arm64
#define CPU_NAMES "host|armv8-base"
static const char *const cpu_names[] = {"host", "armv8-base"};
#else
#define CPU_NAMES "host|x86-64-v2|x86-64-v3|x86-64-v4"
static const char *const cpu_names[] = {"host", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
#endif

static int set_cpu(struct config *config, const char *part, const char *value,
		   struct config_why *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(cpu_names); i++)
		if (!strcmp(value, cpu_names[i]))
			return config_parse_text(value, &config->cpu, why);
	return unknown_part(value, why, CPU_NAMES);
}

static int begin_dirty(struct config *config, struct config_why *why)
{
	memset(&config->dirty, 0, sizeof(config->dirty));
	return 0;
}

static int set_dirty(struct config *config, const char *part, const char *value,
		     struct config_why *why)
{
	uint64_t entries;
	int error;

	if (!value && !strcmp(part, "auto")) {
		config->dirty.mode = DIRTY_AUTO;
	} else if (!value && !strcmp(part, "bitmap")) {
		config->dirty.mode = DIRTY_BITMAP;
	} else if (!value && !strcmp(part, "ring")) {
		config->dirty.mode = DIRTY_RING;
	} else if (!strcmp(part, "ring")) {
		error = config_parse_number(value, 1, RING_ENTRIES_MAX, &entries, why);
		if (error)
			return error;
		if (entries & (entries - 1))
			return config_refuse(why, "%llu ring entries are not a power of two",
					     (unsigned long long)entries);
		config->dirty.mode = DIRTY_RING;
		config->dirty.ring_entries = (uint32_t)entries;
	} else {
		return unknown_part(part, why, "auto, ring[=ENTRIES], bitmap");
	}
	return 0;
}

static int set_uuid(struct config *config, const char *part, const char *value,
		    struct config_why *why)
{
	uint8_t uuid[16];
	size_t n = 0, i = 0;

	while (n < sizeof(uuid)) {
		int end = 0;

		if ((i == 8 || i == 13 || i == 18 || i == 23) && value[i++] != '-')
			break;
		// NOLINTNEXTLINE(cert-err34-c): two hex digits cannot overflow
		if (sscanf(value + i, "%2hhx%n", &uuid[n], &end) != 1 || end != 2 ||
		    value[i] == ' ')
			break;
		n++;
		i += 2;
	}
	if (n != sizeof(uuid) || value[i])
		return config_refuse(why, "a uuid is as 123e4567-e89b-42d3-a456-426614174000");
	memcpy(config->uuid, uuid, sizeof(uuid));
	return 0;
}

static int set_reset_limit(struct config *config, const char *part, const char *value,
			   struct config_why *why)
{
	uint64_t limit;
	int error;

	if (!strcmp(value, "unlimited")) {
		config->reset_limit = CONFIG_RESETS_UNLIMITED;
		return 0;
	}
	error = config_parse_number(value, 0, CONFIG_RESETS_UNLIMITED - 1, &limit, why);
	if (!error)
		config->reset_limit = (uint32_t)limit;
	return error;
}

/* clang-format off */
static const struct config_option options[] = {
	{"name", OPTION_TEXT, "NAME",
	 "How other commands call the VM; of [A-Za-z0-9_.-], at most 63.\nWithout it: vm and the process number.", .set = set_name},
	{"cpus", OPTION_TEXT, "N", "Virtual CPUs, 1 to 64 (default 1).", .set = set_cpus},
	{"memory", OPTION_PARTS, "SIZE[,hugetlb=2M|1G][,prealloc=on]",
	 "Guest memory, as 512M or 2G (default 512M). hugetlb: from the host's\nreserved huge pages. prealloc: populated before the guest starts.",
	 .first = "size", .begin = begin_memory, .set = set_memory},
	{"kernel", OPTION_TEXT, "FILE", "Linux kernel to boot (bzImage, ELF with a PVH note, or arm64 Image).", .set = set_kernel},
	{"initrd", OPTION_TEXT, "FILE", "Initial RAM disk.", .set = set_initrd},
	{"cmdline", OPTION_TEXT, "TEXT", "Kernel command line.", .set = set_cmdline},
	{"disk", OPTION_LIST, "path=FILE[,readonly=on][,serial=TEXT][,queues=N][,cached=on]",
	 "A virtio disk on a raw image or block device; may be repeated. The\nimage is locked. cached: through the host's page cache (default: direct\nI/O). queues: default one per CPU, at most 4.",
	 .first = "path", .begin = begin_disk, .set = set_disk, .end = end_disk},
	{"net", OPTION_LIST, "tap=NAME|passt[,mac=MAC][,queues=N][,vhost=off]",
	 "A virtio network interface on an existing tap, or on passt, which\nneeds no privileges; may be repeated.",
	 .begin = begin_net, .set = set_net, .end = end_net},
	{"rng", OPTION_FLAG, "on|off", "A virtio entropy source (default off; --rng alone is on).", .set = set_rng},
	{"serial", OPTION_PARTS, "stdio|pty|file=FILE|off",
	 "Where the guest's serial console goes (default stdio; Ctrl-A h there\nshows the keys). pty: for tern console.", .set = set_serial},
	{"control", OPTION_TEXT, "PATH", "The control socket (default NAME.sock in the runtime directory).", .set = set_control},
	{"sandbox", OPTION_TEXT, "on|log|off",
	 "System call filter (default on; log: forbidden calls are only reported).", .set = set_sandbox},
	{"cpu", OPTION_TEXT, CPU_NAMES,
	 "CPU that the guest sees (default host). A named one is the same on\nevery host that has it.", .set = set_cpu},
	{"dirty-tracking", OPTION_PARTS, "auto|ring[=ENTRIES]|bitmap",
	 "How KVM reports written pages to a migration (default auto).", .begin = begin_dirty, .set = set_dirty},
	{"reset-limit", OPTION_TEXT, "N|unlimited",
	 "Resets that the guest may ask for; at the next one tern ends with\nstatus 4 (default unlimited).", .set = set_reset_limit},
	{"uuid", OPTION_TEXT, "UUID", "The VM's identity (default: random).", .set = set_uuid},
	{NULL},
};
/* clang-format on */

const struct config_option *config_options(void)
{
	return options;
}

const struct config_option *config_option_find(const char *key)
{
	for (const struct config_option *option = options; option->key; option++)
		if (!strcmp(option->key, key))
			return option;
	return NULL;
}

const char *config_serial_name(enum config_serial serial)
{
	static const char *const names[] = {
		[SERIAL_STDIO] = "stdio",
		[SERIAL_PTY] = "pty",
		[SERIAL_FILE] = "file",
		[SERIAL_OFF] = "off",
	};
	return names[serial];
}

const char *config_sandbox_name(enum config_sandbox sandbox)
{
	static const char *const names[] = {
		[SANDBOX_ON] = "on",
		[SANDBOX_LOG] = "log",
		[SANDBOX_OFF] = "off",
	};
	return names[sandbox];
}

const char *config_backing_name(enum ram_backing backing)
{
	static const char *const names[] = {
		[RAM_SHMEM] = "off",
		[RAM_HUGETLB_2M] = "2M",
		[RAM_HUGETLB_1G] = "1G",
	};
	return names[backing];
}
