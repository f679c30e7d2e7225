/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM: a memfd, mapped in regions that are sorted and frozen at creation, and the only way to touch it.
 *
 * Three addresses: gpa (what the guest says), hva (where this process sees it), and *page number* (page_t), the dense
 * index over all RAM pages in 4 KiB units, which is the only one on the wire and in every bitmap. Ranges between
 * regions hold no RAM, so a range of RAM never spans two regions.
 *
 * Whoever writes guest memory outside KVM_RUN marks it dirty: KVM never logs our writes. ram_write() and the write
 * direction of DMA (ram_mark_dirty once the data *is in memory*) do that in a bitmap of our own, always, with release
 * order; the harvest (memory/dirty.h) takes the bits with acquire order before it reads the pages.
 *
 * Any thread may access; the guest may write the same bytes at any time: copy out once, check, then use.
 */
#ifndef MEMORY_RAM_H
#define MEMORY_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "kvm/vm.h"

typedef uint64_t gpa_t;
typedef uint64_t page_t;

#define RAM_PAGE_SHIFT	12
#define RAM_PAGE_BYTES	4096ULL
#define RAM_REGIONS_MAX 8
/* So that a region starts at a word boundary in every bitmap, and a huge page never spans two. */
#define RAM_GRAIN (2ULL << 20)

enum ram_backing { RAM_SHMEM, RAM_HUGETLB_2M, RAM_HUGETLB_1G };

struct ram_range {
	gpa_t gpa;
	uint64_t size_bytes;
};

/* What a machine wants; ranges sorted and apart, addresses and sizes multiples of RAM_GRAIN (1 GiB with RAM_HUGETLB_1G). */
struct ram_layout {
	unsigned int nranges;
	struct ram_range range[RAM_REGIONS_MAX];
	enum ram_backing backing;
	bool prealloc; /* populate now; -ENOMEM names what lacks */
};

struct ram_region {
	gpa_t gpa;
	uint64_t size_bytes;
	uint8_t *hva;
	page_t first_page;
	uint64_t npages;
	uint32_t slot; /* KVM memslot number = index of the region */
};

struct ram {
	int memfd; /* region r begins at offset first_page * 4096 */
	enum ram_backing backing;
	unsigned int nregions;
	struct ram_region region[RAM_REGIONS_MAX];
	page_t npages;
	size_t size_bytes;
	uint64_t *written; /* what Tern's devices wrote: one bit a page, atomic */
	int smaps_fd;	   /* /proc/self/smaps, opened before the sandbox closes; -1: not there */
};

/* Errors, logged with size and reason: -ENOMEM, -EINVAL, -errno of memfd_create, ftruncate, mmap. */
int ram_new(struct ram **out, const struct ram_layout *layout) must_check;
void ram_free(struct ram *ram); /* takes NULL; memslots must be gone or the VM closed */
/*
 * Maps a stretch of guest RAM's file, offset and size in multiples of RAM_GRAIN, so that huge pages can back it, and wishes
 * for them: a wish counts for a mapping, and pages come as the mapping wished that touched them first. NULL: errno. The
 * caller's to unmap.
 */
void *ram_map_file(int fd, uint64_t offset, size_t size) must_check;
/* Makes one memslot a region (the VM's MEMSLOT step). */
int ram_attach(struct ram *ram, struct kvm_vm *vm) must_check;

/*
 * The hva of [gpa, gpa+len), NULL unless all of it is RAM. len 0 is allowed. What was written through it must be
 * marked with ram_mark_dirty() when the data is in memory.
 */
void *ram_ptr(const struct ram *ram, gpa_t gpa, uint64_t len);
/* Bounds-checked copies; -EFAULT (not logged: the guest's fault) when not all of it is RAM; then nothing is copied. */
int ram_read(const struct ram *ram, gpa_t gpa, void *to, size_t len) must_check;
int ram_write(struct ram *ram, gpa_t gpa, const void *from, size_t len) must_check;
/* Marks the pages of [gpa, gpa+len) as written by Tern; parts that are not RAM are passed over. */
void ram_mark_dirty(struct ram *ram, gpa_t gpa, uint64_t len);
/* The same by hva, for pointers that came from ram_ptr(). */
void ram_mark_dirty_hva(struct ram *ram, const void *hva, uint64_t len);

/* gpa <-> page number; false when it is not RAM. */
bool ram_gpa_to_page(const struct ram *ram, gpa_t gpa, page_t *page);
gpa_t ram_page_to_gpa(const struct ram *ram, page_t page); /* page < npages */
/* The part [*from, *to) of the pages [first, end) that lies in the region; false when there is none. */
bool ram_clip_pages(const struct ram_region *region, page_t first, page_t end, page_t *from,
		    page_t *to);
uint8_t *ram_page_to_hva(const struct ram *ram, page_t page);
/* Moves what Tern wrote since the last call into *map (npages bits, ORed), page by page in acquire order. */
void ram_take_written(struct ram *ram, uint64_t *map);

/* What the kernel really uses for the resident part of guest RAM, from smaps. */
struct ram_residency {
	uint64_t resident_bytes;  /* of all regions */
	uint64_t huge_bytes;	  /* the part of it in huge pages */
	uint64_t huge_page_bytes; /* 0 when there are none */
};
/* -ENOTSUP without /proc. Slow (walks page tables): for status, not for a loop. */
int ram_get_residency(const struct ram *ram, struct ram_residency *out) must_check;

#endif
