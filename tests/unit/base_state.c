// SPDX-License-Identifier: GPL-2.0-or-later
/* base/state: what is saved loads equal, what is changed is seen, and no byte of a foreign stream is believed. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/state.h"

#define SAMPLE_STATE(T, F, A, V) \
	F(T, 1, u8, mode)        \
	F(T, 2, u32, count)      \
	A(T, 3, u16, entry, 4)   \
	V(T, 4, u8, text, 16)    \
	F(T, STATE_OPTIONAL + 5, u64, later)
STATE_STRUCT(sample, SAMPLE_STATE);
STATE_TABLE(sample, 2, SAMPLE_STATE);

/* The same section as an older version wrote it, without the optional field. */
#define OLDER_STATE(T, F, A, V) \
	F(T, 1, u8, mode)       \
	F(T, 2, u32, count)     \
	A(T, 3, u16, entry, 4)  \
	V(T, 4, u8, text, 16)
STATE_STRUCT(older, OLDER_STATE);
STATE_TABLE(older, 1, OLDER_STATE);

static const struct sample example = {.mode = 7,
				      .count = 0x11223344,
				      .entry = {1, 2, 3, 4},
				      .n_text = 5,
				      .text = "hello",
				      .later = 9};

static void save_example(struct buf *buf)
{
	buf_init(buf, 4096);
	g_assert_cmpint(state_save(&sample_table, 3, &example, buf), ==, 0);
}

static void test_round_trip(void)
{
	struct buf buf, again;
	struct sample loaded;
	struct state_set *set;

	save_example(&buf);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_true(state_set_has(set, &sample_table, 3));
	g_assert_false(state_set_has(set, &sample_table, 4));
	g_assert_cmpint(state_set_all_used(set), ==, -EBADMSG);
	g_assert_cmpint(state_load(set, &sample_table, 3, &loaded), ==, 0);
	g_assert_cmpint(state_set_all_used(set), ==, 0);
	g_assert_cmpmem(&loaded, sizeof(loaded), &example, sizeof(example));
	g_assert_cmpint(state_load(set, &sample_table, 3, &loaded), ==, -ENOENT); /* once only */
	save_example(&again);
	g_assert_cmpmem(buf.bytes, buf.len, again.bytes, again.len);
	state_set_free(set);
	buf_fini(&buf);
	buf_fini(&again);
}

static void test_golden(void)
{
	static const uint8_t golden[] = {
		6,  0, 's', 'a', 'm', 'p', 'l', 'e',	/* name */
		3,  0, 0,   0,	 2,   0,		/* instance, version */
		66, 0, 0,   0,				/* payload */
		1,  0, 1,   0,	 1,   0,   0,	0,   7, /* mode */
		2,  0, 4,   0,	 1,   0,   0,	0,   0x44, 0x33, 0x22, 0x11, 3,	   0, 2,
		0,  4, 0,   0,	 0,   1,   0,	2,   0,	   3,	 0,    4,    0,	   4, 0,
		1,  0, 5,   0,	 0,   0,   'h', 'e', 'l',  'l',	 'o',  5,    0x80, 8, 0,
		1,  0, 0,   0,	 9,   0,   0,	0,   0,	   0,	 0,    0,
	};
	struct buf buf;

	save_example(&buf);
	g_assert_cmpmem(buf.bytes, buf.len, golden, sizeof(golden));
	buf_fini(&buf);
}

static void test_optional_absent(void)
{
	struct older old = {.mode = 1, .count = 2, .n_text = 0};
	struct state_table table = older_table;
	struct sample loaded = {.later = 77};
	struct state_set *set;
	struct buf buf;

	table.name = "sample";
	buf_init(&buf, 4096);
	g_assert_cmpint(state_save(&table, 0, &old, &buf), ==, 0);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(state_load(set, &sample_table, 0, &loaded), ==, 0);
	g_assert_cmpuint(loaded.later, ==, 0);
	state_set_free(set);
	buf_fini(&buf);
}

static void test_newer_refused(void)
{
	struct state_table table = older_table;
	struct older loaded;
	struct state_set *set;
	struct buf buf;

	table.name = "sample";
	save_example(&buf);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(state_load(set, &table, 3, &loaded), ==, -EBADMSG); /* version 2 */
	table.version = 2;
	g_assert_cmpint(state_load(set, &table, 3, &loaded), ==,
			0); /* an unknown optional field is skipped */
	state_set_free(set);
	buf_fini(&buf);
}

static void test_every_truncation(void)
{
	struct buf buf;

	save_example(&buf);
	for (size_t len = 1; len < buf.len; len++) {
		g_autofree uint8_t *cut = g_memdup2(buf.bytes, len);
		struct state_set *set;

		g_assert_cmpint(state_set_parse(&set, cut, len), ==, -EBADMSG);
	}
	buf_fini(&buf);
}

/* Every byte of the payload flipped: either refused, or another value; never a crash. */
static void test_every_flip(void)
{
	struct buf buf;

	save_example(&buf);
	for (size_t i = 0; i < buf.len; i++) {
		g_autofree uint8_t *flipped = g_memdup2(buf.bytes, buf.len);
		struct sample loaded;
		struct state_set *set;

		flipped[i] ^= 0xff;
		if (state_set_parse(&set, flipped, buf.len))
			continue;
		if (!state_load(set, &sample_table, 3, &loaded))
			g_assert_true(memcmp(&loaded, &example, sizeof(loaded)) != 0);
		state_set_free(set);
	}
	buf_fini(&buf);
}

static void test_repeated_section(void)
{
	struct state_set *set;
	struct buf buf;

	save_example(&buf);
	state_save(&sample_table, 3, &example, &buf);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, -EBADMSG);
	buf_fini(&buf);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_ERROR;
	g_test_add_func("/base/state/round-trip", test_round_trip);
	g_test_add_func("/base/state/golden", test_golden);
	g_test_add_func("/base/state/optional-absent", test_optional_absent);
	g_test_add_func("/base/state/newer-refused", test_newer_refused);
	g_test_add_func("/base/state/every-truncation", test_every_truncation);
	g_test_add_func("/base/state/every-flip", test_every_flip);
	g_test_add_func("/base/state/repeated-section", test_repeated_section);
	return g_test_run();
}
