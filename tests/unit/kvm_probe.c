// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kvm/probe on this host's KVM: what every kind of host does must be found so, and probes of what may be missing answer
 * without an error and leave nothing open. SKIP without /dev/kvm.
 */
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "kvm/probe.h"

static bool no_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return false;
	g_test_skip("/dev/kvm cannot be opened");
	return true;
}

static unsigned int open_fds(void)
{
	GDir *directory = g_dir_open("/proc/self/fd", 0, NULL);
	unsigned int n = 0;

	while (g_dir_read_name(directory))
		n++;
	g_dir_close(directory);
	return n;
}

static void test_modes(void)
{
	struct probe_run run;

	if (no_kvm())
		return;
	g_assert_cmpint(kvm_probe_user_mode(&run), ==, 0);
	g_assert_true(run.finished);
	g_assert_cmpfloat(run.million_per_second, >, 1);
	g_assert_cmpint(kvm_probe_kernel_mode(&run), ==, 0);
	/* Both kinds of host are right; but one of the two it is. */
	g_assert_true(run.finished || run.exit_reason != 0 || run.error != 0);
}

static void test_ring(void)
{
	struct probe_ring ring;

	if (no_kvm())
		return;
	g_assert_cmpint(kvm_probe_ring(&ring), ==, 0);
	if (!ring.max_entries) {
		g_test_skip("no dirty ring here");
		return;
	}
	g_assert_cmpuint(ring.max_entries & (ring.max_entries - 1), ==, 0);
	g_assert_cmpuint(ring.harvested, ==, ring.written);
	g_assert_true(ring.full_exit); /* twice as many pages as entries */
}

static void test_bitmap(void)
{
	struct probe_bitmap bitmap;

	if (no_kvm())
		return;
	g_assert_cmpint(kvm_probe_bitmap(&bitmap), ==, 0);
	g_assert_cmpuint(bitmap.harvested, ==, bitmap.written);
	g_assert_true(bitmap.reprotects);
}

static void test_others_answer(void)
{
	struct probe_fact facts[KVM_PROBE_FACTS_MAX];
	struct probe_userfault userfault;
	struct probe_guest_memfd memfd;
	unsigned int n = 0, before = open_fds();

	if (no_kvm())
		return;
	g_assert_cmpint(kvm_probe_userfault(&userfault), ==, 0);
	/* All of it or none: a kernel that takes the flag and does not exit would lose pages. */
	g_assert_true(userfault.slot_accepted == userfault.exits &&
		      userfault.exits == userfault.resumes);
	g_assert_cmpint(kvm_probe_guest_memfd(&memfd), ==, 0);
	g_assert_cmpint(kvm_probe_arch_facts(facts), ==, 0);
	while (n < KVM_PROBE_FACTS_MAX && facts[n].name) {
		g_assert_cmpuint(strlen(facts[n].detail), >, 0);
		n++;
	}
	g_assert_cmpuint(n, >, 0);
	g_assert_cmpuint(n, <, KVM_PROBE_FACTS_MAX);
	g_assert_cmpuint(open_fds(), ==, before);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/probe/modes", test_modes);
	g_test_add_func("/probe/ring", test_ring);
	g_test_add_func("/probe/bitmap", test_bitmap);
	g_test_add_func("/probe/others-answer", test_others_answer);
	return g_test_run();
}
