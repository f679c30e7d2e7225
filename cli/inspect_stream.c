// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One connection's recorded direction of a migration (docs/wire.md), printed for `tern inspect`: what each record says,
 * not whether the migration is right as a whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "migration/snapshot_layout.h"
#include "migration/wire.h"

#define RUNS_SHOWN 4

struct stream {
	int fd;
	const char *path;
	uint64_t at;
	struct wire_header header;
	uint8_t *bytes; /* header and head */
	const uint8_t *head;
};

static int malformed(const struct stream *stream)
{
	return fail(-EBADMSG, "inspect: %s: record %" PRIu64 " is malformed", stream->path,
		    stream->header.sequence);
}

static int print_hello(const struct stream *stream)
{
	struct wire_hello hello;

	if (wire_get_hello(stream->head, stream->header.head_bytes, &hello))
		return malformed(stream);
	printf("    version %u, oldest %u\n    page bytes %u\n    architecture %s\n    channels "
	       "%u\n"
	       "    flags %#x%s\n    session ",
	       hello.version, hello.oldest, hello.page_bytes,
	       hello.arch == WIRE_X86_64 ? "x86-64" : "arm64", hello.channels, hello.flags,
	       hello.flags & WIRE_HELLO_DRY_RUN ? " (dry run)" : "");
	inspect_hex(hello.session, sizeof(hello.session));
	printf("    from %s\n", hello.text);
	return 0;
}

static int print_hello_ok(const struct stream *stream)
{
	struct wire_hello_ok ok;

	if (wire_get_hello_ok(stream->head, stream->header.head_bytes, &ok))
		return malformed(stream);
	printf("    version %u\n    most channels %u\n    from %s\n", ok.version, ok.channels,
	       ok.text);
	return 0;
}

static int print_config(const struct stream *stream)
{
	struct wire_config config;

	if (wire_get_config(stream->head, stream->header.head_bytes, &config))
		return malformed(stream);
	for (uint32_t i = 0; i < config.nregions; i++)
		printf("    region %#" PRIx64 " + %#" PRIx64 "\n", config.region[i].gpa,
		       config.region[i].size_bytes);
	if (inspect_config(config.config, config.config_bytes))
		return -EBADMSG;
	return inspect_sections("told", config.told, config.told_bytes);
}

static int print_state(const struct stream *stream)
{
	const uint64_t len = stream->header.body_bytes;
	struct wire_state state;
	uint8_t *body;
	int error;

	if (wire_get_state(stream->head, stream->header.head_bytes, &state))
		return malformed(stream);
	printf("    final round %u\n    flags %#x%s\n    checksum %016" PRIx64 "\n", state.round,
	       state.flags, state.flags & WIRE_STATE_PAUSED ? " (paused)" : "", state.hash);
	body = malloc(len + 1);
	if (!body)
		return fail(-ENOMEM, "inspect: no memory");
	error = snapshot_pread(stream->fd, body, len,
			       stream->at + WIRE_HEADER_BYTES + stream->header.head_bytes);
	if (error)
		error = fail(-EBADMSG, "inspect: %s: cut off in the state", stream->path);
	else if (hash_bytes(body, len) != state.hash)
		error = fail(-EBADMSG, "inspect: %s: the state is damaged", stream->path);
	else
		error = inspect_sections("state", body, len);
	free(body);
	return error;
}

static int print_round(const struct stream *stream)
{
	struct wire_round round;

	if (wire_get_round(stream->head, stream->header.head_bytes, &round))
		return malformed(stream);
	printf("    round %u\n", round.round);
	if (stream->header.type == WIRE_RAM_HASH)
		printf("    hash %016" PRIx64 "\n", round.pages);
	else
		printf("    %s %" PRIu64 "\n",
		       stream->header.type == WIRE_ROUND_DONE ? "damaged" : "pages", round.pages);
	return 0;
}

static int print_answer(const struct stream *stream)
{
	struct wire_answer answer;

	if (wire_get_answer(stream->head, stream->header.head_bytes, stream->header.type, &answer))
		return malformed(stream);
	printf("    session ");
	inspect_hex(answer.session, sizeof(answer.session));
	if (stream->header.type == WIRE_READY || stream->header.type == WIRE_TAKEN)
		printf("    %" PRIu64 " us\n", answer.us);
	if (stream->header.type == WIRE_REFUSED_OWN)
		printf("    %s\n", answer.text);
	return 0;
}

static int print_text(const struct stream *stream)
{
	char text[WIRE_TEXT_MAX + 1];

	if (wire_get_text(stream->head, stream->header.head_bytes, text))
		return malformed(stream);
	printf("    \"%s\"\n", text);
	return 0;
}

static int print_data_hello(const struct stream *stream)
{
	struct wire_data_hello hello;

	if (wire_get_data_hello(stream->head, stream->header.head_bytes, &hello))
		return malformed(stream);
	printf("    channel %u\n    session ", hello.channel);
	inspect_hex(hello.session, sizeof(hello.session));
	return 0;
}

/* Without knowing how many pages and channels there are: the numbers are printed, nobody uses them. */
static int print_pages(const struct stream *stream)
{
	static const char *const kinds[] = {"data", "zero", "discarded"};
	struct reader in;
	uint32_t round, nruns;

	reader_init(&in, stream->head, stream->header.head_bytes);
	round = reader_u32(&in);
	nruns = reader_u32(&in);
	printf("    round %u\n    %u runs\n", round, nruns);
	for (uint32_t i = 0; i < nruns && i < RUNS_SHOWN && !in.error; i++) {
		const uint64_t first = reader_u64(&in);
		const uint32_t n = reader_u32(&in), kind = reader_u32(&in);

		printf("    %" PRIu64 " + %u %s\n", first, n,
		       kind < ARRAY_SIZE(kinds) ? kinds[kind] : "not known");
	}
	if (nruns > RUNS_SHOWN)
		puts("    ...");
	return in.error ? malformed(stream) : 0;
}

static const struct printer {
	uint32_t type;
	int (*print)(const struct stream *stream);
} printers[] = {
	{WIRE_HELLO, print_hello},	  {WIRE_HELLO_OK, print_hello_ok},
	{WIRE_CONFIG, print_config},	  {WIRE_STATE, print_state},
	{WIRE_RAM_HASH, print_round},	  {WIRE_ROUND_DONE, print_round},
	{WIRE_ROUND_END, print_round},	  {WIRE_OWN, print_answer},
	{WIRE_DONE, print_answer},	  {WIRE_ASK, print_answer},
	{WIRE_READY, print_answer},	  {WIRE_TAKEN, print_answer},
	{WIRE_REFUSED_OWN, print_answer}, {WIRE_UNKNOWN, print_answer},
	{WIRE_CANCEL, print_text},	  {WIRE_CONFIG_OK, print_text},
	{WIRE_REFUSE, print_text},	  {WIRE_DATA_HELLO, print_data_hello},
	{WIRE_PAGES, print_pages},
};

static int print_record(const struct stream *stream)
{
	const struct wire_header *header = &stream->header;
	const char *name = wire_type_name(header->type);

	printf("#%" PRIu64 " at %" PRIu64 ": %s (%#x), head %u, body %" PRIu64 "\n",
	       header->sequence, stream->at, name ? name : "optional, not known", header->type,
	       header->head_bytes, header->body_bytes);
	for (size_t i = 0; i < ARRAY_SIZE(printers); i++)
		if (printers[i].type == header->type)
			return printers[i].print(stream);
	return 0;
}

/* 1: there was one; 0: the end. */
static int next_record(struct stream *stream, uint64_t sequence)
{
	int error = snapshot_pread(stream->fd, stream->bytes, WIRE_HEADER_BYTES, stream->at);
	char byte;

	if (error == -ENODATA && pread(stream->fd, &byte, 1, (off_t)stream->at) == 0)
		return 0;
	/* Whatever is no record at all is not worth a record's complaint. */
	if (sequence == 0 && (error || get_le64(stream->bytes + 16) != 0 ||
			      (!wire_type_name(get_le32(stream->bytes)) &&
			       !(get_le32(stream->bytes) & WIRE_OPTIONAL))))
		return fail(-EBADMSG, "inspect: %s: neither a saved VM nor a recorded migration",
			    stream->path);
	if (!error)
		error = wire_parse_header(stream->bytes, sequence, stream->path, &stream->header);
	else
		return fail(-EBADMSG, "inspect: %s: cut off within record %" PRIu64, stream->path,
			    sequence);
	if (error)
		return error;
	if (snapshot_pread(stream->fd, stream->bytes + WIRE_HEADER_BYTES, stream->header.head_bytes,
			   stream->at + WIRE_HEADER_BYTES))
		return fail(-EBADMSG, "inspect: %s: cut off within record %" PRIu64, stream->path,
			    sequence);
	stream->head = stream->bytes + WIRE_HEADER_BYTES;
	error = wire_verify(stream->bytes, &stream->header, stream->path);
	return error ? error : 1;
}

int inspect_stream(int fd, const char *path)
{
	struct stream stream = {.fd = fd, .path = path};
	int got = -ENOMEM;

	stream.bytes = malloc(WIRE_HEADER_BYTES + WIRE_HEAD_MAX);
	for (uint64_t sequence = 0; stream.bytes && (got = next_record(&stream, sequence)) == 1;
	     sequence++) {
		if (print_record(&stream)) {
			got = -EBADMSG;
			break;
		}
		stream.at +=
			WIRE_HEADER_BYTES + stream.header.head_bytes + stream.header.body_bytes;
	}
	free(stream.bytes);
	if (!got && !stream.at)
		got = fail(-EBADMSG,
			   "inspect: %s: empty: neither a saved VM nor a recorded migration", path);
	if (!got)
		return CLI_OK;
	return stream.at ? CLI_FAILED : CLI_INPUT;
}
