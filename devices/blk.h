/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's side of a disk: an image (a raw file or a block device) with its lock, and asynchronous requests on it.
 * Knows nothing of virtio and nothing of guests but that memory may be badly aligned.
 *
 * An image is opened on the main thread. Requests belong to the thread of the loop that blk_io_new() was given: submit,
 * commit, drain and every callback run there.
 */
#ifndef DEVICES_BLK_H
#define DEVICES_BLK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/auto.h"
#include "base/loop.h"

struct blk_image_options {
	const char *path; /* also what messages say when fd is given */
	int fd; /* >= 0: an open image, taken over even on failure (its access mode must fit); -1: open path */
	bool readonly;
	bool cached; /* through the host's page cache; else O_DIRECT where the file system has it */
	bool defer_lock; /* incoming migration: blk_image_lock() follows at hand-over */
	/*
	 * The block size that the guest is told: 0: the smallest that the image can do, else 512 or 4096. An image that
	 * can not do O_DIRECT in units that small is opened through the page cache, and the log says so.
	 */
	uint32_t block_bytes;
};

struct blk_image {
	char *path;
	int fd;
	bool readonly;
	bool direct; /* O_DIRECT is on: offsets and lengths are multiples of block_bytes, memory of memory_align */
	bool block_device;
	bool locked;
	uint32_t block_bytes; /* effective, 512 or 4096 */
	uint32_t memory_align;
	uint64_t
		size_bytes; /* a multiple of 512: what is beyond the last whole sector is not seen */
};

/*
 * Errors, one line logged each: -errno of open; -EINVAL (a directory, an empty image, a block size that it is not);
 * -EBUSY "in use" (it waits 0.2 s for one who is just ending); -EROFS a read-only block device opened for writing.
 */
int blk_image_open(struct blk_image **out, const struct blk_image_options *options) must_check;
void blk_image_free(struct blk_image *image); /* takes NULL; gives the lock up */

/*
 * The lock keeps two VMs from opening one image for writing: an OFD lock on all of it, exclusive for a writer, shared
 * for readers. It excludes processes on this host, and others only where the file system carries locks.
 * lock: 0 (also if held), -EBUSY in use, -errno; both logged. After it was held by others refresh() must follow.
 */
int blk_image_lock(struct blk_image *image) must_check;
void blk_image_unlock(struct blk_image *image);
/*
 * Another host or process may have written the image: reads its size again and drops what is cached of it.
 * -EINVAL, logged, when it has become smaller than `at_least` bytes.
 */
int blk_image_refresh(struct blk_image *image, uint64_t at_least) must_check;
/* fdatasync(2); for hand-over, with no request in flight. Blocks. */
int blk_image_sync(struct blk_image *image) must_check;

/* What tells an image from another, and from itself at another time; 0 where it does not apply. */
struct blk_identity {
	bool block_device;
	uint64_t size_bytes;
	uint64_t changed_ns;	/* its content's last change, since 1970; a file's */
	uint64_t device, inode; /* a file's */
	uint64_t block_number;	/* a block device's */
};
/* As it is now; with no request in flight it means something. -errno, logged. */
int blk_image_identify(const struct blk_image *image, struct blk_identity *out) must_check;

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZERO };

/*
 * One request, owned by the caller from before blk_io_submit() until its `done`. iov is memory of the caller's, valid and
 * (to the reader afterwards) unchanged until then. The total of iov is `len`, offset + len is within the image, both are
 * multiples of the image's block_bytes, and len is not 0 (BLK_FLUSH: both 0): checked by the caller.
 */
struct blk_request {
	enum blk_op op;
	bool unmap; /* BLK_ZERO: the range may become a hole */
	uint64_t offset, len;
	struct iovec *iov;
	unsigned int niov;
	/*
	 * result 0 or -errno. For a read all data is in memory now (after an error some of it may be). Never called from
	 * within blk_io_submit().
	 */
	void (*done)(struct blk_request *request, int result);

	/* Of blk_io alone. */
	struct blk_transfer {
		enum blk_op op;
		bool unmap;
		uint64_t offset, len;
		struct iovec *iov;
		unsigned int niov;
		int64_t result; /* bytes (0 for those without data) or -errno */
		struct blk_transfer *next;
	} transfer;
	uint64_t done_bytes;
	unsigned int iov_at; /* the element that done_bytes is in, and how far */
	uint64_t iov_skip;
	struct iovec iov_saved; /* the element as it was, while a transfer trims it */
	struct iovec iov_bounce;
	void *bounce;
	struct blk_request *next;
};

enum blk_engine_kind { BLK_ENGINE_AUTO, BLK_ENGINE_URING, BLK_ENGINE_THREADS };

struct blk_io;
struct blk_io_options {
	struct loop *loop;
	enum blk_engine_kind
		engine; /* AUTO: io_uring where the host allows it, else threads, and the log says why */
	unsigned int depth; /* most requests in flight at once, 1..4096; more wait inside */
	/*
	 * Before and after each batch of `done` calls, on the loop's thread: take the owner's lock; raise the interrupt
	 * once and let go. Both may be NULL. Requests may be submitted from within; commit after them.
	 */
	void (*batch_begin)(void *opaque);
	void (*batch_end)(void *opaque);
	/* Run first on each thread made here, with a name for its class; sandboxes and affinities. May be NULL. */
	void (*thread_start)(void *thread_opaque, const char *thread_class);
	void *opaque, *thread_opaque;
};

/*
 * The image must outlive it. Main thread, before the sandbox closes; the loop may run already (then on another thread).
 * Errors: -errno, logged.
 */
int blk_io_new(struct blk_io **out, struct blk_image *image,
	       const struct blk_io_options *options) must_check;
/* Nothing may be in flight; the loop's thread, or while no thread runs the loop. Takes NULL. */
void blk_io_free(struct blk_io *io);
/* "io_uring" or "threads"; for status. */
const char *blk_io_engine(const struct blk_io *io);

/* Queues a request; the kernel sees it at the next commit at the latest. */
void blk_io_submit(struct blk_io *io, struct blk_request *request);
/* One system call for all that was queued. */
void blk_io_commit(struct blk_io *io);
unsigned int blk_io_in_flight(const struct blk_io *io);
/* Completes all that is in flight; -ETIMEDOUT when some is left after timeout_ms (it goes on as before). */
int blk_io_drain(struct blk_io *io, unsigned int timeout_ms) must_check;

#endif
