/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State tables: one list per device makes both the struct that holds everything the guest can observe and the table
 * that is saved, so that a field cannot be added and not migrate.
 *
 *	#define RNG_STATE(T, F, A, V)				\
 *		F(T, 1, u32, isr)	a scalar		\
 *		A(T, 2, u64, entry, 16)	a fixed array		\
 *		V(T, 3, u8, bytes, 4096) a variable array: at most 4096, with a member uint32_t n_bytes
 *	STATE_STRUCT(rng_state, RNG_STATE);	struct rng_state and const struct state_table rng_state_table (static)
 *	STATE_TABLE(rng_state, 1, RNG_STATE);	version 1
 *
 * The first number is the field's wire number: written by hand, never reused, 1..0x7fff. A field that older versions
 * did not have and whose zero is the old behaviour gets a number with STATE_OPTIONAL added: readers that do not
 * know it skip it, and its absence reads as zero. All else is mandatory: its absence, or an unknown mandatory number,
 * is -EBADMSG.
 *
 * A *section* is one struct's fields under a name and an instance number; a saved device is one or more sections.
 * Bytes (docs/wire.md is normative):
 *	section: u16 name length, name, u32 instance, u16 version, u32 payload length, payload
 *	payload: fields, each u16 number, u8 element size in bytes (1,2,4,8), u8 zero, u32 elements, the elements
 */
#ifndef BASE_STATE_H
#define BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/buf.h"

#define STATE_OPTIONAL 0x8000
#define STATE_NAME_MAX 63

typedef uint8_t state_u8;
typedef uint16_t state_u16;
typedef uint32_t state_u32;
typedef uint64_t state_u64;

struct state_field {
	const char *name;
	uint16_t number;       /* on the wire */
	uint8_t element_bytes; /* 1, 2, 4 or 8 */
	uint32_t max;	       /* elements: exactly (fixed) or at most (variable) */
	size_t offset;	       /* of the first element in the struct */
	ptrdiff_t
		count_offset; /* of the uint32_t that counts a variable array's elements; -1: fixed */
};

struct state_table {
	const char *name;
	uint16_t version;
	size_t nfields;
	const struct state_field *fields;
	size_t size_bytes; /* of the struct */
};

/* clang-format off */
#define STATE_MEMBER_F(T, number, type, name)        state_##type name;
#define STATE_MEMBER_A(T, number, type, name, count) state_##type name[count];
#define STATE_MEMBER_V(T, number, type, name, most)  uint32_t n_##name; state_##type name[most];

#define STATE_ROW_F(T, num, type, member) \
	{#member, (num), sizeof(state_##type), 1, offsetof(struct T, member), -1},
#define STATE_ROW_A(T, num, type, member, count) \
	{#member, (num), sizeof(state_##type), (count), offsetof(struct T, member), -1},
#define STATE_ROW_V(T, num, type, member, most) \
	{#member, (num), sizeof(state_##type), (most), offsetof(struct T, member), offsetof(struct T, n_##member)},

#define STATE_STRUCT(T, LIST) struct T { LIST(T, STATE_MEMBER_F, STATE_MEMBER_A, STATE_MEMBER_V) }

/* The table stands in the one .c file that owns the struct; its name is T_table. */
#define STATE_TABLE(T, ver, LIST) \
	static const struct state_field T##_fields[] = { LIST(T, STATE_ROW_F, STATE_ROW_A, STATE_ROW_V) }; \
	static const struct state_table T##_table = { #T, (ver), ARRAY_SIZE(T##_fields), T##_fields, sizeof(struct T) }
/* clang-format on */

/* Appends one section. Errors: -ENOSPC, -ENOMEM (also kept in out). */
int state_save(const struct state_table *table, uint32_t instance, const void *object,
	       struct buf *out);

/*
 * The sections of one saved VM, by name and instance. It points into `bytes`, which must outlive it; nothing is copied.
 * state_set_parse: -EBADMSG for a truncated or repeated section, or more than STATE_SECTIONS_MAX.
 */
#define STATE_SECTIONS_MAX 4096
struct state_set;
int state_set_parse(struct state_set **out, const void *bytes, size_t len) must_check;
void state_set_free(struct state_set *set);
/* True when a section of that name and instance is there (and not yet loaded). */
bool state_set_has(const struct state_set *set, const struct state_table *table, uint32_t instance);
/*
 * Fills *object (table->size_bytes, zeroed first) from the section, all of it or, on an error, none that counts: load
 * into a local copy, validate, then commit. Marks the section as used. Errors, each logged with section and field:
 * -ENOENT not there, -EBADMSG newer version, wrong width or count, missing, repeated or unknown mandatory field.
 */
int state_load(struct state_set *set, const struct state_table *table, uint32_t instance,
	       void *object) must_check;
/* -EBADMSG, naming the first, when a section was loaded by nobody: silence would drop a device's state. */
int state_set_all_used(const struct state_set *set) must_check;

/* A device without state says so: STATE_NONE as its table. */
#define STATE_NONE (&state_none_table)
extern const struct state_table state_none_table;

#endif
