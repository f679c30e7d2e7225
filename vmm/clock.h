/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clock arithmetic: what a guest's clocks shall show after it was moved or restored. Pure functions of recorded values;
 * reading and setting clocks is the architecture's business.
 *
 * Migration: guest time advances by the time that really passed, never back. Restore: it goes on where it stopped.
 */
#ifndef VMM_CLOCK_H
#define VMM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

enum clock_mode { CLOCK_MIGRATE, CLOCK_RESTORE };

/* How far the guest's time moves on between the two wall-clock readings (of two hosts: now may be earlier). */
uint64_t clock_gap_ns(enum clock_mode mode, uint64_t saved_realtime_ns, uint64_t now_realtime_ns);

/* ticks of a counter of khz in ns, rounded down; saturates. */
uint64_t clock_ticks(uint64_t ns, uint32_t khz);

/* A counter's value (TSC) after the gap. Wraps as the counter does. */
uint64_t clock_counter_after(uint64_t counter, uint64_t gap_ns, uint32_t khz);

/*
 * The offset (guest counter minus host counter) on this host for a counter that had offset there, given one pair of
 * readings of guest clock and host counter on each host (KVM's documentation of KVM_VCPU_TSC_OFFSET).
 */
struct clock_pair {
	uint64_t guest_ns, host_counter;
};
uint64_t clock_offset_here(uint64_t offset_there, const struct clock_pair *there,
			   const struct clock_pair *here, uint32_t khz);

/* Whether a guest that was told khz may count at other_khz: within 250 parts per million, what a clock discipline absorbs. */
bool clock_khz_close(uint32_t khz, uint32_t other_khz);

#endif
