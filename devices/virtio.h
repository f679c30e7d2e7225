/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio devices: feature negotiation, status, queues and lifecycle, on the modern PCI transport (virtio 1.2 sections 2,
 * 3 and 4.1). A device author fills in struct virtio_ops; virtio_rng.c is the template. virtio.c is the core,
 * virtio_pci.c the registers.
 *
 * Threads and the lock. One mutex per device, virtio_lock(), serialises everything that concerns it: the guest's
 * register accesses (vCPU threads), queue runs (I/O loop), lifecycle (main thread). Every op below is called with it
 * held; a device's own watches and completions take it themselves. Order: pci_host.lock, virtio lock, pci_msix.lock; no
 * call from under it waits for another thread, except a wait on virtio.drained, which gives it up.
 *
 * Running. A device *runs* while DRIVER_OK is set, bus mastering is on, the guest has broken no rule, no reset is under
 * way and the VM is not paused. Only then are queues run and memory touched. When running ends (`stop`), what is in flight
 * is completed or given back; a guest's reset is done, and a pause succeeds, when every popped chain has been pushed.
 */
#ifndef DEVICES_VIRTIO_H
#define DEVICES_VIRTIO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/state.h"
#include "devices/device.h"
#include "devices/pci.h"
#include "devices/virtq.h"
#include "memory/ram.h"

/* Feature bits of the core; a device adds its own. */
#define VIRTIO_F_INDIRECT_DESC (1ULL << 28)
#define VIRTIO_F_EVENT_IDX     (1ULL << 29)
#define VIRTIO_F_VERSION_1     (1ULL << 32)
#define VIRTIO_F_RING_RESET    (1ULL << 40)
/* What virtio_init() offers besides the device's own. */
#define VIRTIO_CORE_FEATURES \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)

#define VIRTIO_QUEUES_MAX (PCI_MSIX_MAX - 1)
#define VIRTIO_CONFIG_MAX 256

/* Device status, section 2.1. */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER	  2
#define VIRTIO_STATUS_DRIVER_OK	  4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED	  128

struct virtio;

/* What makes a device. NULL where it says so; the lock is held in all of them but free. */
struct virtio_ops {
	const char *type;    /* "virtio-rng" */
	uint16_t device_id;  /* virtio 1.2 section 5 */
	uint32_t class_code; /* PCI class, 24 bits */
	const struct state_table
		*table; /* the device's own state (virtio_init's own_state), or STATE_NONE */

	/* The queue was kicked (or the device resumed): pop, work, push. I/O loop; only while it runs. Published after. */
	void (*queue_run)(struct virtio *virtio, unsigned int queue);
	/*
	 * Running begins / ends. NULL: nothing to do. vCPU, main or I/O thread. stop need not wait: it gives back or
	 * hurries what is in flight. queue_start/queue_stop: the same for each enabled queue, between start and stop
	 * (start, queue_start..., queue_stop..., stop), and alone when the guest resets or enables one queue.
	 */
	void (*start)(struct virtio *virtio);
	void (*stop)(struct virtio *virtio);
	void (*queue_start)(struct virtio *virtio, unsigned int queue);
	void (*queue_stop)(struct virtio *virtio, unsigned int queue);
	/* The guest gave the queue another MSI-X vector while running: a kernel backend's call descriptor changed. NULL */
	void (*queue_vector)(struct virtio *virtio, unsigned int queue);
	/* Back to what it was at creation: the device's own state. NULL when there is none. */
	void (*reset)(struct virtio *virtio);
	/* A guest's write to the device's configuration, within it; NULL: read-only. Reads come from virtio->config. */
	void (*config_write)(struct virtio *virtio, unsigned int offset, const void *data,
			     unsigned int len);
	/* Checks a loaded own state (-EBADMSG), then commits it when commit is true. NULL with STATE_NONE. */
	int (*load)(struct virtio *virtio, const void *own_state, bool commit);
	/* More to wait for before a pause is done than chains in flight (flush an image): 0 or -errno. Main thread. NULL */
	int (*paused)(struct virtio *virtio);
	/* Frees the device, virtio_fini() included; the I/O loop no longer runs, or runs without its watches. */
	void (*free)(struct virtio *virtio);
};

/* clang-format off */
#define VIRTIO_STATE(T, F, A, V)                                                         \
	F(T, 1, u32, device_id)                                                              \
	F(T, 2, u64, offered)            /* features */                                      \
	F(T, 3, u64, accepted)           /* by the driver; final once FEATURES_OK is set */  \
	F(T, 4, u8, status)                                                                  \
	F(T, 5, u8, generation)          /* of the configuration */                          \
	F(T, 6, u8, isr)                                                                     \
	F(T, 7, u16, config_vector)                                                          \
	F(T, 8, u32, offered_select)                                                         \
	F(T, 9, u32, accepted_select)                                                        \
	F(T, 10, u16, queue_select)                                                          \
	F(T, 11, u16, nqueues)
/* clang-format on */
STATE_STRUCT(virtio_state, VIRTIO_STATE);
extern const struct state_table *const virtio_state_list;

/* Where a device lives: given to every constructor. */
struct virtio_env {
	struct pci_host *pci;
	struct ram *ram;
	struct loop *loop; /* the I/O loop; never the loop of a thread that pauses */
};

struct virtio_queue {
	struct virtq q;
	int kick; /* eventfd, behind the doorbell */
	struct loop_watch *watch;
	struct virtio *virtio;
	bool outside;	  /* a backend takes the kicks */
	bool reset_asked; /* the guest resets this queue; done when nothing is in flight */
	bool started;	  /* between queue_start and queue_stop */
};

/* Embedded first in every virtio device. */
struct virtio {
	struct device device;
	struct device_ops device_ops; /* the core's, under this device's type */
	struct pci_function pci;
	const struct virtio_ops *ops;
	struct ram *ram;
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t drained; /* nothing in flight any more */
	struct virtio_state state;
	void *own_state;
	unsigned int nqueues;
	struct virtio_queue *queue;
	uint8_t config
		[VIRTIO_CONFIG_MAX]; /* the device's configuration space, kept up to date by the device */
	unsigned int config_bytes;
	bool paused, running, reset_asked, queue_reset_asked;
	uint8_t window_capability; /* configuration access window, section 4.1.4.9 */
	struct log_limit limit;
	uint64_t broken; /* how often the guest broke the rules */
};

struct virtio_shape {
	uint64_t features; /* the device's own; the core's are added */
	unsigned int nqueues;
	uint16_t queue_size; /* the maximum of each, a power of two */
	const void *config;  /* NULL with config_bytes 0 */
	unsigned int config_bytes;
	void *own_state; /* in the device's struct; NULL with STATE_NONE */
};

/*
 * Builds the device at a PCI slot (which is also its sections' instance number). Before the I/O loop runs, or while it
 * does. One MSI-X vector for each queue and one for the configuration. On an error nothing is left behind: do not fini.
 */
int virtio_init(struct virtio *virtio, const struct virtio_ops *ops, const struct virtio_env *env,
		const char *id, unsigned int slot, const struct virtio_shape *shape) must_check;
void virtio_fini(struct virtio *virtio);

/* unlock first does what has become due: running begins or ends, a reset that was asked for is done, a pause is told. */
void virtio_lock(struct virtio *virtio);
void virtio_unlock(struct virtio *virtio);

/* Lock held. */
static inline struct virtq *virtio_q(struct virtio *virtio, unsigned int queue)
{
	return &virtio->queue[queue].q;
}
/* The feature was offered and accepted. */
static inline bool virtio_has(const struct virtio *virtio, uint64_t feature)
{
	return (virtio->state.accepted & feature) == feature;
}
/* The queue may be popped: the device runs, the queue is enabled and serves here. Ask before work that no kick caused. */
bool virtio_queue_ready(const struct virtio *virtio, unsigned int queue);
/* The configuration bytes were changed: a new generation, and an interrupt. */
void virtio_config_changed(struct virtio *virtio);
/* The guest broke a rule above the ring (a malformed request that the device cannot answer). Counted, logged, NEEDS_RESET. */
void virtio_broken(struct virtio *virtio, const char *why);

/* Any thread, lock or not: the queue is run (again) on the I/O loop, as if kicked. */
void virtio_queue_kick(struct virtio *virtio, unsigned int queue);

/*
 * For backends outside this process (vhost-net), lock held, from start/queue_start on:
 *	virtio_queue_outside	true: the kick descriptor is no longer read here (a read that raced is made good); false: kicks
 *				come here again, at once one.
 *	virtio_queue_kick_fd	the eventfd behind the doorbell
 *	virtio_queue_call_fd	the eventfd that interrupts, masked vectors included; -1: none (the guest polls)
 * Ring addresses are in virtq.state (gpa) and virtq.desc/avail/used (hva); virtq_set_base() when it has stopped.
 */
void virtio_queue_outside(struct virtio *virtio, unsigned int queue, bool outside);
int virtio_queue_kick_fd(const struct virtio *virtio, unsigned int queue);
int virtio_queue_call_fd(const struct virtio *virtio, unsigned int queue);

#endif
