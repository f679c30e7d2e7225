/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk (virtio 1.2, 5.2) on top of virtio.h: one sector-granular request at a time. */
#ifndef GUEST_VIRTIO_BLK_H
#define GUEST_VIRTIO_BLK_H

#include "virtio.h"

#define SECTOR_SIZE 512u

enum virtio_blk_op { VIRTIO_BLK_READ = 0, VIRTIO_BLK_WRITE = 1, VIRTIO_BLK_FLUSH = 4 };

struct virtio_blk {
	struct virtio virtio;
	uint64_t capacity_512;
	bool can_flush;
	struct {
		uint32_t type, reserved;
		uint64_t sector_512;
	} header;
	volatile uint8_t status;
};

/* Disk number nth; false: there is none, or it does not start. */
bool virtio_blk_open(struct virtio_blk *blk, unsigned int nth);
/* data stays the caller's and untouched until virtio_blk_done(). */
void virtio_blk_submit(struct virtio_blk *blk, enum virtio_blk_op op, uint64_t sector_512,
		       void *data, uint32_t bytes);
/* *ok: the device's own status. */
bool virtio_blk_done(struct virtio_blk *blk, bool *ok);
/* Both, waiting at most 5 s. */
bool virtio_blk_do(struct virtio_blk *blk, enum virtio_blk_op op, uint64_t sector_512, void *data,
		   uint32_t bytes);

#endif
