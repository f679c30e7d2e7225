// SPDX-License-Identifier: GPL-2.0-or-later
/* base/buf: growth stops at the maximum, readers stop at the end, and the first error stays. */
#include <errno.h>
#include <glib.h>

#include "base/buf.h"

static void test_round_trip(void)
{
	struct buf buf;
	struct reader reader;

	buf_init(&buf, 1024);
	buf_put_u8(&buf, 0x12);
	buf_put_u16(&buf, 0x3456);
	buf_put_u32(&buf, 0x789abcde);
	buf_put_u64(&buf, 0x0123456789abcdefULL);
	g_assert_cmpint(buf.error, ==, 0);
	g_assert_cmpuint(buf.len, ==, 15);
	g_assert_cmpuint(buf.bytes[1], ==, 0x56); /* little-endian */
	reader_init(&reader, buf.bytes, buf.len);
	g_assert_cmpuint(reader_u8(&reader), ==, 0x12);
	g_assert_cmpuint(reader_u16(&reader), ==, 0x3456);
	g_assert_cmpuint(reader_u32(&reader), ==, 0x789abcde);
	g_assert_cmpuint(reader_u64(&reader), ==, 0x0123456789abcdefULL);
	g_assert_cmpint(reader.error, ==, 0);
	g_assert_cmpuint(reader.left, ==, 0);
	buf_fini(&buf);
}

static void test_maximum(void)
{
	struct buf buf;

	buf_init(&buf, 10);
	g_assert_cmpint(buf_put(&buf, "12345678", 8), ==, 0);
	g_assert_cmpint(buf_put_u32(&buf, 1), ==, -ENOSPC);
	g_assert_cmpint(buf_put_u8(&buf, 1), ==,
			-ENOSPC); /* it would fit, but what came before is missing */
	g_assert_cmpuint(buf.len, ==, 8);
	buf_clear(&buf);
	g_assert_cmpint(buf_put_u8(&buf, 1), ==, 0);
	g_assert_cmpint(buf_reserve(&buf, SIZE_MAX), ==, -ENOSPC);
	buf_fini(&buf);
}

static void test_consume(void)
{
	struct buf buf;

	buf_init(&buf, 100);
	buf_put(&buf, "abcdef", 6);
	buf_consume(&buf, 2);
	g_assert_cmpmem(buf.bytes, buf.len, "cdef", 4);
	buf_consume(&buf, 9);
	g_assert_cmpuint(buf.len, ==, 0);
	buf_fini(&buf);
}

static void test_past_the_end(void)
{
	static const uint8_t bytes[3] = {1, 2, 3};
	struct reader reader;

	reader_init(&reader, bytes, sizeof(bytes));
	g_assert_cmpuint(reader_u32(&reader), ==, 0);
	g_assert_cmpint(reader.error, ==, -EBADMSG);
	g_assert_cmpuint(reader_u8(&reader), ==, 0); /* the error stays */
	reader_init(&reader, bytes, sizeof(bytes));
	g_assert_null(reader_bytes(&reader, SIZE_MAX));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/buf/round-trip", test_round_trip);
	g_test_add_func("/base/buf/maximum", test_maximum);
	g_test_add_func("/base/buf/consume", test_consume);
	g_test_add_func("/base/buf/past-the-end", test_past_the_end);
	return g_test_run();
}
