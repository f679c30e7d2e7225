// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * migration/policy: played against guests that are a formula: how many pages are written in how many microseconds. The
 * player sends rounds as a migration would, asks after each, and says how it ended.
 */
#include <glib.h>
#include <string.h>

#include "migration/policy.h"

#define MS 1000ULL
#define S  1000000ULL
#define GB 1000000000ULL
/* Bytes a second: measured 80 pages a millisecond, of which 70 are promised, and 40 after the first round. */
#define RATE (80 * 4096 * 1000ULL)

struct trace {
	/* The guest: writes at random (pages a second, while it writes) in a working set. */
	double pages_per_s;
	uint64_t working_set;
	uint64_t burst_us, idle_us; /* alternating, writing first; idle 0: always writing */
	double noise;		    /* of each round's harvest, plus or minus that part */
	/* The link. */
	uint64_t rate;		 /* bytes a second */
	double rate_per_round;	 /* what it is multiplied with from round to round; 0: 1 */
	uint64_t round_extra_us; /* of a round, besides its pages */
	/* What is asked. */
	uint64_t ram_pages, fixed_us, max_downtime_us, deadline_us;
	bool force;
};

struct ending {
	enum policy_verdict verdict;
	bool forced;
	uint32_t rounds;
	uint64_t elapsed_us, downtime_us;
	char text[POLICY_TEXT_BYTES];
};

/* A round that was sent at the rate that is known last. */
static void add_round(struct policy_input *in, uint64_t dirty_pages, uint64_t round_us)
{
	policy_history_add(&in->history, &(struct policy_round){.dirty_pages = dirty_pages,
								.round_us = round_us,
								.send_rate = in->send_rate});
}

/* Of the interval from..to, how long the guest writes. */
static double writing_us(const struct trace *t, uint64_t from, uint64_t to)
{
	const uint64_t period = t->burst_us + t->idle_us;
	uint64_t sum = 0;

	if (!t->idle_us)
		return to - from;
	for (uint64_t start = from - from % period; start < to; start += period) {
		const uint64_t a = MAX(from, start), b = MIN(to, start + t->burst_us);

		sum += b > a ? b - a : 0;
	}
	return sum;
}

/* e^-x, well enough. */
static double exp_minus(double x)
{
	double y = x < 1024 ? 1 - x / 1024 : 0;

	for (int i = 0; i < 10; i++)
		y *= y;
	return y;
}

static uint64_t pages_written(const struct trace *t, uint64_t from, uint64_t to)
{
	const double writes = t->pages_per_s * writing_us(t, from, to) / 1e6;

	return t->working_set ? t->working_set * (1 - exp_minus(writes / t->working_set)) : 0;
}

static void play(const struct trace *t, struct ending *end)
{
	struct policy_input in = {.page_bytes = 4096,
				  .fixed_us = t->fixed_us,
				  .max_downtime_us = t->max_downtime_us,
				  .deadline_us = t->deadline_us,
				  .force = t->force};
	uint64_t now = 0, rest = t->ram_pages;
	double rate = t->rate;
	g_autoptr(GRand) rand = g_rand_new_with_seed(7);
	struct policy_output out;

	for (in.round = 0; in.round < 100000; in.round++) {
		const uint64_t length = rest * 4096 * 1e6 / rate + t->round_extra_us;

		rest = pages_written(t, now, now + length) *
		       (1 + g_rand_double_range(rand, -1, 1) * t->noise);
		now += length;
		in.elapsed_us = now;
		in.dirty_pages = rest;
		in.send_rate = rate;
		add_round(&in, rest, length);
		policy_decide(&in, &out);
		g_assert_cmpuint(strlen(out.text), >, 0);
		if (out.verdict == POLICY_STOP && !out.forced)
			g_assert_cmpuint(out.downtime_us, <=, t->max_downtime_us);
		if (out.verdict != POLICY_CONTINUE)
			break;
		rate *= t->rate_per_round ? t->rate_per_round : 1;
	}
	*end = (struct ending){.verdict = out.verdict,
			       .forced = out.forced,
			       .rounds = in.round + 1,
			       .elapsed_us = now,
			       .downtime_us = out.downtime_us};
	memcpy(end->text, out.text, sizeof(out.text));
	g_test_message("%s after %u rounds, %.3f s: %s", policy_verdict_name(end->verdict),
		       end->rounds, now / 1e6, end->text);
}

static void test_idle(void)
{
	const struct trace t = {
		.rate = GB, .ram_pages = 262144, .fixed_us = 3 * MS, .max_downtime_us = 30 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(end.rounds, ==, 1);
	g_assert_cmpuint(end.downtime_us, ==, 3 * MS);
}

/* Below the send rate (244,000 pages/s): converges in a few rounds, with and without noise. */
static void test_busy_converges(void)
{
	struct trace t = {.pages_per_s = 190000,
			  .working_set = 16384,
			  .rate = GB,
			  .ram_pages = 262144,
			  .fixed_us = 3 * MS,
			  .round_extra_us = 1 * MS,
			  .max_downtime_us = 30 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(end.rounds, <=, 6);
	t.noise = 0.3;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(end.rounds, <=, 12);
}

/* A downtime so short that the rest must shrink slowly for many rounds: patience is right as long as it does. */
static void test_slow_convergence(void)
{
	const struct trace t = {.pages_per_s = 230000,
				.working_set = 262144,
				.rate = GB,
				.ram_pages = 1048576,
				.fixed_us = 1 * MS,
				.max_downtime_us = 30 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(end.rounds, >, 12);
}

/* Writes over 1 GiB faster than any link: said with both rates, within seconds and not after one round. */
static void test_unlimited(void)
{
	struct trace t = {.pages_per_s = 2e6,
			  .working_set = 262144,
			  .rate = GB,
			  .ram_pages = 524288,
			  .fixed_us = 3 * MS,
			  .max_downtime_us = 30 * MS};
	struct ending end;

	for (t.noise = 0; t.noise < 0.35; t.noise += 0.1) {
		play(&t, &end);
		g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
		g_assert_cmpuint(end.rounds, >=, POLICY_STALL_ROUNDS + 1);
		g_assert_cmpuint(end.rounds, <=, 16);
		g_assert_nonnull(strstr(end.text, "dirty rate"));
		g_assert_nonnull(strstr(end.text, "send rate 1000.0 MB/s"));
	}
}

/* A small working set gives short rounds: time decides too. */
static void test_unlimited_small(void)
{
	const struct trace t = {.pages_per_s = 5e6,
				.working_set = 16384,
				.rate = GB,
				.ram_pages = 262144,
				.fixed_us = 3 * MS,
				.max_downtime_us = 30 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
	g_assert_cmpuint(end.elapsed_us, >=, POLICY_STALL_US);
	g_assert_cmpuint(end.elapsed_us, <=, 5 * S);
}

/* Bursts of a second in which nothing converges are waited out; the pause in between is used. */
static void test_bursty(void)
{
	const struct trace t = {.pages_per_s = 5e6,
				.working_set = 65536,
				.burst_us = 1500 * MS,
				.idle_us = 1000 * MS,
				.rate = GB,
				.ram_pages = 131072,
				.fixed_us = 3 * MS,
				.max_downtime_us = 30 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(end.rounds, >, 3);
}

/* The link becomes slower: what converged does not any more, and the stop uses the rate as it is now. */
static void test_send_rate_falls(void)
{
	struct trace t = {.pages_per_s = 100000,
			  .working_set = 131072,
			  .rate = GB,
			  .rate_per_round = 0.7,
			  .ram_pages = 1048576,
			  .fixed_us = 3 * MS,
			  .max_downtime_us = 10 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
	t.rate_per_round = 1;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
}

/* 50 ms round trip, 100 Mbit/s: converges if the downtime has room for the round trips, and says why not otherwise. */
static void test_wan(void)
{
	struct trace t = {.pages_per_s = 1000,
			  .working_set = 131072,
			  .rate = 12500000,
			  .round_extra_us = 60 * MS,
			  .ram_pages = 262144,
			  .fixed_us = 160 * MS,
			  .max_downtime_us = 250 * MS};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	t.max_downtime_us = 30 * MS;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
	g_assert_nonnull(strstr(end.text, "costs 160.0 ms"));
	/* It fits but for what the guest writes while a round makes its round trip. */
	t.max_downtime_us = 170 * MS;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
}

/* With a deadline nothing is given up before it; after it force decides. */
static void test_deadline(void)
{
	struct trace t = {.pages_per_s = 2e6,
			  .working_set = 262144,
			  .rate = GB,
			  .ram_pages = 524288,
			  .fixed_us = 3 * MS,
			  .max_downtime_us = 30 * MS,
			  .deadline_us = 60 * S};
	struct ending end;

	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_GIVE_UP);
	g_assert_cmpuint(end.elapsed_us, >=, 60 * S);
	g_assert_cmpuint(end.elapsed_us, <, 63 * S);
	g_assert_nonnull(strstr(end.text, "deadline of 60.0 s"));

	t.force = true;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_true(end.forced);
	g_assert_cmpuint(end.elapsed_us, >=, 60 * S);
	g_assert_cmpuint(end.downtime_us, >, 900 * MS);

	/* Force changes nothing for a guest that converges. */
	t.pages_per_s = 100000;
	play(&t, &end);
	g_assert_cmpint(end.verdict, ==, POLICY_STOP);
	g_assert_false(end.forced);
}

static void test_rate_not_known(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .dirty_pages = 1,
				  .fixed_us = 5 * MS,
				  .max_downtime_us = 30 * MS};
	struct policy_output out;

	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	g_assert_cmpuint(out.downtime_us, ==, UINT64_MAX);
	in.dirty_pages = 0;
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(out.downtime_us, ==, 5 * MS);
	in.fixed_us = 31 * MS; /* never above the maximum, even with nothing to send */
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
}

static void test_exact(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .round = 1,
				  .dirty_pages = 700,
				  .send_rate = RATE,
				  .fixed_us = 20 * MS,
				  .max_downtime_us = 30 * MS};
	struct policy_output out;

	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	g_assert_cmpuint(out.downtime_us, ==, 30 * MS);
	in.dirty_pages++;
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	in.dirty_pages--;
	in.surplus_pages = 1; /* seen in a switch-over that was taken back */
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
}

/* A promise is kept at the slowest of the last rounds, less an eighth; after the first round at half of its rate. */
static void test_rate_wavers(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .dirty_pages = 1400,
				  .send_rate = RATE / 2,
				  .max_downtime_us = 60 * MS};
	struct policy_output out;

	add_round(&in, 1400, 40 * MS);
	policy_decide(&in, &out);
	g_assert_cmpuint(out.downtime_us, ==, 70 * MS);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	in.send_rate = RATE;
	for (in.round = 1; in.round < POLICY_RATE_ROUNDS; in.round++) {
		add_round(&in, 1400, 20 * MS);
		policy_decide(&in, &out);
		g_assert_cmpuint(out.downtime_us, ==, 40 * MS);
	}
	add_round(&in, 1400, 20 * MS);
	policy_decide(&in, &out);
	g_assert_cmpuint(out.downtime_us, ==, 20 * MS);
	/* Slower now than in any round before: that counts at once. */
	in.send_rate = RATE / 4;
	policy_after_pause(&in, false, &out);
	g_assert_cmpuint(out.downtime_us, ==, 80 * MS);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
}

/* Far below the maximum, and yet one more round makes the downtime a fraction: it is sent. One that would not is not. */
static void test_shorter(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .dirty_pages = 8000,
				  .send_rate = RATE,
				  .fixed_us = 2 * MS,
				  .max_downtime_us = 900 * MS};
	struct policy_output out;

	add_round(&in, 8000, 500 * MS); /* 16 pages a millisecond: a fifth */
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	g_assert_cmpuint(out.downtime_us, ==, 202 * MS);
	/* It became shorter. That the first round was slow counts for promises alone. */
	in.history.round[0].send_rate = RATE / 4;
	in.round = 1;
	in.dirty_pages = 1600;
	add_round(&in, 1600, 100 * MS);
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	/* Short enough. */
	in.dirty_pages = 240; /* 3 ms */
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	/* It did not hold: a small set that is written over and over. */
	in.dirty_pages = 7000;
	add_round(&in, 7000, 100 * MS);
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	/* The deadline is no time for more. */
	in.dirty_pages = 1000;
	in.deadline_us = 1;
	in.elapsed_us = 2;
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
}

static void test_huge_numbers(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .dirty_pages = UINT64_MAX,
				  .send_rate = 1,
				  .fixed_us = UINT64_MAX,
				  .max_downtime_us = 30 * MS,
				  .surplus_pages = UINT64_MAX};
	struct policy_output out;

	for (int i = 0; i < 20; i++)
		add_round(&in, UINT64_MAX, UINT64_MAX);
	g_assert_cmpuint(in.history.nrounds, ==, POLICY_ROUNDS);
	policy_decide(&in, &out);
	g_assert_cmpint(out.verdict, !=, POLICY_STOP);
	g_assert_cmpuint(out.downtime_us, ==, UINT64_MAX - 1);
	/* The longest text there can be is whole. */
	g_assert_cmpuint(strlen(out.text), <, sizeof(out.text) - 1);
}

static void test_after_pause(void)
{
	struct policy_input in = {.page_bytes = 4096,
				  .round = 1,
				  .dirty_pages = 700,
				  .send_rate = RATE,
				  .fixed_us = 20 * MS,
				  .max_downtime_us = 30 * MS};
	struct policy_output out;

	policy_after_pause(&in, false, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	in.dirty_pages = 770;
	policy_after_pause(&in, false, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
	g_assert_cmpuint(out.downtime_us, ==, 31 * MS);
	policy_after_pause(&in, true, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_STOP);
	g_assert_true(out.forced);
	in.send_rate = 0;
	policy_after_pause(&in, false, &out);
	g_assert_cmpint(out.verdict, ==, POLICY_CONTINUE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/idle", test_idle);
	g_test_add_func("/policy/busy-converges", test_busy_converges);
	g_test_add_func("/policy/slow-convergence", test_slow_convergence);
	g_test_add_func("/policy/unlimited", test_unlimited);
	g_test_add_func("/policy/unlimited-small", test_unlimited_small);
	g_test_add_func("/policy/bursty", test_bursty);
	g_test_add_func("/policy/send-rate-falls", test_send_rate_falls);
	g_test_add_func("/policy/rate-wavers", test_rate_wavers);
	g_test_add_func("/policy/wan", test_wan);
	g_test_add_func("/policy/deadline", test_deadline);
	g_test_add_func("/policy/rate-not-known", test_rate_not_known);
	g_test_add_func("/policy/exact", test_exact);
	g_test_add_func("/policy/shorter", test_shorter);
	g_test_add_func("/policy/huge-numbers", test_huge_numbers);
	g_test_add_func("/policy/after-pause", test_after_pause);
	return g_test_run();
}
