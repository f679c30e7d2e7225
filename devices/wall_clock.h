/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host's wall clock, as real-time clocks are given it: a function, so that tests have a clock of their own. */
#ifndef DEVICES_WALL_CLOCK_H
#define DEVICES_WALL_CLOCK_H

#include <stdint.h>

/* Microseconds since 1970, UTC. */
typedef uint64_t wall_clock_fn(void *opaque);

/* CLOCK_REALTIME. */
uint64_t wall_clock_host(void *opaque);

#endif
