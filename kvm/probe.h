/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What this host's KVM does, found out by doing it in scratch VMs with a few instructions of guest code. Each probe
 * makes and frees its own VM. None is bounded in time: whoever calls one does so in a process that may be killed.
 * Returns: 0 (the result is in what the arguments point to), or -errno of something that the probe itself needs.
 */
#ifndef KVM_PROBE_H
#define KVM_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "kvm/host.h"

/* How guest code ran. */
struct probe_run {
	bool finished;		   /* it did all that it should */
	uint32_t exit_reason;	   /* else: KVM's, */
	int error;		   /* or -errno of KVM_RUN */
	double million_per_second; /* loop turns */
};
/* A loop of guest user mode (x86: CPL3 in 64-bit mode; arm64: EL1, which is all there is to try). */
int kvm_probe_user_mode(struct probe_run *out) must_check;
/*
 * The same in guest kernel mode, after an instruction that a host that emulates guest kernel mode cannot do (x86:
 * cmpxchg16b at CPL0; arm64: as above).
 */
int kvm_probe_kernel_mode(struct probe_run *out) must_check;

struct probe_ring {
	uint32_t max_entries; /* the largest that a VM with a vCPU could be made with; 0: none */
	bool acq_rel;
	bool with_bitmap;	     /* arm64: could be enabled beside the ring */
	uint32_t written, harvested; /* pages a guest wrote, and entries found, in a small ring */
	bool full_exit;		     /* KVM_EXIT_DIRTY_RING_FULL was seen when it overflowed */
};
int kvm_probe_ring(struct probe_ring *out) must_check;

struct probe_bitmap {
	bool manual_protect;	     /* could be enabled */
	uint32_t written, harvested; /* pages a guest wrote, and bits found */
	bool reprotects;	     /* a page cleared and written again is found again */
};
int kvm_probe_bitmap(struct probe_bitmap *out) must_check;

struct probe_userfault {
	bool slot_accepted; /* the flag with a bitmap */
	bool exits;	    /* a write to a marked page exited with the flag and the address */
	bool resumes;	    /* with the bit cleared the write went through */
};
int kvm_probe_userfault(struct probe_userfault *out) must_check;

/* Whether a guest_memfd can be made for an ordinary VM (and for x86's software-protected kind). */
struct probe_guest_memfd {
	bool ordinary, protected_vm;
};
int kvm_probe_guest_memfd(struct probe_guest_memfd *out) must_check;

/* One fact that only one architecture has. */
struct probe_fact {
	const char *name; /* as doctor's row is called; NULL ends a list */
	bool good;
	char detail[120];
	const char *instead; /* what Tern does when it is not; NULL: nothing changes */
	const char *fix;
};
#define KVM_PROBE_FACTS_MAX 16
/* The architecture's own rows: fills at most KVM_PROBE_FACTS_MAX, ended by a NULL name. */
int kvm_probe_arch_facts(struct probe_fact facts[KVM_PROBE_FACTS_MAX]) must_check;

#endif
