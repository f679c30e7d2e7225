// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * State tables: writing a struct as a section, parsing a saved VM into sections, and filling a struct from one.
 * What the bytes are stands in state.h; the reader trusts none of them.
 */
#include "base/state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

struct section {
	const char *name; /* not terminated */
	uint16_t name_len;
	uint32_t instance;
	uint16_t version;
	const uint8_t *payload;
	uint32_t payload_len;
	bool used;
};

struct state_set {
	unsigned int n;
	struct section section[STATE_SECTIONS_MAX];
};

const struct state_table state_none_table = {.name = "none"};

static uint32_t field_count(const struct state_field *field, const void *object)
{
	uint32_t count;

	if (field->count_offset < 0)
		return field->max;
	memcpy(&count, (const char *)object + field->count_offset, sizeof(count));
	assert(count <= field->max);
	return count;
}

int state_save(const struct state_table *table, uint32_t instance, const void *object,
	       struct buf *out)
{
	size_t name_len = strlen(table->name), length_at;

	assert(name_len <= STATE_NAME_MAX);
	buf_put_u16(out, name_len);
	buf_put(out, table->name, name_len);
	buf_put_u32(out, instance);
	buf_put_u16(out, table->version);
	length_at = out->len;
	buf_put_u32(out, 0);
	for (size_t i = 0; i < table->nfields; i++) {
		const struct state_field *field = &table->fields[i];
		uint32_t count = field_count(field, object);

		buf_put_u16(out, field->number);
		buf_put_u8(out, field->element_bytes);
		buf_put_u8(out, 0);
		buf_put_u32(out, count);
		buf_put(out, (const char *)object + field->offset,
			(size_t)count * field->element_bytes);
	}
	if (out->error)
		return out->error;
	buf_set_u32(out, length_at, out->len - length_at - 4);
	return 0;
}

static bool section_is(const struct section *section, const char *name, size_t name_len,
		       uint32_t instance)
{
	return section->instance == instance && section->name_len == name_len &&
	       !memcmp(section->name, name, name_len);
}

static int parse_section(struct state_set *set, struct reader *reader)
{
	struct section section = {};

	section.name_len = reader_u16(reader);
	if (section.name_len == 0 || section.name_len > STATE_NAME_MAX)
		return fail(-EBADMSG, "state: section name of %u bytes", section.name_len);
	section.name = reader_bytes(reader, section.name_len);
	section.instance = reader_u32(reader);
	section.version = reader_u16(reader);
	section.payload_len = reader_u32(reader);
	section.payload = reader_bytes(reader, section.payload_len);
	if (reader->error)
		return fail(-EBADMSG, "state: truncated section");
	for (unsigned int i = 0; i < set->n; i++) {
		if (section_is(&set->section[i], section.name, section.name_len, section.instance))
			return fail(-EBADMSG, "state: section %.*s/%u repeated", section.name_len,
				    section.name, section.instance);
	}
	if (set->n == STATE_SECTIONS_MAX)
		return fail(-EBADMSG, "state: more than %u sections", STATE_SECTIONS_MAX);
	set->section[set->n++] = section;
	return 0;
}

int state_set_parse(struct state_set **out, const void *bytes, size_t len)
{
	struct state_set *set = calloc(1, sizeof(*set));
	struct reader reader;

	if (!set)
		return fail(-ENOMEM, "state: no memory for the list of sections");
	reader_init(&reader, bytes, len);
	while (reader.left) {
		int error = parse_section(set, &reader);

		if (error) {
			free(set);
			return error;
		}
	}
	*out = set;
	return 0;
}

void state_set_free(struct state_set *set)
{
	free(set);
}

static struct section *find_section(const struct state_set *set, const struct state_table *table,
				    uint32_t instance)
{
	for (unsigned int i = 0; i < set->n; i++) {
		const struct section *section = &set->section[i];

		if (section_is(section, table->name, strlen(table->name), instance))
			return section->used ? NULL : (struct section *)section;
	}
	return NULL;
}

bool state_set_has(const struct state_set *set, const struct state_table *table, uint32_t instance)
{
	return find_section(set, table, instance) != NULL;
}

static int find_field(const struct state_table *table, uint16_t number)
{
	for (size_t i = 0; i < table->nfields; i++) {
		if (table->fields[i].number == number)
			return i;
	}
	return -1;
}

static int load_field(const struct state_table *table, struct reader *reader, void *object,
		      uint64_t *seen)
{
	uint16_t number = reader_u16(reader);
	uint8_t element_bytes = reader_u8(reader);
	uint8_t zero = reader_u8(reader);
	uint32_t count = reader_u32(reader);
	const void *elements = reader_bytes(reader, (size_t)count * element_bytes);
	int index = find_field(table, number);
	const struct state_field *field;

	if (reader->error || zero ||
	    (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8))
		return fail(-EBADMSG, "state: %s: malformed field %#x", table->name, number);
	if (index < 0) {
		if (number & STATE_OPTIONAL)
			return 0;
		return fail(-EBADMSG, "state: %s: unknown mandatory field %#x", table->name,
			    number);
	}
	field = &table->fields[index];
	if (*seen & (1ULL << index))
		return fail(-EBADMSG, "state: %s.%s: repeated", table->name, field->name);
	if (element_bytes != field->element_bytes || count > field->max ||
	    (field->count_offset < 0 && count != field->max))
		return fail(-EBADMSG, "state: %s.%s: %u elements of %u bytes", table->name,
			    field->name, count, element_bytes);
	*seen |= 1ULL << index;
	if (count)
		memcpy((char *)object + field->offset, elements, (size_t)count * element_bytes);
	if (field->count_offset >= 0)
		memcpy((char *)object + field->count_offset, &count, sizeof(count));
	return 0;
}

int state_load(struct state_set *set, const struct state_table *table, uint32_t instance,
	       void *object)
{
	struct section *section = find_section(set, table, instance);
	struct reader reader;
	uint64_t seen = 0;

	assert(table->nfields <= 64);
	if (!section)
		return fail(-ENOENT, "state: %s/%u: missing", table->name, instance);
	if (section->version > table->version)
		return fail(-EBADMSG, "state: %s: version %u, this program knows up to %u",
			    table->name, section->version, table->version);
	memset(object, 0, table->size_bytes);
	reader_init(&reader, section->payload, section->payload_len);
	while (reader.left) {
		int error = load_field(table, &reader, object, &seen);

		if (error)
			return error;
	}
	for (size_t i = 0; i < table->nfields; i++) {
		if (!(seen & (1ULL << i)) && !(table->fields[i].number & STATE_OPTIONAL))
			return fail(-EBADMSG, "state: %s.%s: missing", table->name,
				    table->fields[i].name);
	}
	section->used = true;
	return 0;
}

int state_set_all_used(const struct state_set *set)
{
	for (unsigned int i = 0; i < set->n; i++) {
		const struct section *section = &set->section[i];

		if (!section->used)
			return fail(-EBADMSG,
				    "state: section %.*s/%u belongs to no device of this machine",
				    section->name_len, section->name, section->instance);
	}
	return 0;
}
