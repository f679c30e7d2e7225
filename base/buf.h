/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bounded byte buffers: `struct buf` grows up to a stated maximum, `struct reader` walks received bytes and cannot run
 * past their end. Both keep the first error, so that a caller may put or read many fields and check once.
 * Numbers are little-endian and unaligned. Nothing in here allocates at a peer's word: the maximum is the caller's.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *bytes;
	size_t len;
	size_t capacity;
	size_t max;
	int error; /* 0, -ENOMEM or -ENOSPC (maximum reached); once set, puts do nothing */
};

void buf_init(struct buf *buf, size_t max);
void buf_fini(struct buf *buf);
void buf_clear(struct buf *buf); /* length 0, error 0, memory kept */
int buf_reserve(struct buf *buf, size_t more);
int buf_put(struct buf *buf, const void *bytes, size_t len);
int buf_put_u8(struct buf *buf, uint8_t value);
int buf_put_u16(struct buf *buf, uint16_t value);
int buf_put_u32(struct buf *buf, uint32_t value);
int buf_put_u64(struct buf *buf, uint64_t value);
/* Writes over bytes that are there already (a length known only at the end). */
void buf_set_u32(struct buf *buf, size_t offset, uint32_t value);
/* Drops the first n bytes. */
void buf_consume(struct buf *buf, size_t n);

struct reader {
	const uint8_t *bytes;
	size_t left;
	int error; /* 0 or -EBADMSG (ran past the end); once set, reads give 0 */
};

void reader_init(struct reader *reader, const void *bytes, size_t len);
uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
/* The next len bytes in place (owned by whoever owns the reader's bytes); NULL and error when there are fewer. */
const void *reader_bytes(struct reader *reader, size_t len);

static inline void put_le16(void *p, uint16_t v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}
static inline void put_le32(void *p, uint32_t v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}
static inline void put_le64(void *p, uint64_t v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}
static inline uint16_t get_le16(const void *p)
{
	uint16_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static inline uint32_t get_le32(const void *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static inline uint64_t get_le64(const void *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "both architectures are little-endian");

#endif
