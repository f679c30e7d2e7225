// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Guest RAM: the memfd, its mapping, address translation and the bounds-checked accessors.
 * Which pages the guest wrote is dirty.c's; only what Tern itself wrote is noted here.
 */
#include "memory/ram.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/log.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#define MFD_HUGE_1GB (30U << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static const struct {
	const char *name;
	uint64_t page_bytes, grain_bytes;
	unsigned int memfd_flags;
} backings[] = {
	[RAM_SHMEM] = {"shared memory", 4096, RAM_GRAIN, 0},
	[RAM_HUGETLB_2M] = {"2 MiB huge pages", 2ULL << 20, RAM_GRAIN, MFD_HUGETLB | MFD_HUGE_2MB},
	[RAM_HUGETLB_1G] = {"1 GiB huge pages", 1ULL << 30, 1ULL << 30, MFD_HUGETLB | MFD_HUGE_1GB},
};

static int check_layout(const struct ram_layout *layout, uint64_t *total)
{
	uint64_t grain = backings[layout->backing].grain_bytes, end = 0;
	struct sysinfo host;

	*total = 0;
	if (layout->nranges == 0 || layout->nranges > RAM_REGIONS_MAX)
		return fail(-EINVAL, "ram: %u ranges", layout->nranges);
	for (unsigned int i = 0; i < layout->nranges; i++) {
		const struct ram_range *range = &layout->range[i];

		if (range->size_bytes == 0 || range->size_bytes % grain || range->gpa % grain)
			return fail(-EINVAL,
				    "ram: %" PRIu64 " KiB at %#" PRIx64
				    ": %s come in multiples of %" PRIu64 " KiB",
				    range->size_bytes / 1024, range->gpa,
				    backings[layout->backing].name, grain / 1024);
		if ((i > 0 && range->gpa <= end) || range->gpa + range->size_bytes < range->gpa)
			return fail(-EINVAL,
				    "ram: range at %#" PRIx64 " overlaps, touches or wraps",
				    range->gpa);
		end = range->gpa + range->size_bytes;
		*total += range->size_bytes;
	}
	/* The kernel would find out only when the guest touches what is not there, and then kill. */
	if (sysinfo(&host) == 0) {
		uint64_t has = (uint64_t)(host.totalram + host.totalswap) * host.mem_unit;

		if (*total > has)
			return fail(-ENOMEM,
				    "ram: %" PRIu64 " MiB of guest memory: this host has %" PRIu64
				    " MiB",
				    *total >> 20, has >> 20);
	}
	return 0;
}

static int create_memfd(struct ram *ram)
{
	ram->memfd = memfd_create("tern-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING |
						      backings[ram->backing].memfd_flags);
	if (ram->memfd < 0)
		return fail(-errno, "ram: memfd of %s: %s", backings[ram->backing].name,
			    strerror(errno));
	if (ftruncate(ram->memfd, ram->size_bytes) < 0)
		return fail(-errno, "ram: %zu MiB: %s", ram->size_bytes >> 20, strerror(errno));
	/* Whoever else gets the descriptor cannot cut pages away under the guest. */
	if (fcntl(ram->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return fail(-errno, "ram: seal: %s", strerror(errno));
	return 0;
}

/* An address range aligned so that huge pages can map it; 0 bytes are lost, the slack is unmapped. */
static void *reserve_aligned(size_t size, size_t align)
{
	uint8_t *base = mmap(NULL, size + align, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t at;

	if (base == MAP_FAILED)
		return NULL;
	at = ((uintptr_t)base + align - 1) & ~(uintptr_t)(align - 1);
	if (at > (uintptr_t)base)
		munmap(base, at - (uintptr_t)base);
	munmap((void *)(at + size), (uintptr_t)base + align - at);
	return (void *)at;
}

void *ram_map_file(int fd, uint64_t offset, size_t size)
{
	void *at = reserve_aligned(size, RAM_GRAIN), *hva;

	if (!at)
		return NULL;
	hva = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
	if (hva == MAP_FAILED) {
		munmap(at, size);
		/* hugetlb with pages of 1 GiB, which aligns itself. */
		hva = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	}
	if (hva == MAP_FAILED)
		return NULL;
	/* Wishes: a kernel without huge pages for shared memory, or without core dumps, loses nothing by refusing. */
	madvise(hva, size, MADV_HUGEPAGE);
	madvise(hva, size, MADV_DONTDUMP);
	return hva;
}

static int map_region(struct ram *ram, struct ram_region *region)
{
	region->hva =
		ram_map_file(ram->memfd, region->first_page << RAM_PAGE_SHIFT, region->size_bytes);
	return region->hva
		       ? 0
		       : fail(-errno, "ram: %" PRIu64 " MiB of %s: %s", region->size_bytes >> 20,
			      backings[ram->backing].name, strerror(errno));
}

static int populate(struct ram *ram)
{
	for (unsigned int i = 0; i < ram->nregions; i++) {
		struct ram_region *region = &ram->region[i];

		if (madvise(region->hva, region->size_bytes, MADV_POPULATE_WRITE) < 0)
			return fail(-errno, "ram: populate %" PRIu64 " MiB: %s",
				    region->size_bytes >> 20, strerror(errno));
	}
	return 0;
}

int ram_new(struct ram **out, const struct ram_layout *layout)
{
	struct ram *ram = NULL;
	uint64_t total;
	int error = check_layout(layout, &total);

	if (error)
		return error;
	assert(total >= RAM_GRAIN);
	ram = calloc(1, sizeof(*ram));
	if (!ram)
		return fail(-ENOMEM, "ram: no memory");
	*ram = (struct ram){.memfd = -1,
			    .backing = layout->backing,
			    .size_bytes = total,
			    .npages = total >> RAM_PAGE_SHIFT};
	ram->smaps_fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	ram->written = calloc(ram->npages / 64, sizeof(*ram->written));
	error = ram->written ? create_memfd(ram) : fail(-ENOMEM, "ram: no memory for the page map");
	for (unsigned int i = 0; !error && i < layout->nranges; i++) {
		struct ram_region *region = &ram->region[i];

		*region = (struct ram_region){
			.gpa = layout->range[i].gpa,
			.size_bytes = layout->range[i].size_bytes,
			.npages = layout->range[i].size_bytes >> RAM_PAGE_SHIFT,
			.slot = i,
			.first_page = i ? region[-1].first_page + region[-1].npages : 0,
		};
		error = map_region(ram, region);
		if (!error)
			ram->nregions++;
	}
	if (!error && layout->prealloc)
		error = populate(ram);
	if (error) {
		ram_free(ram);
		return error;
	}
	*out = ram;
	return 0;
}

void ram_free(struct ram *ram)
{
	if (!ram)
		return;
	for (unsigned int i = 0; i < ram->nregions; i++)
		munmap(ram->region[i].hva, ram->region[i].size_bytes);
	close_fd(&ram->memfd);
	close_fd(&ram->smaps_fd);
	free(ram->written);
	free(ram);
}

int ram_attach(struct ram *ram, struct kvm_vm *vm)
{
	for (unsigned int i = 0; i < ram->nregions; i++) {
		struct ram_region *region = &ram->region[i];
		int error = kvm_vm_set_memslot(vm, region->slot, 0, region->gpa, region->size_bytes,
					       region->hva);

		if (error)
			return error;
	}
	return 0;
}

static const struct ram_region *find_gpa(const struct ram *ram, gpa_t gpa, uint64_t len)
{
	for (unsigned int i = 0; i < ram->nregions; i++) {
		const struct ram_region *region = &ram->region[i];

		if (gpa >= region->gpa && gpa - region->gpa <= region->size_bytes &&
		    len <= region->size_bytes - (gpa - region->gpa))
			return region;
	}
	return NULL;
}

void *ram_ptr(const struct ram *ram, gpa_t gpa, uint64_t len)
{
	const struct ram_region *region = find_gpa(ram, gpa, len);

	return region ? region->hva + (gpa - region->gpa) : NULL;
}

int ram_read(const struct ram *ram, gpa_t gpa, void *to, size_t len)
{
	const void *from = ram_ptr(ram, gpa, len);

	if (!from)
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

int ram_write(struct ram *ram, gpa_t gpa, const void *from, size_t len)
{
	void *to = ram_ptr(ram, gpa, len);

	if (!to)
		return -EFAULT;
	memcpy(to, from, len);
	ram_mark_dirty(ram, gpa, len);
	return 0;
}

/* Release: the data is in memory before the bit is seen. Partner: the exchange in ram_take_written(). */
static void mark_pages(struct ram *ram, page_t first, page_t last)
{
	for (page_t page = first; page <= last; page++) {
		uint64_t *word = &ram->written[page / 64], bit = 1ULL << (page % 64);

		/* A bit that nobody has taken since covers this write too, if the data is visible before the test. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
			__atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
	}
}

void ram_mark_dirty(struct ram *ram, gpa_t gpa, uint64_t len)
{
	for (unsigned int i = 0; len && i < ram->nregions; i++) {
		const struct ram_region *region = &ram->region[i];
		uint64_t last = gpa + len - 1 < gpa ? UINT64_MAX : gpa + len - 1;
		uint64_t region_last = region->gpa + region->size_bytes - 1;
		uint64_t from = gpa > region->gpa ? gpa : region->gpa;
		uint64_t to = last < region_last ? last : region_last;

		if (from <= to)
			mark_pages(ram,
				   region->first_page + ((from - region->gpa) >> RAM_PAGE_SHIFT),
				   region->first_page + ((to - region->gpa) >> RAM_PAGE_SHIFT));
	}
}

void ram_mark_dirty_hva(struct ram *ram, const void *hva, uint64_t len)
{
	for (unsigned int i = 0; i < ram->nregions; i++) {
		const struct ram_region *region = &ram->region[i];
		uintptr_t at = (uintptr_t)hva, base = (uintptr_t)region->hva;

		if (at >= base && at < base + region->size_bytes)
			ram_mark_dirty(ram, region->gpa + (at - base), len);
	}
}

void ram_take_written(struct ram *ram, uint64_t *map)
{
	for (uint64_t i = 0; i < ram->npages / 64; i++) {
		if (!__atomic_load_n(&ram->written[i], __ATOMIC_RELAXED))
			continue;
		/* Partner of mark_pages(): the pages are read after this, and hold what was written before the mark. */
		map[i] |= __atomic_exchange_n(&ram->written[i], 0, __ATOMIC_SEQ_CST);
	}
}

bool ram_gpa_to_page(const struct ram *ram, gpa_t gpa, page_t *page)
{
	const struct ram_region *region = find_gpa(ram, gpa, 1);

	if (!region)
		return false;
	*page = region->first_page + ((gpa - region->gpa) >> RAM_PAGE_SHIFT);
	return true;
}

static const struct ram_region *find_page(const struct ram *ram, page_t page)
{
	const struct ram_region *region = ram->region;

	while (page >= region->first_page + region->npages)
		region++;
	return region;
}

gpa_t ram_page_to_gpa(const struct ram *ram, page_t page)
{
	const struct ram_region *region = find_page(ram, page);

	return region->gpa + ((page - region->first_page) << RAM_PAGE_SHIFT);
}

bool ram_clip_pages(const struct ram_region *region, page_t first, page_t end, page_t *from,
		    page_t *to)
{
	const page_t region_end = region->first_page + region->npages;

	*from = first > region->first_page ? first : region->first_page;
	*to = end < region_end ? end : region_end;
	return *from < *to;
}

uint8_t *ram_page_to_hva(const struct ram *ram, page_t page)
{
	const struct ram_region *region = find_page(ram, page);

	return region->hva + ((page - region->first_page) << RAM_PAGE_SHIFT);
}

static bool is_ours(const struct ram *ram, uintptr_t start)
{
	for (unsigned int i = 0; i < ram->nregions; i++) {
		if (start >= (uintptr_t)ram->region[i].hva &&
		    start < (uintptr_t)ram->region[i].hva + ram->region[i].size_bytes)
			return true;
	}
	return false;
}

int ram_get_residency(const struct ram *ram, struct ram_residency *out)
{
	char line[256];
	bool ours = false;
	uint64_t kib;
	FILE *smaps;
	int fd = ram->smaps_fd < 0 ? -1 : fcntl(ram->smaps_fd, F_DUPFD_CLOEXEC, 0);

	*out = (struct ram_residency){};
	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0 || !(smaps = fdopen(fd, "r"))) {
		close_fd(&fd);
		return -ENOTSUP;
	}
	while (fgets(line, sizeof(line), smaps)) {
		uintptr_t start, end;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			ours = is_ours(ram, start);
		else if (!ours)
			continue;
		else if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			out->resident_bytes += kib << 10;
		else if (sscanf(line, "Shared_Hugetlb: %" SCNu64, &kib) == 1 ||
			 sscanf(line, "Private_Hugetlb: %" SCNu64, &kib) == 1) {
			out->resident_bytes += kib << 10; /* smaps does not count these as Rss */
			out->huge_bytes += kib << 10;
		} else if (sscanf(line, "ShmemPmdMapped: %" SCNu64, &kib) == 1)
			out->huge_bytes += kib << 10;
	}
	fclose(smaps);
	if (out->huge_bytes)
		out->huge_page_bytes =
			ram->backing == RAM_SHMEM ? RAM_GRAIN : backings[ram->backing].page_bytes;
	return 0;
}
