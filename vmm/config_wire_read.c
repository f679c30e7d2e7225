// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A peer's configuration, read. Theory of operation: the table's keys are taken out of the object one by one, each checked;
 * one that is missing is refused, and what is left in the end is refused too, unless its name begins with "x-".
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vmm/config_wire.h"
#include "vmm/config_wire_keys.h"

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

static const char *read_text(const struct config_key *key, char **to, const char *text)
{
	const char *wrong = config_wire_text_wrong(key, text);

	if (wrong)
		return wrong;
	free(*to);
	*to = strdup(text);
	return *to ? NULL : "no memory";
}

static const char *read_choice(const struct config_key *key, void *object, const char *text)
{
	for (unsigned int i = 0; key->choice(i); i++) {
		if (*text && !strcmp(text, key->choice(i))) {
			config_wire_set(key, object, i);
			return NULL;
		}
	}
	return "not one that this Tern knows";
}

static const char *read_number(const struct config_key *key, void *object, json_int_t number)
{
	switch (key->kind) {
	case WIRE_CONSTANT:
		return (uint64_t)number == key->min ? NULL : "not one that this Tern knows";
	case WIRE_SAME:
		return (uint64_t)number == config_wire_get(key, object)
			       ? NULL
			       : "room to grow is not known";
	default:
		if (number < 0 || (uint64_t)number < key->min || (uint64_t)number > key->max)
			return "out of range";
		config_wire_set(key, object, (uint64_t)number);
		return NULL;
	}
}

/* NULL, or what is wrong with it. */
static const char *read_value(const struct config_key *key, void *object, const json_t *value)
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
static int read_keys(json_t *from, const char *where, const struct config_key *keys, void *object)
{
	if (!json_is_object(from))
		return refuse(where, "value", "not an object");
	for (const struct config_key *key = keys; key->name; key++) {
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

static int read_list(json_t *from, const char *name, const struct config_key *keys, void *objects,
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
	char cpu[64];

	/* Is it a CPU that there is on this architecture? */
	snprintf(cpu, sizeof(cpu), "%s", config->cpu);
	if (config_set(config, "cpu", cpu))
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
		error = read_keys(root, "", config_wire_keys, config);
	if (!error)
		error = read_list(root, "disks", config_wire_disk_keys, config->disk,
				  sizeof(config->disk[0]), CONFIG_DISKS_MAX, &config->ndisks);
	if (!error)
		error = read_list(root, "nets", config_wire_net_keys, config->net,
				  sizeof(config->net[0]), CONFIG_NETS_MAX, &config->nnets);
	if (!error)
		error = read_unknown(root, "");
	if (!error)
		error = check_whole(config);
	json_decref(root);
	if (error)
		config_fini(config);
	return error;
}
