/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What virtio.c, virtio_state.c and virtio_pci.c ask of each other; device authors use virtio.h. */
#ifndef DEVICES_VIRTIO_INTERNAL_H
#define DEVICES_VIRTIO_INTERNAL_H

#include "devices/virtio.h"

/* The bits of the status register that the driver may set. */
#define VIRTIO_STATUS_BY_DRIVER                                                       \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK | \
	 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

/* virtio_pci.c: the function with its BAR, capabilities and vectors, then visible to the guest. */
int virtio_pci_init(struct virtio *virtio, struct pci_host *host, unsigned int slot) must_check;

/* virtio_state.c: the device's save and load. */
int virtio_save(const struct device *device, struct buf *out) must_check;
int virtio_load(struct device *device, struct state_set *in) must_check;

/* virtio.c, lock held. What the guest's register writes mean. */
void virtio_write_status(struct virtio *virtio, uint8_t status);
void virtio_enable_queue(struct virtio *virtio, unsigned int queue);
void virtio_reset_queue(struct virtio *virtio, unsigned int queue);

#endif
