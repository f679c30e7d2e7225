// SPDX-License-Identifier: GPL-2.0-or-later
/* From page index to address. */
#include "workset.h"

uint64_t workset_free_pages(void)
{
	uint64_t npages = 0;

	for (unsigned int i = 0; i < machine.nram; i++)
		npages += machine.ram[i].npages;
	return npages;
}

uint64_t workset_seek(struct page_cursor *cursor, uint64_t page)
{
	uint64_t first = 0;

	for (unsigned int i = 0; i < machine.nram; i++) {
		const struct extent *e = &machine.ram[i];

		if (page < first + e->npages) {
			*cursor = (struct page_cursor){first, first + e->npages, e->start};
			return e->start + ((page - first) << PAGE_SHIFT);
		}
		first += e->npages;
	}
	fatal("page %lu is beyond the guest's RAM", page);
}
