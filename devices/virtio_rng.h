/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entropy device (virtio 1.2 section 5.4): one queue, no configuration, no features of its own.
 * Also the template for authors of virtio devices: see the top of virtio_rng.c.
 */
#ifndef DEVICES_VIRTIO_RNG_H
#define DEVICES_VIRTIO_RNG_H

#include "devices/virtio.h"

/* Main thread, while the machine is built. *out is for device_list_add(), which owns it then. Errors: virtio_init's. */
int virtio_rng_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot) must_check;

#endif
