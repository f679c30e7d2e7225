// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's clocks on x86: each vCPU's TSC with its deadline timer, and kvmclock. The arithmetic is in clock.c.
 *
 * Theory of operation. Where KVM tells kvmclock, wall clock and host TSC of one moment (a stable host TSC: "paired"), a
 * TSC travels as its offset from the host's, and the offset on this host follows from one pair of readings on each
 * side; the time between reading a TSC and setting it does not count. Where it does not (no master clock), a TSC travels
 * as its value, and the gap measured by the wall clocks is added to it and to kvmclock. A host that cannot do the first
 * for a state that has it does the second: every state has both.
 *
 * All TSCs are set one right after the other, in the order of the vCPUs: KVM takes writes of nearly the same value for an
 * attempt to synchronise and makes them exactly the same.
 */
#include "vmm/x86_state.h"

#include <errno.h>
#include <time.h>

#include "base/log.h"
#include "kvm/uapi.h"
#include "vmm/clock.h"

#ifndef KVM_CLOCK_REALTIME
#define KVM_CLOCK_REALTIME (1 << 2)
#define KVM_CLOCK_HOST_TSC (1 << 3)
#endif
#define TSC_GROUP  0 /* KVM_VCPU_TSC_CTRL */
#define TSC_OFFSET 0 /* KVM_VCPU_TSC_OFFSET */

STATE_TABLE(x86_tsc, 1, X86_TSC);
STATE_TABLE(x86_clock, 1, X86_CLOCK);

const struct state_table *const x86_clock_tables[] = {&x86_tsc_table, &x86_clock_table, NULL};

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static bool has_offset(const struct kvm_vcpu *vcpu)
{
	return kvm_has_attr(vcpu->fd, TSC_GROUP, TSC_OFFSET);
}

int x86_tsc_khz_set(struct arch_vm *arch, uint32_t khz)
{
	if (khz == arch->tsc_khz)
		return 0;
	if (khz == 0)
		return fail(-EBADMSG, "x86: a TSC of 0 kHz");
	if (kvm_host_extension(arch->vm->host, KVM_CAP_TSC_CONTROL)) {
		for (unsigned int i = 0; i < arch->nvcpus; i++) {
			int error = kvm_x86_set_tsc_khz(arch->vcpu[i], khz);

			if (error)
				return error;
		}
	} else if (!clock_khz_close(khz, arch->tsc_khz)) {
		return fail(-ENOTSUP,
			    "x86: the guest's TSC counts %u kHz, this host's %u and it cannot be "
			    "scaled",
			    khz, arch->tsc_khz);
	}
	arch->tsc_khz = khz;
	return 0;
}

int x86_tsc_save(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out)
{
	struct x86_tsc state = {};
	int error = x86_msr_get(vcpu, X86_MSR_TSC, &state.tsc);

	if (!error)
		error = x86_msr_get(vcpu, X86_MSR_TSC_DEADLINE, &state.deadline);
	if (error == -ENOENT)
		error = 0; /* no such timer */
	if (!error && has_offset(vcpu))
		error = kvm_get_attr(vcpu->fd, TSC_GROUP, TSC_OFFSET, &state.offset);
	return error ? error : state_save(&x86_tsc_table, vcpu->index, &state, out);
}

int x86_tsc_load(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in)
{
	int error = state_load(in, &x86_tsc_table, vcpu->index, &arch->tsc[vcpu->index]);

	if (error)
		return error;
	/* A timer of before must not fire; the loaded one is armed when the TSC is true. */
	return x86_msr_set(vcpu, X86_MSR_TSC_DEADLINE, 0);
}

int x86_clock_save(const struct arch_vm *arch, struct buf *out)
{
	struct kvm_clock_data clock = {};
	struct x86_clock state = {};
	int error = kvm_vm_get_clock(arch->vm, &clock);

	if (error)
		return error;
	state.guest_ns = clock.clock;
	state.realtime_ns = realtime_ns();
	if (clock.flags & KVM_CLOCK_REALTIME && clock.flags & KVM_CLOCK_HOST_TSC &&
	    has_offset(arch->vcpu[0])) {
		state.realtime_ns = clock.realtime;
		state.host_tsc = clock.host_tsc;
		state.paired = 1;
	}
	return state_save(&x86_clock_table, 0, &state, out);
}

/* kvmclock; *here: its reading now, with the host's TSC if *paired. */
static int load_kvmclock(struct arch_vm *arch, const struct x86_clock *state, enum clock_mode mode,
			 struct clock_pair *here, bool *paired)
{
	struct kvm_clock_data clock = {.clock = state->guest_ns};
	int flags = kvm_host_extension(arch->vm->host, KVM_CAP_ADJUST_CLOCK);
	int error;

	if (mode == CLOCK_MIGRATE && flags & KVM_CLOCK_REALTIME && state->paired) {
		/* KVM adds what passed since, from one reading of its own clocks. */
		clock.flags = KVM_CLOCK_REALTIME;
		clock.realtime = state->realtime_ns;
	} else {
		clock.clock += clock_gap_ns(mode, state->realtime_ns, realtime_ns());
	}
	error = kvm_vm_set_clock(arch->vm, &clock);
	if (!error)
		error = kvm_vm_get_clock(arch->vm, &clock);
	*here = (struct clock_pair){.guest_ns = clock.clock, .host_counter = clock.host_tsc};
	*paired = clock.flags & KVM_CLOCK_HOST_TSC && state->paired && has_offset(arch->vcpu[0]);
	return error;
}

static int load_tsc(struct arch_vm *arch, unsigned int index, const struct x86_clock *state,
		    const struct clock_pair *here, bool paired)
{
	const struct x86_tsc *tsc = &arch->tsc[index];
	struct clock_pair there = {.guest_ns = state->guest_ns, .host_counter = state->host_tsc};
	uint64_t value;

	if (paired) {
		value = clock_offset_here(tsc->offset, &there, here, arch->tsc_khz);
		return kvm_set_attr(arch->vcpu[index]->fd, TSC_GROUP, TSC_OFFSET, &value);
	}
	value = clock_counter_after(tsc->tsc, here->guest_ns - state->guest_ns, arch->tsc_khz);
	return x86_msr_set(arch->vcpu[index], X86_MSR_TSC, value);
}

int x86_clock_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode)
{
	struct x86_clock state;
	struct clock_pair here;
	bool paired;
	int error = state_load(in, &x86_clock_table, 0, &state);

	if (!error)
		error = load_kvmclock(arch, &state, mode, &here, &paired);
	for (unsigned int i = 0; i < arch->nvcpus && !error; i++)
		error = load_tsc(arch, i, &state, &here, paired);
	for (unsigned int i = 0; i < arch->nvcpus && !error; i++) {
		if (arch->tsc[i].deadline)
			error = x86_msr_set(arch->vcpu[i], X86_MSR_TSC_DEADLINE,
					    arch->tsc[i].deadline);
	}
	return error;
}
