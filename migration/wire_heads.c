// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The heads of control records and of DATA_HELLO, field by field as docs/wire.md lists them.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "migration/wire.h"

static const char hello_magic[8] = "TERNMIGR";
static const char data_magic[8] = "TERNDATA";

enum wire_arch wire_own_arch(void)
{
#ifdef TERN_ARCH_arm64
	return WIRE_ARM64;
#else
	return WIRE_X86_64;
#endif
}

/* ---- Pieces ---- */

void wire_put_text(struct buf *out, const char *text)
{
	size_t len = strnlen(text, WIRE_TEXT_MAX);

	buf_put_u16(out, (uint16_t)len);
	buf_put(out, text, len);
}

/* What a peer says goes to logs and terminals: only what can be printed of it. */
static void read_text(struct reader *in, char text[WIRE_TEXT_MAX + 1])
{
	uint16_t len = reader_u16(in);
	const char *bytes;

	text[0] = '\0';
	if (len > WIRE_TEXT_MAX) {
		in->error = -EBADMSG;
		return;
	}
	bytes = reader_bytes(in, len);
	if (!bytes)
		return;
	for (uint16_t i = 0; i < len; i++)
		text[i] = isprint((unsigned char)bytes[i]) ? bytes[i] : '?';
	text[len] = '\0';
}

static void read_session(struct reader *in, uint8_t session[WIRE_SESSION_BYTES])
{
	const void *bytes = reader_bytes(in, WIRE_SESSION_BYTES);

	if (bytes)
		memcpy(session, bytes, WIRE_SESSION_BYTES);
}

static void expect_magic(struct reader *in, const char magic[8])
{
	const void *bytes = reader_bytes(in, 8);

	if (bytes && memcmp(bytes, magic, 8) != 0)
		in->error = -EBADMSG;
}

static int ended(const struct reader *in)
{
	return in->error || in->left ? -EBADMSG : 0;
}

/* ---- Heads ---- */

void wire_put_hello(struct buf *out, const struct wire_hello *hello)
{
	buf_put(out, hello_magic, sizeof(hello_magic));
	buf_put_u16(out, hello->version);
	buf_put_u16(out, hello->oldest);
	buf_put_u32(out, hello->page_bytes);
	buf_put_u32(out, hello->arch);
	buf_put_u32(out, hello->channels);
	buf_put_u32(out, hello->flags);
	buf_put(out, hello->session, WIRE_SESSION_BYTES);
	wire_put_text(out, hello->text);
}

int wire_get_hello(const uint8_t *head, size_t len, struct wire_hello *out)
{
	struct reader in;

	memset(out, 0, sizeof(*out));
	reader_init(&in, head, len);
	expect_magic(&in, hello_magic);
	out->version = reader_u16(&in);
	out->oldest = reader_u16(&in);
	out->page_bytes = reader_u32(&in);
	out->arch = reader_u32(&in);
	out->channels = reader_u32(&in);
	out->flags = reader_u32(&in);
	read_session(&in, out->session);
	read_text(&in, out->text);
	return ended(&in);
}

void wire_put_hello_ok(struct buf *out, const struct wire_hello_ok *ok)
{
	buf_put_u16(out, ok->version);
	buf_put_u32(out, ok->channels);
	wire_put_text(out, ok->text);
}

int wire_get_hello_ok(const uint8_t *head, size_t len, struct wire_hello_ok *out)
{
	struct reader in;

	memset(out, 0, sizeof(*out));
	reader_init(&in, head, len);
	out->version = reader_u16(&in);
	out->channels = reader_u32(&in);
	read_text(&in, out->text);
	return ended(&in);
}

void wire_put_config(struct buf *out, const struct wire_config *config)
{
	buf_put_u32(out, config->nregions);
	for (uint32_t i = 0; i < config->nregions; i++) {
		buf_put_u64(out, config->region[i].gpa);
		buf_put_u64(out, config->region[i].size_bytes);
	}
	buf_put_u32(out, config->config_bytes);
	buf_put(out, config->config, config->config_bytes);
	buf_put_u32(out, config->told_bytes);
	buf_put(out, config->told, config->told_bytes);
}

int wire_get_config(const uint8_t *head, size_t len, struct wire_config *out)
{
	struct reader in;

	memset(out, 0, sizeof(*out));
	reader_init(&in, head, len);
	out->nregions = reader_u32(&in);
	if (out->nregions > RAM_REGIONS_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < out->nregions; i++) {
		out->region[i].gpa = reader_u64(&in);
		out->region[i].size_bytes = reader_u64(&in);
	}
	out->config_bytes = reader_u32(&in);
	if (out->config_bytes > WIRE_CONFIG_MAX)
		return -EBADMSG;
	out->config = reader_bytes(&in, out->config_bytes);
	out->told_bytes = reader_u32(&in);
	if (out->told_bytes > WIRE_TOLD_MAX)
		return -EBADMSG;
	out->told = reader_bytes(&in, out->told_bytes);
	return ended(&in);
}

void wire_put_state(struct buf *out, const struct wire_state *state)
{
	buf_put_u32(out, state->round);
	buf_put_u32(out, state->flags);
	buf_put_u64(out, state->hash);
}

int wire_get_state(const uint8_t *head, size_t len, struct wire_state *out)
{
	struct reader in;

	reader_init(&in, head, len);
	out->round = reader_u32(&in);
	out->flags = reader_u32(&in);
	out->hash = reader_u64(&in);
	return ended(&in);
}

void wire_put_data_hello(struct buf *out, const struct wire_data_hello *hello)
{
	buf_put(out, data_magic, sizeof(data_magic));
	buf_put(out, hello->session, WIRE_SESSION_BYTES);
	buf_put_u32(out, hello->channel);
}

int wire_get_data_hello(const uint8_t *head, size_t len, struct wire_data_hello *out)
{
	struct reader in;

	memset(out, 0, sizeof(*out));
	reader_init(&in, head, len);
	expect_magic(&in, data_magic);
	read_session(&in, out->session);
	out->channel = reader_u32(&in);
	return ended(&in);
}

void wire_put_round(struct buf *out, const struct wire_round *round)
{
	buf_put_u32(out, round->round);
	buf_put_u64(out, round->pages);
}

int wire_get_round(const uint8_t *head, size_t len, struct wire_round *out)
{
	struct reader in;

	reader_init(&in, head, len);
	out->round = reader_u32(&in);
	out->pages = reader_u64(&in);
	return ended(&in);
}

static bool has_time(enum wire_type type)
{
	return type == WIRE_READY || type == WIRE_TAKEN;
}

void wire_put_answer(struct buf *out, enum wire_type type, const struct wire_answer *answer)
{
	buf_put(out, answer->session, WIRE_SESSION_BYTES);
	if (has_time(type))
		buf_put_u64(out, answer->us);
	if (type == WIRE_REFUSED_OWN)
		wire_put_text(out, answer->text);
}

int wire_get_answer(const uint8_t *head, size_t len, enum wire_type type, struct wire_answer *out)
{
	struct reader in;

	memset(out, 0, sizeof(*out));
	reader_init(&in, head, len);
	read_session(&in, out->session);
	if (has_time(type))
		out->us = reader_u64(&in);
	if (type == WIRE_REFUSED_OWN)
		read_text(&in, out->text);
	return ended(&in);
}

int wire_get_text(const uint8_t *head, size_t len, char text[WIRE_TEXT_MAX + 1])
{
	struct reader in;

	reader_init(&in, head, len);
	read_text(&in, text);
	return ended(&in);
}
