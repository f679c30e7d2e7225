// SPDX-License-Identifier: GPL-2.0-or-later
/* Bounded byte buffers and the reader that cannot run past their end. */
#include "base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *buf, size_t max)
{
	*buf = (struct buf){.max = max};
}

void buf_fini(struct buf *buf)
{
	free(buf->bytes);
	*buf = (struct buf){.max = buf->max};
}

void buf_clear(struct buf *buf)
{
	buf->len = 0;
	buf->error = 0;
}

int buf_reserve(struct buf *buf, size_t more)
{
	size_t capacity = buf->capacity ? buf->capacity : 64;
	uint8_t *grown;

	if (buf->error)
		return buf->error;
	if (more > buf->max || buf->len > buf->max - more)
		return buf->error = -ENOSPC;
	if (buf->len + more <= buf->capacity)
		return 0;
	while (capacity < buf->len + more)
		capacity *= 2;
	if (capacity > buf->max)
		capacity = buf->max;
	grown = realloc(buf->bytes, capacity);
	if (!grown)
		return buf->error = -ENOMEM;
	buf->bytes = grown;
	buf->capacity = capacity;
	return 0;
}

int buf_put(struct buf *buf, const void *bytes, size_t len)
{
	int error = buf_reserve(buf, len);

	if (error)
		return error;
	if (len)
		memcpy(buf->bytes + buf->len, bytes, len);
	buf->len += len;
	return 0;
}

int buf_put_u8(struct buf *buf, uint8_t value)
{
	return buf_put(buf, &value, sizeof(value));
}

int buf_put_u16(struct buf *buf, uint16_t value)
{
	return buf_put(buf, &value, sizeof(value));
}

int buf_put_u32(struct buf *buf, uint32_t value)
{
	return buf_put(buf, &value, sizeof(value));
}

int buf_put_u64(struct buf *buf, uint64_t value)
{
	return buf_put(buf, &value, sizeof(value));
}

void buf_set_u32(struct buf *buf, size_t offset, uint32_t value)
{
	if (!buf->error && offset + sizeof(value) <= buf->len)
		put_le32(buf->bytes + offset, value);
}

void buf_consume(struct buf *buf, size_t n)
{
	if (n >= buf->len) {
		buf->len = 0;
		return;
	}
	memmove(buf->bytes, buf->bytes + n, buf->len - n);
	buf->len -= n;
}

void reader_init(struct reader *reader, const void *bytes, size_t len)
{
	*reader = (struct reader){.bytes = bytes, .left = len};
}

const void *reader_bytes(struct reader *reader, size_t len)
{
	const uint8_t *at = reader->bytes;

	if (reader->error)
		return NULL;
	if (len > reader->left) {
		reader->error = -EBADMSG;
		return NULL;
	}
	reader->bytes += len;
	reader->left -= len;
	return at;
}

uint8_t reader_u8(struct reader *reader)
{
	const uint8_t *p = reader_bytes(reader, 1);

	return p ? *p : 0;
}

uint16_t reader_u16(struct reader *reader)
{
	const void *p = reader_bytes(reader, 2);

	return p ? get_le16(p) : 0;
}

uint32_t reader_u32(struct reader *reader)
{
	const void *p = reader_bytes(reader, 4);

	return p ? get_le32(p) : 0;
}

uint64_t reader_u64(struct reader *reader)
{
	const void *p = reader_bytes(reader, 8);

	return p ? get_le64(p) : 0;
}
