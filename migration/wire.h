/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The records of a migration as bytes: docs/wire.md is normative, this is its reader and writer in C. Pure functions on
 * memory; connections are transport.h's and control.h's. Every number from a peer is checked here or named unchecked.
 */
#ifndef MIGRATION_WIRE_H
#define MIGRATION_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/buf.h"
#include "memory/ram.h"

#define WIRE_VERSION	   1
#define WIRE_HEADER_BYTES  32
#define WIRE_HEAD_MAX	   (1 << 20)
#define WIRE_STATE_MAX	   (64 << 20)
#define WIRE_CONFIG_MAX	   (256 << 10)
#define WIRE_TOLD_MAX	   (512 << 10)
#define WIRE_TEXT_MAX	   1024
#define WIRE_SESSION_BYTES 16

#define WIRE_CHUNK_PAGES 512
#define WIRE_BATCH_PAGES 512 /* of data, in one PAGES record */
#define WIRE_BATCH_RUNS	 512

#define WIRE_OPTIONAL 0x80000000U

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_CONFIG = 2,
	WIRE_STATE = 3,
	WIRE_OWN = 4,
	WIRE_DONE = 5,
	WIRE_CANCEL = 6,
	WIRE_ASK = 7,
	WIRE_RAM_HASH = 8,
	WIRE_HELLO_OK = 32,
	WIRE_CONFIG_OK = 33,
	WIRE_REFUSE = 34,
	WIRE_ROUND_DONE = 35,
	WIRE_READY = 36,
	WIRE_TAKEN = 37,
	WIRE_REFUSED_OWN = 38,
	WIRE_UNKNOWN = 39,
	WIRE_HEARTBEAT = 64,
	WIRE_DATA_HELLO = 65,
	WIRE_PAGES = 66,
	WIRE_ROUND_END = 67,
};
/* "OWN"; "type 99" is NULL. */
const char *wire_type_name(uint32_t type);

struct wire_header {
	uint32_t type, head_bytes;
	uint64_t body_bytes, sequence, checksum;
};

/* Fills in the header in front of a head that is complete: bytes has WIRE_HEADER_BYTES + head_bytes. */
void wire_seal(uint8_t *bytes, uint32_t type, uint32_t head_bytes, uint64_t body_bytes,
	       uint64_t sequence);
/*
 * A received header. -EBADMSG, logged with `from` (who sent it), when it is out of sequence, or head and body are longer
 * than the type allows. An unknown optional type is none of that: wire_type_name() is NULL for it.
 */
int wire_parse_header(const uint8_t bytes[WIRE_HEADER_BYTES], uint64_t sequence, const char *from,
		      struct wire_header *out) must_check;
/* Header and head as received, whole: -EBADMSG, logged, when the checksum does not fit. Makes its field in bytes 0. */
int wire_verify(uint8_t *bytes, const struct wire_header *header, const char *from) must_check;

/* ---- Heads ---- */

enum wire_arch { WIRE_X86_64 = 1, WIRE_ARM64 = 2 };
enum wire_arch wire_own_arch(void);

#define WIRE_HELLO_DRY_RUN (1U << 0)
#define WIRE_STATE_PAUSED  (1U << 0)

struct wire_hello {
	uint16_t version, oldest;
	uint32_t page_bytes, arch, channels, flags;
	uint8_t session[WIRE_SESSION_BYTES];
	char text[WIRE_TEXT_MAX + 1];
};
struct wire_hello_ok {
	uint16_t version;
	uint32_t channels;
	char text[WIRE_TEXT_MAX + 1];
};
struct wire_config {
	uint32_t nregions;
	struct ram_range region[RAM_REGIONS_MAX];
	const uint8_t *config, *told; /* into the head */
	uint32_t config_bytes, told_bytes;
};
struct wire_state {
	uint32_t round, flags;
	uint64_t hash;
};
struct wire_data_hello {
	uint8_t session[WIRE_SESSION_BYTES];
	uint32_t channel;
};
struct wire_round {
	uint32_t round;
	uint64_t pages; /* ROUND_END: sent. ROUND_DONE: damaged. RAM_HASH: the hash */
};
/* READY, TAKEN, OWN, DONE, ASK, UNKNOWN, REFUSED_OWN: what each has of these */
struct wire_answer {
	uint8_t session[WIRE_SESSION_BYTES];
	uint64_t us;
	char text[WIRE_TEXT_MAX + 1];
};

/* Writers append to a buf whose maximum allows it; errors stay in the buf. */
void wire_put_hello(struct buf *out, const struct wire_hello *hello);
void wire_put_hello_ok(struct buf *out, const struct wire_hello_ok *ok);
void wire_put_config(struct buf *out, const struct wire_config *config);
void wire_put_state(struct buf *out, const struct wire_state *state);
void wire_put_data_hello(struct buf *out, const struct wire_data_hello *hello);
void wire_put_round(struct buf *out, const struct wire_round *round);
void wire_put_answer(struct buf *out, enum wire_type type, const struct wire_answer *answer);
void wire_put_text(struct buf *out, const char *text);

/* Readers: -EBADMSG when the head is not exactly the type's, not logged. Text is made printable. */
int wire_get_hello(const uint8_t *head, size_t len, struct wire_hello *out) must_check;
int wire_get_hello_ok(const uint8_t *head, size_t len, struct wire_hello_ok *out) must_check;
int wire_get_config(const uint8_t *head, size_t len, struct wire_config *out) must_check;
int wire_get_state(const uint8_t *head, size_t len, struct wire_state *out) must_check;
int wire_get_data_hello(const uint8_t *head, size_t len, struct wire_data_hello *out) must_check;
int wire_get_round(const uint8_t *head, size_t len, struct wire_round *out) must_check;
int wire_get_answer(const uint8_t *head, size_t len, enum wire_type type,
		    struct wire_answer *out) must_check;
int wire_get_text(const uint8_t *head, size_t len, char text[WIRE_TEXT_MAX + 1]) must_check;

/* ---- Pages ---- */

enum wire_kind { WIRE_DATA = 0, WIRE_ZERO = 1, WIRE_DISCARDED = 2 };

struct wire_run {
	page_t first;
	uint32_t npages, kind;
};

/* A PAGES head in parts. The sender fills it run by run; the receiver gets it checked. */
struct wire_batch {
	uint32_t round, nruns, npages; /* npages: of data */
	struct wire_run run[WIRE_BATCH_RUNS];
	uint64_t hash[WIRE_BATCH_PAGES];
};
#define WIRE_PAGES_HEAD_MAX (8 + WIRE_BATCH_RUNS * 16 + WIRE_BATCH_PAGES * 8)
/* Returns the head's length; head has WIRE_PAGES_HEAD_MAX bytes. */
size_t wire_put_pages(uint8_t *head, const struct wire_batch *batch);

/* What a channel may carry. */
struct wire_channel {
	page_t npages; /* of the VM */
	uint32_t channel, nchannels;
	uint32_t round; /* the one under way */
};
/* -EBADMSG, logged: another round, a run outside RAM, across chunks or of another channel, a body of another length. */
int wire_get_pages(const struct wire_channel *channel, const struct wire_header *header,
		   const uint8_t *head, struct wire_batch *out) must_check;

#endif
