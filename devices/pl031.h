/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arm PrimeCell real-time clock (PL031, DDI 0224): seconds since 1970 at the host's wall time plus what the guest set.
 * The alarm's interrupt line is not wired (the device tree states no interrupt); its status registers work.
 */
#ifndef DEVICES_PL031_H
#define DEVICES_PL031_H

#include "devices/bus.h"
#include "devices/device.h"
#include "devices/wall_clock.h"

#define PL031_WINDOW_BYTES 4096

struct pl031;

/* clock NULL: the host's. */
int pl031_new(struct pl031 **out, const char *id, wall_clock_fn *clock, void *opaque) must_check;
struct device *pl031_device(struct pl031 *pl031);
extern const struct bus_ops pl031_bus_ops; /* opaque: struct pl031 */

#endif
