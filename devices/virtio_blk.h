/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block device (virtio 1.2 section 5.2) on an image (blk.h).
 *
 * What the guest sees (capacity, block size, serial number, queues, features) is given or read from the image once, at
 * creation; it is part of the device's state and travels. A host's means (O_DIRECT, io_uring) never show.
 */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include "devices/blk.h"
#include "devices/virtio.h"

#define VIRTIO_BLK_QUEUES_MAX 16
#define VIRTIO_BLK_SERIAL_MAX 20

struct virtio_blk_options {
	struct blk_image *image; /* taken over, even on failure */
	const char *serial;	 /* at most 20 bytes; NULL: empty */
	unsigned int nqueues;	 /* 1..VIRTIO_BLK_QUEUES_MAX */
	enum blk_engine_kind engine;
	/* Run first on each thread that is made for this disk; see blk_io_options. May be NULL. */
	void (*thread_start)(void *opaque, const char *thread_class);
	void *thread_opaque;
};

/*
 * Main thread, while the machine is built, before the sandbox closes. *out is for device_list_add(), which owns it then.
 * Errors, logged: -EINVAL (serial, queues), blk_io_new's, virtio_init's.
 */
int virtio_blk_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot, const struct virtio_blk_options *options) must_check;

/* The device, when it is a block device; NULL otherwise. */
struct virtio_blk *virtio_blk_of(struct device *device);

/*
 * Hand-over; the device is paused. release: everything is on stable storage and the lock is given up; on an error the
 * lock is still held. acquire: takes the lock, reads the size again and drops what is cached; on an error the lock is
 * not held and the device must not be resumed. Both logged.
 */
int virtio_blk_release(struct virtio_blk *blk) must_check;
int virtio_blk_acquire(struct virtio_blk *blk) must_check;

/*
 * The image as it is now, for a saved VM's file; the device is paused. sync: what it wrote is on stable storage first
 * (blocks). -errno, logged.
 */
int virtio_blk_identify(struct virtio_blk *blk, bool sync, struct blk_identity *out) must_check;

/* For status; any thread. The texts live as long as the device. */
struct virtio_blk_info {
	const char *path, *serial;
	const char *engine; /* "io_uring" or "threads" */
	bool readonly, direct, locked;
	uint64_t size_bytes;
	uint32_t block_bytes;
	unsigned int nqueues, in_flight;
	uint64_t reads, read_bytes, writes, written_bytes, flushes, discards, errors;
};
void virtio_blk_get_info(struct virtio_blk *blk, struct virtio_blk_info *info);

/* What is saved of it beside what every virtio device has; for tests. */
extern const struct state_table *const virtio_blk_state_list;

#endif
