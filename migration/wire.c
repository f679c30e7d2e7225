// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records: their table, header and checksum. The heads of control records are wire_heads.c's, page runs wire_pages.c's.
 */
#include "migration/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"

#define CHECKSUM_OFFSET 24

static const struct type {
	uint32_t type, head_max;
	uint64_t body_max;
	const char *name;
} types[] = {
	{WIRE_HELLO, 8 + 4 + 16 + WIRE_SESSION_BYTES + 2 + WIRE_TEXT_MAX, 0, "HELLO"},
	{WIRE_CONFIG, WIRE_HEAD_MAX, 0, "CONFIG"},
	{WIRE_STATE, 16, WIRE_STATE_MAX, "STATE"},
	{WIRE_OWN, WIRE_SESSION_BYTES, 0, "OWN"},
	{WIRE_DONE, WIRE_SESSION_BYTES, 0, "DONE"},
	{WIRE_CANCEL, 2 + WIRE_TEXT_MAX, 0, "CANCEL"},
	{WIRE_ASK, WIRE_SESSION_BYTES, 0, "ASK"},
	{WIRE_RAM_HASH, 12, 0, "RAM_HASH"},
	{WIRE_HELLO_OK, 6 + 2 + WIRE_TEXT_MAX, 0, "HELLO_OK"},
	{WIRE_CONFIG_OK, 2 + WIRE_TEXT_MAX, 0, "CONFIG_OK"},
	{WIRE_REFUSE, 2 + WIRE_TEXT_MAX, 0, "REFUSE"},
	{WIRE_ROUND_DONE, 12, 0, "ROUND_DONE"},
	{WIRE_READY, WIRE_SESSION_BYTES + 8, 0, "READY"},
	{WIRE_TAKEN, WIRE_SESSION_BYTES + 8, 0, "TAKEN"},
	{WIRE_REFUSED_OWN, WIRE_SESSION_BYTES + 2 + WIRE_TEXT_MAX, 0, "REFUSED_OWN"},
	{WIRE_UNKNOWN, WIRE_SESSION_BYTES, 0, "UNKNOWN"},
	{WIRE_HEARTBEAT, 0, 0, "HEARTBEAT"},
	{WIRE_DATA_HELLO, 8 + WIRE_SESSION_BYTES + 4, 0, "DATA_HELLO"},
	{WIRE_PAGES, WIRE_PAGES_HEAD_MAX, WIRE_BATCH_PAGES *RAM_PAGE_BYTES, "PAGES"},
	{WIRE_ROUND_END, 12, 0, "ROUND_END"},
};

static const struct type *find_type(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type)
			return &types[i];
	return NULL;
}

const char *wire_type_name(uint32_t type)
{
	const struct type *known = find_type(type);

	return known ? known->name : NULL;
}

void wire_seal(uint8_t *bytes, uint32_t type, uint32_t head_bytes, uint64_t body_bytes,
	       uint64_t sequence)
{
	put_le32(bytes, type);
	put_le32(bytes + 4, head_bytes);
	put_le64(bytes + 8, body_bytes);
	put_le64(bytes + 16, sequence);
	put_le64(bytes + CHECKSUM_OFFSET, 0);
	put_le64(bytes + CHECKSUM_OFFSET, hash_bytes(bytes, WIRE_HEADER_BYTES + head_bytes));
}

int wire_parse_header(const uint8_t bytes[WIRE_HEADER_BYTES], uint64_t sequence, const char *from,
		      struct wire_header *out)
{
	const struct type *known;

	*out = (struct wire_header){
		.type = get_le32(bytes),
		.head_bytes = get_le32(bytes + 4),
		.body_bytes = get_le64(bytes + 8),
		.sequence = get_le64(bytes + 16),
		.checksum = get_le64(bytes + CHECKSUM_OFFSET),
	};
	if (out->sequence != sequence)
		return fail(-EBADMSG, "%s: record %" PRIu64 " where %" PRIu64 " was due", from,
			    out->sequence, sequence);
	known = find_type(out->type);
	if (!known && !(out->type & WIRE_OPTIONAL))
		return fail(-EBADMSG, "%s: record of unknown type %#x", from, out->type);
	if (out->head_bytes > (known ? known->head_max : WIRE_HEAD_MAX) ||
	    out->body_bytes > (known ? known->body_max : WIRE_STATE_MAX))
		return fail(-EBADMSG, "%s: %s record of %u and %" PRIu64 " bytes", from,
			    known ? known->name : "optional", out->head_bytes, out->body_bytes);
	return 0;
}

int wire_verify(uint8_t *bytes, const struct wire_header *header, const char *from)
{
	put_le64(bytes + CHECKSUM_OFFSET, 0);
	if (hash_bytes(bytes, WIRE_HEADER_BYTES + header->head_bytes) == header->checksum)
		return 0;
	return fail(-EBADMSG, "%s: record %" PRIu64 " was damaged on its way", from,
		    header->sequence);
}
