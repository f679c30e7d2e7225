// SPDX-License-Identifier: GPL-2.0-or-later
/* Sections and configurations, printed for `tern inspect`: whoever they belong to, the names of their fields are not known. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/state.h"
#include "cli/inspect.h"

/* Of an array. */
#define VALUES_SHOWN 8
#define TEXT_SHOWN   200

static uint64_t value_at(const uint8_t *at, uint8_t element_bytes)
{
	switch (element_bytes) {
	case 1:
		return *at;
	case 2:
		return get_le16(at);
	case 4:
		return get_le32(at);
	default:
		return get_le64(at);
	}
}

static bool is_text(const uint8_t *bytes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (bytes[i] < ' ' || bytes[i] > '~')
			return false;
	return n > 1 && n <= TEXT_SHOWN;
}

static void print_values(const uint8_t *values, uint8_t element_bytes, uint32_t n)
{
	if (n == 1) {
		const uint64_t value = value_at(values, element_bytes);

		printf("%#" PRIx64 " (%" PRIu64 ")\n", value, value);
		return;
	}
	if (element_bytes == 1 && is_text(values, n)) {
		printf("[%" PRIu32 "] \"%.*s\"\n", n, (int)n, (const char *)values);
		return;
	}
	printf("[%" PRIu32 "]", n);
	for (uint32_t i = 0; i < n && i < VALUES_SHOWN; i++)
		printf(" %#" PRIx64, value_at(values + (size_t)i * element_bytes, element_bytes));
	puts(n > VALUES_SHOWN ? " ..." : "");
}

static bool print_field(struct reader *payload)
{
	const uint16_t number = reader_u16(payload);
	const unsigned int shown = number & 0x7fffU;
	const uint8_t element_bytes = reader_u8(payload), zero = reader_u8(payload);
	const uint32_t n = reader_u32(payload);
	const uint8_t *values;

	if (payload->error || zero ||
	    (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8))
		return false;
	values = reader_bytes(payload, (size_t)n * element_bytes);
	if (!values)
		return false;
	printf("    %5u%s u%-3u", shown, number & STATE_OPTIONAL ? " optional" : "",
	       8U * element_bytes);
	print_values(values, element_bytes, n);
	return true;
}

static bool print_section(struct reader *in)
{
	const uint16_t name_len = reader_u16(in);
	const char *name = reader_bytes(in, name_len);
	const uint32_t instance = reader_u32(in);
	const uint16_t version = reader_u16(in);
	const uint32_t len = reader_u32(in);
	const void *bytes = reader_bytes(in, len);
	struct reader payload;

	if (in->error || !name_len || name_len > STATE_NAME_MAX ||
	    (name_len > 1 && !is_text((const uint8_t *)name, name_len)))
		return false;
	printf("  section %.*s.%" PRIu32 ", version %u, %" PRIu32 " bytes\n", name_len, name,
	       instance, version, len);
	reader_init(&payload, bytes, len);
	while (payload.left)
		if (!print_field(&payload))
			return false;
	return true;
}

int inspect_sections(const char *what, const void *bytes, size_t len)
{
	struct reader in;

	reader_init(&in, bytes, len);
	while (in.left) {
		const size_t at = len - in.left;

		if (!print_section(&in))
			return fail(-EBADMSG, "inspect: %s: the section at byte %zu is not whole",
				    what, at);
	}
	return 0;
}

int inspect_config(const void *bytes, size_t len)
{
	json_error_t error;
	json_t *config = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &error);

	if (!config)
		return fail(-EBADMSG, "inspect: config: not JSON: line %d: %.80s", error.line,
			    error.text);
	/* Escaped, so that no byte of it is the terminal's. */
	json_dumpf(config, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(config);
	return 0;
}

void inspect_hex(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
	putchar('\n');
}
