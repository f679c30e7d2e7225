// SPDX-License-Identifier: GPL-2.0-or-later
/* Requests on images: both engines, aligned and not, cached and direct, more than fit at once. */
#include "devices/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IMAGE_BYTES (8U << 20)

struct variant {
	const char *name;
	enum blk_engine_kind engine;
	bool cached;
	unsigned int depth;
};

struct fixture {
	char path[64];
	struct loop *loop;
	struct blk_image *image;
	struct blk_io *io;
	unsigned int batches; /* odd: within one */
	uint8_t *memory;      /* page aligned, IMAGE_BYTES */
};

struct request {
	struct fixture *f;
	struct blk_request blk;
	struct iovec iov[16];
	int result;
	bool done;
};

static void on_batch(void *opaque)
{
	struct fixture *f = opaque;

	f->batches++;
}

static bool in_batch(const struct fixture *f)
{
	return f->batches % 2;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	const struct variant *v = data;
	struct blk_image_options image = {.path = f->path, .fd = -1, .cached = v->cached};
	struct blk_io_options options = {.engine = v->engine,
					 .depth = v->depth,
					 .batch_begin = on_batch,
					 .batch_end = on_batch,
					 .opaque = f};
	int fd, error;

	g_strlcpy(f->path, "/var/tmp/tern-blkio-XXXXXX", sizeof(f->path));
	fd = mkstemp(f->path);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, IMAGE_BYTES), ==, 0);
	close(fd);
	f->memory =
		mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert_true(f->memory != MAP_FAILED);
	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	options.loop = f->loop;
	g_assert_cmpint(blk_image_open(&f->image, &image), ==, 0);
	error = blk_io_new(&f->io, f->image, &options);
	if (error && v->engine == BLK_ENGINE_URING)
		g_test_skip("no io_uring on this host");
	else
		g_assert_cmpint(error, ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	blk_io_free(f->io);
	blk_image_free(f->image);
	loop_free(f->loop);
	munmap(f->memory, IMAGE_BYTES);
	(void)g_unlink(f->path);
}

static void on_done(struct blk_request *blk, int result)
{
	struct request *r = CONTAINER_OF(blk, struct request, blk);

	g_assert_false(r->done);
	g_assert_true(in_batch(r->f));
	r->done = true;
	r->result = result;
}

static void prepare(struct fixture *f, struct request *r, enum blk_op op, uint64_t offset,
		    void *memory, uint64_t len)
{
	memset(r, 0, sizeof(*r));
	r->f = f;
	r->iov[0] = (struct iovec){memory, len};
	r->blk = (struct blk_request){.op = op,
				      .offset = offset,
				      .len = len,
				      .iov = r->iov,
				      .niov = memory ? 1 : 0,
				      .done = on_done};
}

static void run_until_idle(struct fixture *f)
{
	blk_io_commit(f->io);
	for (int i = 0; blk_io_in_flight(f->io) && i < 1000; i++)
		loop_run_once(f->loop, 1000);
	g_assert_cmpuint(blk_io_in_flight(f->io), ==, 0);
}

static int run_one(struct fixture *f, struct request *r)
{
	blk_io_submit(f->io, &r->blk);
	run_until_idle(f);
	g_assert_true(r->done);
	return r->result;
}

static void fill(uint8_t *memory, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		memory[i] = (uint8_t)(seed >> 24);
	}
}

static void check_file(struct fixture *f, uint64_t offset, const void *want, size_t len)
{
	AUTO_FD fd = open(f->path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *got = malloc(len);

	g_assert_cmpint(pread(fd, got, len, (off_t)offset), ==, (ssize_t)len);
	g_assert_cmpmem(got, len, want, len);
}

static void write_then_read(struct fixture *f, gconstpointer data)
{
	struct request r;

	if (!f->io)
		return;
	fill(f->memory, 1 << 20, 7);
	prepare(f, &r, BLK_WRITE, 65536, f->memory, 1 << 20);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	prepare(f, &r, BLK_FLUSH, 0, NULL, 0);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	check_file(f, 65536, f->memory, 1 << 20);
	prepare(f, &r, BLK_READ, 65536, f->memory + (2 << 20), 1 << 20);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	g_assert_cmpmem(f->memory, 1 << 20, f->memory + (2 << 20), 1 << 20);
	g_assert_cmpuint(f->batches, >=, 6);
	g_assert_false(in_batch(f));
}

/* 1 MiB of memory at odd addresses in odd pieces: several times the bounce buffer's size. */
static void misaligned_memory(struct fixture *f, gconstpointer data)
{
	static const size_t pieces[] = {1, 511, 100000, 65536, 7, 882521};
	uint8_t *at = f->memory + 3;
	struct iovec before[16];
	struct request r;
	AUTO_FREE uint8_t *flat = malloc(1 << 20);
	size_t n = 0;

	if (!f->io)
		return;
	fill(f->memory, 2 << 20, 99);
	prepare(f, &r, BLK_WRITE, 512, at, 1 << 20);
	for (unsigned int i = 0; i < ARRAY_SIZE(pieces); i++) {
		r.iov[i] = (struct iovec){at, pieces[i]};
		memcpy(flat + n, at, pieces[i]);
		n += pieces[i];
		at += pieces[i] + 13;
	}
	g_assert_cmpuint(n, ==, 1 << 20);
	r.blk.niov = ARRAY_SIZE(pieces);
	memcpy(before, r.iov, sizeof(before));
	g_assert_cmpint(run_one(f, &r), ==, 0);
	g_assert_cmpmem(before, sizeof(before), r.iov, sizeof(before));
	check_file(f, 512, flat, 1 << 20);

	memset(f->memory, 0, 2 << 20);
	r.blk.op = BLK_READ;
	r.done = false;
	g_assert_cmpint(run_one(f, &r), ==, 0);
	g_assert_cmpmem(before, sizeof(before), r.iov, sizeof(before));
	n = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(pieces); i++) {
		g_assert_cmpmem(r.iov[i].iov_base, pieces[i], flat + n, pieces[i]);
		n += pieces[i];
	}
}

static void more_than_fit_at_once(struct fixture *f, gconstpointer data)
{
	enum { N = 600 };
	AUTO_FREE struct request *r = calloc(N, sizeof(*r));

	if (!f->io)
		return;
	fill(f->memory, N * 4096, 3);
	for (unsigned int i = 0; i < N; i++) {
		/* Every third one needs a bounce buffer when direct. */
		uint8_t *at = f->memory + i * 4096;

		prepare(f, &r[i], BLK_WRITE, i * 4096, at, 4096);
		if (i % 3 == 0) {
			r[i].iov[0].iov_len = 5;
			r[i].iov[1] = (struct iovec){at + 5, 4091};
			r[i].blk.niov = 2;
		}
		blk_io_submit(f->io, &r[i].blk);
	}
	g_assert_cmpuint(blk_io_in_flight(f->io), ==, N);
	g_assert_cmpint(blk_io_drain(f->io, 20000), ==, 0);
	for (unsigned int i = 0; i < N; i++)
		g_assert_true(r[i].done && r[i].result == 0);
	check_file(f, 0, f->memory, N * 4096);
}

static void zero_and_discard(struct fixture *f, gconstpointer data)
{
	AUTO_FREE uint8_t *zero = calloc(1, 1 << 20);
	struct request r;

	if (!f->io)
		return;
	memset(f->memory, 0xaa, 4 << 20);
	prepare(f, &r, BLK_WRITE, 0, f->memory, 4 << 20);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	prepare(f, &r, BLK_ZERO, 4096, NULL, 1 << 20);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	prepare(f, &r, BLK_ZERO, 2 << 20, NULL, 1 << 20);
	r.blk.unmap = true;
	g_assert_cmpint(run_one(f, &r), ==, 0);
	prepare(f, &r, BLK_DISCARD, 3 << 20, NULL, 4096);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	check_file(f, 4096, zero, 1 << 20);
	check_file(f, 2 << 20, zero, 1 << 20);
	check_file(f, 0, f->memory, 4096);
	check_file(f, 4096 + (1 << 20), f->memory, 4096);
}

/* The image is shortened behind our back: an error, not a hang, and zeroes are not made up. */
static void truncated_image_is_an_error(struct fixture *f, gconstpointer data)
{
	struct request r;

	if (!f->io)
		return;
	g_assert_cmpint(truncate(f->path, 1 << 20), ==, 0);
	prepare(f, &r, BLK_READ, (1 << 20) - 4096, f->memory, 8192);
	g_assert_cmpint(run_one(f, &r), ==, -EIO);
	prepare(f, &r, BLK_READ, 4 << 20, f->memory, 8192);
	g_assert_cmpint(run_one(f, &r), ==, -EIO);
}

static void threads_are_told_of(void *opaque, const char *thread_class)
{
	g_assert_cmpstr(thread_class, ==, "disk");
	g_atomic_int_inc((int *)opaque);
}

static void thread_start_is_called(void)
{
	char path[] = "/var/tmp/tern-blkio-XXXXXX";
	struct blk_image_options image_options = {.path = path, .fd = -1};
	int started = 0;
	struct blk_io_options options = {.engine = BLK_ENGINE_THREADS,
					 .depth = 1,
					 .thread_start = threads_are_told_of,
					 .thread_opaque = &started};
	struct blk_image *image;
	struct blk_io *io;
	int fd = mkstemp(path);

	g_assert_cmpint(ftruncate(fd, 1 << 20), ==, 0);
	close(fd);
	g_assert_cmpint(loop_new(&options.loop), ==, 0);
	g_assert_cmpint(blk_image_open(&image, &image_options), ==, 0);
	g_assert_cmpint(blk_io_new(&io, image, &options), ==, 0);
	g_assert_cmpstr(blk_io_engine(io), ==, "threads");
	blk_io_free(io);
	g_assert_cmpint(started, ==, 8);
	blk_image_free(image);
	loop_free(options.loop);
	(void)g_unlink(path);
}

/*
 * The threads' system calls, as this program has them: with short_bytes they do no more than that at once, as a signal or
 * a network file system may make them.
 */
static gsize short_bytes;

static ssize_t shortened(long call, int fd, const struct iovec *iov, int niov, off_t offset)
{
	gsize left = g_atomic_pointer_get(&short_bytes) ? short_bytes : (gsize)-1;
	struct iovec some[16];
	int n = 0;

	g_assert_cmpint(niov, <=, 16);
	for (; n < niov && left > 0; n++) {
		some[n] = iov[n];
		if (some[n].iov_len > left)
			some[n].iov_len = left;
		left -= some[n].iov_len;
	}
	return syscall(call, fd, some, n, offset, 0);
}

ssize_t preadv64(int fd, const struct iovec *iov, int niov, off_t offset);
ssize_t preadv64(int fd, const struct iovec *iov, int niov, off_t offset)
{
	return shortened(SYS_preadv, fd, iov, niov, offset);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int niov, off_t offset);
ssize_t pwritev64(int fd, const struct iovec *iov, int niov, off_t offset)
{
	return shortened(SYS_pwritev, fd, iov, niov, offset);
}

static void short_transfers_are_continued(struct fixture *f, gconstpointer data)
{
	static const size_t pieces[] = {512, 4096, 1024, 65536, 512, 59856};
	struct iovec before[16];
	struct request r;
	size_t at = 0;

	fill(f->memory, 131536, 4);
	g_atomic_pointer_set(&short_bytes, 1536);
	prepare(f, &r, BLK_WRITE, 8192, f->memory, 131536);
	for (unsigned int i = 0; i < ARRAY_SIZE(pieces); i++) {
		r.iov[i] = (struct iovec){f->memory + at, pieces[i]};
		at += pieces[i];
	}
	g_assert_cmpuint(at, ==, 131536);
	r.blk.niov = ARRAY_SIZE(pieces);
	memcpy(before, r.iov, sizeof(before));
	g_assert_cmpint(run_one(f, &r), ==, 0);
	g_assert_cmpmem(before, sizeof(before), r.iov, sizeof(before));
	check_file(f, 8192, f->memory, 131536);
	prepare(f, &r, BLK_READ, 8192, f->memory + (1 << 20), 131536);
	g_assert_cmpint(run_one(f, &r), ==, 0);
	g_assert_cmpmem(f->memory, 131536, f->memory + (1 << 20), 131536);
	g_atomic_pointer_set(&short_bytes, 0);
}

/* The descriptor of the ring that this process has, -1: none. */
static int find_ring(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[64], target[64] = "";

		g_snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) > 0 && strstr(target, "[io_uring]"))
			return fd;
	}
	return -1;
}

/* A filter on system calls does not see what a ring does: the ring itself must refuse. */
static void the_ring_takes_no_other_file(struct fixture *f, gconstpointer data)
{
	int ring = find_ring(), fd = 0;

	if (!f->io)
		return;
	g_assert_cmpint(ring, >=, 0);
	errno = 0;
	g_assert_cmpint(syscall(__NR_io_uring_register, ring, IORING_REGISTER_FILES_UPDATE, &fd, 1),
			<, 0);
	g_assert_cmpint(errno, ==, EACCES);
	g_assert_cmpint(syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_FILES, NULL, 0), <,
			0);
	g_assert_cmpint(errno, ==, EACCES);
}

static const struct variant variants[] = {
	{"uring-direct", BLK_ENGINE_URING, false, 128},
	{"uring-cached", BLK_ENGINE_URING, true, 128},
	{"uring-narrow", BLK_ENGINE_URING, false, 1},
	{"threads-direct", BLK_ENGINE_THREADS, false, 128},
	{"threads-cached", BLK_ENGINE_THREADS, true, 3},
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(variants); i++) {
		static const struct {
			const char *name;
			void (*fn)(struct fixture *f, gconstpointer data);
		} tests[] = {
			{"write_then_read", write_then_read},
			{"misaligned_memory", misaligned_memory},
			{"more_than_fit_at_once", more_than_fit_at_once},
			{"zero_and_discard", zero_and_discard},
			{"truncated_image_is_an_error", truncated_image_is_an_error},
		};

		for (unsigned int j = 0; j < ARRAY_SIZE(tests); j++) {
			char name[128];

			g_snprintf(name, sizeof(name), "/blk-io/%s/%s", variants[i].name,
				   tests[j].name);
			g_test_add(name, struct fixture, &variants[i], set_up, tests[j].fn,
				   tear_down);
		}
	}
	g_test_add("/blk-io/short_transfers_are_continued", struct fixture, &variants[4], set_up,
		   short_transfers_are_continued, tear_down);
	g_test_add("/blk-io/the_ring_takes_no_other_file", struct fixture, &variants[0], set_up,
		   the_ring_takes_no_other_file, tear_down);
	g_test_add_func("/blk-io/thread_start_is_called", thread_start_is_called);
	return g_test_run();
}
