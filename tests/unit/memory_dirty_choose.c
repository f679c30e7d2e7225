// SPDX-License-Identifier: GPL-2.0-or-later
/* memory/dirty_choose: every kind of host, every request, with and without an ITS. */
#include <errno.h>
#include <glib.h>

#include "memory/dirty.h"

/* What kernels offer, by name. */
static const struct kvm_host none = {.manual_protect = 3};
static const struct kvm_host ancient = {};
static const struct kvm_host plain_ring = {.ring_max_bytes = 1 << 20, .manual_protect = 3};
static const struct kvm_host ring = {
	.ring_max_bytes = 1 << 20, .ring_acq_rel = true, .manual_protect = 3};
static const struct kvm_host ring_bitmap = {.ring_max_bytes = 1 << 20,
					    .ring_acq_rel = true,
					    .ring_with_bitmap = true,
					    .manual_protect = 3};

static const struct {
	const struct kvm_host *host;
	enum dirty_mode ask;
	bool its;
	int error;
	enum dirty_mode mode;
	bool bitmap_too, manual;
} cases[] = {
	{&none, DIRTY_AUTO, false, 0, DIRTY_BITMAP, false, true},
	{&ancient, DIRTY_AUTO, false, 0, DIRTY_BITMAP, false, false},
	{&none, DIRTY_RING, false, -ENOTSUP},
	{&plain_ring, DIRTY_AUTO, false, 0, DIRTY_BITMAP, false, true},
	{&plain_ring, DIRTY_RING, false, -ENOTSUP},
	{&ring, DIRTY_AUTO, false, 0, DIRTY_RING, false, false},
	{&ring, DIRTY_AUTO, true, 0, DIRTY_BITMAP, false, true},
	{&ring, DIRTY_RING, true, -ENOTSUP},
	{&ring, DIRTY_BITMAP, false, 0, DIRTY_BITMAP, false, true},
	{&ring_bitmap, DIRTY_AUTO, true, 0, DIRTY_RING, true, false},
	{&ring_bitmap, DIRTY_AUTO, false, 0, DIRTY_RING, false, false},
	{&ring_bitmap, DIRTY_RING, true, 0, DIRTY_RING, true, false},
	{&ring_bitmap, DIRTY_BITMAP, true, 0, DIRTY_BITMAP, false, true},
};

static void test_cases(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct dirty_request request = {.mode = cases[i].ask};
		struct dirty_choice choice;

		g_test_message("case %zu", i);
		g_assert_cmpint(dirty_choose(cases[i].host, &request, cases[i].its, &choice), ==,
				cases[i].error);
		if (cases[i].error)
			continue;
		g_assert_cmpint(choice.mode, ==, cases[i].mode);
		g_assert_cmpint(choice.ring_bitmap, ==, cases[i].bitmap_too);
		g_assert_cmpint(choice.manual_protect, ==, cases[i].manual);
		g_assert_cmpuint(choice.ring_entries, ==, cases[i].mode == DIRTY_RING ? 65536 : 0);
		g_assert_cmpint(choice.reason[0], !=, 0);
	}
}

static void test_entries(void)
{
	struct dirty_request request = {.mode = DIRTY_RING, .ring_entries = 4096};
	struct kvm_host small = ring;
	struct dirty_choice choice;

	g_assert_cmpint(dirty_choose(&ring, &request, false, &choice), ==, 0);
	g_assert_cmpuint(choice.ring_entries, ==, 4096);
	small.ring_max_bytes = 32768 * 16;
	request.ring_entries = 0;
	g_assert_cmpint(dirty_choose(&small, &request, false, &choice), ==, 0);
	g_assert_cmpuint(choice.ring_entries, ==, 32768);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory/dirty-choose/cases", test_cases);
	g_test_add_func("/memory/dirty-choose/entries", test_entries);
	return g_test_run();
}
