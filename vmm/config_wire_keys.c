// SPDX-License-Identifier: GPL-2.0-or-later
/* The keys of a configuration that travels, and what their values may be; docs/wire.md has the same table for people. */
#include "vmm/config_wire_keys.h"

#include <limits.h>
#include <string.h>

#define PATH_BYTES_MAX	  4095
#define CMDLINE_BYTES_MAX 65535

static const char *serial_choice(unsigned int value)
{
	return value <= SERIAL_OFF ? config_serial_name((enum config_serial)value) : NULL;
}

static const char *backing_choice(unsigned int value)
{
	return value <= RAM_HUGETLB_1G ? config_backing_name((enum ram_backing)value) : NULL;
}

static const char *net_choice(unsigned int value)
{
	static const char *const names[] = {[NET_TAP] = "tap", [NET_PASST] = "passt"};

	return value < ARRAY_SIZE(names) ? names[value] : NULL;
}

static const char *offloads_choice(unsigned int value)
{
	static const char *const names[] = {
		[OFFLOADS_OF_KIND] = "", [OFFLOADS_ON] = "on", [OFFLOADS_OFF] = "off"};

	return value < ARRAY_SIZE(names) ? names[value] : NULL;
}

#define AT(type, member) sizeof(((struct type *)0)->member), offsetof(struct type, member)
#define CONFIG(member)	 AT(config, member)
#define DISK(member)	 AT(config_disk, member)
#define NET(member)	 AT(config_net, member)

/* clang-format off */
const struct config_key config_wire_keys[] = {
	{"machine",		WIRE_CONSTANT,	.min = 1},
	{"name",		WIRE_TEXT,	CONFIG(name), 1, CONFIG_NAME_MAX},
	{"uuid",		WIRE_HEX,	CONFIG(uuid)},
	{"cpus",		WIRE_NUMBER,	CONFIG(cpus), 1, CONFIG_CPUS_MAX},
	{"cpus-max",		WIRE_SAME,	CONFIG(cpus)},
	{"cpu",			WIRE_TEXT,	CONFIG(cpu), 1, 63},
	{"memory-bytes",	WIRE_NUMBER,	CONFIG(memory_bytes), 1, LLONG_MAX},
	{"memory-max-bytes",	WIRE_SAME,	CONFIG(memory_bytes)},
	{"hugetlb",		WIRE_CHOICE,	CONFIG(backing), .choice = backing_choice},
	{"prealloc",		WIRE_BOOL,	CONFIG(prealloc)},
	{"kernel",		WIRE_TEXT,	CONFIG(kernel), 1, PATH_BYTES_MAX},
	{"initrd",		WIRE_MAYBE,	CONFIG(initrd), 1, PATH_BYTES_MAX},
	{"cmdline",		WIRE_TEXT,	CONFIG(cmdline), 0, CMDLINE_BYTES_MAX},
	{"serial",		WIRE_CHOICE,	CONFIG(serial), .choice = serial_choice},
	{"serial-path",		WIRE_MAYBE,	CONFIG(serial_path), 1, PATH_BYTES_MAX},
	{"rng",			WIRE_BOOL,	CONFIG(rng)},
	{"reset-limit",		WIRE_NUMBER,	CONFIG(reset_limit), 0, CONFIG_RESETS_UNLIMITED},
	{NULL},
};

const struct config_key config_wire_disk_keys[] = {
	{"path",		WIRE_TEXT,	DISK(path), 1, PATH_BYTES_MAX},
	{"readonly",		WIRE_BOOL,	DISK(readonly)},
	{"cached",		WIRE_BOOL,	DISK(cached)},
	{"serial",		WIRE_SERIAL,	DISK(serial)},
	{"queues",		WIRE_NUMBER,	DISK(nqueues), 1, 16},
	{"block-bytes",		WIRE_NUMBER,	DISK(block_bytes), 512, 4096},
	{"size-bytes",		WIRE_NUMBER,	DISK(size_bytes), 512, LLONG_MAX},
	{NULL},
};

const struct config_key config_wire_net_keys[] = {
	{"backend",		WIRE_CHOICE,	NET(kind), .choice = net_choice},
	{"tap",			WIRE_MAYBE,	NET(tap), 1, 15},
	{"mac",			WIRE_HEX,	NET(mac)},
	{"queue-pairs",		WIRE_NUMBER,	NET(npairs), 1, 8},
	{"offloads",		WIRE_CHOICE,	NET(offloads), .choice = offloads_choice},
	{"vhost",		WIRE_BOOL,	NET(vhost)},
	{NULL},
};
/* clang-format on */

/* Paths and names end in logs: they are lines of text. A command line goes to the guest alone. */
const char *config_wire_text_wrong(const struct config_key *key, const char *text)
{
	size_t len = strnlen(text, key->max + 1);

	if (len < key->min)
		return "empty";
	if (len > key->max)
		return "too long";
	for (size_t i = 0; key->min && i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return "control characters";
	return NULL;
}

uint64_t config_wire_get(const struct config_key *key, const void *object)
{
	const uint8_t *at = (const uint8_t *)object + key->offset;
	uint64_t number = 0;

	memcpy(&number, at, key->width); /* little-endian */
	return number;
}

void config_wire_set(const struct config_key *key, void *object, uint64_t number)
{
	memcpy((uint8_t *)object + key->offset, &number, key->width);
}
