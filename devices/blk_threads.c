// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disk requests by a few threads and plain system calls: for hosts where io_uring is not there or is forbidden, and for
 * the operations that the ring is not given (discard, write zeroes).
 *
 * Locking: `lock` guards the two lists and `quit`. It does not guard a transfer that a worker has taken: that is the
 * worker's until it is on the done list.
 */
#include "devices/blk_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/log.h"

#define THREADS_MAX	   8
#define THREAD_STACK_BYTES (128 * 1024)
#define ZEROES_BYTES	   (64 * 1024)

struct blk_threads {
	struct blk_engine engine;
	const struct blk_image *image;
	void (*thread_start)(void *opaque, const char *thread_class);
	void *opaque;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct blk_transfer *todo, **todo_tail;
	struct blk_transfer *done, **done_tail;
	bool quit;
	unsigned int nthreads;
	pthread_t thread[THREADS_MAX];
};

/* Zeroes as data, where the file system can not make a range zero by itself. */
static int64_t write_zeroes(const struct blk_image *image, uint64_t offset, uint64_t len)
{
	void *zeroes = NULL;
	uint64_t end = offset + len;

	if (posix_memalign(&zeroes, 4096, ZEROES_BYTES))
		return -ENOMEM;
	memset(zeroes, 0, ZEROES_BYTES);
	while (offset < end) {
		size_t piece = end - offset < ZEROES_BYTES ? end - offset : ZEROES_BYTES;
		ssize_t n = pwrite(image->fd, zeroes, piece, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int error = n < 0 ? -errno : -EIO;

			free(zeroes);
			return error;
		}
		offset += (uint64_t)n;
	}
	free(zeroes);
	return 0;
}

static bool not_offered(int error)
{
	return error == -EOPNOTSUPP || error == -ENOSYS || error == -ENOTTY || error == -EINVAL ||
	       error == -ENODEV;
}

static int image_fallocate(const struct blk_image *image, int mode, uint64_t offset, uint64_t len)
{
	int rc;

	do {
		rc = fallocate(image->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* A discard is a wish: where it can not be had, nothing is wrong. */
static int64_t do_discard(const struct blk_image *image, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = {offset, len};
	int error;

	if (image->block_device)
		error = ioctl(image->fd, BLKDISCARD, range) < 0 ? -errno : 0;
	else
		error = image_fallocate(image, FALLOC_FL_PUNCH_HOLE, offset, len);
	return not_offered(error) ? 0 : error;
}

static int64_t do_zero(const struct blk_image *image, uint64_t offset, uint64_t len, bool unmap)
{
	int error;

	if (image->block_device && !unmap) {
		uint64_t range[2] = {offset, len};

		error = ioctl(image->fd, BLKZEROOUT, range) < 0 ? -errno : 0;
	} else {
		/* On a block device punching a hole zeroes by unmapping, or is refused. */
		error = image_fallocate(image, unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE,
					offset, len);
	}
	return not_offered(error) ? write_zeroes(image, offset, len) : error;
}

static int64_t run_transfer(const struct blk_image *image, const struct blk_transfer *transfer)
{
	int niov = transfer->niov < IOV_MAX ? (int)transfer->niov : IOV_MAX;
	off_t offset = (off_t)transfer->offset;
	ssize_t n;

	switch (transfer->op) {
	case BLK_READ:
		n = preadv(image->fd, transfer->iov, niov, offset);
		return n < 0 ? -errno : n;
	case BLK_WRITE:
		n = pwritev(image->fd, transfer->iov, niov, offset);
		return n < 0 ? -errno : n;
	case BLK_FLUSH:
		return fdatasync(image->fd) < 0 ? -errno : 0;
	case BLK_DISCARD:
		return do_discard(image, transfer->offset, transfer->len);
	case BLK_ZERO:
		return do_zero(image, transfer->offset, transfer->len, transfer->unmap);
	}
	return -EINVAL;
}

static void *worker(void *opaque)
{
	struct blk_threads *threads = opaque;
	uint64_t one = 1;

	if (threads->thread_start)
		threads->thread_start(threads->opaque, "disk");
	pthread_mutex_lock(&threads->lock);
	for (;;) {
		struct blk_transfer *transfer = threads->todo;

		if (!transfer) {
			if (threads->quit)
				break;
			pthread_cond_wait(&threads->work, &threads->lock);
			continue;
		}
		threads->todo = transfer->next;
		if (!threads->todo)
			threads->todo_tail = &threads->todo;
		pthread_mutex_unlock(&threads->lock);

		transfer->result = run_transfer(threads->image, transfer);

		pthread_mutex_lock(&threads->lock);
		/* Whoever finds the list filled comes after one that rang: reap() takes all, after it cleared the event. */
		if (!threads->done)
			(void)!write(threads->engine.event_fd, &one, sizeof(one));
		transfer->next = NULL;
		*threads->done_tail = transfer;
		threads->done_tail = &transfer->next;
	}
	pthread_mutex_unlock(&threads->lock);
	return NULL;
}

static void threads_queue(struct blk_engine *engine, struct blk_transfer *transfer)
{
	struct blk_threads *threads = CONTAINER_OF(engine, struct blk_threads, engine);

	transfer->next = NULL;
	pthread_mutex_lock(&threads->lock);
	*threads->todo_tail = transfer;
	threads->todo_tail = &transfer->next;
	pthread_cond_signal(&threads->work);
	pthread_mutex_unlock(&threads->lock);
}

static void threads_commit(struct blk_engine *engine)
{
}

static struct blk_transfer *threads_reap(struct blk_engine *engine)
{
	struct blk_threads *threads = CONTAINER_OF(engine, struct blk_threads, engine);
	struct blk_transfer *list;
	uint64_t count;

	(void)!read(engine->event_fd, &count, sizeof(count));
	pthread_mutex_lock(&threads->lock);
	list = threads->done;
	threads->done = NULL;
	threads->done_tail = &threads->done;
	pthread_mutex_unlock(&threads->lock);
	return list;
}

static void threads_free(struct blk_engine *engine)
{
	struct blk_threads *threads = CONTAINER_OF(engine, struct blk_threads, engine);

	pthread_mutex_lock(&threads->lock);
	threads->quit = true;
	pthread_cond_broadcast(&threads->work);
	pthread_mutex_unlock(&threads->lock);
	for (unsigned int i = 0; i < threads->nthreads; i++)
		pthread_join(threads->thread[i], NULL);
	pthread_cond_destroy(&threads->work);
	pthread_mutex_destroy(&threads->lock);
	close_fd(&engine->event_fd);
	free(threads);
}

static const struct blk_engine_ops threads_ops = {
	.name = "threads",
	.queue = threads_queue,
	.commit = threads_commit,
	.reap = threads_reap,
	.free = threads_free,
};

/* Signals are the main thread's: workers start with all of them blocked. */
static int threads_start(struct blk_threads *threads, unsigned int nthreads)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (!rc && threads->nthreads < nthreads) {
		rc = pthread_create(&threads->thread[threads->nthreads], &attr, worker, threads);
		if (!rc) {
			pthread_setname_np(threads->thread[threads->nthreads], "tern-disk");
			threads->nthreads++;
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

int blk_threads_new(struct blk_engine **out, const struct blk_image *image, unsigned int nthreads,
		    const struct blk_io_options *options)
{
	struct blk_threads *threads = calloc(1, sizeof(*threads));
	int error;

	*out = NULL;
	if (!threads)
		return fail(-ENOMEM, "blk: %s: out of memory", image->path);
	threads->engine.ops = &threads_ops;
	threads->image = image;
	threads->thread_start = options->thread_start;
	threads->opaque = options->thread_opaque;
	threads->todo_tail = &threads->todo;
	threads->done_tail = &threads->done;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_cond_init(&threads->work, NULL);
	threads->engine.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = threads->engine.event_fd < 0 ? -errno : 0;
	if (!error)
		error = threads_start(threads, nthreads < THREADS_MAX ? nthreads : THREADS_MAX);
	if (error) {
		threads_free(&threads->engine);
		return fail(error, "blk: %s: starting threads: %s", image->path, strerror(-error));
	}
	*out = &threads->engine;
	return 0;
}
