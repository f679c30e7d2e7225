/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every state table gets for free: round trip, a change of any field changes what is saved, modified and loaded is
 * equal, truncated at any byte is refused, and golden bytes (tests/golden/NAME.bin): a table that changes its meaning
 * without a new number or version is found here. TERN_GOLDEN_WRITE=1 writes the golden files anew, for a version that no
 * release has had.
 */
#ifndef TESTS_STATE_TABLE_H
#define TESTS_STATE_TABLE_H

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/log.h"
#include "base/state.h"

#define BYTES_MAX (1 << 20)

/* A number that differs from field to field and element to element, and is the same for ever. */
static uint64_t pattern(const struct state_field *field, uint32_t element)
{
	uint64_t x = field->number * 0x9e3779b97f4a7c15ULL + element * 0xbf58476d1ce4e5b9ULL + 1;

	x ^= x >> 31;
	return x * 0x94d049bb133111ebULL ^ x >> 29;
}

/* How many elements of a variable array are filled: enough to be more than one, few enough for small golden files. */
static uint32_t filled(const struct state_field *field)
{
	if (field->count_offset < 0)
		return field->max;
	return field->max < 5 ? field->max : 5;
}

static void *new_object(const struct state_table *table)
{
	uint8_t *object = g_malloc0(table->size_bytes);

	for (size_t i = 0; i < table->nfields; i++) {
		const struct state_field *field = &table->fields[i];
		uint32_t count = filled(field);

		if (field->count_offset >= 0)
			memcpy(object + field->count_offset, &count, sizeof(count));
		for (uint32_t e = 0; e < count; e++) {
			uint64_t value = pattern(field, e);

			memcpy(object + field->offset + (size_t)e * field->element_bytes, &value,
			       field->element_bytes);
		}
	}
	return object;
}

static void save(const struct state_table *table, const void *object, struct buf *buf)
{
	buf_init(buf, BYTES_MAX);
	g_assert_cmpint(state_save(table, 3, object, buf), ==, 0);
}

static int load(const struct state_table *table, const void *bytes, size_t len, void *object)
{
	struct state_set *set;
	int error = state_set_parse(&set, bytes, len);

	if (error)
		return error;
	error = state_load(set, table, 3, object);
	state_set_free(set);
	return error;
}

static void round_trip(gconstpointer data)
{
	const struct state_table *table = data;
	g_autofree void *object = new_object(table);
	g_autofree void *loaded = g_malloc(table->size_bytes);
	struct buf first, second;

	save(table, object, &first);
	memset(loaded, 0xee, table->size_bytes);
	g_assert_cmpint(load(table, first.bytes, first.len, loaded), ==, 0);
	save(table, loaded, &second);
	g_assert_cmpmem(first.bytes, first.len, second.bytes, second.len);
	buf_fini(&first);
	buf_fini(&second);
}

/* Every bit of every field is seen by save, and brought back by load. */
static void modify(gconstpointer data)
{
	const struct state_table *table = data;
	g_autofree uint8_t *object = new_object(table);
	g_autofree uint8_t *loaded = g_malloc(table->size_bytes);
	struct buf before, after;

	save(table, object, &before);
	for (size_t i = 0; i < table->nfields; i++) {
		const struct state_field *field = &table->fields[i];
		/* First and last element, lowest and highest bit. */
		size_t last = field->offset + (size_t)filled(field) * field->element_bytes - 1;
		const size_t where[] = {field->offset, last};
		const uint8_t bits[] = {1, 0x80};

		for (unsigned int w = 0; w < 2; w++) {
			object[where[w]] ^= bits[w];
			save(table, object, &after);
			g_assert_cmpuint(after.len, ==, before.len);
			g_assert_cmpint(memcmp(before.bytes, after.bytes, after.len), !=, 0);
			g_assert_cmpint(load(table, after.bytes, after.len, loaded), ==, 0);
			g_assert_cmpmem(loaded + field->offset, last - field->offset + 1,
					object + field->offset, last - field->offset + 1);
			object[where[w]] ^= bits[w];
			buf_fini(&after);
		}
	}
	buf_fini(&before);
}

static void truncated(gconstpointer data)
{
	const struct state_table *table = data;
	g_autofree void *object = new_object(table);
	g_autofree void *loaded = g_malloc(table->size_bytes);
	size_t header = 2 + strlen(table->name) + 4 + 2;
	struct buf buf;

	save(table, object, &buf);
	for (size_t len = 1; len < buf.len; len++)
		g_assert_cmpint(load(table, buf.bytes, len, loaded), ==, -EBADMSG);
	/* The length field cut to match, so that whole fields are missing or end within. */
	for (size_t len = header + 4; len < buf.len; len++) {
		g_autofree uint8_t *copy = g_memdup2(buf.bytes, len);
		uint32_t payload = len - header - 4;

		memcpy(copy + header, &payload, sizeof(payload));
		g_assert_cmpint(load(table, copy, len, loaded), ==, -EBADMSG);
	}
	buf_fini(&buf);
}

static void golden(gconstpointer data)
{
	const struct state_table *table = data;
	g_autofree void *object = new_object(table);
	g_autofree char *path = g_strdup_printf("tests/golden/%s.bin", table->name);
	g_autofree char *bytes = NULL;
	gsize len = 0;
	struct buf buf;

	save(table, object, &buf);
	if (g_getenv("TERN_GOLDEN_WRITE"))
		g_assert_true(g_file_set_contents(path, (char *)buf.bytes, (gssize)buf.len, NULL));
	g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
	g_assert_cmpmem(bytes, len, buf.bytes, buf.len);
	buf_fini(&buf);
}

/* Numbers are unique and small, widths are what the wire knows. */
static void well_formed(gconstpointer data)
{
	const struct state_table *table = data;

	g_assert_cmpuint(strlen(table->name), <=, STATE_NAME_MAX);
	g_assert_cmpuint(table->version, >=, 1);
	for (size_t i = 0; i < table->nfields; i++) {
		const struct state_field *field = &table->fields[i];

		g_assert_cmpuint(field->number & ~STATE_OPTIONAL, >=, 1);
		g_assert_cmpuint(field->max, >=, 1);
		g_assert_cmpuint(field->offset + (size_t)field->max * field->element_bytes, <=,
				 table->size_bytes);
		for (size_t j = 0; j < i; j++)
			g_assert_cmpuint(field->number & ~STATE_OPTIONAL, !=,
					 table->fields[j].number & ~STATE_OPTIONAL);
	}
}

/* Adds them all for one table. */
static void add(const struct state_table *table)
{
	static const struct {
		const char *name;
		GTestDataFunc fn;
	} tests[] = {
		{"well-formed", well_formed}, {"round-trip", round_trip}, {"modify", modify},
		{"truncated", truncated},     {"golden", golden},
	};

	for (unsigned int i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strdup_printf("/state/%s/%s", table->name, tests[i].name);

		g_test_add_data_func(path, table, tests[i].fn);
	}
}

#endif
