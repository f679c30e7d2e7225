/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When to stop sending rounds: a pure function from measurements to a verdict. No clock, no system call, no VM: the caller
 * measures, and keeps `struct policy_history` for it. Live migration and the live save of a snapshot ask it.
 *
 * Ask after each round's harvest, and during a round once the deadline has passed. Any thread.
 */
#ifndef MIGRATION_POLICY_H
#define MIGRATION_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* Rounds that are looked back on for the dirty rate. */
#define POLICY_ROUNDS 8
/*
 * A downtime is a promise. Of these rounds, those whose send rates are looked back on: the rest is expected to be sent
 * slower than in the slowest of them by an eighth, for the last pages come in smaller and smaller runs; and at half the rate
 * of the first round, which sent all pages in order, while no other is known.
 */
#define POLICY_RATE_ROUNDS 3
#define POLICY_TEXT_BYTES  320

/*
 * How long the rest may go without becoming meaningfully smaller (by a sixteenth of the smallest so far), before rounds
 * are taken not to help. Both must have passed: rounds, for a burst is over after a few of them; time, for some are short.
 */
#define POLICY_STALL_ROUNDS 4
#define POLICY_STALL_US	    2000000ULL
/* The same where the dirty rate is below the send rate, and the rest hangs on what a round costs besides its pages. */
#define POLICY_STUCK_ROUNDS 16
#define POLICY_STUCK_US	    20000000ULL

/*
 * A downtime below the maximum may still be made shorter: while it is above this, rounds go on as long as the next one
 * promises to halve it, and the last one made the rest smaller by a quarter at least.
 */
#define POLICY_SHORT_US	    3000ULL
#define POLICY_SHORT_ROUNDS 16 /* at most */

enum policy_verdict {
	POLICY_CONTINUE, /* send another round */
	POLICY_STOP,	 /* pause the guest and switch over */
	POLICY_GIVE_UP,	 /* rounds do not help; the VM runs on where it is */
};

struct policy_round {
	uint64_t dirty_pages; /* harvested after the round: what the guest wrote while it ran */
	uint64_t round_us;    /* harvest to harvest */
	uint64_t send_rate;   /* bytes a second while it was sent; 0: not known */
};

/* What the rounds of one migration were like; zeroed before the first. */
struct policy_history {
	unsigned int nrounds; /* in round[], oldest first */
	struct policy_round round[POLICY_ROUNDS];
	uint64_t least_pages;	 /* the smallest rest so far */
	uint32_t stalled_rounds; /* since it last became meaningfully smaller */
	uint64_t stalled_us;	 /* same */
};
/* One more round: once for each harvest but the one that begins tracking, before policy_decide(). */
void policy_history_add(struct policy_history *history, const struct policy_round *round);

struct policy_input {
	uint32_t round;	      /* the one that was just sent, from 0 */
	uint64_t dirty_pages; /* the rest: all that is still to be sent */
	uint64_t page_bytes;  /* 4096 */
	uint64_t send_rate;   /* bytes a second, measured over the last round; 0: not known */
	uint64_t
		fixed_us; /* of a switch-over with nothing left to send: pause, state, load, hand-over, round trips */
	uint64_t max_downtime_us;
	uint64_t elapsed_us;  /* since the migration began */
	uint64_t deadline_us; /* of the whole; 0: none */
	bool force;	      /* at the deadline: switch over, whatever the downtime */
	/* After a switch-over that policy_after_pause() took back: by how many pages its rest was larger than was measured
	 * before the pause. The largest so far; 0 at first. Without it the guest would be paused in vain again and again. */
	uint64_t surplus_pages;
	struct policy_history history;
};

struct policy_output {
	enum policy_verdict verdict;
	bool forced; /* STOP because of deadline and force: downtime_us may exceed the maximum */
	uint64_t downtime_us; /* if it switched over now; UINT64_MAX: not known */
	uint64_t dirty_rate;  /* pages a second over the rounds in history; 0: none yet */
	char text
		[POLICY_TEXT_BYTES]; /* why, without the verdict: "dirty rate ... is above send rate ..." */
};

void policy_decide(const struct policy_input *in, struct policy_output *out);
/*
 * After the pause and the final harvest: dirty_pages is the rest as it really is, fixed_us what is still to come plus the
 * time since the pause. STOP: go on with the switch-over. CONTINUE: let the guest run on and send more rounds; never
 * where `forced`, which policy_decide() gave with STOP.
 */
void policy_after_pause(const struct policy_input *in, bool forced, struct policy_output *out);

const char *policy_verdict_name(enum policy_verdict verdict);

#endif
