// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration as JSON for a peer. What options mean is config_options.c; the file that a user writes is config_json.c;
 * the way back is config_wire_read.c.
 */
#include "vmm/config_wire.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vmm/config_wire_keys.h"

static int cannot(const char *where, const struct config_key *key, const char *why)
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

static int put_key(json_t *to, const char *where, const struct config_key *key, const void *object)
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
		number = config_wire_get(key, object);
		if (key->kind == WIRE_NUMBER && (number < key->min || number > key->max))
			wrong = "out of range";
		value = json_integer((json_int_t)number);
		break;
	case WIRE_CHOICE:
		value = json_string(key->choice((unsigned int)config_wire_get(key, object)));
		break;
	case WIRE_TEXT:
	case WIRE_MAYBE:
		text = *(char *const *)at;
		if (text)
			wrong = config_wire_text_wrong(key, text);
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

static int put_keys(json_t *to, const char *where, const struct config_key *keys,
		    const void *object)
{
	int error = 0;

	for (const struct config_key *key = keys; key->name && !error; key++)
		error = put_key(to, where, key, object);
	return error;
}

static int put_list(json_t *to, const char *name, const struct config_key *keys,
		    const void *objects, size_t size, unsigned int n)
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
	int error = put_keys(root, "", config_wire_keys, config);

	if (!error)
		error = put_list(root, "disks", config_wire_disk_keys, config->disk,
				 sizeof(config->disk[0]), config->ndisks);
	if (!error)
		error = put_list(root, "nets", config_wire_net_keys, config->net,
				 sizeof(config->net[0]), config->nnets);
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
