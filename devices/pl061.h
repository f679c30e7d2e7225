/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arm PrimeCell GPIO (PL061, DDI 0190): eight input lines with edge and level interrupts. It exists for the power key
 * of arm64 machines without ACPI (gpio-keys in the device tree): PL061_POWER_KEY goes high for PL061_PRESS_MS.
 */
#ifndef DEVICES_PL061_H
#define DEVICES_PL061_H

#include "base/loop.h"
#include "devices/bus.h"
#include "devices/device.h"

#define PL061_WINDOW_BYTES 4096
#define PL061_POWER_KEY	   3
#define PL061_PRESS_MS	   100

struct pl061;

/* irq: the eventfd of a wired, edge-triggered line. loop runs the key's release. */
int pl061_new(struct pl061 **out, struct loop *loop, const char *id, int irq) must_check;
struct device *pl061_device(struct pl061 *pl061);
extern const struct bus_ops pl061_bus_ops; /* opaque: struct pl061 */

/* The level of an input line, any thread. */
void pl061_set_line(struct pl061 *pl061, unsigned int line, bool high);
/* Presses the line's key and lets go after PL061_PRESS_MS. The loop's thread. */
void pl061_press(struct pl061 *pl061, unsigned int line);

#endif
