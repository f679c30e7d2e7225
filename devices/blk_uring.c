// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disk requests through io_uring: reads, writes and flushes. What is rare and slow (discard, write zeroes) is not in
 * here: blk_io.c gives it to a thread, and the ring stays restricted to three operations.
 *
 * System-call filters do not see what a ring does. So it is created disabled, restricted to those operations on its one
 * registered file, and only then enabled; nothing can be registered afterwards.
 */
#include "devices/blk_engine.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

struct blk_uring {
	struct blk_engine engine;
	struct io_uring ring;
	bool ring_made;
	struct blk_transfer *refused; /* could not be given to the kernel: reap() hands them out */
};

static const struct io_uring_restriction restrictions[] = {
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
	{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
};

static void uring_refuse(struct blk_uring *uring, struct blk_transfer *transfer, int error)
{
	uint64_t one = 1;

	transfer->result = error;
	transfer->next = uring->refused;
	uring->refused = transfer;
	(void)!write(uring->engine.event_fd, &one, sizeof(one));
}

static struct io_uring_sqe *uring_get_sqe(struct blk_uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	if (sqe)
		return sqe;
	/* The submission ring is full: give the kernel what is in it. */
	(void)io_uring_submit(&uring->ring);
	return io_uring_get_sqe(&uring->ring);
}

static void uring_queue(struct blk_engine *engine, struct blk_transfer *transfer)
{
	struct blk_uring *uring = CONTAINER_OF(engine, struct blk_uring, engine);
	struct io_uring_sqe *sqe = uring_get_sqe(uring);

	if (!sqe) {
		uring_refuse(uring, transfer, -EBUSY);
		return;
	}
	switch (transfer->op) {
	case BLK_READ:
		io_uring_prep_readv(sqe, 0, transfer->iov, transfer->niov, transfer->offset);
		break;
	case BLK_WRITE:
		io_uring_prep_writev(sqe, 0, transfer->iov, transfer->niov, transfer->offset);
		break;
	case BLK_FLUSH:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	default:
		__builtin_unreachable(); /* blk_io.c sends no other */
	}
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, transfer);
}

static void uring_commit(struct blk_engine *engine)
{
	struct blk_uring *uring = CONTAINER_OF(engine, struct blk_uring, engine);
	int rc;

	/*
	 * EINTR and EAGAIN (out of memory for a request), EBUSY (completions overflow): what was not taken stays in
	 * the ring; the event makes the loop reap and commit again.
	 */
	rc = io_uring_submit(&uring->ring);
	if (rc < 0 || io_uring_sq_ready(&uring->ring) > 0) {
		uint64_t one = 1;

		(void)!write(engine->event_fd, &one, sizeof(one));
	}
}

static struct blk_transfer *uring_reap(struct blk_engine *engine)
{
	struct blk_uring *uring = CONTAINER_OF(engine, struct blk_uring, engine);
	struct blk_transfer *list = uring->refused, **tail = &list;
	struct io_uring_cqe *cqe;
	uint64_t count;

	uring->refused = NULL;
	while (*tail)
		tail = &(*tail)->next;
	(void)!read(engine->event_fd, &count, sizeof(count));
	/* peek also flushes completions that overflowed the ring. */
	while (io_uring_peek_cqe(&uring->ring, &cqe) == 0 && cqe) {
		struct blk_transfer *transfer = io_uring_cqe_get_data(cqe);

		transfer->result = cqe->res;
		transfer->next = NULL;
		*tail = transfer;
		tail = &transfer->next;
		io_uring_cqe_seen(&uring->ring, cqe);
	}
	return list;
}

static void uring_free(struct blk_engine *engine)
{
	struct blk_uring *uring = CONTAINER_OF(engine, struct blk_uring, engine);

	if (uring->ring_made)
		io_uring_queue_exit(&uring->ring);
	close_fd(&engine->event_fd);
	free(uring);
}

static const struct blk_engine_ops uring_ops = {
	.name = "io_uring",
	.queue = uring_queue,
	.commit = uring_commit,
	.reap = uring_reap,
	.free = uring_free,
};

/* liburing 2.3's shared library does not export its wrappers of these two. */
static int ring_register(struct io_uring *ring, unsigned int opcode, const void *argument,
			 unsigned int n)
{
	long rc = syscall(__NR_io_uring_register, ring->ring_fd, opcode, argument, n);

	return rc < 0 ? -errno : 0;
}

static int uring_make_ring(struct blk_uring *uring, int fd, unsigned int depth, const char **why)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = depth < 2 ? 2 : depth,
	};
	int rc;

	*why = "set-up";
	rc = io_uring_queue_init_params(depth < 256 ? depth : 256, &uring->ring, &params);
	if (rc < 0)
		return rc;
	uring->ring_made = true;
	*why = "completions could be dropped";
	if (!(params.features & IORING_FEAT_NODROP))
		return -ENOTSUP;
	*why = "registering the image";
	rc = io_uring_register_files(&uring->ring, &fd, 1);
	if (rc < 0)
		return rc;
	*why = "registering the eventfd";
	rc = io_uring_register_eventfd(&uring->ring, uring->engine.event_fd);
	if (rc < 0)
		return rc;
	*why = "restrictions";
	rc = ring_register(&uring->ring, IORING_REGISTER_RESTRICTIONS, restrictions,
			   ARRAY_SIZE(restrictions));
	if (rc < 0)
		return rc;
	*why = "enabling";
	return ring_register(&uring->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int blk_uring_new(struct blk_engine **out, const struct blk_image *image, unsigned int depth,
		  const char **why)
{
	struct blk_uring *uring = calloc(1, sizeof(*uring));
	int rc;

	*out = NULL;
	*why = "memory";
	if (!uring)
		return -ENOMEM;
	uring->engine.ops = &uring_ops;
	*why = "eventfd";
	uring->engine.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = uring->engine.event_fd < 0 ? -errno : uring_make_ring(uring, image->fd, depth, why);
	if (rc < 0) {
		uring_free(&uring->engine);
		return rc;
	}
	*out = &uring->engine;
	return 0;
}
