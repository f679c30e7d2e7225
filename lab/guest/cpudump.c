// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cpudump: prints all that the processors tell a program about themselves, one line each, in an order that two runs share,
 * so that two machines that ought to look alike can be compared byte for byte.
 *
 *   x86-64: every CPUID leaf and subleaf up to the three limits, XCR0, and the MSRs that describe features (through
 *           /dev/cpu/N/msr, when the msr module is loaded; a "-" stands where the processor refuses)
 *   arm64:  the ID registers that Linux shows to programs, CNTFRQ_EL0, CTR_EL0, DCZID_EL0, and the SVE vector length
 */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tools.h"

#if defined(__x86_64__)
#include <cpuid.h>

#define SUBLEAVES_MAX 64
#define LEAVES_MAX    0x200 /* beyond it a limit is nonsense */

/* The leaves whose answer depends on ECX, and when the list of subleaves ends. */
enum subleaf_end { BY_COUNT, BY_ZERO_TYPE, BY_LEVEL_TYPE, BY_NUMBER };

static const struct {
	uint32_t leaf;
	enum subleaf_end end;
	uint32_t number; /* with BY_NUMBER */
} with_subleaves[] = {
	{0x4, BY_ZERO_TYPE, 0},
	{0x7, BY_COUNT, 0},
	{0xb, BY_LEVEL_TYPE, 0},
	{0xd, BY_NUMBER, 63},
	{0xf, BY_NUMBER, 1},
	{0x10, BY_NUMBER, 3},
	{0x12, BY_NUMBER, 3},
	{0x14, BY_COUNT, 0},
	{0x17, BY_COUNT, 0},
	{0x18, BY_COUNT, 0},
	{0x1d, BY_COUNT, 0},
	{0x1f, BY_LEVEL_TYPE, 0},
	{0x20, BY_COUNT, 0},
	{0x24, BY_COUNT, 0},
	{0x8000001d, BY_ZERO_TYPE, 0},
	{0x80000020, BY_NUMBER, 3},
	{0x80000026, BY_LEVEL_TYPE, 0},
};

/* MSRs that tell features or feed them: architectural capabilities, microcode, platform, VMX, AMD's, mitigations. */
static const uint32_t msrs[] = {
	0x10a,	    0x8b,	0xce,	    0xcf,	0x13a,	    0x140,	0x17,
	0xfe,	    0x179,	0x186,	    0x277,	0x2ff,	    0x345,	0x3a,
	0x480,	    0x481,	0x482,	    0x483,	0x484,	    0x485,	0x486,
	0x487,	    0x488,	0x489,	    0x48a,	0x48b,	    0x48c,	0x48d,
	0x48e,	    0x48f,	0x490,	    0x491,	0x1a0,	    0x48,	0xda0,
	0xe1,	    0x122,	0xc0000080, 0xc0010015, 0xc001001f, 0xc0010064, 0xc0010114,
	0xc0010117, 0xc0011029, 0xc0011022, 0xc001011f, 0xc0000104, 0x4b564d02,
};

static bool is_last(enum subleaf_end end, uint32_t number, uint32_t sub, const uint32_t first[4],
		    const uint32_t r[4])
{
	switch (end) {
	case BY_COUNT:
		return sub >= first[0];
	case BY_ZERO_TYPE:
		return (r[0] & 0x1f) == 0;
	case BY_LEVEL_TYPE:
		return (r[2] >> 8 & 0xff) == 0;
	case BY_NUMBER:
		return sub >= number;
	}
	return true;
}

static void dump_leaf(uint32_t leaf)
{
	uint32_t first[4] = {0}, r[4];
	size_t i, n = sizeof(with_subleaves) / sizeof(with_subleaves[0]);

	for (i = 0; i < n && with_subleaves[i].leaf != leaf; i++)
		;
	for (uint32_t sub = 0; sub < SUBLEAVES_MAX; sub++) {
		__cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
		if (sub == 0)
			for (int k = 0; k < 4; k++)
				first[k] = r[k];
		/* Empty subleaves in the middle of a list say nothing. */
		if (sub == 0 || r[0] || r[1] || r[2] || r[3])
			printf("cpuid %08x %02x: %08x %08x %08x %08x\n", leaf, sub, r[0], r[1],
			       r[2], r[3]);
		if (i == n ||
		    is_last(with_subleaves[i].end, with_subleaves[i].number, sub, first, r))
			break;
	}
}

static void dump_range(uint32_t base)
{
	uint32_t limit, b, c, d;

	__cpuid(base, limit, b, c, d);
	/* KVM's own range answers 0 for "just the one leaf beyond". */
	if (base == 0x40000000 && limit == 0)
		limit = base + 1;
	if (limit < base || limit - base >= LEAVES_MAX)
		limit = base;
	for (uint32_t leaf = base; leaf <= limit; leaf++)
		dump_leaf(leaf);
}

static void dump_xcr0(void)
{
	uint32_t a, b, c, d, low, high;

	__cpuid(1, a, b, c, d);
	if (!(c >> 27 & 1))
		return;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	printf("xcr0: %08x%08x\n", high, low);
}

static void dump_msrs(int cpu)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("msr: %s cannot be opened\n", path);
		return;
	}
	for (size_t i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
		uint64_t value;

		if (pread(fd, &value, sizeof(value), msrs[i]) == sizeof(value))
			printf("msr %08x: %016llx\n", msrs[i], (unsigned long long)value);
		else
			printf("msr %08x: -\n", msrs[i]);
	}
	close(fd);
}

static void dump(int cpu)
{
	dump_range(0);
	dump_range(0x40000000);
	dump_range(0x80000000);
	dump_range(0xc0000000);
	dump_xcr0();
	dump_msrs(cpu);
}

#elif defined(__aarch64__)

/* Linux answers the read of any ID register; CRn 0, op0 3, op1 0: CRm 0 to 7, op2 0 to 7. */
#define ID_ROW(crm) \
	ID(crm, 0) ID(crm, 1) ID(crm, 2) ID(crm, 3) ID(crm, 4) ID(crm, 5) ID(crm, 6) ID(crm, 7)
#define ID(crm, op2)                                                       \
	__asm__ volatile("mrs %0, s3_0_c0_c" #crm "_" #op2 : "=r"(value)); \
	printf("s3_0_c0_c" #crm "_" #op2 ": %016llx\n", (unsigned long long)value);
#define NAMED(name, reg)                                \
	__asm__ volatile("mrs %0, " reg : "=r"(value)); \
	printf(name ": %016llx\n", (unsigned long long)value);

static void dump(int cpu)
{
	uint64_t value;

	__asm__ volatile("mrs %0, midr_el1" : "=r"(value));
	printf("midr_el1: %016llx\n", (unsigned long long)value);
	__asm__ volatile("mrs %0, revidr_el1" : "=r"(value));
	printf("revidr_el1: %016llx\n", (unsigned long long)value);
	ID_ROW(4)
	ID_ROW(5)
	ID_ROW(6)
	ID_ROW(7)
	NAMED("cntfrq_el0", "cntfrq_el0")
	NAMED("ctr_el0", "ctr_el0")
	NAMED("dczid_el0", "dczid_el0")
	printf("hwcap: %016lx %016lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
	printf("sve vector length: %d\n", prctl(PR_SVE_GET_VL));
}

#else
#error "an architecture that cpudump does not know"
#endif

int cpudump_main(int argc, char **argv)
{
	long ncpus = sysconf(_SC_NPROCESSORS_ONLN);

	for (int cpu = 0; cpu < ncpus; cpu++) {
		cpu_set_t only;

		CPU_ZERO(&only);
		CPU_SET(cpu, &only);
		if (sched_setaffinity(0, sizeof(only), &only) < 0) {
			perror("sched_setaffinity");
			return 1;
		}
		printf("cpu %d\n", cpu);
		dump(cpu);
	}
	return 0;
}
