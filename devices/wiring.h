/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device needs from the machine around it, *given* to it at creation: how to reach interrupts and doorbells.
 * The machine backs these with kvm/irq.h; unit tests and fuzzers with arrays.
 */
#ifndef DEVICES_WIRING_H
#define DEVICES_WIRING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"

struct msi_message {
	uint64_t address;
	uint32_t data;
	uint32_t requester; /* PCI bus/device/function: the ITS's device id */
};

/* Any thread may call; the implementation locks inside. */
struct wiring {
	void *opaque;
	/* Reserves one MSI vector, delivered when eventfd is written; *handle names it. -ENOSPC. */
	int (*msi_open)(void *opaque, int eventfd, uint32_t *handle);
	void (*msi_close)(void *opaque, uint32_t handle);
	/* Connects it to a message; NULL disconnects (masked): writes then stay in the eventfd, unread. */
	int (*msi_set)(void *opaque, uint32_t handle, const struct msi_message *message);
	/* A guest write of len bytes (0: any) at that address signals eventfd with no exit. */
	int (*doorbell_add)(void *opaque, uint64_t gpa, uint32_t len, int eventfd);
	void (*doorbell_remove)(void *opaque, uint64_t gpa, uint32_t len, int eventfd);
};

/* A wired, edge-triggered interrupt is an eventfd that the machine has bound to a line: write 1 to raise it. */
void irq_raise(int eventfd);

#endif
