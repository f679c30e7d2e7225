/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration of one VM: what a user states (command line, JSON file) and, once resolved, the effective values
 * that everything else uses and that travel at migration. A plain value: no descriptors, no threads.
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "memory/dirty.h"
#include "memory/ram.h"

#define CONFIG_CPUS_MAX	 64
#define CONFIG_DISKS_MAX 16
#define CONFIG_NETS_MAX	 8
#define CONFIG_NAME_MAX	 63

enum config_serial { SERIAL_STDIO, SERIAL_PTY, SERIAL_FILE, SERIAL_OFF };
enum config_sandbox { SANDBOX_ON, SANDBOX_LOG, SANDBOX_OFF };
enum config_net_kind { NET_TAP, NET_PASST };
/* Whether a card offers checksum and segmentation offloads; OF_KIND is resolved with the machine: a tap does, passt not. */
enum config_offloads { OFFLOADS_OF_KIND, OFFLOADS_ON, OFFLOADS_OFF };

struct config_disk {
	char *path;
	bool readonly;
	bool cached;	  /* through the host's page cache; default O_DIRECT */
	char serial[21];  /* at most 20 bytes */
	uint16_t nqueues; /* 0: one per vCPU, at most 4 */
	/* What the guest was told; no options: 0 until the image is open, or as a source said. */
	uint32_t block_bytes; /* 512, 4096 */
	uint64_t size_bytes;
};

struct config_net {
	enum config_net_kind kind;
	char *tap; /* interface name, or NULL */
	uint8_t mac
		[6]; /* all zero: derived from the VM's name and the index, locally administered */
	uint16_t npairs;	       /* queue pairs, 0: 1 */
	bool vhost;		       /* use vhost-net when the host has it; default true */
	enum config_offloads offloads; /* no option */
};

struct config {
	char *name; /* [A-Za-z0-9_.-]{1,63} */
	unsigned int cpus;
	uint64_t memory_bytes;
	enum ram_backing backing;
	bool prealloc;
	char *kernel, *initrd, *cmdline; /* paths and text; initrd may be NULL */
	unsigned int ndisks, nnets;
	struct config_disk disk[CONFIG_DISKS_MAX];
	struct config_net net[CONFIG_NETS_MAX];
	bool rng;
	enum config_serial serial;
	char *serial_path;  /* with SERIAL_FILE */
	char *control_path; /* NULL: the default, cli/ knows it */
	enum config_sandbox sandbox;
	char *cpu; /* "host", "x86-64-v2".. or arm64 "armv8-base" */
	struct dirty_request dirty;
	uint8_t uuid[16];     /* all zero: random at creation */
	uint32_t reset_limit; /* how many resets the guest may ask for; CONFIG_RESETS_UNLIMITED */
};
#define CONFIG_RESETS_UNLIMITED UINT32_MAX

/* Defaults: 1 CPU, 512 MiB, serial stdio, sandbox on, cpu host, no devices. */
void config_init(struct config *config);
void config_fini(struct config *config);
/* A deep copy; `to` needs no config_init() before it. -ENOMEM (then `to` is empty and config_fini() is allowed). */
int config_copy(struct config *to, const struct config *from) must_check;

/*
 * One option as on the command line, `key` without dashes, `value` as there ("2G", "path=a.img,readonly=on"). The
 * command line and the file both end here, so that every option is expressible in both. -EINVAL, logged, naming key, value and why.
 */
int config_set(struct config *config, const char *key, const char *value) must_check;
/* A JSON object {"cpus": 2, "disk": [{"path": ...}], ...}: keys and values as config_set's. -EINVAL names file, key, why. */
int config_load_file(struct config *config, const char *path) must_check;
/* Cross-checks and bounds that need no host: -EINVAL, logged, one line. */
int config_check(const struct config *config) must_check;
/* "2G", "512M", "4096" (bytes) -> bytes; false when it is not a size. */
bool config_parse_size(const char *text, uint64_t *bytes);

/* The text of an enum value as options spell it. */
const char *config_serial_name(enum config_serial serial);
const char *config_sandbox_name(enum config_sandbox sandbox);
const char *config_backing_name(enum ram_backing backing); /* "off", "2M", "1G": as hugetlb= */
/* Whether text may name a VM: [A-Za-z0-9_.-]{1,63}, not beginning with a dot or a dash. */
bool config_name_ok(const char *text);

/*
 * The table of options, for help texts and for whoever must know them all; key NULL ends it. The command line's
 * --config FILE is not among them: it is not expressible in a file.
 */
struct config_option;
const struct config_option *config_options(void);

#endif
