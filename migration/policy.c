// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The policy of pre-copy (policy.h): when to stop sending rounds. What is measured, and what is done about a verdict, is
 * the caller's.
 *
 * Theory of operation
 * -------------------
 * A round of R pages takes T = R / s + c: s is the send rate, c what a round costs besides its pages (harvest, round
 * trips). In that time the guest writes D(T) different pages, the next round's R. D grows with T, but less and less, since
 * pages are written again; at most to the working set. So R falls from round to round to the point where R = D(R / s + c):
 *   - to nearly nothing while the guest writes fewer pages than can be sent in the same time;
 *   - to about the working set when it writes as fast as, or faster than, pages are sent. D / T is then no larger than the
 *     send rate either, for each page counts once a round: *equal within noise* is what "too fast" looks like;
 *   - to D(c), where c is large (a long round trip) and what the guest writes in that time does not fit the downtime.
 * The first is waited for. The others are seen by the rest no longer becoming smaller, over rounds and over time, since a
 * burst looks the same for a while. Which of the two it is stands in the text, for the remedies differ.
 */
#include "migration/policy.h"

#include <stdio.h>
#include <string.h>

#include "base/auto.h"

typedef unsigned __int128 wide;

static uint64_t saturate(wide value)
{
	return value >= UINT64_MAX ? UINT64_MAX - 1 : (uint64_t)value;
}

void policy_history_add(struct policy_history *history, const struct policy_round *round)
{
	const uint64_t dirty_pages = round->dirty_pages;
	const bool first = history->nrounds == 0;

	if (history->nrounds == POLICY_ROUNDS) {
		memmove(history->round, history->round + 1,
			(POLICY_ROUNDS - 1) * sizeof(history->round[0]));
		history->nrounds--;
	}
	history->round[history->nrounds++] = *round;

	if (first || dirty_pages < history->least_pages - history->least_pages / 16) {
		history->least_pages = dirty_pages;
		history->stalled_rounds = 0;
		history->stalled_us = 0;
		return;
	}
	history->stalled_rounds++;
	history->stalled_us = saturate((wide)history->stalled_us + round->round_us);
}

/* Pages a second over all rounds in the history: one noisy round does not decide. */
static uint64_t history_dirty_rate(const struct policy_history *history)
{
	wide pages = 0, us = 0;

	for (unsigned int i = 0; i < history->nrounds; i++) {
		pages += history->round[i].dirty_pages;
		us += history->round[i].round_us;
	}
	return us ? saturate(pages * 1000000 / us) : 0;
}

/* The send rate that a promise is made with. */
static uint64_t careful_rate(const struct policy_input *in)
{
	const struct policy_history *history = &in->history;
	uint64_t slowest = in->send_rate;

	if (!in->round)
		return slowest / 2 + slowest % 2;
	for (unsigned int i = 1; i <= POLICY_RATE_ROUNDS && i <= history->nrounds; i++) {
		const uint64_t rate = history->round[history->nrounds - i].send_rate;

		if (rate && rate < slowest)
			slowest = rate;
	}
	return slowest - slowest / 8;
}

static uint64_t sent_in_us(const struct policy_input *in, uint64_t pages, uint64_t rate)
{
	return saturate((wide)pages * in->page_bytes * 1000000 / rate);
}

static uint64_t predict_downtime(const struct policy_input *in, uint64_t pages)
{
	const uint64_t rate = careful_rate(in);

	if (!pages)
		return saturate(in->fixed_us);
	if (!rate)
		return UINT64_MAX;
	return saturate((wide)sent_in_us(in, pages, rate) + in->fixed_us);
}

static bool is_stalled(const struct policy_history *history, uint32_t rounds, uint64_t us)
{
	return history->stalled_rounds >= rounds && history->stalled_us >= us;
}

/* "Nothing less in sight": fills the text and returns true when more rounds cannot bring the downtime under its maximum. */
static bool explain_stall(const struct policy_input *in, struct policy_output *out)
{
	const double page = in->page_bytes / 1e6, dirty = out->dirty_rate * page,
		     send = in->send_rate / 1e6;
	const struct policy_history *history = &in->history;

	if (!in->send_rate)
		return false;
	/* At or above, with a twentieth for noise. */
	if (dirty >= send * 0.95 && is_stalled(history, POLICY_STALL_ROUNDS, POLICY_STALL_US)) {
		snprintf(out->text, sizeof(out->text),
			 "the guest writes memory as fast as it can be sent or faster (dirty rate "
			 "%.1f MB/s, %llu pages/s; send rate %.1f MB/s): the rest has not shrunk "
			 "below "
			 "%.1f MB in %u rounds",
			 dirty, (unsigned long long)out->dirty_rate, send,
			 history->least_pages * page, history->stalled_rounds);
		return true;
	}
	if (is_stalled(history, POLICY_STUCK_ROUNDS, POLICY_STUCK_US)) {
		snprintf(out->text, sizeof(out->text),
			 "a switch-over costs %.1f ms besides the rest, which has not shrunk below "
			 "%.1f MB in %u rounds (dirty rate %.1f MB/s, %llu pages/s; send rate %.1f "
			 "MB/s): it does not fit the maximum downtime of %.1f ms",
			 in->fixed_us / 1e3, history->least_pages * page, history->stalled_rounds,
			 dirty, (unsigned long long)out->dirty_rate, send,
			 in->max_downtime_us / 1e3);
		return true;
	}
	return false;
}

static void explain_downtime(const struct policy_input *in, struct policy_output *out)
{
	const char *relation = out->downtime_us <= in->max_downtime_us ? "fits" : "is above";

	if (out->downtime_us == UINT64_MAX)
		snprintf(out->text, sizeof(out->text), "the send rate is not known yet");
	else
		snprintf(out->text, sizeof(out->text),
			 "expected downtime %.1f ms %s the maximum of %.1f ms",
			 out->downtime_us / 1e3, relation, in->max_downtime_us / 1e3);
}

/* Whether one more round is worth its bytes although the downtime fits already. A guess, not a promise: no margin. */
static bool gets_shorter(const struct policy_input *in, const struct policy_output *out)
{
	const struct policy_history *history = &in->history;
	uint64_t rest_us, next_us;

	if (!in->send_rate || in->round >= POLICY_SHORT_ROUNDS || !history->nrounds)
		return false;
	rest_us = sent_in_us(in, in->dirty_pages, in->send_rate);
	if (rest_us <= POLICY_SHORT_US)
		return false;
	if (history->nrounds > 1 &&
	    in->dirty_pages > history->round[history->nrounds - 2].dirty_pages / 4 * 3)
		return false;
	/* What is written while the rest is sent. A rate over a long round says too little of a small set that is written over and
	 * over; then the round after this one finds the rest as large as before, and is the last. */
	next_us =
		sent_in_us(in, saturate((wide)out->dirty_rate * rest_us / 1000000), in->send_rate);
	return next_us <= rest_us / 2;
}

static void decide_at_deadline(const struct policy_input *in, struct policy_output *out)
{
	char expected[64] = "not known";

	if (out->downtime_us != UINT64_MAX)
		snprintf(expected, sizeof(expected), "%.1f ms", out->downtime_us / 1e3);
	out->forced = in->force;
	out->verdict = in->force ? POLICY_STOP : POLICY_GIVE_UP;
	snprintf(out->text, sizeof(out->text),
		 "the deadline of %.1f s has passed; expected downtime %s, maximum %.1f ms (dirty "
		 "rate "
		 "%.1f MB/s, send rate %.1f MB/s)",
		 in->deadline_us / 1e6, expected, in->max_downtime_us / 1e3,
		 out->dirty_rate * (in->page_bytes / 1e6), in->send_rate / 1e6);
}

void policy_decide(const struct policy_input *in, struct policy_output *out)
{
	memset(out, 0, sizeof(*out));
	out->dirty_rate = history_dirty_rate(&in->history);
	out->downtime_us =
		predict_downtime(in, saturate((wide)in->dirty_pages + in->surplus_pages));

	if (out->downtime_us <= in->max_downtime_us) {
		out->verdict = (!in->deadline_us || in->elapsed_us < in->deadline_us) &&
					       gets_shorter(in, out)
				       ? POLICY_CONTINUE
				       : POLICY_STOP;
		explain_downtime(in, out);
	} else if (in->deadline_us && in->elapsed_us >= in->deadline_us) {
		decide_at_deadline(in, out);
	} else if (!in->deadline_us && explain_stall(in, out)) {
		out->verdict = POLICY_GIVE_UP;
	} else {
		out->verdict = POLICY_CONTINUE;
		explain_downtime(in, out);
	}
}

void policy_after_pause(const struct policy_input *in, bool forced, struct policy_output *out)
{
	memset(out, 0, sizeof(*out));
	out->dirty_rate = history_dirty_rate(&in->history);
	out->downtime_us = predict_downtime(in, in->dirty_pages);
	out->forced = forced && out->downtime_us > in->max_downtime_us;
	out->verdict = forced || out->downtime_us <= in->max_downtime_us ? POLICY_STOP
									 : POLICY_CONTINUE;
	explain_downtime(in, out);
}

static const char *const verdict_names[] = {
	[POLICY_CONTINUE] = "continue",
	[POLICY_STOP] = "stop",
	[POLICY_GIVE_UP] = "give up",
};
_Static_assert(ARRAY_SIZE(verdict_names) == POLICY_GIVE_UP + 1, "each verdict has a name");

const char *policy_verdict_name(enum policy_verdict verdict)
{
	return verdict_names[verdict];
}
