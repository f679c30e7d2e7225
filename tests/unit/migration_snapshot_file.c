// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * migration/snapshot_writer and snapshot_reader: what was written comes back, holes stay holes, and no byte of a file is
 * believed: cut off, flipped, or rewritten by somebody who knows how checksums are made.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "migration/snapshot_layout.h"

static const struct ram_layout layout = {
	.nranges = 2,
	.range = {{.gpa = 0, .size_bytes = 4 << 20}, {.gpa = 1ULL << 32, .size_bytes = 2 << 20}},
	.backing = RAM_SHMEM,
};
#define NPAGES 1536

static struct ram *new_ram(void)
{
	struct ram *ram;

	g_assert_cmpint(ram_new(&ram, &layout), ==, 0);
	g_assert_cmpuint(ram->npages, ==, NPAGES);
	return ram;
}

static void fill(struct ram *ram, page_t page, uint8_t value)
{
	memset(ram_page_to_hva(ram, page), value, RAM_PAGE_BYTES);
}

/* Data at both ends of both regions, in two chunks, one page alone, one half zero. */
static void fill_some(struct ram *ram)
{
	for (page_t page = 0; page < 20; page++)
		fill(ram, page, 1 + page);
	fill(ram, 600, 60);
	for (page_t page = 1000; page < 1030; page++)
		fill(ram, page, 1 + page % 200);
	fill(ram, 1535, 9);
	ram_page_to_hva(ram, 800)[4095] = 1;
	fill(ram, 700, 0); /* touched, but zero */
}

static int new_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	return fd;
}

static void write_parts(struct snapshot_writer *writer)
{
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_CONFIG, "{\"cpus\": 1}", 11), ==, 0);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_TOLD, "", 0), ==, 0);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_DISKS, "", 0), ==, 0);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_STATE, "state of it", 11), ==, 0);
}

static int new_snapshot(struct ram *ram)
{
	struct snapshot_writer *writer;
	int fd = new_file();

	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, "unit test"), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, NPAGES), ==, 0);
	write_parts(writer);
	g_assert_cmpint(snapshot_writer_finish(writer), ==, 0);
	snapshot_writer_free(writer);
	return fd;
}

static void assert_same_ram(const struct ram *a, const struct ram *b)
{
	for (unsigned int i = 0; i < a->nregions; i++)
		g_assert_cmpint(memcmp(a->region[i].hva, b->region[i].hva, a->region[i].size_bytes),
				==, 0);
}

static int load(int fd, struct ram *ram)
{
	struct snapshot *snapshot;
	int error = snapshot_open(&snapshot, fd, "test");

	if (error)
		return error;
	error = snapshot_check_ram(snapshot, ram);
	if (!error)
		error = snapshot_read_hashes(snapshot);
	if (!error)
		error = snapshot_read_pages(snapshot, ram, 0, NPAGES);
	snapshot_free(snapshot);
	return error;
}

static void test_round_trip(void)
{
	struct ram *ram = new_ram(), *again = new_ram();
	const struct snapshot_header *header;
	struct snapshot *snapshot;
	uint64_t damaged, data;
	size_t len;
	int fd;

	fill_some(ram);
	fd = new_snapshot(ram);
	g_assert_cmpint(load(fd, again), ==, 0);
	assert_same_ram(ram, again);

	g_assert_cmpint(snapshot_open(&snapshot, fd, "test"), ==, 0);
	header = snapshot_get_header(snapshot);
	g_assert_cmpuint(header->version, ==, 1);
	g_assert_cmpuint(header->arch, ==, snapshot_own_arch());
	g_assert_cmpuint(header->npages, ==, NPAGES);
	g_assert_cmpuint(header->region[1].gpa, ==, 1ULL << 32);
	g_assert_cmpstr(header->text, ==, "unit test");
	g_assert_cmpint(
		memcmp(snapshot_get_part(snapshot, SNAPSHOT_STATE, &len), "state of it", 11), ==,
		0);
	g_assert_cmpuint(len, ==, 11);
	g_assert_nonnull(snapshot_get_part(snapshot, SNAPSHOT_TOLD, &len));
	g_assert_cmpuint(len, ==, 0);
	g_assert_cmpint(snapshot_read_hashes(snapshot), ==, 0);
	g_assert_cmpint(snapshot_verify_pages(snapshot, &damaged, &data), ==, 0);
	g_assert_cmpuint(damaged, ==, 0);
	g_assert_cmpuint(data, ==, 20 + 1 + 30 + 1 + 1);
	snapshot_free(snapshot);
	close(fd);
	ram_free(ram);
	ram_free(again);
}

static uint64_t file_blocks(int fd)
{
	struct stat stat;

	g_assert_cmpint(fstat(fd, &stat), ==, 0);
	return stat.st_blocks * 512;
}

static void test_holes(void)
{
	struct ram *ram = new_ram();
	struct stat stat;
	int fd;

	fill_some(ram);
	g_assert_cmpint(fstat(ram->memfd, &stat), ==, 0);
	fd = new_snapshot(ram);
	/* 53 pages of data, header, seal, four parts and 12 KiB of hashes. */
	g_assert_cmpuint(file_blocks(fd), <=, (53 + 2 + 4 + 4) * 4096ULL);
	g_assert_cmpuint(lseek(fd, SNAPSHOT_PAGES_AT + 20 * 4096, SEEK_DATA), ==,
			 SNAPSHOT_PAGES_AT + 600 * 4096);
	/* Guest memory that was never touched has not been touched now. */
	g_assert_cmpuint(file_blocks(ram->memfd), ==, stat.st_blocks * 512ULL);
	close(fd);
	ram_free(ram);
}

/* As in a live save: pages change, appear and become zero after they were written. */
static void test_written_again(void)
{
	struct ram *ram = new_ram(), *again = new_ram();
	struct snapshot_writer *writer;
	struct snapshot_stats stats;
	uint64_t before;
	int fd = new_file();

	fill_some(ram);
	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, ""), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, NPAGES), ==, 0);
	before = file_blocks(fd);
	fill(ram, 3, 0xaa);
	fill(ram, 601, 0xbb);
	for (page_t page = 1000; page < 1030; page++)
		fill(ram, page, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, 64), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 601, 1), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 990, 50), ==, 0);
	snapshot_writer_get_stats(writer, &stats);
	g_assert_cmpuint(stats.hole_pages, ==, 30);
	g_assert_cmpuint(stats.data_pages, ==, 53 + 20 + 1);
	g_assert_cmpuint(file_blocks(fd), ==, before - 29 * 4096);
	write_parts(writer);
	g_assert_cmpint(snapshot_writer_finish(writer), ==, 0);
	snapshot_writer_free(writer);
	g_assert_cmpint(load(fd, again), ==, 0);
	assert_same_ram(ram, again);
	close(fd);
	ram_free(ram);
	ram_free(again);
}

static uint64_t file_size(int fd)
{
	struct stat stat;

	g_assert_cmpint(fstat(fd, &stat), ==, 0);
	return stat.st_size;
}

static void test_cut_off(void)
{
	struct ram *ram = new_ram(), *again = new_ram();
	int fd;
	uint64_t size;

	fill_some(ram);
	fd = new_snapshot(ram);
	size = file_size(fd);
	for (unsigned int i = 0; i < 40; i++) {
		g_assert_cmpint(ftruncate(fd, i < 20 ? size - 1 - i * i * 700 : i * 520), ==, 0);
		g_assert_cmpint(load(fd, again), ==, -EBADMSG);
	}
	g_assert_cmpint(ftruncate(fd, 0), ==, 0);
	g_assert_cmpint(load(fd, again), ==, -EBADMSG);
	close(fd);
	ram_free(ram);
	ram_free(again);
}

/* A file that was not finished has everything but its seal. */
static void test_not_finished(void)
{
	struct ram *ram = new_ram();
	struct snapshot_writer *writer;
	struct snapshot *snapshot;
	int fd = new_file();

	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, ""), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, NPAGES), ==, 0);
	write_parts(writer);
	snapshot_writer_free(writer);
	g_assert_cmpint(snapshot_open(&snapshot, fd, "test"), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "not complete"));
	close(fd);
	ram_free(ram);
}

static void flip(int fd, uint64_t at, uint8_t bits)
{
	uint8_t byte;

	g_assert_cmpint(pread(fd, &byte, 1, at), ==, 1);
	byte ^= bits;
	g_assert_cmpint(pwrite(fd, &byte, 1, at), ==, 1);
}

static void test_flipped(void)
{
	struct ram *ram = new_ram(), *again = new_ram();
	const struct snapshot_part *parts;
	struct snapshot *snapshot;
	uint64_t at[64], damaged, data;
	unsigned int n = 0, nparts;
	int fd;

	fill_some(ram);
	fd = new_snapshot(ram);
	g_assert_cmpint(snapshot_open(&snapshot, fd, "test"), ==, 0);
	parts = snapshot_get_parts(snapshot, &nparts);
	for (unsigned int i = 0; i < nparts; i++) {
		for (uint64_t byte = 0; byte < parts[i].bytes; byte += parts[i].bytes / 3 + 1)
			at[n++] = parts[i].offset + byte;
	}
	snapshot_free(snapshot);
	for (unsigned int i = 0; i < 16; i++) {
		at[n++] = i * 255;
		at[n++] = SEAL_AT + i * 255;
	}
	at[n++] = SNAPSHOT_PAGES_AT;
	at[n++] = SNAPSHOT_PAGES_AT + 1535 * 4096 + 4095;
	for (unsigned int i = 0; i < n; i++) {
		flip(fd, at[i], 1 << (i % 8));
		g_assert_cmpint(load(fd, again), ==, -EBADMSG);
		flip(fd, at[i], 1 << (i % 8));
	}
	g_assert_cmpint(load(fd, again), ==, 0);

	/* Damaged pages are named and counted. */
	flip(fd, SNAPSHOT_PAGES_AT + 600 * 4096, 1);
	flip(fd, SNAPSHOT_PAGES_AT + 1002 * 4096, 1);
	g_assert_cmpint(load(fd, again), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "page 600: damaged"));
	g_assert_cmpint(snapshot_open(&snapshot, fd, "test"), ==, 0);
	g_assert_cmpint(snapshot_read_hashes(snapshot), ==, 0);
	g_assert_cmpint(snapshot_verify_pages(snapshot, &damaged, &data), ==, 0);
	g_assert_cmpuint(damaged, ==, 2);
	snapshot_free(snapshot);
	close(fd);
	ram_free(ram);
	ram_free(again);
}

/*
 * A file that the first version wrote: its blocks and parts; the two pages that hold something are made here. Later
 * versions must read it. TERN_GOLDEN_WRITE=1 writes it anew, for a version that no release has had.
 */
#define GOLDEN	      "tests/golden/snapshot.bin"
#define GOLDEN_BLOCKS (2 * SNAPSHOT_BLOCK)

static struct ram *new_golden_ram(bool filled)
{
	static const struct ram_layout small = {.nranges = 1,
						.range = {{.gpa = 2 << 20, .size_bytes = 2 << 20}},
						.backing = RAM_SHMEM};
	struct ram *ram;

	g_assert_cmpint(ram_new(&ram, &small), ==, 0);
	if (filled) {
		fill(ram, 3, 0x5a);
		fill(ram, 511, 0xa5);
	}
	return ram;
}

static void write_golden(void)
{
	struct ram *ram = new_golden_ram(true);
	g_autofree char *bytes = g_malloc0(1 << 20);
	struct snapshot_writer *writer;
	const uint64_t tail_at = snapshot_page_at(512);
	int fd = new_file();
	ssize_t tail;

	g_assert_cmpint(snapshot_writer_new(&writer, fd, "golden", ram, "Tern 1"), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, 512), ==, 0);
	write_parts(writer);
	g_assert_cmpint(snapshot_writer_finish(writer), ==, 0);
	g_assert_cmpint(pread(fd, bytes, GOLDEN_BLOCKS, 0), ==, GOLDEN_BLOCKS);
	tail = pread(fd, bytes + GOLDEN_BLOCKS, (1 << 20) - GOLDEN_BLOCKS, tail_at);
	g_assert_true(g_file_set_contents(GOLDEN, bytes, GOLDEN_BLOCKS + tail, NULL));
	snapshot_writer_free(writer);
	close(fd);
	ram_free(ram);
}

static void test_golden(void)
{
	struct ram *ram, *again;
	struct snapshot *snapshot;
	g_autofree char *bytes = NULL;
	size_t len, part;
	int fd = new_file();

	if (g_getenv("TERN_GOLDEN_WRITE"))
		write_golden();
	g_assert_true(g_file_get_contents(GOLDEN, &bytes, &len, NULL));
	ram = new_golden_ram(true);
	again = new_golden_ram(false);
	g_assert_cmpint(pwrite(fd, bytes, GOLDEN_BLOCKS, 0), ==, GOLDEN_BLOCKS);
	g_assert_cmpint(pwrite(fd, ram->region[0].hva, 2 << 20, SNAPSHOT_PAGES_AT), ==, 2 << 20);
	g_assert_cmpint(
		pwrite(fd, bytes + GOLDEN_BLOCKS, len - GOLDEN_BLOCKS, snapshot_page_at(512)), ==,
		len - GOLDEN_BLOCKS);
	g_assert_cmpint(snapshot_open(&snapshot, fd, "golden"), ==, 0);
	g_assert_cmpstr(snapshot_get_header(snapshot)->text, ==, "Tern 1");
	g_assert_cmpint(
		memcmp(snapshot_get_part(snapshot, SNAPSHOT_STATE, &part), "state of it", 11), ==,
		0);
	g_assert_cmpint(snapshot_check_ram(snapshot, again), ==, 0);
	g_assert_cmpint(snapshot_read_hashes(snapshot), ==, 0);
	g_assert_cmpint(snapshot_read_pages(snapshot, again, 0, 512), ==, 0);
	assert_same_ram(ram, again);
	snapshot_free(snapshot);
	close(fd);
	ram_free(ram);
	ram_free(again);
}

/* ---- Somebody who makes the checksums fit ---- */

struct forged {
	uint8_t header[SNAPSHOT_BLOCK], seal[SNAPSHOT_BLOCK];
};

static void set_header16(struct forged *f, unsigned int at, uint16_t value)
{
	put_le16(f->header + at, value);
}

static void set_header32(struct forged *f, unsigned int at, uint32_t value)
{
	put_le32(f->header + at, value);
}

static void set_header64(struct forged *f, unsigned int at, uint64_t value)
{
	put_le64(f->header + at, value);
}

static uint8_t *part_at(struct forged *f, unsigned int part)
{
	return f->seal + SEAL_PARTS + (size_t)part * SEAL_PART_BYTES;
}

static int open_forged(int fd, struct forged f)
{
	struct snapshot *snapshot;
	int error;

	put_le64(f.header + CHECKSUM_AT, hash_bytes(f.header, CHECKSUM_AT));
	put_le64(f.seal + CHECKSUM_AT, hash_bytes(f.seal, CHECKSUM_AT));
	g_assert_cmpint(pwrite(fd, f.header, sizeof(f.header), HEADER_AT), ==, SNAPSHOT_BLOCK);
	g_assert_cmpint(pwrite(fd, f.seal, sizeof(f.seal), SEAL_AT), ==, SNAPSHOT_BLOCK);
	error = snapshot_open(&snapshot, fd, "forged");
	if (!error)
		snapshot_free(snapshot);
	return error;
}

static void test_forged_header(void)
{
	struct ram *ram = new_ram();
	int fd = new_snapshot(ram);
	struct forged good, f;

	g_assert_cmpint(pread(fd, &good, sizeof(good), 0), ==, sizeof(good));
	g_assert_cmpint(open_forged(fd, good), ==, 0);

#define BAD(expected, ...)                                         \
	do {                                                       \
		f = good;                                          \
		__VA_ARGS__;                                       \
		g_assert_cmpint(open_forged(fd, f), ==, expected); \
	} while (0)
	BAD(0, set_header16(&f, 8, 2)); /* a newer version that says we can read it */
	BAD(-ENOTSUP, set_header16(&f, 10, 2));
	BAD(-ENOTSUP, set_header16(&f, 10, 0));
	BAD(-EBADMSG, set_header32(&f, 12, 65536));
	BAD(-EBADMSG, set_header32(&f, 16, 3));
	BAD(-EBADMSG, set_header32(&f, 20, 0));
	BAD(-EBADMSG, set_header32(&f, 20, 9));
	BAD(-EBADMSG, set_header32(&f, 20, 1)); /* and pages of both */
	BAD(-EBADMSG, set_header64(&f, 24, NPAGES + 1));
	BAD(-EBADMSG, set_header64(&f, 24, UINT64_MAX));
	BAD(-EBADMSG, set_header64(&f, 24, 0));
	BAD(-EBADMSG, f.header[32] ^= 1);			       /* another file's seal */
	BAD(-EBADMSG, set_header64(&f, HEADER_REGIONS + 16, 2 << 20)); /* overlaps */
	BAD(-EBADMSG, set_header64(&f, HEADER_REGIONS + 16, UINT64_MAX - 4095)); /* wraps */
	BAD(-EBADMSG, set_header64(&f, HEADER_REGIONS + 16, (1ULL << 32) + 1));
	BAD(-EBADMSG, set_header64(&f, HEADER_REGIONS + 24, 0));
	BAD(-EBADMSG, set_header64(&f, HEADER_REGIONS + 8, 1ULL << 60);
	    set_header64(&f, HEADER_REGIONS + 16, 1ULL << 61); set_header64(&f, 24, NPAGES));
	BAD(-EBADMSG, set_header16(&f, HEADER_TEXT, SNAPSHOT_TEXT_MAX + 1));
	BAD(0, set_header16(&f, HEADER_TEXT, SNAPSHOT_TEXT_MAX));
	close(fd);
	ram_free(ram);
}

static void test_forged_seal(void)
{
	struct ram *ram = new_ram();
	int fd = new_snapshot(ram);
	const uint64_t size = file_size(fd);
	struct forged good, f;

	g_assert_cmpint(pread(fd, &good, sizeof(good), 0), ==, sizeof(good));
	BAD(-EBADMSG, put_le64(f.seal + 24, size + 1));
	BAD(-EBADMSG, put_le32(f.seal + 32, 0));
	BAD(-EBADMSG, put_le32(f.seal + 32, 17));
	BAD(-EBADMSG, put_le32(f.seal + 32, 4)); /* hashes are not there */
	BAD(-EBADMSG, put_le32(part_at(&f, 0), 6));
	BAD(-EBADMSG, put_le32(part_at(&f, 0), SNAPSHOT_OPTIONAL | 6)); /* no config */
	BAD(-EBADMSG, put_le32(part_at(&f, 0), SNAPSHOT_STATE));	/* twice */
	BAD(-EBADMSG, put_le64(part_at(&f, 0) + 8, SNAPSHOT_PAGES_AT)); /* in the pages */
	BAD(-EBADMSG, put_le64(part_at(&f, 1) + 8, get_le64(part_at(&f, 0) + 8) + 1));
	BAD(-EBADMSG, put_le64(part_at(&f, 3) + 8, get_le64(part_at(&f, 0) + 8))); /* overlap */
	BAD(-EBADMSG, put_le64(part_at(&f, 3) + 8, UINT64_MAX / 4096 * 4096));
	BAD(-EBADMSG, put_le64(part_at(&f, 3) + 16, UINT64_MAX));
	BAD(-EBADMSG, put_le64(part_at(&f, 3) + 16, 12)); /* its checksum */
	BAD(-EBADMSG, put_le64(part_at(&f, 4) + 16, NPAGES * 8 - 8));
	BAD(-EBADMSG, put_le64(part_at(&f, 4) + 16, NPAGES * 8 + 8));

	/* An optional part that nobody knows is passed over. */
	f = good;
	memcpy(part_at(&f, 5), part_at(&f, 4), SEAL_PART_BYTES);
	put_le32(part_at(&f, 5), SNAPSHOT_OPTIONAL | 77);
	put_le64(part_at(&f, 5) + 8, (size + 4095) / 4096 * 4096);
	put_le64(part_at(&f, 5) + 16, 4096);
	put_le32(f.seal + 32, 6);
	put_le64(f.seal + 24, (size + 4095) / 4096 * 4096 + 4096);
	g_assert_cmpint(ftruncate(fd, (size + 4095) / 4096 * 4096 + 4096), ==, 0);
	g_assert_cmpint(open_forged(fd, f), ==, 0);
	put_le32(part_at(&f, 5), 77);
	g_assert_cmpint(open_forged(fd, f), ==, -EBADMSG);

	/* A part that is larger than its kind may be, with all the bytes it needs. */
	f = good;
	put_le64(part_at(&f, 4) + 8, (size + (1 << 20)) / 4096 * 4096);
	put_le64(part_at(&f, 0) + 16, (256 << 10) + 1);
	for (unsigned int i = 1; i < 4; i++)
		put_le64(part_at(&f, i) + 8, get_le64(part_at(&good, i) + 8) + (512 << 10));
	put_le64(f.seal + 24, get_le64(part_at(&f, 4) + 8) + NPAGES * 8);
	g_assert_cmpint(ftruncate(fd, get_le64(f.seal + 24)), ==, 0);
	g_assert_cmpint(open_forged(fd, f), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "config: 262145 bytes are too many"));
	close(fd);
	ram_free(ram);
}

static void test_other_ram(void)
{
	static const struct ram_layout other = {
		.nranges = 1, .range = {{.gpa = 0, .size_bytes = 6 << 20}}, .backing = RAM_SHMEM};
	struct ram *ram = new_ram(), *wrong;
	int fd = new_snapshot(ram);

	g_assert_cmpint(ram_new(&wrong, &other), ==, 0);
	g_assert_cmpint(load(fd, wrong), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "6 MiB in 2 regions"));
	close(fd);
	ram_free(ram);
	ram_free(wrong);
}

static void test_writer_refuses(void)
{
	struct ram *ram = new_ram();
	struct snapshot_writer *writer;
	AUTO_FREE char *large = calloc(1, (256 << 10) + 1);
	int fd = new_file();

	g_assert_cmpint(pwrite(fd, "x", 1, 0), ==, 1);
	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, ""), ==, -EINVAL);
	g_assert_cmpint(ftruncate(fd, 0), ==, 0);
	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, ""), ==, 0);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_HASHES, "", 0), ==, -EINVAL);
	g_assert_cmpint(snapshot_write_part(writer, 99, "", 0), ==, -EINVAL);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_CONFIG, large, (256 << 10) + 1), ==,
			-EINVAL);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_CONFIG, "{}", 2), ==, 0);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_CONFIG, "{}", 2), ==, -EINVAL);
	snapshot_writer_free(writer);
	close(fd);
	ram_free(ram);
}

/* A file system that is full, played by a limit on the file's size. */
static void test_full(void)
{
	const struct rlimit limit = {.rlim_cur = SNAPSHOT_PAGES_AT + 10 * 4096,
				     .rlim_max = RLIM_INFINITY};
	struct rlimit before;
	struct ram *ram = new_ram();
	struct snapshot_writer *writer;
	int fd = new_file();

	fill_some(ram);
	g_assert_cmpint(snapshot_writer_new(&writer, fd, "test", ram, ""), ==, 0);
	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
	signal(SIGXFSZ, SIG_IGN);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	g_assert_cmpint(snapshot_write_pages(writer, 0, NPAGES), ==, -EFBIG);
	g_assert_cmpint(snapshot_write_part(writer, SNAPSHOT_CONFIG, "{}", 2), ==, -EFBIG);
	g_assert_cmpint(snapshot_writer_finish(writer), ==, -EFBIG);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
	snapshot_writer_free(writer);
	close(fd);
	ram_free(ram);
}

static void test_zero_page(void)
{
	static uint8_t page[RAM_PAGE_BYTES];

	g_assert_true(snapshot_page_is_zero(page));
	for (unsigned int i = 0; i < sizeof(page); i++) {
		page[i] = 0x80;
		g_assert_false(snapshot_page_is_zero(page));
		page[i] = 0;
	}
	memset(page, 1, sizeof(page));
	g_assert_false(snapshot_page_is_zero(page));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	g_test_add_func("/snapshot-file/round-trip", test_round_trip);
	g_test_add_func("/snapshot-file/holes", test_holes);
	g_test_add_func("/snapshot-file/written-again", test_written_again);
	g_test_add_func("/snapshot-file/cut-off", test_cut_off);
	g_test_add_func("/snapshot-file/not-finished", test_not_finished);
	g_test_add_func("/snapshot-file/flipped", test_flipped);
	g_test_add_func("/snapshot-file/golden", test_golden);
	g_test_add_func("/snapshot-file/forged-header", test_forged_header);
	g_test_add_func("/snapshot-file/forged-seal", test_forged_seal);
	g_test_add_func("/snapshot-file/other-ram", test_other_ram);
	g_test_add_func("/snapshot-file/writer-refuses", test_writer_refuses);
	g_test_add_func("/snapshot-file/full", test_full);
	g_test_add_func("/snapshot-file/zero-page", test_zero_page);
	return g_test_run();
}
