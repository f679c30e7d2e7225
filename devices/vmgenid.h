/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VM generation ID: 16 bytes in guest RAM that change when the VM's past may have been replayed (a restore), and stay
 * over pause, reset and migration. Where it lies is the business of the tables that describe it (ACPI or device tree).
 */
#ifndef DEVICES_VMGENID_H
#define DEVICES_VMGENID_H

#include <stdint.h>

#include "devices/device.h"
#include "memory/ram.h"

#define VMGENID_BYTES 16
#define VMGENID_ALIGN 8

struct vmgenid;

/* notify: tells the guest that the id has changed (a GED event); NULL where nothing can. Main thread, all of these. */
int vmgenid_new(struct vmgenid **out, struct ram *ram, const char *id,
		const uint8_t guid[VMGENID_BYTES], void (*notify)(void *opaque),
		void *opaque) must_check;
struct device *vmgenid_device(struct vmgenid *vmgenid);

/*
 * Each time the tables have been written: the id lies at gpa (VMGENID_ALIGN) and is written there. -EFAULT: not RAM.
 */
int vmgenid_place(struct vmgenid *vmgenid, gpa_t gpa) must_check;
/* A restore: a new id in RAM, and the guest is notified. */
int vmgenid_renew(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_BYTES]) must_check;
const uint8_t *vmgenid_get(const struct vmgenid *vmgenid);

#endif
