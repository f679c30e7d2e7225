// SPDX-License-Identifier: GPL-2.0-or-later
/* base/hash: the same numbers whatever vectors this CPU has, for they are in files and on the wire. */
#include "base/hash.h"

#include <glib.h>

/* The reference: no vectors at all. */
#define XXH_INLINE_ALL
#define XXH_VECTOR 0 /* XXH_SCALAR */
#include <xxhash.h>

#define PAGE 4096

/* Computed apart from this program: python3 -c 'import xxhash; print(xxhash.xxh3_64_hexdigest(b""))', and of 4096 zeros. */
static void test_known(void)
{
	static const uint8_t zeros[PAGE];

	g_assert_cmphex(hash_bytes(zeros, 0), ==, 0x2d06800538d394c2);
	g_assert_cmphex(hash_bytes(zeros, PAGE), ==, 0x93d76fe148c689ba);
}

/* Each length up to more than a page and each alignment have paths of their own. */
static void test_lengths(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(1);
	uint8_t bytes[PAGE + 512 + 64];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)g_rand_int(rand);
	for (size_t len = 0; len <= PAGE + 512; len++) {
		const uint8_t *at = bytes + len % 64;

		g_assert_cmphex(hash_bytes(at, len), ==, XXH3_64bits(at, len));
	}
}

static void test_one_bit(void)
{
	uint8_t page[PAGE] = {0};
	const uint64_t before = hash_bytes(page, PAGE);

	for (size_t bit = 0; bit < 8 * (size_t)PAGE; bit++) {
		page[bit / 8] ^= (uint8_t)(1 << bit % 8);
		g_assert_cmphex(hash_bytes(page, PAGE), !=, before);
		page[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hash/known", test_known);
	g_test_add_func("/hash/lengths", test_lengths);
	g_test_add_func("/hash/one-bit", test_one_bit);
	return g_test_run();
}
