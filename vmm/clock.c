// SPDX-License-Identifier: GPL-2.0-or-later
/* Clock arithmetic; see clock.h. No system calls here. */
#include "vmm/clock.h"

#define NS_PER_TICK_KHZ 1000000 /* a counter of 1 kHz ticks once in so many ns */
#define PPM_LIMIT	250

uint64_t clock_gap_ns(enum clock_mode mode, uint64_t saved_realtime_ns, uint64_t now_realtime_ns)
{
	if (mode == CLOCK_RESTORE || now_realtime_ns <= saved_realtime_ns)
		return 0;
	return now_realtime_ns - saved_realtime_ns;
}

uint64_t clock_ticks(uint64_t ns, uint32_t khz)
{
	unsigned __int128 ticks = (unsigned __int128)ns * khz / NS_PER_TICK_KHZ;

	return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

uint64_t clock_counter_after(uint64_t counter, uint64_t gap_ns, uint32_t khz)
{
	return counter + clock_ticks(gap_ns, khz);
}

uint64_t clock_offset_here(uint64_t offset_there, const struct clock_pair *there,
			   const struct clock_pair *here, uint32_t khz)
{
	/* offset - (guest there - guest here) in ticks + (counter there - counter here), all modulo 2^64. */
	uint64_t ticks = here->guest_ns >= there->guest_ns
				 ? clock_ticks(here->guest_ns - there->guest_ns, khz)
				 : -clock_ticks(there->guest_ns - here->guest_ns, khz);

	return offset_there + ticks + there->host_counter - here->host_counter;
}

bool clock_khz_close(uint32_t khz, uint32_t other_khz)
{
	uint64_t apart = khz > other_khz ? khz - other_khz : other_khz - khz;

	return apart * 1000000 <= (uint64_t)khz * PPM_LIMIT;
}
