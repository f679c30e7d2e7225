// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Entropy device (virtio 1.2 section 5.4). Random bytes come from getrandom(2), straight into guest memory.
 *
 * For authors of devices. This is a whole one; what each piece is for:
 *	- a struct with struct virtio first, and under it what the device needs. What the guest can observe of that goes
 *	  into a state list (STATE_STRUCT/STATE_TABLE, base/state.h) and is handed to virtio_init() as own_state; this device
 *	  has nothing of the kind and says STATE_NONE
 *	- queue_run, called on the I/O loop with the device's lock held when the queue was kicked: pop until there is
 *	  nothing, push each chain on every path, and ask for kicks again *before* the last look, or one is lost. What was
 *	  pushed is published, and the guest interrupted if it asked for it, when queue_run returns
 *	- work that ends later (a disk request) keeps the chain, and completes it from its own watch on the loop:
 *	  virtio_lock(), virtq_push(), virtq_publish(), virtio_unlock(). `stop` hurries or gives back what is pending; resets
 *	  and pauses wait for it by themselves
 *	- the guest is hostile: lengths are its own, so what one run does is bounded, and a request that cannot be answered is
 *	  virtio_broken()
 *	- virtq_push() says how many bytes are in memory, and marks them dirty for migration
 */
#include "devices/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/log.h"

#define DEVICE_ID     4
#define CLASS_OTHER   0x00ff00 /* PCI: unclassified */
#define QUEUE_SIZE    64
#define BYTES_PER_RUN 65536 /* then other devices of this loop have their turn */

struct virtio_rng {
	struct virtio virtio;
};

/* Fills the chain from its start, at most max bytes; how many there are now (a short answer is legal). */
static uint32_t fill(const struct virtq_chain *chain, uint32_t max)
{
	uint32_t done = 0;

	for (unsigned int i = chain->nread; i < chain->nread + chain->nwrite && done < max; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t want = iov->iov_len < max - done ? iov->iov_len : max - done;
		/* Up to 256 bytes come whole; a longer read may be cut short by a signal. */
		ssize_t got = getrandom(iov->iov_base, want, 0);

		if (got > 0)
			done += got;
		if (got < (ssize_t)want)
			break;
	}
	return done;
}

static void queue_run(struct virtio *virtio, unsigned int queue)
{
	struct virtq *q = virtio_q(virtio, queue);
	uint32_t budget = BYTES_PER_RUN;
	VIRTQ_CHAIN(chain, QUEUE_SIZE);

	do {
		virtq_kicks_off(q);
		while (budget > 0 && virtq_pop(q, &chain) > 0) {
			uint32_t filled = fill(&chain, budget);

			virtq_push(q, &chain, filled);
			/* Empty chains cost a turn too. */
			budget -= filled > 64 ? filled : (budget < 64 ? budget : 64);
		}
	} while (virtq_kicks_on(q) && budget > 0);
	if (budget == 0)
		virtio_queue_kick(virtio, queue);
}

static void rng_free(struct virtio *virtio)
{
	virtio_fini(virtio);
	free(CONTAINER_OF(virtio, struct virtio_rng, virtio));
}

static const struct virtio_ops rng_ops = {
	.type = "virtio-rng",
	.device_id = DEVICE_ID,
	.class_code = CLASS_OTHER,
	.table = STATE_NONE,
	.queue_run = queue_run,
	.free = rng_free,
};

int virtio_rng_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot)
{
	const struct virtio_shape shape = {.nqueues = 1, .queue_size = QUEUE_SIZE};
	struct virtio_rng *rng = calloc(1, sizeof(*rng));
	int error;

	if (!rng)
		return fail(-ENOMEM, "virtio: %s: no memory", id);
	error = virtio_init(&rng->virtio, &rng_ops, env, id, slot, &shape);
	if (error) {
		free(rng);
		return error;
	}
	*out = &rng->virtio.device;
	return 0;
}
