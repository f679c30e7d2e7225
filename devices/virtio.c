// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtio core: when a device runs and resets, and its lifecycle. The registers are virtio_pci.c, the rings virtq.c,
 * what is saved virtio_state.c.
 *
 * Theory of operation. What the guest, the machine and the rings do to a device only sets facts (status bits, bus
 * mastering, paused, reset_asked), under the device's lock. virtio_unlock() then brings the device in line with them:
 * `settle` starts or stops it, and completes what has become possible. So no hook is called from the middle of another one
 * (a ring found broken inside queue_run stops the device when queue_run has returned), and each transition is in one
 * place.
 *
 * A reset that the guest asks for may have to wait for chains in flight: the status register keeps its old value until
 * they have all been pushed, as 2.4.2 allows, and no vCPU is held up. A pause waits the same way, but for a limited time.
 *
 * Sources: virtio 1.2 sections 2.1 (status), 2.2 (features), 2.4 (reset), 2.6.1 (queue reset), 3.1 (initialization).
 */
#include "devices/virtio.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "devices/virtio_internal.h"

/* Interrupts */

/* The vector if MSI-X is on, else the status register (there is no INTx line: the guest polls it). */
static void raise_vector(struct virtio *virtio, uint16_t vector, uint8_t isr_bit)
{
	if (!pci_msix_enabled(&virtio->pci))
		virtio->state.isr |= isr_bit;
	else if (vector != VIRTQ_NO_VECTOR)
		pci_msix_raise(&virtio->pci, vector);
}

static void notify_config(struct virtio *virtio)
{
	virtio->state.isr |= 2;
	raise_vector(virtio, virtio->state.config_vector, 2);
}

static void queue_interrupt(void *opaque, struct virtq *q)
{
	raise_vector(opaque, q->state.vector, 1);
}

void virtio_config_changed(struct virtio *virtio)
{
	virtio->state.generation++;
	if (virtio->state.status & VIRTIO_STATUS_DRIVER_OK)
		notify_config(virtio);
}

/* A guest that breaks the rules */

static void needs_reset(struct virtio *virtio)
{
	if (virtio->state.status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	virtio->state.status |= VIRTIO_STATUS_NEEDS_RESET;
	if (virtio->state.status & VIRTIO_STATUS_DRIVER_OK)
		notify_config(virtio);
}

void virtio_broken(struct virtio *virtio, const char *why)
{
	virtio->broken++;
	if (log_limit_ok(&virtio->limit, 1))
		log_warn("virtio: %s: guest: %s: needs reset", virtio->device.id, why);
	needs_reset(virtio);
}

static void queue_broken(void *opaque, struct virtq *q, const char *why)
{
	struct virtio *virtio = opaque;

	virtio->broken++;
	if (log_limit_ok(&virtio->limit, 1))
		log_warn("virtio: %s: queue %u: guest: %s: needs reset", virtio->device.id,
			 q->index, why);
	needs_reset(virtio);
}

static const struct virtq_owner queue_owner = {
	.interrupt = queue_interrupt,
	.broken = queue_broken,
};

/* Running */

static void signal_kick(const struct virtio_queue *queue)
{
	uint64_t one = 1;
	ssize_t n = write(queue->kick, &one, sizeof(one));

	/* Fails only when the counter is full: a kick is pending then. */
	(void)n;
}

static void start_queue(struct virtio *virtio, struct virtio_queue *queue)
{
	queue->started = true;
	if (virtio->ops->queue_start)
		virtio->ops->queue_start(virtio, queue->q.index);
	/* What is in the ring already, or was kicked while nobody looked. A backend outside is woken just the same. */
	signal_kick(queue);
}

static void stop_queue(struct virtio *virtio, struct virtio_queue *queue)
{
	if (virtio->ops->queue_stop)
		virtio->ops->queue_stop(virtio, queue->q.index);
	queue->started = false;
}

static bool should_run(const struct virtio *virtio)
{
	uint8_t mask = VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET;

	return (virtio->state.status & mask) == VIRTIO_STATUS_DRIVER_OK && !virtio->paused &&
	       !virtio->reset_asked && pci_bus_master(&virtio->pci);
}

static bool queue_should_run(const struct virtio_queue *queue)
{
	return queue->q.state.enabled && !queue->reset_asked;
}

static void update_running(struct virtio *virtio)
{
	bool on = should_run(virtio);

	if (on && !virtio->running) {
		virtio->running = true;
		if (virtio->ops->start)
			virtio->ops->start(virtio);
	}
	for (unsigned int i = 0; i < virtio->nqueues; i++) {
		struct virtio_queue *queue = &virtio->queue[i];
		bool queue_on = on && queue_should_run(queue);

		if (queue_on && !queue->started)
			start_queue(virtio, queue);
		else if (!queue_on && queue->started)
			stop_queue(virtio, queue);
	}
	if (!on && virtio->running) {
		virtio->running = false;
		if (virtio->ops->stop)
			virtio->ops->stop(virtio);
	}
}

static unsigned int chains_in_flight(const struct virtio *virtio)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < virtio->nqueues; i++)
		n += virtio->queue[i].q.inflight;
	return n;
}

/* All that the guest can observe goes back to what it was, but for PCI's part. Nothing is in flight. */
static void finish_reset(struct virtio *virtio)
{
	struct virtio_state *state = &virtio->state;

	for (unsigned int i = 0; i < virtio->nqueues; i++) {
		virtq_reset(&virtio->queue[i].q);
		virtio->queue[i].reset_asked = false;
	}
	*state = (struct virtio_state){
		.device_id = state->device_id,
		.offered = state->offered,
		.nqueues = state->nqueues,
		.generation = state->generation,
		.config_vector = VIRTQ_NO_VECTOR,
	};
	virtio->reset_asked = virtio->queue_reset_asked = false;
	if (virtio->ops->reset)
		virtio->ops->reset(virtio);
}

static void finish_queue_resets(struct virtio *virtio)
{
	bool left = false;

	for (unsigned int i = 0; i < virtio->nqueues; i++) {
		struct virtio_queue *queue = &virtio->queue[i];

		if (!queue->reset_asked)
			continue;
		if (queue->q.inflight > 0) {
			left = true;
			continue;
		}
		virtq_reset(&queue->q);
		queue->reset_asked = false;
	}
	virtio->queue_reset_asked = left;
}

static void settle(struct virtio *virtio)
{
	update_running(virtio);
	if (virtio->queue_reset_asked)
		finish_queue_resets(virtio);
	if (!virtio->reset_asked && !virtio->paused)
		return;
	if (chains_in_flight(virtio) > 0)
		return;
	if (virtio->reset_asked)
		finish_reset(virtio);
	pthread_cond_broadcast(&virtio->drained);
}

void virtio_lock(struct virtio *virtio)
{
	pthread_mutex_lock(&virtio->lock);
}

void virtio_unlock(struct virtio *virtio)
{
	settle(virtio);
	pthread_mutex_unlock(&virtio->lock);
}

/* Queues */

bool virtio_queue_ready(const struct virtio *virtio, unsigned int queue)
{
	const struct virtio_queue *vq = &virtio->queue[queue];

	/* should_run: a fact may have changed since the last settle, within this hold of the lock. */
	return vq->started && !vq->outside && !vq->q.broken && should_run(virtio) &&
	       queue_should_run(vq);
}

static void kicked(void *opaque, int fd, uint32_t events)
{
	struct virtio_queue *queue = opaque;
	struct virtio *virtio = queue->virtio;
	uint64_t count;
	ssize_t n;

	virtio_lock(virtio);
	n = read(fd, &count, sizeof(count));
	if (queue->outside) {
		/* Fetched before the watch was silenced: the kick was the backend's. */
		if (n == sizeof(count))
			signal_kick(queue);
	} else if (virtio_queue_ready(virtio, queue->q.index)) {
		virtio->ops->queue_run(virtio, queue->q.index);
		virtq_publish(&queue->q);
	}
	virtio_unlock(virtio);
}

void virtio_queue_kick(struct virtio *virtio, unsigned int queue)
{
	signal_kick(&virtio->queue[queue]);
}

void virtio_queue_outside(struct virtio *virtio, unsigned int queue, bool outside)
{
	struct virtio_queue *vq = &virtio->queue[queue];

	if (vq->outside == outside)
		return;
	vq->outside = outside;
	loop_watch_set(vq->watch, outside ? 0 : EPOLLIN);
	signal_kick(vq);
}

int virtio_queue_kick_fd(const struct virtio *virtio, unsigned int queue)
{
	return virtio->queue[queue].kick;
}

int virtio_queue_call_fd(const struct virtio *virtio, unsigned int queue)
{
	return pci_msix_eventfd(&virtio->pci, virtio->queue[queue].q.state.vector);
}

/* What the guest's register writes mean */

void virtio_write_status(struct virtio *virtio, uint8_t status)
{
	struct virtio_state *state = &virtio->state;
	uint8_t new = status &VIRTIO_STATUS_BY_DRIVER & ~state->status;

	if (status == 0) {
		virtio->reset_asked = true;
		return;
	}
	/* Features are refused by not showing the bit (3.1.1 step 6). */
	if ((state->accepted & ~state->offered) || !virtio_has(virtio, VIRTIO_F_VERSION_1))
		new &= ~VIRTIO_STATUS_FEATURES_OK;
	if (!((state->status | new) & VIRTIO_STATUS_FEATURES_OK))
		new &= ~VIRTIO_STATUS_DRIVER_OK;
	state->status |= new;
}

void virtio_enable_queue(struct virtio *virtio, unsigned int queue)
{
	struct virtio_queue *vq = &virtio->queue[queue];

	/* What was negotiated decides how the ring is read, so not before. */
	if (vq->q.state.enabled || vq->reset_asked ||
	    !(virtio->state.status & VIRTIO_STATUS_FEATURES_OK))
		return;
	if (virtq_enable(&vq->q, virtio_has(virtio, VIRTIO_F_EVENT_IDX),
			 virtio_has(virtio, VIRTIO_F_INDIRECT_DESC)) < 0)
		virtio_broken(virtio, "a ring misaligned or outside RAM");
}

void virtio_reset_queue(struct virtio *virtio, unsigned int queue)
{
	if (!virtio_has(virtio, VIRTIO_F_RING_RESET))
		return;
	virtio->queue[queue].reset_asked = true;
	virtio->queue_reset_asked = true;
}

/* Lifecycle */

static struct virtio *virtio_of(struct device *device)
{
	return CONTAINER_OF(device, struct virtio, device);
}

static void reset(struct device *device)
{
	struct virtio *virtio = virtio_of(device);

	pci_function_reset(&virtio->pci);
	virtio_lock(virtio);
	/* Bus mastering is off, so it does not run; and the machine has paused it, or it has never run. */
	update_running(virtio);
	assert(chains_in_flight(virtio) == 0);
	finish_reset(virtio);
	virtio->state.generation = 0;
	virtio_unlock(virtio);
}

static int wait_until_drained(struct virtio *virtio)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DEVICE_PAUSE_MS / 1000;
	while (chains_in_flight(virtio) > 0) {
		if (pthread_cond_timedwait(&virtio->drained, &virtio->lock, &end) == ETIMEDOUT)
			return chains_in_flight(virtio) > 0 ? -ETIMEDOUT : 0;
	}
	return 0;
}

static int pause_device(struct device *device)
{
	struct virtio *virtio = virtio_of(device);
	int error;

	virtio_lock(virtio);
	virtio->paused = true;
	settle(virtio);
	error = wait_until_drained(virtio);
	if (!error && virtio->ops->paused)
		error = virtio->ops->paused(virtio);
	if (error)
		virtio->paused = false;
	virtio_unlock(virtio);
	return error;
}

static void resume_device(struct device *device)
{
	struct virtio *virtio = virtio_of(device);

	virtio_lock(virtio);
	if (virtio->state.status & VIRTIO_STATUS_DRIVER_OK) {
		for (unsigned int i = 0; i < virtio->nqueues; i++)
			virtq_resume_interrupt(&virtio->queue[i].q);
		if (virtio->state.isr & 2)
			notify_config(virtio);
	}
	virtio->paused = false;
	virtio_unlock(virtio);
}

static void free_device(struct device *device)
{
	struct virtio *virtio = virtio_of(device);

	virtio->ops->free(virtio);
}

/* Creation */

static void remove_watches(void *opaque)
{
	struct virtio *virtio = opaque;

	for (unsigned int i = 0; i < virtio->nqueues; i++) {
		loop_watch_free(virtio->queue[i].watch);
		virtio->queue[i].watch = NULL;
	}
}

static void add_watches(void *opaque)
{
	struct virtio *virtio = opaque;

	for (unsigned int i = 0; i < virtio->nqueues; i++) {
		struct virtio_queue *queue = &virtio->queue[i];

		if (loop_add_fd(virtio->loop, queue->kick, EPOLLIN, kicked, queue, &queue->watch) <
		    0)
			return;
	}
}

static int init_queues(struct virtio *virtio, const struct virtio_shape *shape)
{
	virtio->queue = calloc(shape->nqueues, sizeof(*virtio->queue));
	if (!virtio->queue)
		return fail(-ENOMEM, "virtio: %s: no memory for %u queues", virtio->device.id,
			    shape->nqueues);
	virtio->nqueues = shape->nqueues;
	for (unsigned int i = 0; i < shape->nqueues; i++)
		virtio->queue[i].kick = -1;
	for (unsigned int i = 0; i < shape->nqueues; i++) {
		struct virtio_queue *queue = &virtio->queue[i];

		queue->virtio = virtio;
		virtq_init(&queue->q, virtio->ram, i, shape->queue_size, &queue_owner, virtio);
		queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (queue->kick < 0)
			return fail(-errno, "virtio: %s: eventfd: %s", virtio->device.id,
				    strerror(errno));
	}
	loop_call(virtio->loop, add_watches, virtio);
	return virtio->queue[shape->nqueues - 1].watch ? 0 : -ENOMEM;
}

static void init_locks(struct virtio *virtio)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&virtio->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&virtio->drained, &attr);
	pthread_condattr_destroy(&attr);
}

int virtio_init(struct virtio *virtio, const struct virtio_ops *ops, const struct virtio_env *env,
		const char *id, unsigned int slot, const struct virtio_shape *shape)
{
	int error;

	_Static_assert(offsetof(struct virtio, device) == 0, "device is embedded first");
	assert(ops->type && ops->table && ops->queue_run && ops->free);
	assert((ops->table == STATE_NONE) == !shape->own_state);
	assert((ops->table == STATE_NONE) == !ops->load);
	assert(shape->nqueues >= 1 && shape->nqueues <= VIRTIO_QUEUES_MAX);
	assert(shape->config_bytes <= VIRTIO_CONFIG_MAX);
	virtio->ops = ops;
	virtio->ram = env->ram;
	virtio->loop = env->loop;
	virtio->own_state = shape->own_state;
	virtio->device_ops = (struct device_ops){
		.type = ops->type,
		.table = virtio_state_list,
		.reset = reset,
		.pause = pause_device,
		.resume = resume_device,
		.save = virtio_save,
		.load = virtio_load,
		.free = free_device,
	};
	device_init(&virtio->device, &virtio->device_ops, id, slot);
	init_locks(virtio);
	virtio->state = (struct virtio_state){
		.device_id = ops->device_id,
		.offered = shape->features | VIRTIO_CORE_FEATURES,
		.nqueues = shape->nqueues,
		.config_vector = VIRTQ_NO_VECTOR,
	};
	virtio->config_bytes = shape->config_bytes;
	if (shape->config_bytes)
		memcpy(virtio->config, shape->config, shape->config_bytes);
	error = init_queues(virtio, shape);
	if (!error)
		error = virtio_pci_init(virtio, env->pci, slot);
	if (error)
		virtio_fini(virtio);
	return error;
}

void virtio_fini(struct virtio *virtio)
{
	/* First what calls us: the guest's accesses and doorbells, then the kicks. */
	pci_function_fini(&virtio->pci);
	if (virtio->queue) {
		loop_call(virtio->loop, remove_watches, virtio);
		for (unsigned int i = 0; i < virtio->nqueues; i++)
			close_fd(&virtio->queue[i].kick);
	}
	free(virtio->queue);
	virtio->queue = NULL;
	pthread_cond_destroy(&virtio->drained);
	pthread_mutex_destroy(&virtio->lock);
}
