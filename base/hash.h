/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XXH3-64: what finds damage in records, pages and files. Not against those who mean it. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of len bytes, seed 0, with the widest vectors that this CPU has. Any thread. */
uint64_t hash_bytes(const void *bytes, size_t len);

#endif
