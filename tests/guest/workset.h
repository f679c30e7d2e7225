/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages that the guest writes and what stands in them. A page is named by its index, which runs through all free
 * RAM from the lowest address on, whatever holes there are.
 */
#ifndef GUEST_WORKSET_H
#define GUEST_WORKSET_H

#include "guest.h"

struct page_error {
	uint64_t page, gpa, offset, expected, found, generation;
};

/* Remembers the extent of the last page asked for; one for each vCPU. */
struct page_cursor {
	uint64_t first, end, base; /* indices [first, end) lie from address base on */
};

uint64_t workset_free_pages(void);
uint64_t workset_seek(struct page_cursor *cursor, uint64_t page);

static inline uint64_t *workset_page(struct page_cursor *cursor, uint64_t page)
{
	if (page < cursor->first || page >= cursor->end)
		return (uint64_t *)workset_seek(cursor, page);
	return (uint64_t *)(cursor->base + ((page - cursor->first) << PAGE_SHIFT));
}

/* Word number `word` of a page that was written for the generation-th time. No word is ever 0, nor equal to another. */
static inline uint64_t stamp(uint64_t page, uint64_t generation, uint64_t word)
{
	return ((page + 1) << 32 | (uint32_t)generation) + word * 0x9e3779b97f4a7c15ul;
}

#endif
