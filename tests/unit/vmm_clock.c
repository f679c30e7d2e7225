// SPDX-License-Identifier: GPL-2.0-or-later
/* Clock arithmetic, on values as two hosts gave them and on the edges. */
#include "vmm/clock.h"

#include <glib.h>

#define KHZ 2596132

static void test_gap(void)
{
	g_assert_cmpuint(clock_gap_ns(CLOCK_MIGRATE, 1000, 1750), ==, 750);
	/* The other host's clock is behind: time stands still, it does not go back. */
	g_assert_cmpuint(clock_gap_ns(CLOCK_MIGRATE, 1750, 1000), ==, 0);
	g_assert_cmpuint(clock_gap_ns(CLOCK_MIGRATE, 5, 5), ==, 0);
	g_assert_cmpuint(clock_gap_ns(CLOCK_RESTORE, 1000, 1000000000000), ==, 0);
}

static void test_ticks(void)
{
	g_assert_cmpuint(clock_ticks(1000000, KHZ), ==, KHZ);
	g_assert_cmpuint(clock_ticks(0, KHZ), ==, 0);
	g_assert_cmpuint(clock_ticks(999999, 1), ==, 0);
	/* Ten years: the product does not fit into 64 bits, the result does. */
	g_assert_cmpuint(clock_ticks(315360000000000000ULL, KHZ), ==, 818716187520000000ULL);
	g_assert_cmpuint(clock_ticks(UINT64_MAX, UINT32_MAX), ==, UINT64_MAX);
}

static void test_counter(void)
{
	g_assert_cmpuint(clock_counter_after(100, 1000000, KHZ), ==, 100 + KHZ);
	g_assert_cmpuint(clock_counter_after(UINT64_MAX, 1000000, KHZ), ==, KHZ - 1);
}

/* What the guest reads just after: counter there, plus what its clock moved on between the two readings. */
static void check_offset(uint64_t offset_there, struct clock_pair there, struct clock_pair here)
{
	uint64_t guest_there = there.host_counter + offset_there;
	uint64_t offset = clock_offset_here(offset_there, &there, &here, KHZ);
	uint64_t guest_here = here.host_counter + offset;

	g_assert_cmpuint(guest_here - guest_there, ==,
			 clock_ticks(here.guest_ns - there.guest_ns, KHZ));
}

static void test_offset(void)
{
	/* A host that has been up for longer, one that has just come up, one gap, none. */
	check_offset(-500000000000ULL, (struct clock_pair){40000000000, 900000000000},
		     (struct clock_pair){40250000000, 7777777777777});
	check_offset(-500000000000ULL, (struct clock_pair){40000000000, 900000000000},
		     (struct clock_pair){40250000000, 1234567});
	check_offset(12345, (struct clock_pair){40000000000, 900000000000},
		     (struct clock_pair){40000000000, 900000000000});
}

static void test_offset_same_host_same_moment(void)
{
	struct clock_pair pair = {123456789, 987654321};

	g_assert_cmpuint(clock_offset_here(42, &pair, &pair, KHZ), ==, 42);
}

static void test_offset_never_jumps_when_clock_here_is_behind(void)
{
	/* The guest's clock was set a little behind there's reading: the counter goes with it. */
	struct clock_pair there = {2000000, 1000}, here = {1000000, 5000};
	uint64_t offset = clock_offset_here(100, &there, &here, KHZ);

	g_assert_cmpuint(here.host_counter + offset, ==, there.host_counter + 100 - KHZ);
}

static void test_close(void)
{
	g_assert_true(clock_khz_close(2000000, 2000000));
	g_assert_true(clock_khz_close(2000000, 2000500));
	g_assert_true(clock_khz_close(2000000, 1999500));
	g_assert_false(clock_khz_close(2000000, 2000501));
	g_assert_false(clock_khz_close(2000000, 1999499));
	g_assert_false(clock_khz_close(2000000, 0));
	g_assert_false(clock_khz_close(0, 1));
	g_assert_false(clock_khz_close(1, UINT32_MAX));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/clock/gap", test_gap);
	g_test_add_func("/clock/ticks", test_ticks);
	g_test_add_func("/clock/counter", test_counter);
	g_test_add_func("/clock/offset", test_offset);
	g_test_add_func("/clock/offset_same", test_offset_same_host_same_moment);
	g_test_add_func("/clock/offset_behind", test_offset_never_jumps_when_clock_here_is_behind);
	g_test_add_func("/clock/close", test_close);
	return g_test_run();
}
