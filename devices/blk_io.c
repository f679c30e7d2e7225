// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Asynchronous requests on an image: what is the same for both engines. A request becomes one transfer after another
 * until all of it is done: short reads and writes are continued, more segments than one call takes are split, and
 * memory that O_DIRECT can not use goes through a bounce buffer piece by piece.
 *
 * Theory of operation
 *
 * Everything here runs on one thread, that of the loop; engines have their own threads or the kernel's, and hand
 * completions over through an eventfd and reap(). A request is in one of three places: waiting (for a slot: `depth`
 * are active at once; or for a bounce buffer), with an engine, or done. Bounce buffers are few and waiting for one is in
 * order, so a guest with misaligned buffers is slow, and costs no memory beyond the pool.
 *
 * Reads, writes and flushes go to the first engine. What the ring must not do goes to `slow`, one thread.
 */
#include "devices/blk.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#include "base/log.h"
#include "devices/blk_engine.h"

#define BOUNCE_BUFFERS 4U
#define BOUNCE_BYTES   (256U * 1024)
#define WORKERS	       8U

struct request_list {
	struct blk_request *first, **tail;
};

struct blk_io {
	struct blk_image *image;
	struct blk_io_options options;
	struct blk_engine *engine,
		*slow; /* slow: the same one when it is threads; NULL: read-only image */
	struct loop_watch *watch[2];
	unsigned int active;	      /* requests that hold a slot */
	unsigned int in_flight;	      /* submitted and not done */
	struct request_list waiting;  /* for a slot */
	struct request_list bouncing; /* have a slot, wait for a bounce buffer */
	uint8_t *bounce_memory;	      /* untouched pages cost nothing */
	uint32_t bounce_free;	      /* mask */
	struct log_limit log_limit;
	int error; /* of watch_engines() */
};

static void list_init(struct request_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

static void list_append(struct request_list *list, struct blk_request *request)
{
	request->next = NULL;
	*list->tail = request;
	list->tail = &request->next;
}

static struct blk_request *list_take(struct request_list *list)
{
	struct blk_request *request = list->first;

	if (!request)
		return NULL;
	list->first = request->next;
	if (!list->first)
		list->tail = &list->first;
	return request;
}

static bool has_data(const struct blk_request *request)
{
	return request->op == BLK_READ || request->op == BLK_WRITE;
}

/* O_DIRECT wants each segment's address and length aligned. */
static bool needs_bounce(const struct blk_image *image, const struct blk_request *request)
{
	if (!image->direct || !has_data(request))
		return false;
	for (unsigned int i = 0; i < request->niov; i++) {
		if ((uintptr_t)request->iov[i].iov_base % image->memory_align ||
		    request->iov[i].iov_len % image->block_bytes)
			return true;
	}
	return false;
}

/* Copies between the bounce buffer and the request's memory from where it stands; does not move on. */
static void bounce_copy(const struct blk_request *request, uint64_t len, bool to_guest)
{
	uint8_t *bounce = request->bounce;
	uint64_t skip = request->iov_skip;

	for (unsigned int i = request->iov_at; len > 0; i++) {
		uint8_t *base = (uint8_t *)request->iov[i].iov_base + skip;
		uint64_t n = request->iov[i].iov_len - skip;

		if (n > len)
			n = len;
		if (to_guest)
			memcpy(base, bounce, n);
		else
			memcpy(bounce, base, n);
		bounce += n;
		len -= n;
		skip = 0;
	}
}

static void request_advance(struct blk_request *request, uint64_t n)
{
	request->done_bytes += n;
	n += request->iov_skip;
	while (request->iov_at < request->niov && n >= request->iov[request->iov_at].iov_len) {
		n -= request->iov[request->iov_at].iov_len;
		request->iov_at++;
	}
	request->iov_skip = n;
}

static bool bounce_take(struct blk_io *io, struct blk_request *request)
{
	int slot;

	if (request->bounce)
		return true;
	if (!io->bounce_free)
		return false;
	slot = __builtin_ctz(io->bounce_free);
	io->bounce_free &= ~(1U << slot);
	request->bounce = io->bounce_memory + (size_t)slot * BOUNCE_BYTES;
	return true;
}

static void bounce_give_back(struct blk_io *io, struct blk_request *request)
{
	size_t offset;

	if (!request->bounce)
		return;
	offset = (size_t)((uint8_t *)request->bounce - io->bounce_memory);
	io->bounce_free |= 1U << (offset / BOUNCE_BYTES);
	request->bounce = NULL;
}

static void fill_bounced(struct blk_request *request)
{
	struct blk_transfer *transfer = &request->transfer;
	uint64_t left = request->len - request->done_bytes;

	transfer->len = left < BOUNCE_BYTES ? left : BOUNCE_BYTES;
	request->iov_bounce.iov_base = request->bounce;
	request->iov_bounce.iov_len = transfer->len;
	transfer->iov = &request->iov_bounce;
	transfer->niov = 1;
	if (request->op == BLK_WRITE)
		bounce_copy(request, transfer->len, false);
}

/* The caller's own iov, its first element trimmed for the time of the transfer. */
static void fill_in_place(struct blk_request *request)
{
	struct blk_transfer *transfer = &request->transfer;
	struct iovec *first = &request->iov[request->iov_at];

	request->iov_saved = *first;
	first->iov_base = (uint8_t *)first->iov_base + request->iov_skip;
	first->iov_len -= request->iov_skip;
	transfer->iov = first;
	transfer->niov = request->niov - request->iov_at;
	if (transfer->niov > IOV_MAX)
		transfer->niov = IOV_MAX;
	transfer->len = request->len - request->done_bytes;
}

/* Gives the engine the next piece, or puts the request where it waits for a bounce buffer. */
static void request_step(struct blk_io *io, struct blk_request *request)
{
	struct blk_transfer *transfer = &request->transfer;
	struct blk_engine *engine = io->engine;

	if (needs_bounce(io->image, request) && !bounce_take(io, request)) {
		list_append(&io->bouncing, request);
		return;
	}
	transfer->op = request->op;
	transfer->unmap = request->unmap;
	transfer->offset = request->offset + request->done_bytes;
	transfer->len = request->len;
	transfer->iov = NULL;
	transfer->niov = 0;
	if (request->bounce)
		fill_bounced(request);
	else if (has_data(request))
		fill_in_place(request);
	if (request->op == BLK_DISCARD || request->op == BLK_ZERO)
		engine = io->slow;
	assert(engine != NULL);
	engine->ops->queue(engine, transfer);
}

static void start_waiting(struct blk_io *io)
{
	struct blk_request *request;

	while (io->active < io->options.depth && (request = list_take(&io->waiting))) {
		io->active++;
		request_step(io, request);
	}
}

static void request_finish(struct blk_io *io, struct blk_request *request, int result)
{
	static const char *const names[] = {
		[BLK_READ] = "read",	   [BLK_WRITE] = "write",	[BLK_FLUSH] = "flush",
		[BLK_DISCARD] = "discard", [BLK_ZERO] = "write zeroes",
	};
	struct blk_request *next;

	if (result && log_limit_ok(&io->log_limit, 5))
		log_warn("blk: %s: %s of %llu bytes at %llu: %s", io->image->path,
			 names[request->op], (unsigned long long)request->len,
			 (unsigned long long)request->offset, strerror(-result));
	bounce_give_back(io, request);
	io->active--;
	io->in_flight--;
	request->done(request, result);
	if (io->bounce_free && (next = list_take(&io->bouncing)))
		request_step(io, next);
	start_waiting(io);
}

static void transfer_complete(struct blk_io *io, struct blk_transfer *transfer)
{
	struct blk_request *request = CONTAINER_OF(transfer, struct blk_request, transfer);
	int64_t result = transfer->result;

	if (has_data(request) && !request->bounce)
		request->iov[request->iov_at] = request->iov_saved;
	if (result == -EINTR) {
		request_step(io, request);
		return;
	}
	if (result < 0 || !has_data(request)) {
		request_finish(io, request, (int)result);
		return;
	}
	/* Nothing more, too much, or less than a block: the image has become shorter than it was. */
	if (result == 0 || (uint64_t)result > transfer->len ||
	    (io->image->direct && result % io->image->block_bytes)) {
		request_finish(io, request, -EIO);
		return;
	}
	if (request->bounce && request->op == BLK_READ)
		bounce_copy(request, (uint64_t)result, true);
	request_advance(request, (uint64_t)result);
	if (request->done_bytes < request->len)
		request_step(io, request);
	else
		request_finish(io, request, 0);
}

static void reap_engine(struct blk_io *io, struct blk_engine *engine)
{
	struct blk_transfer *list = engine->ops->reap(engine);
	struct blk_transfer *transfer;

	while ((transfer = list)) {
		list = transfer->next;
		transfer_complete(io, transfer);
	}
}

static void reap_all(struct blk_io *io)
{
	if (io->options.batch_begin)
		io->options.batch_begin(io->options.opaque);
	reap_engine(io, io->engine);
	if (io->slow && io->slow != io->engine)
		reap_engine(io, io->slow);
	if (io->options.batch_end)
		io->options.batch_end(io->options.opaque);
	blk_io_commit(io);
}

static void on_event(void *opaque, int fd, uint32_t events)
{
	reap_all(opaque);
}

void blk_io_submit(struct blk_io *io, struct blk_request *request)
{
	request->done_bytes = 0;
	request->iov_at = 0;
	request->iov_skip = 0;
	request->bounce = NULL;
	io->in_flight++;
	list_append(&io->waiting, request);
	start_waiting(io);
}

void blk_io_commit(struct blk_io *io)
{
	io->engine->ops->commit(io->engine);
}

unsigned int blk_io_in_flight(const struct blk_io *io)
{
	return io->in_flight;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int blk_io_drain(struct blk_io *io, unsigned int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;

	if (io->in_flight == 0)
		return 0;
	blk_io_commit(io);
	for (;;) {
		struct pollfd fds[2] = {
			{.fd = io->engine->event_fd, .events = POLLIN},
			{.fd = io->slow ? io->slow->event_fd : -1, .events = POLLIN},
		};
		int64_t left;

		reap_all(io);
		if (io->in_flight == 0)
			return 0;
		left = deadline - now_ms();
		if (left <= 0)
			return -ETIMEDOUT;
		(void)poll(fds, 2, (int)left);
	}
}

const char *blk_io_engine(const struct blk_io *io)
{
	return io->engine->ops->name;
}

static int make_engines(struct blk_io *io)
{
	const struct blk_io_options *options = &io->options;
	const char *why = "";
	int error = -ENOSYS;

	if (options->engine != BLK_ENGINE_THREADS) {
		error = blk_uring_new(&io->engine, io->image, options->depth, &why);
		if (error && options->engine == BLK_ENGINE_URING)
			return fail(error, "blk: %s: io_uring: %s: %s", io->image->path, why,
				    strerror(-error));
		if (error)
			log_info("blk: %s: no io_uring (%s: %s): using threads", io->image->path,
				 why, strerror(-error));
	}
	if (error) {
		error = blk_threads_new(&io->engine, io->image, WORKERS, options);
		io->slow = io->engine;
	} else if (!io->image->readonly) {
		error = blk_threads_new(&io->slow, io->image, 1, options);
	}
	return error;
}

/* On the loop's thread; leaves what went wrong in io->error. */
static void watch_engines(void *opaque)
{
	struct blk_io *io = opaque;
	struct blk_engine *engines[2] = {io->engine, io->slow != io->engine ? io->slow : NULL};

	for (unsigned int i = 0; i < 2 && !io->error; i++) {
		if (engines[i])
			io->error = loop_add_fd(io->options.loop, engines[i]->event_fd, EPOLLIN,
						on_event, io, &io->watch[i]);
	}
}

int blk_io_new(struct blk_io **out, struct blk_image *image, const struct blk_io_options *options)
{
	struct blk_io *io = calloc(1, sizeof(*io));
	int error = 0;

	*out = NULL;
	assert(options->depth >= 1 && options->depth <= 4096);
	if (!io)
		return fail(-ENOMEM, "blk: %s: out of memory", image->path);
	io->image = image;
	io->options = *options;
	list_init(&io->waiting);
	list_init(&io->bouncing);
	if (image->direct) {
		void *memory = mmap(NULL, (size_t)BOUNCE_BUFFERS * BOUNCE_BYTES,
				    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			error = fail(-errno, "blk: %s: bounce buffers: %s", image->path,
				     strerror(errno));
		else
			io->bounce_memory = memory;
		io->bounce_free = (1U << BOUNCE_BUFFERS) - 1;
	}
	if (!error)
		error = make_engines(io);
	if (!error) {
		loop_call(options->loop, watch_engines, io);
		error = io->error;
		if (error)
			fail(error, "blk: %s: event loop: %s", image->path, strerror(-error));
	}
	if (error) {
		blk_io_free(io);
		return error;
	}
	*out = io;
	return 0;
}

void blk_io_free(struct blk_io *io)
{
	if (!io)
		return;
	assert(io->in_flight == 0);
	loop_watch_free(io->watch[0]);
	loop_watch_free(io->watch[1]);
	if (io->slow && io->slow != io->engine)
		io->slow->ops->free(io->slow);
	if (io->engine)
		io->engine->ops->free(io->engine);
	if (io->bounce_memory)
		munmap(io->bounce_memory, (size_t)BOUNCE_BUFFERS * BOUNCE_BYTES);
	free(io);
}
