/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keys of a configuration that travels: one table for the writer and the reader (config_wire_keys.c), and what both check
 * about a value. Only vmm/config_wire*.c include this.
 */
#ifndef VMM_CONFIG_WIRE_KEYS_H
#define VMM_CONFIG_WIRE_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/config.h"

enum config_wire_kind {
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

struct config_key {
	const char *name;
	enum config_wire_kind kind;
	unsigned int width;
	size_t offset;
	uint64_t min, max;
	const char *(*choice)(unsigned int value); /* NULL beyond the last */
};

/* name NULL ends a table. */
extern const struct config_key config_wire_keys[], config_wire_disk_keys[], config_wire_net_keys[];

/* What is wrong with a text, NULL: nothing. */
const char *config_wire_text_wrong(const struct config_key *key, const char *text);
/* A member as a number, of 1 to 8 bytes. */
uint64_t config_wire_get(const struct config_key *key, const void *object);
void config_wire_set(const struct config_key *key, void *object, uint64_t number);

#endif
