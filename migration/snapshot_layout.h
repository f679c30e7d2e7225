/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the writer and the reader of a saved VM's file (snapshot_file.h) share: the numbers of docs/snapshot.md, and reads
 * and writes that are whole or an error. Of these two alone.
 */
#ifndef MIGRATION_SNAPSHOT_LAYOUT_H
#define MIGRATION_SNAPSHOT_LAYOUT_H

#include "migration/snapshot_file.h"

#define HEADER_AT	0
#define SEAL_AT		SNAPSHOT_BLOCK
#define CHECKSUM_AT	(SNAPSHOT_BLOCK - 8)
#define HEADER_REGIONS	56
#define HEADER_TEXT	(HEADER_REGIONS + RAM_REGIONS_MAX * 16)
#define SEAL_PARTS	40
#define SEAL_PART_BYTES 32

static const char header_magic[8] = {'T', 'E', 'R', 'N', 'S', 'N', 'A', 'P'};
static const char seal_magic[8] = {'T', 'E', 'R', 'N', 'S', 'E', 'A', 'L'};

_Static_assert(HEADER_TEXT + 2 + SNAPSHOT_TEXT_MAX <= CHECKSUM_AT, "the header is one block");
_Static_assert(SEAL_PARTS + SNAPSHOT_PARTS_MAX * SEAL_PART_BYTES <= CHECKSUM_AT,
	       "the seal is one block");

static inline uint64_t snapshot_page_at(page_t page)
{
	return SNAPSHOT_PAGES_AT + page * RAM_PAGE_BYTES;
}

/* A page as HASHES has it: 0 is all zeros. */
uint64_t snapshot_hash_page(const uint8_t *page);
bool snapshot_page_is_zero(const uint8_t *page);

/* The most bytes of a part; UINT64_MAX for one that is not known. */
uint64_t snapshot_kind_max(uint32_t kind, uint64_t npages);

/* All of len at offset. -errno; reading: -ENODATA where the file ends before. Not logged. */
int snapshot_pread(int fd, void *to, size_t len, uint64_t offset) must_check;
int snapshot_pwrite(int fd, const void *from, size_t len, uint64_t offset) must_check;

#endif
