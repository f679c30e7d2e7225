/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PC's real-time clock and CMOS memory (MC146818A): index and data port, 0x70 and 0x71. Tells the host's wall
 * time, UTC; a guest that sets the clock moves its own offset. No alarm, periodic or update interrupts.
 */
#ifndef DEVICES_CMOS_H
#define DEVICES_CMOS_H

#include <stdint.h>

#include "devices/bus.h"
#include "devices/device.h"
#include "devices/wall_clock.h"

#define CMOS_PORT	  0x70
#define CMOS_WINDOW_BYTES 2
#define CMOS_CENTURY	  0x32 /* the register that the FADT's century field names */

struct cmos;

/* clock NULL: the host's. */
int cmos_new(struct cmos **out, const char *id, wall_clock_fn *clock, void *opaque) must_check;
struct device *cmos_device(struct cmos *cmos);
extern const struct bus_ops cmos_bus_ops; /* opaque: struct cmos */

#endif
