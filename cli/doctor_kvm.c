// SPDX-License-Identifier: GPL-2.0-or-later
/* Doctor's checks of KVM: kvm/probe.c does, this file words it. */
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/doctor.h"
#include "kvm/probe.h"
#include "memory/dirty.h"

/*
 * Code that is this many times slower than other code does not run on the processor. (Emulation costs a factor of 1,000.
 * Under a software-emulated host, loops of the same kind differ by up to 30.)
 */
#define SLOWER_IS_EMULATED 100
#define HOST_TURNS	   20000000UL

static void could_not(struct doctor_result *result)
{
	doctor_note(result, DOCTOR_UNKNOWN, "%s", fail_text());
}

static void try_kvm(struct doctor_result *result)
{
	struct kvm_host host;

	if (kvm_host_open(&host, -1)) {
		doctor_note(result, DOCTOR_NO, "%s", fail_text());
		return;
	}
	doctor_note(result, DOCTOR_YES, "API version 12; up to %u vCPUs and %u memory slots",
		    host.max_vcpus, host.max_memslots);
	kvm_host_close(&host);
}

static void word_run(struct doctor_result *result, const char *where, const struct probe_run *run,
		     const char *than, double other)
{
	bool native = run->million_per_second * SLOWER_IS_EMULATED > other;

	if (run->finished)
		doctor_note(result, native ? DOCTOR_YES : DOCTOR_NO,
			    "%s runs %s (%.1f million loop turns a second, %s %.0f)", where,
			    native ? "natively" : "emulated", run->million_per_second, than, other);
	else if (run->error)
		doctor_note(result, DOCTOR_NO, "%s stops: %s", where, strerror(-run->error));
	else
		doctor_note(result, DOCTOR_NO, "%s stops with KVM exit %u%s", where,
			    run->exit_reason,
			    run->exit_reason == KVM_EXIT_INTERNAL_ERROR
				    ? ": KVM emulates it, and not every instruction"
				    : "");
}

#ifndef __aarch64__
/* The same loop as the probes' guests run, in this process. */
static double host_million_per_second(void)
{
	struct timespec from, to;
	unsigned long turns = HOST_TURNS;

	clock_gettime(CLOCK_MONOTONIC, &from);
	while (turns) {
		turns--;
		__asm__ volatile("" : "+r"(turns));
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	return HOST_TURNS / 1e6 /
	       ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
}

static void try_user_mode(struct doctor_result *result)
{
	struct probe_run run;

	if (kvm_probe_user_mode(&run))
		could_not(result);
	else
		word_run(result, "guest user mode", &run, "the host", host_million_per_second());
}
#endif

static void try_linux(struct doctor_result *result)
{
	struct probe_run kernel, user;

	if (kvm_probe_kernel_mode(&kernel) || kvm_probe_user_mode(&user))
		could_not(result);
	else
		word_run(result, "guest kernel mode", &kernel, "its user mode",
			 user.million_per_second);
}

static void try_ring(struct doctor_result *result)
{
	struct probe_ring ring;
	enum doctor_verdict verdict;

	if (kvm_probe_ring(&ring)) {
		could_not(result);
		return;
	}
	if (!ring.max_entries) {
		doctor_note(result, DOCTOR_NO, "not offered");
		return;
	}
	verdict = ring.acq_rel && ring.full_exit && ring.harvested == ring.written ? DOCTOR_YES
										   : DOCTOR_PARTLY;
	doctor_note(result, verdict,
		    "up to %u entries a vCPU%s; %u of %u written pages reported, %s",
		    ring.max_entries, ring.acq_rel ? "" : ", without acquire/release ordering",
		    ring.harvested, ring.written,
		    ring.full_exit ? "a full ring exits" : "no exit when full");
}

static void try_ring_bitmap(struct doctor_result *result)
{
	struct probe_ring ring;

	if (kvm_probe_ring(&ring))
		could_not(result);
	else if (ring.with_bitmap)
		doctor_note(result, DOCTOR_YES, "can be enabled beside the ring");
#ifdef __aarch64__
	else
		doctor_note(result, DOCTOR_NO, "not offered");
#else
	else
		doctor_note(result, DOCTOR_YES,
			    "not needed: on x86 every write that KVM logs has a vCPU");
#endif
}

static void try_bitmap(struct doctor_result *result)
{
	struct probe_bitmap bitmap;

	if (kvm_probe_bitmap(&bitmap)) {
		could_not(result);
		return;
	}
	doctor_note(result,
		    bitmap.harvested != bitmap.written || !bitmap.reprotects ? DOCTOR_NO
		    : bitmap.manual_protect				     ? DOCTOR_YES
									     : DOCTOR_PARTLY,
		    "%u of %u written pages reported%s; manual protection %s", bitmap.harvested,
		    bitmap.written,
		    bitmap.reprotects ? ", and again after a clear"
				      : ", but not again after a clear",
		    bitmap.manual_protect ? "works" : "is not offered");
}

static void try_choice(struct doctor_result *result)
{
	struct dirty_request request = {.mode = DIRTY_AUTO};
	struct dirty_choice choice;
	struct kvm_host host;
	bool has_its = false;

#ifdef __aarch64__
	has_its = true;
#endif
	if (kvm_host_open(&host, -1) || dirty_choose(&host, &request, has_its, &choice)) {
		could_not(result);
		return;
	}
	if (choice.mode == DIRTY_RING)
		doctor_note(result, DOCTOR_YES, "auto takes the ring, %u entries a vCPU%s: %s",
			    choice.ring_entries, choice.ring_bitmap ? ", with bitmap" : "",
			    choice.reason);
	else
		doctor_note(result, DOCTOR_YES, "auto takes the bitmap: %s", choice.reason);
	kvm_host_close(&host);
}

static void try_userfault(struct doctor_result *result)
{
	struct probe_userfault probe;

	if (kvm_probe_userfault(&probe))
		could_not(result);
	else if (!probe.slot_accepted)
		doctor_note(result, DOCTOR_NO, "KVM refuses the memory slot flag");
	else if (probe.exits && probe.resumes)
		doctor_note(result, DOCTOR_YES,
			    "a marked page exits, and runs on when its bit is cleared");
	else
		doctor_note(result, DOCTOR_NO, "the flag is accepted but a marked page %s",
			    probe.exits ? "does not run on with its bit cleared" : "does not exit");
}

static void try_guest_memfd(struct doctor_result *result)
{
	struct probe_guest_memfd probe;

	if (kvm_probe_guest_memfd(&probe)) {
		could_not(result);
		return;
	}
	doctor_note(result, probe.ordinary ? DOCTOR_YES : DOCTOR_NO,
		    "%s for ordinary VMs; %s for software-protected ones",
		    probe.ordinary ? "works" : "not offered",
		    probe.protected_vm ? "works" : "not offered");
}

/* clang-format off */
const struct doctor_check doctor_kvm_checks[] = {
	{"kvm", try_kvm, "no VM can be run here",
	 "load kvm_intel or kvm_amd, switch virtualization on in the firmware, and let the user open /dev/kvm (group kvm)"},
	{"linux-guests", try_linux, "runs bare-metal guests that stay in user mode; Linux guests only inside the lab (lab/run)",
	 "a physical machine, or a virtual one with nested virtualization"},
#ifndef __aarch64__ /* there the one mode that is tried is the kernel's */
	{"user-mode", try_user_mode, "guests run slowly", NULL},
#endif
	{"dirty-ring", try_ring, "follows written pages by bitmap", "Linux 5.19 or newer on x86, 6.1 or newer on arm64"},
	{"ring-with-bitmap", try_ring_bitmap, "with an ITS, follows written pages by bitmap", "Linux 6.2 or newer"},
	{"dirty-bitmap", try_bitmap, "pages are protected again all at once, which stalls the guest", "Linux 5.0 or newer"},
	{"dirty-tracking", try_choice, NULL, NULL},
	{"kvm-userfault", try_userfault, "post-copy by userfaultfd: each fault goes through another thread",
	 "a kernel with the companion patches (kernel/README.md)"},
	{"guest-memfd", try_guest_memfd, "guest memory is an ordinary memfd (as it is everywhere today)", NULL},
	{NULL},
};
/* clang-format on */
