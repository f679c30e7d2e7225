/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file of a saved VM: docs/snapshot.md is normative, this is its writer and its reader. Knows bytes and guest RAM, not
 * machines: what is saved when is saving.c's.
 *
 * Descriptors are given: whoever may open paths opens them. Nothing here keeps state between calls but what stands in its
 * objects; each object is one thread's at a time, but for what says otherwise.
 */
#ifndef MIGRATION_SNAPSHOT_FILE_H
#define MIGRATION_SNAPSHOT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "memory/ram.h"

#define SNAPSHOT_VERSION   1
#define SNAPSHOT_BLOCK	   4096
#define SNAPSHOT_PAGES_AT  (2ULL << 20)
#define SNAPSHOT_ID_BYTES  16
#define SNAPSHOT_TEXT_MAX  1024
#define SNAPSHOT_PARTS_MAX 16
#define SNAPSHOT_OPTIONAL  0x80000000U
/* 256 TiB of RAM: beyond it offsets are not computed at all. */
#define SNAPSHOT_PAGES_MAX (1ULL << 36)
/* Parts but HASHES; no part kept in memory is larger. */
#define SNAPSHOT_STATE_MAX (64ULL << 20)

enum snapshot_arch { SNAPSHOT_X86_64 = 1, SNAPSHOT_ARM64 = 2 };
enum snapshot_arch snapshot_own_arch(void);

enum snapshot_kind {
	SNAPSHOT_CONFIG = 1,
	SNAPSHOT_TOLD = 2,
	SNAPSHOT_DISKS = 3,
	SNAPSHOT_STATE = 4,
	SNAPSHOT_HASHES = 5,
};
/* "state"; NULL: not known. */
const char *snapshot_kind_name(uint32_t kind);

struct snapshot_header {
	uint16_t version, readable;
	uint32_t arch, nregions;
	uint64_t npages;
	uint8_t id[SNAPSHOT_ID_BYTES];
	uint64_t created_ns;
	struct ram_range region[RAM_REGIONS_MAX];
	char text[SNAPSHOT_TEXT_MAX + 1]; /* printable */
};

struct snapshot_part {
	uint32_t kind;
	uint64_t offset, bytes, hash;
};

/* ---- Writing ---- */

struct snapshot_writer;

/*
 * Begins a file on fd (empty, open for reading and writing; the caller keeps it, open until the writer is freed). ram must
 * outlive the writer. text: what writes it, for people. -EINVAL: not an empty regular file; -errno of writing; logged with `name`, which is kept.
 */
int snapshot_writer_new(struct snapshot_writer **out, int fd, const char *name,
			const struct ram *ram, const char *text) must_check;
void snapshot_writer_free(struct snapshot_writer *writer); /* takes NULL; the file stays as it is */

/*
 * Writes pages [first, first + npages) as they are now; each page may be written any number of times, the last counts. The
 * guest may write to them meanwhile (then they are dirty, and must be written again). Several threads may write different
 * pages at once. -errno of writing (-ENOSPC...), logged.
 */
int snapshot_write_pages(struct snapshot_writer *writer, page_t first, uint64_t npages) must_check;
/* Adds a part, not HASHES, each kind once; after the last page or before. -EINVAL: over its limit; -errno; logged. */
int snapshot_write_part(struct snapshot_writer *writer, uint32_t kind, const void *bytes,
			size_t len) must_check;
/*
 * All pages and parts were written: adds HASHES, waits for stable storage, seals. Slow: fdatasync of it all. Needs no RAM
 * any more. -errno, logged.
 */
int snapshot_writer_finish(struct snapshot_writer *writer) must_check;

struct snapshot_stats {
	uint64_t data_pages, zero_pages; /* written, each time they were */
	uint64_t hole_pages;		 /* made holes again */
	uint64_t bytes;			 /* written to the file */
};
void snapshot_writer_get_stats(const struct snapshot_writer *writer, struct snapshot_stats *stats);

/* ---- Reading ---- */

struct snapshot;

/*
 * Reads and checks header, seal and all parts but HASHES; fd stays the caller's, open until the snapshot is freed. Everything
 * in a file is taken for hostile. -EBADMSG: not a whole file of a saved VM; -ENOTSUP: of a newer version; -ENOMEM; -errno
 * of reading; one line logged with `name`, which is kept.
 */
int snapshot_open(struct snapshot **out, int fd, const char *name) must_check;
void snapshot_free(struct snapshot *snapshot); /* takes NULL */
const struct snapshot_header *snapshot_get_header(const struct snapshot *snapshot);
/* All parts, known or not; *n of them. */
const struct snapshot_part *snapshot_get_parts(const struct snapshot *snapshot, unsigned int *n);
/* The bytes of CONFIG, TOLD, DISKS or STATE; they are checked, and the snapshot's. */
const void *snapshot_get_part(const struct snapshot *snapshot, enum snapshot_kind kind,
			      size_t *len);
/* Whether ram has this file's regions. -EBADMSG, logged with both. */
int snapshot_check_ram(const struct snapshot *snapshot, const struct ram *ram) must_check;
/*
 * Reads HASHES (8 bytes a page: do it when memory for the VM was there) and checks them as a whole. Must come before
 * snapshot_read_pages(). -EBADMSG, -ENOMEM, -errno; logged.
 */
int snapshot_read_hashes(struct snapshot *snapshot) must_check;
/*
 * Fills pages [first, first + npages) of ram, which are all zero (a new machine's), and checks each. After snapshot_check_ram().
 * Several threads may read different pages at once. -EBADMSG, logged, names the first damaged page; -errno of reading.
 */
int snapshot_read_pages(const struct snapshot *snapshot, struct ram *ram, page_t first,
			uint64_t npages) must_check;
/* The same check without RAM, of all pages; for `tern inspect --verify`. *damaged pages; each of the first is logged. */
int snapshot_verify_pages(const struct snapshot *snapshot, uint64_t *damaged,
			  uint64_t *data_pages) must_check;

#endif
