// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing the file of a saved VM (docs/snapshot.md). Reading is snapshot_reader.c's.
 *
 * Theory of operation. The hash of each page is kept in memory from the first write on: it becomes the HASHES part, and it
 * knows which pages the file holds, so that a page that is zero now costs a hole only where it had bytes. A guest that
 * writes to a page between its hash and its write makes the two disagree; but then the page is dirty, and comes again
 * before the end. The file is sealed last, when the rest is on stable storage: without its seal it is nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "migration/snapshot_layout.h"

/* Pages in one write: a chunk. */
#define RUN_PAGES 512

struct snapshot_writer {
	int fd;
	char *name;
	const struct ram *ram;
	uint64_t *hash; /* of each page as it is in the file; 0: a hole */
	uint8_t id[SNAPSHOT_ID_BYTES];
	uint64_t end; /* of the last part, or of the pages */
	unsigned int nparts;
	struct snapshot_part part[SNAPSHOT_PARTS_MAX];
	struct snapshot_stats stats; /* atomic: several threads write pages */
};

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void finish_block(uint8_t block[SNAPSHOT_BLOCK])
{
	put_le64(block + CHECKSUM_AT, hash_bytes(block, CHECKSUM_AT));
}

static int write_header(struct snapshot_writer *writer, const char *text)
{
	const struct ram *ram = writer->ram;
	uint8_t block[SNAPSHOT_BLOCK] = {};
	const size_t text_len = strnlen(text, SNAPSHOT_TEXT_MAX);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memcpy(block, header_magic, sizeof(header_magic));
	put_le16(block + 8, SNAPSHOT_VERSION);
	put_le16(block + 10, 1);
	put_le32(block + 12, RAM_PAGE_BYTES);
	put_le32(block + 16, snapshot_own_arch());
	put_le32(block + 20, ram->nregions);
	put_le64(block + 24, ram->npages);
	memcpy(block + 32, writer->id, SNAPSHOT_ID_BYTES);
	put_le64(block + 48, now.tv_sec * 1000000000ULL + now.tv_nsec);
	for (unsigned int i = 0; i < ram->nregions; i++) {
		put_le64(block + HEADER_REGIONS + i * 16, ram->region[i].gpa);
		put_le64(block + HEADER_REGIONS + i * 16 + 8, ram->region[i].size_bytes);
	}
	put_le16(block + HEADER_TEXT, text_len);
	memcpy(block + HEADER_TEXT + 2, text, text_len);
	finish_block(block);
	return snapshot_pwrite(writer->fd, block, sizeof(block), HEADER_AT);
}

int snapshot_writer_new(struct snapshot_writer **out, int fd, const char *name,
			const struct ram *ram, const char *text)
{
	struct snapshot_writer *writer;
	struct stat stat;
	int error;

	if (fstat(fd, &stat) < 0)
		return fail(-errno, "snapshot: %s: %s", name, strerror(errno));
	if (!S_ISREG(stat.st_mode) || stat.st_size)
		return fail(-EINVAL, "snapshot: %s: not an empty file", name);
	writer = calloc(1, sizeof(*writer));
	if (!writer)
		return fail(-ENOMEM, "snapshot: no memory");
	writer->fd = fd;
	writer->ram = ram;
	writer->end = snapshot_page_at(ram->npages);
	writer->name = strdup(name);
	writer->hash = calloc(ram->npages, sizeof(*writer->hash));
	if (!writer->name || !writer->hash)
		error = fail(-ENOMEM, "snapshot: no memory for the hashes of %llu pages",
			     (unsigned long long)ram->npages);
	else if (getrandom(writer->id, sizeof(writer->id), 0) != sizeof(writer->id))
		error = fail(-errno, "snapshot: random bytes: %s", strerror(errno));
	else
		error = write_header(writer, text);
	if (error) {
		snapshot_writer_free(writer);
		return fail(error, "snapshot: %s: %s", name, strerror(-error));
	}
	*out = writer;
	return 0;
}

void snapshot_writer_free(struct snapshot_writer *writer)
{
	if (!writer)
		return;
	free(writer->name);
	free(writer->hash);
	free(writer);
}

/* ---- Pages ---- */

static int write_data(struct snapshot_writer *writer, page_t first, uint64_t npages)
{
	const uint8_t *from = ram_page_to_hva(writer->ram, first);
	int error =
		snapshot_pwrite(writer->fd, from, npages * RAM_PAGE_BYTES, snapshot_page_at(first));

	if (error)
		return fail(error, "snapshot: %s: page %llu: %s", writer->name,
			    (unsigned long long)first, strerror(-error));
	count(&writer->stats.data_pages, npages);
	count(&writer->stats.bytes, npages * RAM_PAGE_BYTES);
	return 0;
}

/* Where the file system has no holes, the zeros are written. */
static int write_zeros(struct snapshot_writer *writer, page_t first, uint64_t npages)
{
	static const uint8_t zero[RAM_PAGE_BYTES];
	int error = 0;

	for (uint64_t i = 0; !error && i < npages; i++)
		error = snapshot_pwrite(writer->fd, zero, sizeof(zero),
					snapshot_page_at(first + i));
	if (!error)
		count(&writer->stats.bytes, npages * RAM_PAGE_BYTES);
	return error;
}

static int punch(struct snapshot_writer *writer, page_t first, uint64_t npages)
{
	int error = 0;

	if (fallocate(writer->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      snapshot_page_at(first), npages * RAM_PAGE_BYTES) < 0)
		error = -errno;
	if (error == -EOPNOTSUPP || error == -ENOSYS)
		error = write_zeros(writer, first, npages);
	if (error)
		return fail(error, "snapshot: %s: hole at page %llu: %s", writer->name,
			    (unsigned long long)first, strerror(-error));
	count(&writer->stats.hole_pages, npages);
	return 0;
}

enum run_kind { RUN_NONE, RUN_DATA, RUN_HOLE };

struct run {
	enum run_kind kind;
	page_t first;
	uint64_t npages;
};

static int end_run(struct snapshot_writer *writer, struct run *run)
{
	int error = 0;

	if (run->kind == RUN_DATA)
		error = write_data(writer, run->first, run->npages);
	else if (run->kind == RUN_HOLE)
		error = punch(writer, run->first, run->npages);
	run->kind = RUN_NONE;
	run->npages = 0;
	return error;
}

static int add_to_run(struct snapshot_writer *writer, struct run *run, enum run_kind kind,
		      page_t page)
{
	if (run->kind != kind || run->npages == RUN_PAGES) {
		int error = end_run(writer, run);

		if (error)
			return error;
		*run = (struct run){.kind = kind, .first = page};
	}
	run->npages++;
	return 0;
}

static int write_page(struct snapshot_writer *writer, struct run *run, page_t page, uint64_t hash)
{
	const uint64_t before = writer->hash[page];
	enum run_kind kind = RUN_NONE;

	writer->hash[page] = hash;
	if (hash)
		kind = RUN_DATA;
	else if (before)
		kind = RUN_HOLE;
	if (!hash)
		count(&writer->stats.zero_pages, 1);
	return add_to_run(writer, run, kind, page);
}

/*
 * Pages of guest RAM that were never touched: the next one that may hold something, at most `end`. To look at the others
 * would make the kernel allocate them.
 */
static page_t next_present(const struct ram *ram, page_t from, page_t end)
{
	off_t at = lseek(ram->memfd, from * RAM_PAGE_BYTES, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? end : from;
	return (page_t)at / RAM_PAGE_BYTES < end ? (page_t)at / RAM_PAGE_BYTES : end;
}

static page_t next_absent(const struct ram *ram, page_t from, page_t end)
{
	off_t at = lseek(ram->memfd, from * RAM_PAGE_BYTES, SEEK_HOLE);

	if (at <= (off_t)(from * RAM_PAGE_BYTES))
		return end;
	return (page_t)at / RAM_PAGE_BYTES < end ? (page_t)at / RAM_PAGE_BYTES : end;
}

/* [first, end) lies in one region. */
static int write_in_region(struct snapshot_writer *writer, page_t first, page_t end)
{
	struct run run = {};
	page_t present_until = first;
	int error = 0;

	for (page_t page = first; !error && page < end; page++) {
		/* What the file holds was there before; of the rest the kernel is asked, stretch by stretch. */
		if (!writer->hash[page] && page >= present_until) {
			const page_t present = next_present(writer->ram, page, end);

			for (; !error && page < present; page++)
				error = write_page(writer, &run, page, 0);
			if (error || page == end)
				break;
			present_until = next_absent(writer->ram, page, end);
		}
		error = write_page(writer, &run, page,
				   snapshot_hash_page(ram_page_to_hva(writer->ram, page)));
	}
	return error ? error : end_run(writer, &run);
}

int snapshot_write_pages(struct snapshot_writer *writer, page_t first, uint64_t npages)
{
	const struct ram *ram = writer->ram;
	const page_t end = first + npages;
	int error = 0;

	for (unsigned int i = 0; !error && i < ram->nregions; i++) {
		page_t from, to;

		if (ram_clip_pages(&ram->region[i], first, end, &from, &to))
			error = write_in_region(writer, from, to);
	}
	return error;
}

/* ---- Parts and the end ---- */

static int append_part(struct snapshot_writer *writer, uint32_t kind, const void *bytes, size_t len)
{
	struct snapshot_part *part = &writer->part[writer->nparts];
	int error;

	*part = (struct snapshot_part){.kind = kind,
				       .offset = (writer->end + SNAPSHOT_BLOCK - 1) /
						 SNAPSHOT_BLOCK * SNAPSHOT_BLOCK,
				       .bytes = len,
				       .hash = hash_bytes(bytes, len)};
	error = snapshot_pwrite(writer->fd, bytes, len, part->offset);
	if (error)
		return fail(error, "snapshot: %s: %s: %s", writer->name, snapshot_kind_name(kind),
			    strerror(-error));
	writer->end = part->offset + len;
	writer->nparts++;
	count(&writer->stats.bytes, len);
	return 0;
}

int snapshot_write_part(struct snapshot_writer *writer, uint32_t kind, const void *bytes,
			size_t len)
{
	const char *name = snapshot_kind_name(kind);

	if (!name || kind == SNAPSHOT_HASHES)
		return fail(-EINVAL, "snapshot: part of kind %u", kind);
	for (unsigned int i = 0; i < writer->nparts; i++) {
		if (writer->part[i].kind == kind)
			return fail(-EINVAL, "snapshot: %s twice", name);
	}
	if (len > snapshot_kind_max(kind, 0))
		return fail(-EINVAL, "snapshot: %s of %zu bytes: at most %llu", name, len,
			    (unsigned long long)snapshot_kind_max(kind, 0));
	return append_part(writer, kind, bytes, len);
}

static int write_seal(struct snapshot_writer *writer)
{
	uint8_t block[SNAPSHOT_BLOCK] = {};

	memcpy(block, seal_magic, sizeof(seal_magic));
	memcpy(block + 8, writer->id, SNAPSHOT_ID_BYTES);
	put_le64(block + 24, writer->end);
	put_le32(block + 32, writer->nparts);
	for (unsigned int i = 0; i < writer->nparts; i++) {
		uint8_t *at = block + SEAL_PARTS + (size_t)i * SEAL_PART_BYTES;

		put_le32(at, writer->part[i].kind);
		put_le64(at + 8, writer->part[i].offset);
		put_le64(at + 16, writer->part[i].bytes);
		put_le64(at + 24, writer->part[i].hash);
	}
	finish_block(block);
	return snapshot_pwrite(writer->fd, block, sizeof(block), SEAL_AT);
}

int snapshot_writer_finish(struct snapshot_writer *writer)
{
	int error = append_part(writer, SNAPSHOT_HASHES, writer->hash,
				writer->ram->npages * sizeof(*writer->hash));

	if (error)
		return error;
	/* The seal must never be there before what it stands for. */
	if (fdatasync(writer->fd) < 0)
		error = -errno;
	if (!error)
		error = write_seal(writer);
	if (!error && fdatasync(writer->fd) < 0)
		error = -errno;
	if (error)
		return fail(error, "snapshot: %s: %s", writer->name, strerror(-error));
	return 0;
}

void snapshot_writer_get_stats(const struct snapshot_writer *writer, struct snapshot_stats *stats)
{
	stats->data_pages = __atomic_load_n(&writer->stats.data_pages, __ATOMIC_RELAXED);
	stats->zero_pages = __atomic_load_n(&writer->stats.zero_pages, __ATOMIC_RELAXED);
	stats->hole_pages = __atomic_load_n(&writer->stats.hole_pages, __ATOMIC_RELAXED);
	stats->bytes = __atomic_load_n(&writer->stats.bytes, __ATOMIC_RELAXED);
}
