// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The counter that all of an arm64 guest's clocks come from: saved with the wall time, and set on the target so that it has
 * advanced by the real gap (migration) or not at all (restore). The arithmetic is clock.c's.
 * One counter serves the whole VM, and every write moves it: it is written once, through vCPU 0.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "vmm/arm64.h"

/* clang-format off */
#define CLOCK_STATE(T, F, A, V)			\
	F(T, 1, u64, frequency_hz)		\
	F(T, 2, u64, realtime_ns)		\
	F(T, 3, u64, virtual_count)		\
	F(T, 4, u64, physical_count)
STATE_STRUCT(arm64_clock, CLOCK_STATE);
STATE_TABLE(arm64_clock, 1, CLOCK_STATE);
/* clang-format on */

uint64_t arm64_counter_frequency(void)
{
	uint64_t hz;

	__asm__("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz;
}

static uint64_t realtime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

int arm64_clock_save(struct arch_vm *arch, struct buf *out)
{
	struct arm64_clock clock = {.frequency_hz = arm64_counter_frequency(),
				    .realtime_ns = realtime_ns()};
	int error = kvm_arm64_get_reg(arch->vcpu[0], KVM_REG_ARM_TIMER_CNT, &clock.virtual_count);

	if (!error)
		error = kvm_arm64_get_reg(arch->vcpu[0], KVM_REG_ARM_PTIMER_CNT,
					  &clock.physical_count);
	if (error)
		return fail(error, "machine: read the guest's counter: %s", strerror(-error));
	return state_save(&arm64_clock_table, 0, &clock, out);
}

int arm64_clock_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode)
{
	struct arm64_clock clock;
	uint64_t gap_ns, count;
	uint32_t khz;
	int error = state_load(in, &arm64_clock_table, 0, &clock);

	if (error)
		return error;
	/* Nothing can scale the counter for the guest: it was told this frequency. */
	if (clock.frequency_hz != arm64_counter_frequency())
		return fail(-ENOTSUP,
			    "machine: the guest's counter runs at %llu Hz, this host's at %llu",
			    (unsigned long long)clock.frequency_hz,
			    (unsigned long long)arm64_counter_frequency());
	khz = clock.frequency_hz / 1000;
	gap_ns = clock_gap_ns(mode, clock.realtime_ns, realtime_ns());
	count = clock_counter_after(clock.virtual_count, gap_ns, khz);
	error = kvm_arm64_set_reg(arch->vcpu[0], KVM_REG_ARM_TIMER_CNT, &count);
	if (error)
		return fail(error, "machine: set the guest's counter: %s", strerror(-error));
	count = clock_counter_after(clock.physical_count, gap_ns, khz);
	/* Kernels before 6.4 have no offset for the physical counter; Linux guests use the virtual one. */
	if (kvm_arm64_set_reg(arch->vcpu[0], KVM_REG_ARM_PTIMER_CNT, &count))
		log_warn("machine: this host cannot set the guest's physical counter");
	return 0;
}
