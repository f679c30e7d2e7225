// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reading the file of a saved VM (docs/snapshot.md). Writing is snapshot_writer.c's.
 *
 * The file is hostile: nothing in it is used before it was checked, nothing allocated that it has not the bytes for, and no
 * part of it kept in memory that is larger than its kind allows. HASHES, which grows with the memory, waits until
 * somebody has that much memory for the VM itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "migration/snapshot_layout.h"

#define RUN_PAGES 512
/* Damaged pages that are named one by one. */
#define NAMED_PAGES 8

struct snapshot {
	int fd;
	char *name;
	uint64_t file_bytes;
	struct snapshot_header header;
	unsigned int nparts;
	struct snapshot_part part[SNAPSHOT_PARTS_MAX];
	void *bytes[SNAPSHOT_HASHES]; /* by kind; CONFIG to STATE */
	uint64_t *hash;		      /* of each page, once read */
};

static int refuse(const struct snapshot *snapshot, const char *why)
{
	return fail(-EBADMSG, "snapshot: %s: %s", snapshot->name, why);
}

static int read_at(const struct snapshot *snapshot, void *to, size_t len, uint64_t offset)
{
	int error = snapshot_pread(snapshot->fd, to, len, offset);

	if (error == -ENODATA)
		return refuse(snapshot, "cut off");
	if (error)
		return fail(error, "snapshot: %s: %s", snapshot->name, strerror(-error));
	return 0;
}

static bool block_fits(const uint8_t block[SNAPSHOT_BLOCK])
{
	return get_le64(block + CHECKSUM_AT) == hash_bytes(block, CHECKSUM_AT);
}

/* ---- Header ---- */

static int check_regions(const struct snapshot *snapshot)
{
	const struct snapshot_header *header = &snapshot->header;
	uint64_t end = 0, pages = 0;

	if (header->nregions == 0 || header->nregions > RAM_REGIONS_MAX)
		return refuse(snapshot, "header: the number of memory regions");
	if (header->npages == 0 || header->npages > SNAPSHOT_PAGES_MAX)
		return refuse(snapshot, "header: the number of pages");
	for (uint32_t i = 0; i < header->nregions; i++) {
		const struct ram_range *range = &header->region[i];

		if (range->size_bytes == 0 || range->size_bytes % RAM_PAGE_BYTES ||
		    range->gpa % RAM_PAGE_BYTES || range->gpa < end ||
		    range->gpa + range->size_bytes < range->gpa)
			return refuse(snapshot, "header: a memory region");
		end = range->gpa + range->size_bytes;
		/* No sum overflows: each is at most 2^52 pages, and there are eight. */
		pages += range->size_bytes / RAM_PAGE_BYTES;
	}
	if (pages != header->npages)
		return refuse(snapshot, "header: regions and pages disagree");
	return 0;
}

static int parse_text(struct snapshot *snapshot, const uint8_t *at)
{
	const uint16_t len = get_le16(at);

	if (len > SNAPSHOT_TEXT_MAX)
		return refuse(snapshot, "header: the text's length");
	for (uint16_t i = 0; i < len; i++) {
		const char c = (char)at[2 + i];

		snapshot->header.text[i] = (char)(c < ' ' || c == 0x7f ? '?' : c);
	}
	return 0;
}

static int parse_header(struct snapshot *snapshot, const uint8_t block[SNAPSHOT_BLOCK])
{
	struct snapshot_header *header = &snapshot->header;

	if (memcmp(block, header_magic, sizeof(header_magic)) != 0)
		return refuse(snapshot, "not the file of a saved VM");
	if (!block_fits(block))
		return refuse(snapshot, "header: damaged");
	header->version = get_le16(block + 8);
	header->readable = get_le16(block + 10);
	if (header->readable == 0 || header->readable > SNAPSHOT_VERSION)
		return fail(-ENOTSUP,
			    "snapshot: %s: version %u, readable from version %u on; this is %u",
			    snapshot->name, header->version, header->readable, SNAPSHOT_VERSION);
	if (get_le32(block + 12) != RAM_PAGE_BYTES)
		return refuse(snapshot, "header: the page size is not 4096");
	header->arch = get_le32(block + 16);
	if (header->arch != SNAPSHOT_X86_64 && header->arch != SNAPSHOT_ARM64)
		return refuse(snapshot, "header: an architecture that is not known");
	header->nregions = get_le32(block + 20);
	header->npages = get_le64(block + 24);
	memcpy(header->id, block + 32, SNAPSHOT_ID_BYTES);
	header->created_ns = get_le64(block + 48);
	for (unsigned int i = 0; i < RAM_REGIONS_MAX; i++) {
		header->region[i].gpa = get_le64(block + HEADER_REGIONS + i * 16);
		header->region[i].size_bytes = get_le64(block + HEADER_REGIONS + i * 16 + 8);
	}
	if (check_regions(snapshot))
		return -EBADMSG;
	return parse_text(snapshot, block + HEADER_TEXT);
}

/* ---- Seal and parts ---- */

static const struct snapshot_part *find_part(const struct snapshot *snapshot, uint32_t kind)
{
	for (unsigned int i = 0; i < snapshot->nparts; i++) {
		if (snapshot->part[i].kind == kind)
			return &snapshot->part[i];
	}
	return NULL;
}

/* end: of what comes before it. */
static int check_part(const struct snapshot *snapshot, const struct snapshot_part *part,
		      uint64_t end)
{
	const char *name = snapshot_kind_name(part->kind);

	if (!name && !(part->kind & SNAPSHOT_OPTIONAL))
		return refuse(snapshot, "seal: a part that is not known");
	if (find_part(snapshot, part->kind))
		return refuse(snapshot, "seal: a part is there twice");
	if (part->offset % SNAPSHOT_BLOCK || part->offset < end ||
	    part->offset > snapshot->file_bytes ||
	    part->bytes > snapshot->file_bytes - part->offset)
		return refuse(snapshot, "seal: the place of a part");
	if (part->bytes > snapshot_kind_max(part->kind, snapshot->header.npages))
		return fail(-EBADMSG, "snapshot: %s: %s: %" PRIu64 " bytes are too many",
			    snapshot->name, name, part->bytes);
	return 0;
}

static int check_all_there(const struct snapshot *snapshot)
{
	for (uint32_t kind = SNAPSHOT_CONFIG; kind <= SNAPSHOT_HASHES; kind++) {
		if (!find_part(snapshot, kind))
			return fail(-EBADMSG, "snapshot: %s: seal: no %s", snapshot->name,
				    snapshot_kind_name(kind));
	}
	if (find_part(snapshot, SNAPSHOT_HASHES)->bytes != snapshot->header.npages * 8)
		return refuse(snapshot, "seal: the length of hashes");
	return 0;
}

static int parse_parts(struct snapshot *snapshot, const uint8_t *at, uint32_t nparts)
{
	uint64_t end = snapshot_page_at(snapshot->header.npages);

	for (uint32_t i = 0; i < nparts; i++, at += SEAL_PART_BYTES) {
		struct snapshot_part part = {.kind = get_le32(at),
					     .offset = get_le64(at + 8),
					     .bytes = get_le64(at + 16),
					     .hash = get_le64(at + 24)};

		if (check_part(snapshot, &part, end))
			return -EBADMSG;
		end = part.offset + part.bytes;
		snapshot->part[snapshot->nparts++] = part;
	}
	if (end != snapshot->file_bytes)
		return refuse(snapshot, "seal: bytes after the last part");
	return check_all_there(snapshot);
}

static int parse_seal(struct snapshot *snapshot, const uint8_t block[SNAPSHOT_BLOCK])
{
	const uint32_t nparts = get_le32(block + 32);

	if (memcmp(block, seal_magic, sizeof(seal_magic)) != 0)
		return refuse(snapshot, "not complete: it was not written to its end");
	if (!block_fits(block))
		return refuse(snapshot, "seal: damaged");
	if (memcmp(block + 8, snapshot->header.id, SNAPSHOT_ID_BYTES) != 0)
		return refuse(snapshot, "header and seal are of different files");
	if (get_le64(block + 24) != snapshot->file_bytes)
		return fail(-EBADMSG,
			    "snapshot: %s: %" PRIu64 " bytes, not the %" PRIu64
			    " that it was written with",
			    snapshot->name, snapshot->file_bytes, get_le64(block + 24));
	if (nparts == 0 || nparts > SNAPSHOT_PARTS_MAX)
		return refuse(snapshot, "seal: the number of parts");
	return parse_parts(snapshot, block + SEAL_PARTS, nparts);
}

static int read_part(const struct snapshot *snapshot, const struct snapshot_part *part, void *to)
{
	int error = read_at(snapshot, to, part->bytes, part->offset);

	if (error)
		return error;
	if (hash_bytes(to, part->bytes) != part->hash)
		return fail(-EBADMSG, "snapshot: %s: %s: damaged", snapshot->name,
			    snapshot_kind_name(part->kind));
	return 0;
}

static int read_parts(struct snapshot *snapshot)
{
	int error = 0;

	for (uint32_t kind = SNAPSHOT_CONFIG; !error && kind < SNAPSHOT_HASHES; kind++) {
		const struct snapshot_part *part = find_part(snapshot, kind);

		snapshot->bytes[kind] = malloc(part->bytes + 1);
		if (!snapshot->bytes[kind])
			return fail(-ENOMEM, "snapshot: no memory");
		error = read_part(snapshot, part, snapshot->bytes[kind]);
	}
	return error;
}

static int open_file(struct snapshot *snapshot)
{
	uint8_t block[SNAPSHOT_BLOCK];
	struct stat stat;
	int error;

	if (fstat(snapshot->fd, &stat) < 0)
		return fail(-errno, "snapshot: %s: %s", snapshot->name, strerror(errno));
	if (!S_ISREG(stat.st_mode))
		return refuse(snapshot, "not a file");
	snapshot->file_bytes = stat.st_size;
	error = read_at(snapshot, block, sizeof(block), HEADER_AT);
	if (!error)
		error = parse_header(snapshot, block);
	if (!error)
		error = read_at(snapshot, block, sizeof(block), SEAL_AT);
	if (!error)
		error = parse_seal(snapshot, block);
	return error ? error : read_parts(snapshot);
}

int snapshot_open(struct snapshot **out, int fd, const char *name)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int error;

	if (!snapshot)
		return fail(-ENOMEM, "snapshot: no memory");
	snapshot->fd = fd;
	snapshot->name = strdup(name);
	error = snapshot->name ? open_file(snapshot) : fail(-ENOMEM, "snapshot: no memory");
	if (error) {
		snapshot_free(snapshot);
		return error;
	}
	*out = snapshot;
	return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
	if (!snapshot)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(snapshot->bytes); i++)
		free(snapshot->bytes[i]);
	free(snapshot->hash);
	free(snapshot->name);
	free(snapshot);
}

const struct snapshot_header *snapshot_get_header(const struct snapshot *snapshot)
{
	return &snapshot->header;
}

const struct snapshot_part *snapshot_get_parts(const struct snapshot *snapshot, unsigned int *n)
{
	*n = snapshot->nparts;
	return snapshot->part;
}

const void *snapshot_get_part(const struct snapshot *snapshot, enum snapshot_kind kind, size_t *len)
{
	*len = find_part(snapshot, kind)->bytes;
	return snapshot->bytes[kind];
}

/* ---- Pages ---- */

int snapshot_check_ram(const struct snapshot *snapshot, const struct ram *ram)
{
	const struct snapshot_header *header = &snapshot->header;
	bool same = header->nregions == ram->nregions;

	for (unsigned int i = 0; same && i < ram->nregions; i++)
		same = header->region[i].gpa == ram->region[i].gpa &&
		       header->region[i].size_bytes == ram->region[i].size_bytes;
	if (same)
		return 0;
	return fail(-EBADMSG,
		    "snapshot: %s: memory of %" PRIu64
		    " MiB in %u regions; its configuration makes %zu MiB in %u, or elsewhere",
		    snapshot->name, header->npages >> (20 - RAM_PAGE_SHIFT), header->nregions,
		    ram->size_bytes >> 20, ram->nregions);
}

int snapshot_read_hashes(struct snapshot *snapshot)
{
	const struct snapshot_part *part = find_part(snapshot, SNAPSHOT_HASHES);
	int error;

	if (snapshot->hash)
		return 0;
	snapshot->hash = malloc(part->bytes);
	if (!snapshot->hash)
		return fail(-ENOMEM, "snapshot: no memory for the hashes of %" PRIu64 " pages",
			    snapshot->header.npages);
	error = read_part(snapshot, part, snapshot->hash);
	if (error) {
		free(snapshot->hash);
		snapshot->hash = NULL;
	}
	return error;
}

/* Reads pages and says which is the first that does not fit its hash; npages if all do. */
static int read_run(const struct snapshot *snapshot, uint8_t *to, page_t first, uint64_t npages,
		    uint64_t *damaged)
{
	int error = read_at(snapshot, to, npages * RAM_PAGE_BYTES, snapshot_page_at(first));

	*damaged = 0;
	while (!error && *damaged < npages &&
	       snapshot_hash_page(to + *damaged * RAM_PAGE_BYTES) ==
		       snapshot->hash[first + *damaged])
		++*damaged;
	return error;
}

/* The next pages that hold something, at most RUN_PAGES, from *page on and before end; moves *page past them. */
static uint64_t next_run(const struct snapshot *snapshot, page_t *page, page_t end)
{
	uint64_t n = 0;

	while (*page < end && !snapshot->hash[*page])
		++*page;
	while (*page < end && snapshot->hash[*page] && n < RUN_PAGES) {
		++*page;
		n++;
	}
	return n;
}

static int read_in_region(const struct snapshot *snapshot, const struct ram *ram, page_t page,
			  page_t end)
{
	uint64_t n, damaged;

	while ((n = next_run(snapshot, &page, end))) {
		const page_t first = page - n;
		int error = read_run(snapshot, ram_page_to_hva(ram, first), first, n, &damaged);

		if (error)
			return error;
		if (damaged < n)
			return fail(-EBADMSG, "snapshot: %s: page %" PRIu64 ": damaged",
				    snapshot->name, first + damaged);
	}
	return 0;
}

int snapshot_read_pages(const struct snapshot *snapshot, struct ram *ram, page_t first,
			uint64_t npages)
{
	const page_t end = first + npages;
	int error = 0;

	for (unsigned int i = 0; !error && i < ram->nregions; i++) {
		page_t from, to;

		if (ram_clip_pages(&ram->region[i], first, end, &from, &to))
			error = read_in_region(snapshot, ram, from, to);
	}
	return error;
}

/* run: room for RUN_PAGES. */
static int verify_with(const struct snapshot *snapshot, uint8_t *run, uint64_t *damaged,
		       uint64_t *data_pages)
{
	page_t page = 0;
	uint64_t n;

	while ((n = next_run(snapshot, &page, snapshot->header.npages))) {
		const page_t first = page - n;
		int error = read_at(snapshot, run, n * RAM_PAGE_BYTES, snapshot_page_at(first));

		if (error)
			return error;
		*data_pages += n;
		for (uint64_t i = 0; i < n; i++) {
			if (snapshot_hash_page(run + i * RAM_PAGE_BYTES) ==
			    snapshot->hash[first + i])
				continue;
			if (++*damaged <= NAMED_PAGES)
				log_error("snapshot: %s: page %" PRIu64 ": damaged", snapshot->name,
					  first + i);
		}
	}
	return 0;
}

int snapshot_verify_pages(const struct snapshot *snapshot, uint64_t *damaged, uint64_t *data_pages)
{
	uint8_t *run = malloc(RUN_PAGES * RAM_PAGE_BYTES);
	int error;

	*damaged = 0;
	*data_pages = 0;
	if (!run)
		return fail(-ENOMEM, "snapshot: no memory");
	error = verify_with(snapshot, run, damaged, data_pages);
	free(run);
	return error;
}
