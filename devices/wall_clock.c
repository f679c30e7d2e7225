// SPDX-License-Identifier: GPL-2.0-or-later
/* The host's wall clock. What a guest makes of it is in its clock devices. */
#include "devices/wall_clock.h"

#include <time.h>

uint64_t wall_clock_host(void *opaque)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
