// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How fast the TSC runs. In this order: `tsc_khz=` on the command line; kvmclock's scale, which KVM keeps exact; and the
 * local APIC timer, which under KVM counts nanoseconds. `clock=NAME` takes one of them alone. The CPUID leaves that say
 * it are not asked: x86_inline.h says why.
 */
#include "x86_boot.h"

#define LAPIC_SVR	  0xf0
#define LAPIC_LVT_TIMER	  0x320
#define LAPIC_TIMER_START 0x380
#define LAPIC_TIMER_NOW	  0x390
#define LAPIC_TIMER_DIV	  0x3e0
#define LAPIC_DIV_1	  0xb
#define LAPIC_MASKED	  0x10000
#define LAPIC_GHZ_KHZ	  1000000

/* KVM's struct pvclock_vcpu_time_info */
struct kvmclock {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};

extern volatile struct kvmclock boot_kvmclock;

static uint64_t khz_from_kvmclock(void)
{
	uint32_t mul = boot_kvmclock.mul;
	int8_t shift = boot_kvmclock.shift;
	uint64_t khz;

	if (!mul || boot_kvmclock.version & 1)
		return 0;
	khz = (1000000ul << 32) / mul;
	return shift < 0 ? khz << -shift : khz >> shift;
}

static uint64_t khz_from_lapic_timer(void)
{
	uint64_t before, after;
	uint32_t start, now;

	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_LVT_TIMER, LAPIC_MASKED | 0xff);
	lapic_write(LAPIC_TIMER_DIV, LAPIC_DIV_1);
	lapic_write(LAPIC_TIMER_START, UINT32_MAX);
	start = lapic_read(LAPIC_TIMER_NOW);
	before = clock_now();
	do
		now = lapic_read(LAPIC_TIMER_NOW);
	while (start - now < 20 * LAPIC_GHZ_KHZ);
	after = clock_now();
	lapic_write(LAPIC_TIMER_START, 0);
	return (after - before) * LAPIC_GHZ_KHZ / (start - now);
}

static uint64_t khz_from_cmdline(void)
{
	return param_number("tsc_khz", 0);
}

void x86_clock_init(void)
{
	static const struct {
		const char *name;
		uint64_t (*khz)(void);
	} sources[] = {
		{"cmdline", khz_from_cmdline},
		{"kvmclock", khz_from_kvmclock},
		{"lapic-timer", khz_from_lapic_timer},
	};
	size_t n;
	const char *only = param_find("clock", &n);

	for (unsigned int i = 0; i < ARRAY_SIZE(sources); i++) {
		if (only && !param_is("clock", sources[i].name))
			continue;
		machine.clock_khz = sources[i].khz();
		machine.clock_source = sources[i].name;
		if (machine.clock_khz)
			return;
	}
	fatal("no way to learn the TSC's frequency: give tsc_khz=");
}

/* KVM api: an odd version is being written; two reads that agree are one state. */
uint64_t arch_guest_time_ns(void)
{
	uint32_t version;
	uint64_t ns;

	if (!boot_kvmclock.mul)
		return clock_now() * 1000 / machine.clock_khz * 1000;
	do {
		uint64_t ticks;

		version = boot_kvmclock.version;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		ticks = clock_now() - boot_kvmclock.tsc_timestamp;
		ticks = boot_kvmclock.shift < 0 ? ticks >> -boot_kvmclock.shift
						: ticks << boot_kvmclock.shift;
		ns = boot_kvmclock.system_time +
		     (uint64_t)((unsigned __int128)ticks * boot_kvmclock.mul >> 32);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (version & 1 || version != boot_kvmclock.version);
	return ns;
}
