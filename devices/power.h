/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power control for hardware-reduced ACPI (ACPI 6.5 sections 4.8.3.7, 4.8.3.6 and 5.6.9): sleep control and status,
 * reset, and the event register behind a Generic Event Device. Byte registers, port I/O or MMIO:
 *
 *	0  sleep control   write SLP_EN (0x20) | POWER_SLEEP_S5 << 2: power off
 *	1  sleep status    WAK_STS never sets: the VM is gone; writes are dropped
 *	2  reset	   write POWER_RESET_VALUE: reset
 *	3  zero
 *	4  events	   32 bits, read in one access: pending POWER_EVENT_*, cleared by that read; writes are dropped
 *
 * The GED's interrupt is one edge each time a bit is set. Its _EVT reads the register once and notifies each bit's
 * device: POWER_EVENT_BUTTON: 0x80 on the power button (PNP0C0C); POWER_EVENT_VMGENID: 0x80 on the VM generation id.
 */
#ifndef DEVICES_POWER_H
#define DEVICES_POWER_H

#include <stdint.h>

#include "devices/bus.h"
#include "devices/device.h"

#define POWER_WINDOW_BYTES  8
#define POWER_SLEEP_CONTROL 0
#define POWER_SLEEP_STATUS  1
#define POWER_RESET	    2
#define POWER_EVENTS	    4

#define POWER_SLEEP_S5	  5 /* the SLP_TYP that \_S5 states */
#define POWER_RESET_VALUE 1 /* the FADT's reset value */

#define POWER_EVENT_BUTTON  (1U << 0)
#define POWER_EVENT_VMGENID (1U << 1)

struct power;

/* The guest asks; called on the vCPU's thread with no lock held. */
struct power_host {
	void *opaque;
	void (*poweroff)(void *opaque);
	void (*reset)(void *opaque);
};

/* irq: the eventfd of a wired, edge-triggered line; it must outlive the device. */
int power_new(struct power **out, const char *id, int irq,
	      const struct power_host *host) must_check;
struct device *power_device(struct power *power);
extern const struct bus_ops power_bus_ops; /* opaque: struct power */

/* Any thread. Sets the event's bit and raises the interrupt; also while paused, then the guest learns of it on resume. */
void power_event(struct power *power, uint32_t event);

#endif
