// SPDX-License-Identifier: GPL-2.0-or-later
/* What writer and reader of a saved VM's file share: hashes, names and limits of its parts, whole reads and writes. */
#include "migration/snapshot_layout.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

#ifdef __x86_64__
#define OWN_ARCH SNAPSHOT_X86_64
#else
#define OWN_ARCH SNAPSHOT_ARM64
#endif

enum snapshot_arch snapshot_own_arch(void)
{
	return OWN_ARCH;
}

static const struct {
	const char *name;
	uint64_t max;
} kinds[] = {
	[SNAPSHOT_CONFIG] = {"config", 256 << 10},
	[SNAPSHOT_TOLD] = {"told", 512 << 10},
	[SNAPSHOT_DISKS] = {"disks", 256 << 10},
	[SNAPSHOT_STATE] = {"state", SNAPSHOT_STATE_MAX},
	[SNAPSHOT_HASHES] = {"hashes", SNAPSHOT_PAGES_MAX * 8},
};
_Static_assert(ARRAY_SIZE(kinds) == SNAPSHOT_HASHES + 1, "each kind of part has its limit");

const char *snapshot_kind_name(uint32_t kind)
{
	return kind < ARRAY_SIZE(kinds) ? kinds[kind].name : NULL;
}

uint64_t snapshot_kind_max(uint32_t kind, uint64_t npages)
{
	if (kind == SNAPSHOT_HASHES)
		return npages * 8;
	return snapshot_kind_name(kind) ? kinds[kind].max : UINT64_MAX;
}

bool snapshot_page_is_zero(const uint8_t *page)
{
	/* The C library compares with the widest registers there are; each byte equals the one 64 before, and those are 0. */
	static const uint8_t zero[64];

	return !memcmp(page, zero, sizeof(zero)) &&
	       !memcmp(page, page + sizeof(zero), RAM_PAGE_BYTES - sizeof(zero));
}

uint64_t snapshot_hash_page(const uint8_t *page)
{
	uint64_t hash;

	if (snapshot_page_is_zero(page))
		return 0;
	hash = hash_bytes(page, RAM_PAGE_BYTES);
	return hash ? hash : 1;
}

int snapshot_pread(int fd, void *to, size_t len, uint64_t offset)
{
	uint8_t *at = to;

	while (len) {
		ssize_t got = pread(fd, at, len, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENODATA;
		at += got;
		len -= got;
		offset += got;
	}
	return 0;
}

int snapshot_pwrite(int fd, const void *from, size_t len, uint64_t offset)
{
	const uint8_t *at = from;

	while (len) {
		ssize_t put = pwrite(fd, at, len, offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		len -= put;
		offset += put;
	}
	return 0;
}
