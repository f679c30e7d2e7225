// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * XXH3-64 on x86-64. Compiled for any such CPU it has vectors of 16 bytes alone; the library chooses among wider ones when
 * it is first called, which makes a page from memory cost 0.6 of the time.
 */
#include "base/hash.h"

#include <xxhash.h>

#include <xxh_x86dispatch.h>

uint64_t hash_bytes(const void *bytes, size_t len)
{
	return XXH3_64bits(bytes, len);
}
