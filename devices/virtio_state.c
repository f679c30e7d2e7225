// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is saved of a virtio device, and what a load checks before any of it counts: PCI's part, the core's, each queue's
 * and the device's own. When a device may be saved is virtio.c's and the machine's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "devices/virtio_internal.h"

STATE_TABLE(virtio_state, 1, VIRTIO_STATE);
const struct state_table *const virtio_state_list = &virtio_state_table;

static uint32_t queue_instance(const struct virtio *virtio, unsigned int queue)
{
	return virtio->device.instance << 8 | queue;
}

int virtio_save(const struct device *device, struct buf *out)
{
	const struct virtio *virtio = (const struct virtio *)device;
	uint32_t instance = device->instance;
	int error = pci_function_save(&virtio->pci, instance, out);

	if (!error)
		error = state_save(&virtio_state_table, instance, &virtio->state, out);
	for (unsigned int i = 0; !error && i < virtio->nqueues; i++)
		error = virtq_save(&virtio->queue[i].q, queue_instance(virtio, i), out);
	if (!error && virtio->ops->table != STATE_NONE)
		error = state_save(virtio->ops->table, instance, virtio->own_state, out);
	return error;
}

/* All of a device's state, read and checked, before any of it counts. */
struct loaded {
	struct pci_state pci;
	struct virtio_state virtio;
	struct virtq_state queue[VIRTIO_QUEUES_MAX];
	void *own;
};

static bool is_vector(const struct virtio *virtio, uint16_t vector)
{
	return vector == VIRTQ_NO_VECTOR || vector < virtio->pci.msix.nvectors;
}

static int check_core(const struct virtio *virtio, const struct virtio_state *loaded)
{
	const char *id = virtio->device.id;
	const struct virtio_state *here = &virtio->state;
	uint8_t status = loaded->status;

	if (loaded->device_id != here->device_id || loaded->nqueues != here->nqueues)
		return fail(-EBADMSG,
			    "virtio: %s: saved: type %u with %u queues; here: type %u with %u", id,
			    loaded->device_id, loaded->nqueues, here->device_id, here->nqueues);
	if (loaded->offered != here->offered)
		return fail(-EBADMSG,
			    "virtio: %s: features 0x%" PRIx64 " were offered, 0x%" PRIx64 " here",
			    id, loaded->offered, here->offered);
	if (status & ~(VIRTIO_STATUS_BY_DRIVER | VIRTIO_STATUS_NEEDS_RESET) ||
	    (status & VIRTIO_STATUS_DRIVER_OK && !(status & VIRTIO_STATUS_FEATURES_OK)))
		return fail(-EBADMSG, "virtio: %s: status 0x%02x", id, status);
	if (status & VIRTIO_STATUS_FEATURES_OK &&
	    (loaded->accepted & ~loaded->offered || !(loaded->accepted & VIRTIO_F_VERSION_1)))
		return fail(-EBADMSG, "virtio: %s: features 0x%" PRIx64 " accepted of 0x%" PRIx64,
			    id, loaded->accepted, loaded->offered);
	if (!is_vector(virtio, loaded->config_vector))
		return fail(-EBADMSG, "virtio: %s: vector %u", id, loaded->config_vector);
	return 0;
}

/* Gives the state to a queue (the real one, or a copy to try it on). */
static int apply_queue(struct virtq *q, const struct virtq_state *loaded, uint64_t accepted)
{
	q->state = *loaded;
	return loaded->enabled ? virtq_enable(q, accepted & VIRTIO_F_EVENT_IDX,
					      accepted & VIRTIO_F_INDIRECT_DESC)
			       : 0;
}

static int load_queue(struct virtio *virtio, unsigned int i, struct state_set *in,
		      struct loaded *loaded)
{
	const struct virtq *q = &virtio->queue[i].q;
	struct virtq trial = *q;
	int error = virtq_load(q, queue_instance(virtio, i), in, &loaded->queue[i]);

	if (error)
		return error;
	if (loaded->queue[i].enabled && !(loaded->virtio.status & VIRTIO_STATUS_FEATURES_OK))
		return fail(-EBADMSG, "virtio: %s: queue %u enabled before features were",
			    virtio->device.id, i);
	if (apply_queue(&trial, &loaded->queue[i], loaded->virtio.accepted) < 0 ||
	    !is_vector(virtio, loaded->queue[i].vector))
		return fail(-EBADMSG, "virtio: %s: queue %u: ring or vector is not there",
			    virtio->device.id, i);
	return 0;
}

static int load_all(struct virtio *virtio, struct state_set *in, struct loaded *loaded)
{
	uint32_t instance = virtio->device.instance;
	int error = pci_function_load(&virtio->pci, instance, in, &loaded->pci);

	if (!error)
		error = state_load(in, &virtio_state_table, instance, &loaded->virtio);
	if (!error)
		error = check_core(virtio, &loaded->virtio);
	for (unsigned int i = 0; !error && i < virtio->nqueues; i++)
		error = load_queue(virtio, i, in, loaded);
	if (!error && loaded->own)
		error = state_load(in, virtio->ops->table, instance, loaded->own);
	if (!error && loaded->own)
		error = virtio->ops->load(virtio, loaded->own, false);
	return error;
}

static int commit_all(struct virtio *virtio, const struct loaded *loaded)
{
	int error = 0;

	virtio->state = loaded->virtio;
	for (unsigned int i = 0; !error && i < virtio->nqueues; i++)
		error = apply_queue(&virtio->queue[i].q, &loaded->queue[i],
				    loaded->virtio.accepted);
	if (!error && loaded->own)
		error = virtio->ops->load(virtio, loaded->own, true);
	return error;
}

static int load_and_commit(struct virtio *virtio, struct state_set *in, struct loaded *loaded)
{
	int error;

	virtio_lock(virtio);
	/* What is loaded must not run before the machine resumes it. */
	virtio->paused = true;
	error = load_all(virtio, in, loaded);
	virtio_unlock(virtio);
	if (error)
		return error;
	/* Before the device's lock, which is the inner one. */
	pci_function_commit(&virtio->pci, &loaded->pci);
	virtio_lock(virtio);
	error = commit_all(virtio, loaded);
	virtio_unlock(virtio);
	return error;
}

int virtio_load(struct device *device, struct state_set *in)
{
	struct virtio *virtio = CONTAINER_OF(device, struct virtio, device);
	struct loaded *loaded = calloc(1, sizeof(*loaded));
	int error = -ENOMEM;

	if (loaded && virtio->ops->table != STATE_NONE)
		loaded->own = calloc(1, virtio->ops->table->size_bytes);
	if (!loaded || (virtio->ops->table != STATE_NONE && !loaded->own))
		log_error("virtio: %s: no memory to load", device->id);
	else
		error = load_and_commit(virtio, in, loaded);
	if (loaded)
		free(loaded->own);
	free(loaded);
	return error;
}
