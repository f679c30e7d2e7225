/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What virtio.c and virtio_pci.c ask of each other; device authors use virtio.h. */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include "devices/virtio.h"

/* virtio_pci.c: the function with its BAR, capabilities and vectors, then visible to the guest. */
int virtio_pci_init(struct virtio *virtio, struct pci_host *host, unsigned int slot) must_check;

/* virtio.c, lock held. What the guest's register writes mean. */
void virtio_write_status(struct virtio *virtio, uint8_t status);
void virtio_enable_queue(struct virtio *virtio, unsigned int queue);
void virtio_reset_queue(struct virtio *virtio, unsigned int queue);

#endif
