// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration as JSON for a peer, and back. One table of keys serves both directions, so that what is written is
 * what is read; what a key's value may be is checked on both sides, by the same code. What options mean is
 * config_options.c; the file that a user writes is config_json.c.
 */
#include "vmm/config_wire.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define PATH_BYTES_MAX	  4095
#define CMDLINE_BYTES_MAX 65535

enum kind {
	WIRE_CONSTANT, /* min; nothing in the struct */
	WIRE_SAME,     /* like the member, which an earlier row has read */
	WIRE_BOOL,
	WIRE_NUMBER, /* of `width` bytes, min to max */
	WIRE_CHOICE, /* an enum, by name */
	WIRE_TEXT,   /* char *, 1 (min 0: 0) to max bytes */
	WIRE_MAYBE,  /* the same, or null */
	WIRE_SERIAL, /* the printable text of struct config_disk */
	WIRE_HEX,    /* `width` bytes */
};

struct key {
	const char *name;
	enum kind kind;
	size_t offset;
	unsigned int width;
	uint64_t min, max;
	const char *(*choice)(unsigned int value); /* NULL beyond the last */
};

/* ---- The keys ---- */

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

#define AT(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)
#define CONFIG(member)	 AT(config, member)
#define DISK(member)	 AT(config_disk, member)
#define NET(member)	 AT(config_net, member)

/* clang-format off */
static const struct key config_keys[] = {
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

static const struct key disk_keys[] = {
	{"path",		WIRE_TEXT,	DISK(path), 1, PATH_BYTES_MAX},
	{"readonly",		WIRE_BOOL,	DISK(readonly)},
	{"cached",		WIRE_BOOL,	DISK(cached)},
	{"serial",		WIRE_SERIAL,	DISK(serial)},
	{"queues",		WIRE_NUMBER,	DISK(nqueues), 1, 16},
	{"block-bytes",		WIRE_NUMBER,	DISK(block_bytes), 512, 4096},
	{"size-bytes",		WIRE_NUMBER,	DISK(size_bytes), 512, LLONG_MAX},
	{NULL},
};

static const struct key net_keys[] = {
	{"backend",		WIRE_CHOICE,	NET(kind), .choice = net_choice},
	{"tap",			WIRE_MAYBE,	NET(tap), 1, 15},
	{"mac",			WIRE_HEX,	NET(mac)},
	{"queue-pairs",		WIRE_NUMBER,	NET(npairs), 1, 8},
	{"offloads",		WIRE_CHOICE,	NET(offloads), .choice = offloads_choice},
	{"vhost",		WIRE_BOOL,	NET(vhost)},
	{NULL},
};
/* clang-format on */

/* ---- What values may be, in both directions ---- */

/* Paths and names end in logs: they are lines of text. A command line goes to the guest alone. */
static const char *text_wrong(const struct key *key, const char *text)
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

static uint64_t get_number(const struct key *key, const void *object)
{
	const uint8_t *at = (const uint8_t *)object + key->offset;
	uint64_t number = 0;

	memcpy(&number, at, key->width); /* little-endian */
	return number;
}

static void set_number(const struct key *key, void *object, uint64_t number)
{
	memcpy((uint8_t *)object + key->offset, &number, key->width);
}

/* ---- Writing ---- */

static int cannot(const char *where, const struct key *key, const char *why)
{
	return fail(-EINVAL, "config: %s%s: %s: it cannot travel", where, key->name, why);
}

static json_t *hex_of(const uint8_t *bytes, unsigned int n)
{
	char text[2 * 16 + 1];

	for (unsigned int i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static int put_key(json_t *to, const char *where, const struct key *key, const void *object)
{
	const void *at = (const uint8_t *)object + key->offset;
	const char *text = NULL, *wrong = NULL;
	json_t *value = NULL;
	uint64_t number;

	switch (key->kind) {
	case WIRE_CONSTANT:
		value = json_integer((json_int_t)key->min);
		break;
	case WIRE_BOOL:
		value = json_boolean(*(const bool *)at);
		break;
	case WIRE_NUMBER:
	case WIRE_SAME:
		number = get_number(key, object);
		if (key->kind == WIRE_NUMBER && (number < key->min || number > key->max))
			wrong = "out of range";
		value = json_integer((json_int_t)number);
		break;
	case WIRE_CHOICE:
		value = json_string(key->choice((unsigned int)get_number(key, object)));
		break;
	case WIRE_TEXT:
	case WIRE_MAYBE:
		text = *(char *const *)at;
		if (text)
			wrong = text_wrong(key, text);
		else if (key->kind == WIRE_TEXT)
			wrong = "none given";
		/* NULL for bytes that are no UTF-8. */
		value = text ? json_string(text) : json_null();
		break;
	case WIRE_SERIAL:
		value = json_string(at);
		break;
	case WIRE_HEX:
		value = hex_of(at, key->width);
		break;
	}
	if (!wrong && !value)
		wrong = "not UTF-8";
	if (!wrong && json_object_set(to, key->name, value))
		wrong = "no memory";
	json_decref(value);
	return wrong ? cannot(where, key, wrong) : 0;
}

static int put_keys(json_t *to, const char *where, const struct key *keys, const void *object)
{
	int error = 0;

	for (const struct key *key = keys; key->name && !error; key++)
		error = put_key(to, where, key, object);
	return error;
}

static int put_list(json_t *to, const char *name, const struct key *keys, const void *objects,
		    size_t size, unsigned int n)
{
	json_t *list = json_array();
	int error = json_object_set_new(to, name, list) ? -ENOMEM : 0;

	for (unsigned int i = 0; i < n && !error; i++) {
		json_t *row = json_object();
		char where[24];

		snprintf(where, sizeof(where), "%s %u ", name, i);
		error = put_keys(row, where, keys, (const uint8_t *)objects + i * size);
		if (json_array_append_new(list, row) && !error)
			error = -ENOMEM;
	}
	return error == -ENOMEM ? fail(error, "config: no memory") : error;
}

int config_to_json(const struct config *config, struct buf *out)
{
	json_t *root = json_object();
	char *text = NULL;
	int error = put_keys(root, "", config_keys, config);

	if (!error)
		error = put_list(root, "disks", disk_keys, config->disk, sizeof(config->disk[0]),
				 config->ndisks);
	if (!error)
		error = put_list(root, "nets", net_keys, config->net, sizeof(config->net[0]),
				 config->nnets);
	if (!error)
		text = json_dumps(root, JSON_COMPACT);
	if (text)
		error = buf_put(out, text, strlen(text));
	else if (!error)
		error = -ENOMEM;
	if (error == -ENOMEM || error == -ENOSPC)
		fail(error, "config: %s for it to travel",
		     error == -ENOSPC ? "too large" : "no memory");
	free(text);
	json_decref(root);
	return error;
}

/* ---- Reading ---- */

static int refuse(const char *where, const char *name, const char *why)
{
	return fail(-EBADMSG, "config: from the source: %s%.40s: %s", where, name, why);
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *read_hex(uint8_t *bytes, unsigned int n, const char *text)
{
	if (strlen(text) != 2 * (size_t)n)
		return "wrong length";
	for (unsigned int i = 0; i < n; i++) {
		int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return "not hex";
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return NULL;
}

static const char *read_serial(char *serial, unsigned int size, const char *text)
{
	size_t len = strnlen(text, size);

	if (len == size)
		return "too long";
	for (size_t i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return "not printable ASCII";
	memcpy(serial, text, len + 1);
	return NULL;
}

static const char *read_text(const struct key *key, char **to, const char *text)
{
	const char *wrong = text_wrong(key, text);

	if (wrong)
		return wrong;
	free(*to);
	*to = strdup(text);
	return *to ? NULL : "no memory";
}

static const char *read_choice(const struct key *key, void *object, const char *text)
{
	for (unsigned int i = 0; key->choice(i); i++) {
		if (*text && !strcmp(text, key->choice(i))) {
			set_number(key, object, i);
			return NULL;
		}
	}
	return "not one that this Tern knows";
}

static const char *read_number(const struct key *key, void *object, json_int_t number)
{
	switch (key->kind) {
	case WIRE_CONSTANT:
		return (uint64_t)number == key->min ? NULL : "not one that this Tern knows";
	case WIRE_SAME:
		return (uint64_t)number == get_number(key, object) ? NULL
								   : "room to grow is not known";
	default:
		if (number < 0 || (uint64_t)number < key->min || (uint64_t)number > key->max)
			return "out of range";
		set_number(key, object, (uint64_t)number);
		return NULL;
	}
}

/* NULL, or what is wrong with it. */
static const char *read_value(const struct key *key, void *object, const json_t *value)
{
	void *at = (uint8_t *)object + key->offset;
	const char *text = json_string_value(value);

	switch (key->kind) {
	case WIRE_CONSTANT:
	case WIRE_SAME:
	case WIRE_NUMBER:
		if (!json_is_integer(value))
			return "not an integer";
		return read_number(key, object, json_integer_value(value));
	case WIRE_BOOL:
		if (!json_is_boolean(value))
			return "neither true nor false";
		*(bool *)at = json_is_true(value);
		return NULL;
	case WIRE_MAYBE:
		if (json_is_null(value))
			return NULL;
		return text ? read_text(key, at, text) : "neither text nor null";
	case WIRE_CHOICE:
		return text ? read_choice(key, object, text) : "not text";
	case WIRE_TEXT:
		return text ? read_text(key, at, text) : "not text";
	case WIRE_SERIAL:
		return text ? read_serial(at, key->width, text) : "not text";
	case WIRE_HEX:
		return text ? read_hex(at, key->width, text) : "not text";
	}
	return "not known";
}

/* All keys, in the table's order; then nothing may be left but lists (which read_list() takes) and "x-". */
static int read_keys(json_t *from, const char *where, const struct key *keys, void *object)
{
	if (!json_is_object(from))
		return refuse(where, "value", "not an object");
	for (const struct key *key = keys; key->name; key++) {
		const json_t *value = json_object_get(from, key->name);
		const char *wrong = value ? read_value(key, object, value) : "missing";

		if (wrong)
			return refuse(where, key->name, wrong);
		json_object_del(from, key->name);
	}
	return 0;
}

static int read_unknown(json_t *from, const char *where)
{
	const char *name;
	json_t *value;

	json_object_foreach(from, name, value)
	{
		if (strncmp(name, "x-", 2) != 0)
			return refuse(where, name, "this Tern does not know it");
	}
	return 0;
}

static int read_list(json_t *from, const char *name, const struct key *keys, void *objects,
		     size_t size, unsigned int max, unsigned int *n)
{
	const json_t *list = json_object_get(from, name);
	int error = 0;

	if (!json_is_array(list))
		return refuse("", name, list ? "not a list" : "missing");
	if (json_array_size(list) > max)
		return refuse("", name, "more than fit");
	for (size_t i = 0; i < json_array_size(list) && !error; i++) {
		json_t *row = json_array_get(list, i);
		char where[24];

		snprintf(where, sizeof(where), "%s %zu ", name, i);
		*n = (unsigned int)i + 1; /* what is half read is freed too */
		error = read_keys(row, where, keys, (uint8_t *)objects + i * size);
		if (!error)
			error = read_unknown(row, where);
	}
	json_object_del(from, name);
	return error;
}

/* What no single key says. */
static int check_whole(struct config *config)
{
	/* Is it a CPU that there is on this architecture? */
	AUTO_FREE char *cpu = strdup(config->cpu);

	if (!cpu || config_set(config, "cpu", cpu))
		return -EBADMSG;
	for (unsigned int i = 0; i < config->ndisks; i++) {
		const struct config_disk *disk = &config->disk[i];

		if ((disk->block_bytes != 512 && disk->block_bytes != 4096) ||
		    disk->size_bytes % disk->block_bytes)
			return refuse("disks ", "block-bytes",
				      "not 512 or 4096, or no part of size-bytes");
	}
	for (unsigned int i = 0; i < config->nnets; i++) {
		const struct config_net *net = &config->net[i];

		if ((net->kind == NET_TAP) != (net->tap != NULL) ||
		    (net->tap && strchr(net->tap, '/')))
			return refuse("nets ", "tap",
				      "the name of an interface, and null for passt");
		if (net->mac[0] & 1 || !memcmp(net->mac, "\0\0\0\0\0", 6))
			return refuse("nets ", "mac", "a group address or all zero");
	}
	return config_check(config) ? -EBADMSG : 0;
}

int config_from_json(struct config *config, const void *bytes, size_t len)
{
	json_error_t why;
	json_t *root;
	int error;

	config_init(config);
	if (len > CONFIG_WIRE_BYTES)
		error = refuse("", "configuration", "too large");
	else
		error = 0;
	root = error ? NULL : json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &why);
	if (!error && !root)
		error = refuse("", "configuration", "not JSON");
	if (!error)
		error = read_keys(root, "", config_keys, config);
	if (!error)
		error = read_list(root, "disks", disk_keys, config->disk, sizeof(config->disk[0]),
				  CONFIG_DISKS_MAX, &config->ndisks);
	if (!error)
		error = read_list(root, "nets", net_keys, config->net, sizeof(config->net[0]),
				  CONFIG_NETS_MAX, &config->nnets);
	if (!error)
		error = read_unknown(root, "");
	if (!error)
		error = check_whole(config);
	json_decref(root);
	if (error)
		config_fini(config);
	return error;
}
