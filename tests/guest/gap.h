/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The time between two iterations of one vCPU's own loop: the downtime that counts, as the guest felt it.
 *
 * Each vCPU notes its own; the first one reads all of them for its reports (aligned words, read without a lock: a report
 * may be one iteration old).
 */
#ifndef GUEST_GAP_H
#define GUEST_GAP_H

#include "guest.h"

struct gap {
	uint64_t last;
	uint64_t longest;	   /* since gap_start(), ticks */
	uint64_t longest_end;	   /* when that one ended */
	uint64_t interval_longest; /* since the last report */
	uint64_t backwards;	   /* times that the counter went back: never, on a healthy VMM */
	uint64_t histogram[64];	   /* [n]: gaps of 2^n to 2^(n+1)-1 ticks */
};

static inline void gap_start(struct gap *g, uint64_t now)
{
	memset(g, 0, sizeof(*g));
	g->last = now;
}

static inline void gap_note(struct gap *g, uint64_t now)
{
	uint64_t gap = now - g->last;

	g->last = now;
	if ((int64_t)gap < 0) {
		g->backwards++;
		return;
	}
	g->histogram[63 - __builtin_clzl(gap | 1)]++;
	if (gap > g->interval_longest) {
		g->interval_longest = gap;
		if (gap > g->longest) {
			g->longest = gap;
			g->longest_end = now;
		}
	}
}

#endif
