/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A polling driver for virtio-pci, modern interface (virtio 1.2, 4.1), with one split queue (2.7) that holds one request
 * at a time: no interrupts, no MSI-X. Enough to move data and small enough to be fuzzed around.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "guest.h"
#include "pci.h"

#define VIRTIO_QUEUE_SIZE 8

#define VIRTIO_ID_NET	1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_RNG	4

struct virtio_buffer {
	void *data;
	uint32_t length;
	bool device_writes;
};

struct virtio_ring; /* virtio.c: descriptors and rings in memory of our own */

struct virtio {
	unsigned int function; /* PCI */
	struct pci_bar bars[PCI_BARS];
	uint64_t common, notify, isr, device; /* addresses of the four structures */
	uint32_t notify_multiplier;
	uint64_t features; /* negotiated */
	struct virtio_ring *ring;
	uint64_t doorbell;
	uint16_t next_avail, seen_used;
};

/* The nth function with this device id, 0 ..; false: there are fewer. Enables it, nothing more. */
bool virtio_find(struct virtio *v, unsigned int device_id, unsigned int nth);
/* Any virtio function; *device_id is set. False: this one is none. */
bool virtio_probe(struct virtio *v, unsigned int function, unsigned int *device_id);

/* Reset, features (those of `wanted` that the device offers; VERSION_1 always), queue 0, DRIVER_OK. At most 4 devices. */
bool virtio_start(struct virtio *v, uint64_t wanted);

/* One request on queue 0; at most VIRTIO_QUEUE_SIZE buffers, none in flight. */
void virtio_submit(struct virtio *v, const struct virtio_buffer *buffers, unsigned int nbuffers);
/* Has it come back? *length: what the device says it wrote. */
bool virtio_done(struct virtio *v, uint32_t *length);

#endif
