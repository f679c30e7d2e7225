// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Block device: takes the guest's requests apart, checks them, and gives them to blk_io.c; what comes back is answered.
 * Images, alignment, engines are not in here.
 *
 * A request is a chain: a 16-byte header to read, then data to read or to write, then one status byte to write. Where
 * one descriptor ends and the next begins means nothing. A chain without room for header or status can not be answered
 * and breaks the device (NEEDS_RESET); all else that is wrong is answered with IOERR or UNSUPP.
 *
 * Each queue has a fixed pool of requests; when it is used up the queue is left alone until one completes. Requests of
 * all queues share one blk_io: a kick costs one system call for all that it brought, a batch of completions one
 * interrupt per queue.
 */
#include "devices/virtio_blk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Sections 5.2.3 (features) and 5.2.6 (requests), as far as they are served. */
enum {
	BLK_F_SEG_MAX = 2,
	BLK_F_RO = 5,
	BLK_F_BLK_SIZE = 6,
	BLK_F_FLUSH = 9,
	BLK_F_TOPOLOGY = 10,
	BLK_F_MQ = 12,
	BLK_F_DISCARD = 13,
	BLK_F_WRITE_ZEROES = 14,
};
enum {
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};
#define BLK_S_OK     0
#define BLK_S_IOERR  1
#define BLK_S_UNSUPP 2
#define RANGE_UNMAP  1U /* flag of a range */

#define HEADER_BYTES   16U /* type, priority, sector */
#define SECTOR_BYTES   512U
#define QUEUE_SIZE     256
#define SEG_MAX	       126U	     /* data segments of one request; with header and status 128 */
#define SEGMENTS       (SEG_MAX + 4) /* header and status may come in two pieces each */
#define POOL	       128U	     /* requests in flight per queue */
#define BUDGET	       128U	     /* requests taken in one run */
#define DEPTH_MAX      1024U
#define RANGE_BYTES    16U
#define ZEROES_SECTORS (1U << 21) /* of one discard or write zeroes: 1 GiB */
#define FREE_DRAIN_MS  DEVICE_PAUSE_MS

#define BIT(n) (1ULL << (n))
#define BASE_FEATURES \
	(BIT(BLK_F_SEG_MAX) | BIT(BLK_F_BLK_SIZE) | BIT(BLK_F_FLUSH) | BIT(BLK_F_TOPOLOGY))
#define WRITER_FEATURES (BIT(BLK_F_DISCARD) | BIT(BLK_F_WRITE_ZEROES))

/* Section 5.2.4, as far as the features above need it. */
struct blk_config {
	uint64_t capacity_512;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));
_Static_assert(sizeof(struct blk_config) == 60, "as in the specification");

/* clang-format off */
#define VIRTIO_BLK_STATE(T, F, A, V)                                      \
	F(T, 1, u64, capacity_512)                                            \
	F(T, 2, u32, block_bytes)                                             \
	A(T, 3, u8, serial, VIRTIO_BLK_SERIAL_MAX)
/* clang-format on */
STATE_STRUCT(virtio_blk_state, VIRTIO_BLK_STATE);
STATE_TABLE(virtio_blk_state, 1, VIRTIO_BLK_STATE);
const struct state_table *const virtio_blk_state_list = &virtio_blk_state_table;

struct request {
	struct blk_request blk;
	struct virtq_chain chain;
	struct blk_queue *queue;
	struct request *next_free;
	uint32_t type;
	bool status_trimmed; /* the data's last segment lost the status byte for now */
	struct iovec iov[SEGMENTS];
};

struct blk_queue {
	struct virtio_blk *owner;
	unsigned int index;
	struct request *pool, *free;
	unsigned int nfresh; /* of the pool; those from there on were never used */
	bool starved;	     /* stopped for want of a request */
	bool pushed;	     /* something to publish at the end of the batch */
};

struct virtio_blk {
	struct virtio virtio;
	struct virtio_blk_state state;
	struct blk_image *image;
	struct blk_io *io;
	unsigned int nqueues;
	char serial[VIRTIO_BLK_SERIAL_MAX + 1];
	struct virtio_blk_info counts; /* only the counters; virtio lock */
	struct blk_queue queue[VIRTIO_BLK_QUEUES_MAX];
};

static struct virtio_blk *blk_of(struct virtio *virtio)
{
	return CONTAINER_OF(virtio, struct virtio_blk, virtio);
}

static struct request *request_take(struct blk_queue *queue)
{
	struct request *request = queue->free;

	if (request) {
		queue->free = request->next_free;
		return request;
	}
	if (queue->nfresh == POOL)
		return NULL;
	request = &queue->pool[queue->nfresh++];
	request->queue = queue;
	request->chain.iov = request->iov;
	request->chain.capacity = SEGMENTS;
	return request;
}

static void request_give_back(struct request *request)
{
	request->next_free = request->queue->free;
	request->queue->free = request;
}

/* Answers; the caller or the end of the batch publishes. */
static void request_complete(struct request *request, uint8_t status)
{
	struct blk_queue *queue = request->queue;
	struct virtq *q = virtio_q(&queue->owner->virtio, queue->index);
	struct virtq_chain *chain = &request->chain;
	uint32_t written = chain->write_bytes;

	if (request->status_trimmed)
		request->blk.iov[request->blk.niov - 1].iov_len++;
	(void)virtq_chain_write(chain, chain->write_bytes - 1, &status, 1);
	if (status != BLK_S_OK) {
		queue->owner->counts.errors++;
		if (chain->write_bytes > 1) {
			/* Nothing up to the status byte is promised, yet some of it may have been written. */
			virtq_chain_mark(q, chain, 0, chain->write_bytes);
			written = 0;
		}
	}
	virtq_push(q, chain, written);
	queue->pushed = true;
	request_give_back(request);
}

static void on_done(struct blk_request *blk, int result)
{
	struct request *request = CONTAINER_OF(blk, struct request, blk);
	struct virtio_blk *owner = request->queue->owner;

	/* A driver without FLUSH was promised that what is written stays. */
	if (!result && blk->op == BLK_WRITE && !virtio_has(&owner->virtio, BIT(BLK_F_FLUSH))) {
		blk->op = BLK_FLUSH;
		blk->offset = blk->len = 0;
		blk->niov = 0;
		blk_io_submit(owner->io, blk);
		return;
	}
	request_complete(request, result ? BLK_S_IOERR : BLK_S_OK);
}

/* [sector, sector + bytes) is on the disk and in whole blocks. */
static bool range_ok(const struct virtio_blk *blk, uint64_t sector, uint64_t bytes)
{
	uint64_t capacity = blk->state.capacity_512, sectors = bytes / SECTOR_BYTES;

	return bytes % blk->state.block_bytes == 0 && sector <= capacity &&
	       sectors <= capacity - sector && sector * SECTOR_BYTES % blk->state.block_bytes == 0;
}

/* Leaves in request->blk the readable data behind the header; segments are trimmed for good, nobody needs them again. */
static void data_to_read(struct request *request)
{
	struct virtq_chain *chain = &request->chain;
	size_t skip = HEADER_BYTES;
	unsigned int i = 0;

	while (i < chain->nread && skip >= chain->iov[i].iov_len)
		skip -= chain->iov[i++].iov_len;
	if (i < chain->nread) {
		chain->iov[i].iov_base = (uint8_t *)chain->iov[i].iov_base + skip;
		chain->iov[i].iov_len -= skip;
	}
	request->blk.iov = chain->iov + i;
	request->blk.niov = chain->nread - i;
	request->blk.len = chain->read_bytes - HEADER_BYTES;
}

/* The writable data in front of the status byte. That byte's segment is shortened until the request is complete. */
static void data_to_write(struct request *request)
{
	struct virtq_chain *chain = &request->chain;
	struct iovec *last;

	request->blk.iov = chain->iov + chain->nread;
	request->blk.niov = chain->nwrite;
	request->blk.len = chain->write_bytes - 1;
	last = &request->blk.iov[request->blk.niov - 1];
	if (last->iov_len == 1) {
		request->blk.niov--;
	} else {
		last->iov_len--;
		request->status_trimmed = true;
	}
}

/* Each start_ returns the status to answer with now, or -1: under way. */
static int start_transfer(struct virtio_blk *blk, struct request *request, uint64_t sector)
{
	struct blk_request *io = &request->blk;

	if (request->type == BLK_T_IN) {
		io->op = BLK_READ;
		data_to_write(request);
	} else {
		if (blk->image->readonly)
			return BLK_S_IOERR;
		io->op = BLK_WRITE;
		data_to_read(request);
	}
	if (!range_ok(blk, sector, io->len))
		return BLK_S_IOERR;
	if (io->len == 0)
		return BLK_S_OK;
	io->offset = sector * SECTOR_BYTES;
	if (io->op == BLK_READ) {
		blk->counts.reads++;
		blk->counts.read_bytes += io->len;
	} else {
		blk->counts.writes++;
		blk->counts.written_bytes += io->len;
	}
	blk_io_submit(blk->io, io);
	return -1;
}

static int start_flush(struct virtio_blk *blk, struct request *request)
{
	blk->counts.flushes++;
	if (blk->image->readonly)
		return BLK_S_OK;
	request->blk.op = BLK_FLUSH;
	blk_io_submit(blk->io, &request->blk);
	return -1;
}

/* Discard and write zeroes: one range, section 5.2.6. */
static int start_range(struct virtio_blk *blk, struct request *request)
{
	bool zero = request->type == BLK_T_WRITE_ZEROES;
	uint8_t range[RANGE_BYTES];
	uint64_t sector, bytes;
	uint32_t nsectors, flags;

	if (!virtio_has(&blk->virtio, BIT(zero ? BLK_F_WRITE_ZEROES : BLK_F_DISCARD)))
		return BLK_S_UNSUPP;
	if (request->chain.read_bytes - HEADER_BYTES != RANGE_BYTES || blk->image->readonly)
		return BLK_S_IOERR;
	(void)virtq_chain_read(&request->chain, HEADER_BYTES, range, sizeof(range));
	sector = get_le64(range);
	nsectors = get_le32(range + 8);
	flags = get_le32(range + 12);
	if (flags & ~(zero ? (uint32_t)RANGE_UNMAP : 0))
		return BLK_S_UNSUPP;
	bytes = (uint64_t)nsectors * SECTOR_BYTES;
	if (nsectors > ZEROES_SECTORS || !range_ok(blk, sector, bytes))
		return BLK_S_IOERR;
	if (bytes == 0)
		return BLK_S_OK;
	request->blk.op = zero ? BLK_ZERO : BLK_DISCARD;
	request->blk.unmap = flags & RANGE_UNMAP;
	request->blk.offset = sector * SECTOR_BYTES;
	request->blk.len = bytes;
	blk->counts.discards++;
	blk_io_submit(blk->io, &request->blk);
	return -1;
}

static int answer_id(struct virtio_blk *blk, struct request *request)
{
	uint32_t room = request->chain.write_bytes - 1;

	if (room > VIRTIO_BLK_SERIAL_MAX)
		room = VIRTIO_BLK_SERIAL_MAX;
	(void)virtq_chain_write(&request->chain, 0, blk->state.serial, room);
	return BLK_S_OK;
}

static void request_start(struct virtio_blk *blk, struct request *request)
{
	uint8_t header[HEADER_BYTES];
	uint64_t sector;
	int status;

	if (request->chain.write_bytes < 1 ||
	    virtq_chain_read(&request->chain, 0, header, sizeof(header)) < sizeof(header)) {
		virtio_broken(&blk->virtio, "request without room for header or status");
		virtq_push(virtio_q(&blk->virtio, request->queue->index), &request->chain, 0);
		request->queue->pushed = true;
		request_give_back(request);
		return;
	}
	request->type = get_le32(header);
	sector = get_le64(header + 8);
	request->status_trimmed = false;
	request->blk = (struct blk_request){.done = on_done};
	switch (request->type) {
	case BLK_T_IN:
	case BLK_T_OUT:
		status = start_transfer(blk, request, sector);
		break;
	case BLK_T_FLUSH:
		status = start_flush(blk, request);
		break;
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		status = start_range(blk, request);
		break;
	case BLK_T_GET_ID:
		status = answer_id(blk, request);
		break;
	default:
		status = BLK_S_UNSUPP;
	}
	if (status >= 0)
		request_complete(request, (uint8_t)status);
}

/* False when the pool ran out before the queue or the budget. */
static bool queue_start_requests(struct virtio_blk *blk, struct blk_queue *queue, struct virtq *q,
				 unsigned int *budget)
{
	for (; *budget > 0; (*budget)--) {
		struct request *request;

		if (!virtio_queue_ready(&blk->virtio, queue->index))
			return true;
		request = request_take(queue);
		if (!request)
			return false;
		if (virtq_pop(q, &request->chain) <= 0) {
			request_give_back(request);
			return true;
		}
		request_start(blk, request);
	}
	return true;
}

static void blk_queue_run(struct virtio *virtio, unsigned int index)
{
	struct virtio_blk *blk = blk_of(virtio);
	struct blk_queue *queue = &blk->queue[index];
	struct virtq *q = virtio_q(virtio, index);
	unsigned int budget = BUDGET;

	do {
		virtq_kicks_off(q);
		queue->starved = !queue_start_requests(blk, queue, q, &budget);
	} while (!queue->starved && budget > 0 && virtio_queue_ready(virtio, index) &&
		 virtq_kicks_on(q));
	blk_io_commit(blk->io);
	/* A guest that asks faster than it is answered must not keep the lock, and others from the loop, for ever. */
	if (budget == 0)
		virtio_queue_kick(virtio, index);
}

static void on_batch_begin(void *opaque)
{
	struct virtio_blk *blk = opaque;

	virtio_lock(&blk->virtio);
}

static void on_batch_end(void *opaque)
{
	struct virtio_blk *blk = opaque;

	for (unsigned int i = 0; i < blk->nqueues; i++) {
		struct blk_queue *queue = &blk->queue[i];

		if (queue->starved && virtio_queue_ready(&blk->virtio, i))
			blk_queue_run(&blk->virtio, i);
		if (queue->pushed)
			virtq_publish(virtio_q(&blk->virtio, i));
		queue->pushed = false;
	}
	virtio_unlock(&blk->virtio);
}

static void fill_config(struct virtio_blk *blk, struct blk_config *config)
{
	uint32_t block_sectors = blk->state.block_bytes / SECTOR_BYTES;

	*config = (struct blk_config){
		.capacity_512 = blk->state.capacity_512,
		.seg_max = SEG_MAX,
		.blk_size = blk->state.block_bytes,
		.physical_block_exp = blk->state.block_bytes == 512 ? 3 : 0, /* 4096 bytes */
		.min_io_size = (uint16_t)(4096 / blk->state.block_bytes),
		.num_queues = (uint16_t)blk->nqueues,
		.max_discard_sectors = ZEROES_SECTORS,
		.max_discard_seg = 1,
		.discard_sector_alignment = 4096 / SECTOR_BYTES,
		.max_write_zeroes_sectors = ZEROES_SECTORS,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};
	assert(block_sectors == 1 || block_sectors == 8);
}

static int blk_load(struct virtio *virtio, const void *own_state, bool commit)
{
	struct virtio_blk *blk = blk_of(virtio);
	const struct virtio_blk_state *loaded = own_state;
	struct blk_config config;

	if (!commit) {
		if (loaded->block_bytes != blk->state.block_bytes)
			return fail(
				-EBADMSG,
				"%s: the guest knows blocks of %u bytes, the image is open with %u",
				virtio->device.id, loaded->block_bytes, blk->state.block_bytes);
		if (loaded->capacity_512 == 0 || loaded->capacity_512 > UINT64_MAX / SECTOR_BYTES)
			return fail(-EBADMSG, "%s: capacity of %llu sectors", virtio->device.id,
				    (unsigned long long)loaded->capacity_512);
		return blk_image_refresh(blk->image, loaded->capacity_512 * SECTOR_BYTES) ? -EBADMSG
											  : 0;
	}
	blk->state = *loaded;
	memcpy(blk->serial, blk->state.serial, VIRTIO_BLK_SERIAL_MAX);
	fill_config(blk, &config);
	memcpy(virtio->config, &config, sizeof(config));
	return 0;
}

static void free_io(void *opaque)
{
	struct virtio_blk *blk = opaque;

	if (blk->io && blk_io_drain(blk->io, FREE_DRAIN_MS) == 0) {
		blk_io_free(blk->io);
		blk->io = NULL;
	}
}

/* What was made before virtio_init(), or is left after virtio_fini(). */
static void free_rest(struct virtio_blk *blk)
{
	for (unsigned int i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++)
		free(blk->queue[i].pool);
	blk_image_free(blk->image);
	free(blk);
}

static void blk_free(struct virtio *virtio)
{
	struct virtio_blk *blk = blk_of(virtio);

	loop_call(virtio->loop, free_io, blk);
	if (blk->io) {
		/* The storage does not answer and may still write to what we would free. */
		log_error("%s: %s: requests still in flight: their memory is left behind",
			  virtio->device.id, blk->image->path);
		return;
	}
	virtio_fini(virtio);
	free_rest(blk);
}

static const struct virtio_ops blk_ops = {
	.type = "virtio-blk",
	.device_id = 2,
	.class_code = 0x010000, /* mass storage */
	.table = &virtio_blk_state_table,
	.queue_run = blk_queue_run,
	.load = blk_load,
	.free = blk_free,
};

static int make_pools(struct virtio_blk *blk)
{
	for (unsigned int i = 0; i < blk->nqueues; i++) {
		struct blk_queue *queue = &blk->queue[i];

		queue->owner = blk;
		queue->index = i;
		/* Pages never used cost nothing: requests are used again before fresh ones are taken. */
		queue->pool = calloc(POOL, sizeof(*queue->pool));
		if (!queue->pool)
			return -ENOMEM;
	}
	return 0;
}

static int make_io(struct virtio_blk *blk, const struct virtio_env *env,
		   const struct virtio_blk_options *options)
{
	unsigned int depth = POOL * blk->nqueues;
	struct blk_io_options io = {
		.loop = env->loop,
		.engine = options->engine,
		.depth = depth < DEPTH_MAX ? depth : DEPTH_MAX,
		.batch_begin = on_batch_begin,
		.batch_end = on_batch_end,
		.opaque = blk,
		.thread_start = options->thread_start,
		.thread_opaque = options->thread_opaque,
	};

	return blk_io_new(&blk->io, blk->image, &io);
}

static int blk_init_virtio(struct virtio_blk *blk, const struct virtio_env *env, const char *id,
			   unsigned int slot)
{
	struct blk_config config;
	struct virtio_shape shape = {
		.features = BASE_FEATURES,
		.nqueues = blk->nqueues,
		.queue_size = QUEUE_SIZE,
		.config = &config,
		.config_bytes = sizeof(config),
		.own_state = &blk->state,
	};

	fill_config(blk, &config);
	if (blk->image->readonly)
		shape.features |= BIT(BLK_F_RO);
	else
		shape.features |= WRITER_FEATURES;
	if (blk->nqueues > 1)
		shape.features |= BIT(BLK_F_MQ);
	return virtio_init(&blk->virtio, &blk_ops, env, id, slot, &shape);
}

int virtio_blk_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot, const struct virtio_blk_options *options)
{
	const char *serial = options->serial ? options->serial : "";
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	int error;

	*out = NULL;
	if (!blk) {
		blk_image_free(options->image);
		return fail(-ENOMEM, "%s: out of memory", id);
	}
	blk->image = options->image;
	blk->nqueues = options->nqueues;
	if (strlen(serial) > VIRTIO_BLK_SERIAL_MAX) {
		error = fail(-EINVAL, "%s: serial \"%s\": more than %d bytes", id, serial,
			     VIRTIO_BLK_SERIAL_MAX);
	} else if (blk->nqueues < 1 || blk->nqueues > VIRTIO_BLK_QUEUES_MAX) {
		error = fail(-EINVAL, "%s: %u queues: not 1 to %d", id, blk->nqueues,
			     VIRTIO_BLK_QUEUES_MAX);
	} else {
		blk->state.capacity_512 = blk->image->size_bytes / SECTOR_BYTES;
		blk->state.block_bytes = blk->image->block_bytes;
		memcpy(blk->serial, serial, strlen(serial) + 1);
		memcpy(blk->state.serial, blk->serial, sizeof(blk->state.serial));
		error = make_pools(blk);
		if (!error)
			error = make_io(blk, env, options);
		if (!error)
			error = blk_init_virtio(blk, env, id, slot);
	}
	if (error) {
		loop_call(env->loop, free_io, blk);
		free_rest(blk);
		return error;
	}
	*out = &blk->virtio.device;
	return 0;
}

struct virtio_blk *virtio_blk_of(struct device *device)
{
	if (strcmp(device->ops->type, blk_ops.type) != 0)
		return NULL;
	return blk_of(CONTAINER_OF(device, struct virtio, device));
}

int virtio_blk_release(struct virtio_blk *blk)
{
	int error = blk_image_sync(blk->image);

	if (!error)
		blk_image_unlock(blk->image);
	return error;
}

int virtio_blk_acquire(struct virtio_blk *blk)
{
	int error = blk_image_lock(blk->image);

	if (error)
		return error;
	error = blk_image_refresh(blk->image, blk->state.capacity_512 * SECTOR_BYTES);
	if (error)
		blk_image_unlock(blk->image);
	return error;
}

int virtio_blk_identify(struct virtio_blk *blk, bool sync, struct blk_identity *out)
{
	int error = sync ? blk_image_sync(blk->image) : 0;

	return error ? error : blk_image_identify(blk->image, out);
}

void virtio_blk_get_info(struct virtio_blk *blk, struct virtio_blk_info *info)
{
	virtio_lock(&blk->virtio);
	*info = blk->counts;
	info->path = blk->image->path;
	info->serial = blk->serial;
	info->engine = blk_io_engine(blk->io);
	info->readonly = blk->image->readonly;
	info->direct = blk->image->direct;
	info->locked = blk->image->locked;
	info->size_bytes = blk->state.capacity_512 * SECTOR_BYTES;
	info->block_bytes = blk->state.block_bytes;
	info->nqueues = blk->nqueues;
	for (unsigned int i = 0; i < blk->nqueues; i++)
		info->in_flight += virtio_q(&blk->virtio, i)->inflight;
	virtio_unlock(&blk->virtio);
}
