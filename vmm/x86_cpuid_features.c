// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The tables of CPUID feature bits (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; KVM's cpuid.rst).
 *
 * The levels are those of the x86-64 psABI plus what a kernel needs and every host of that level has under KVM (system
 * call, NX, x2APIC, TSC deadline). What a level leaves out on purpose: PCID and INVPCID (AMD has them late), speculation
 * controls (they differ by model, and a host's microcode may bring or take them).
 */
#include "vmm/x86_cpuid_features.h"

#include "base/auto.h"

/* clang-format off */
#define V2    X86_LEVEL_2
#define V3    X86_LEVEL_3
#define V4    X86_LEVEL_4
#define NEVER X86_LEVEL_NEVER

const struct x86_feature x86_features[] = {
	{0x1, 0, X86_EDX,  0, V2, "fpu"},     {0x1, 0, X86_EDX,  2, V2, "de"},
	{0x1, 0, X86_EDX,  3, V2, "pse"},     {0x1, 0, X86_EDX,  4, V2, "tsc"},
	{0x1, 0, X86_EDX,  5, V2, "msr"},     {0x1, 0, X86_EDX,  6, V2, "pae"},
	{0x1, 0, X86_EDX,  7, V2, "mce"},     {0x1, 0, X86_EDX,  8, V2, "cx8"},
	{0x1, 0, X86_EDX,  9, V2, "apic"},    {0x1, 0, X86_EDX, 11, V2, "sep"},
	{0x1, 0, X86_EDX, 12, V2, "mtrr"},    {0x1, 0, X86_EDX, 13, V2, "pge"},
	{0x1, 0, X86_EDX, 14, V2, "mca"},     {0x1, 0, X86_EDX, 15, V2, "cmov"},
	{0x1, 0, X86_EDX, 16, V2, "pat"},     {0x1, 0, X86_EDX, 17, V2, "pse36"},
	{0x1, 0, X86_EDX, 19, V2, "clflush"}, {0x1, 0, X86_EDX, 23, V2, "mmx"},
	{0x1, 0, X86_EDX, 24, V2, "fxsr"},    {0x1, 0, X86_EDX, 25, V2, "sse"},
	{0x1, 0, X86_EDX, 26, V2, "sse2"},
	{0x1, 0, X86_ECX,  0, V2, "sse3"},    {0x1, 0, X86_ECX,  9, V2, "ssse3"},
	{0x1, 0, X86_ECX, 13, V2, "cx16"},    {0x1, 0, X86_ECX, 19, V2, "sse4.1"},
	{0x1, 0, X86_ECX, 20, V2, "sse4.2"},  {0x1, 0, X86_ECX, 21, V2, "x2apic"},
	{0x1, 0, X86_ECX, 23, V2, "popcnt"},  {0x1, 0, X86_ECX, 24, V2, "tsc-deadline"},
	{0x1, 0, X86_ECX, 12, V3, "fma"},     {0x1, 0, X86_ECX, 22, V3, "movbe"},
	{0x1, 0, X86_ECX, 26, V3, "xsave"},   {0x1, 0, X86_ECX, 28, V3, "avx"},
	{0x1, 0, X86_ECX, 29, V3, "f16c"},
	{0x6, 0, X86_EAX,  2, V2, "arat"},
	{0x7, 0, X86_EBX,  1, V2, "tsc-adjust"},
	{0x7, 0, X86_EBX,  0, V3, "fsgsbase"}, {0x7, 0, X86_EBX,  3, V3, "bmi1"},
	{0x7, 0, X86_EBX,  5, V3, "avx2"},     {0x7, 0, X86_EBX,  7, V3, "smep"},
	{0x7, 0, X86_EBX,  8, V3, "bmi2"},
	{0x7, 0, X86_EBX, 16, V4, "avx512f"},  {0x7, 0, X86_EBX, 17, V4, "avx512dq"},
	{0x7, 0, X86_EBX, 20, V4, "smap"},     {0x7, 0, X86_EBX, 28, V4, "avx512cd"},
	{0x7, 0, X86_EBX, 30, V4, "avx512bw"}, {0x7, 0, X86_EBX, 31, V4, "avx512vl"},
	{0xd, 0, X86_EAX,  0, V3, "x87 state"}, {0xd, 0, X86_EAX,  1, V3, "SSE state"},
	{0xd, 0, X86_EAX,  2, V3, "AVX state"}, {0xd, 0, X86_EAX,  5, V4, "AVX-512 mask state"},
	{0xd, 0, X86_EAX,  6, V4, "AVX-512 upper state"},
	{0xd, 0, X86_EAX,  7, V4, "AVX-512 high state"},
	{0xd, 1, X86_EAX,  0, V3, "xsaveopt"},
	{0x80000001, 0, X86_EDX, 11, V2, "syscall"}, {0x80000001, 0, X86_EDX, 20, V2, "nx"},
	{0x80000001, 0, X86_EDX, 29, V2, "lm"},      {0x80000001, 0, X86_ECX,  0, V2, "lahf-lm"},
	{0x80000001, 0, X86_EDX, 26, V3, "pdpe1gb"}, {0x80000001, 0, X86_EDX, 27, V3, "rdtscp"},
	{0x80000001, 0, X86_ECX,  5, V3, "lzcnt"},
	/* KVM's own leaf, a fixed set: clocks, steal time, and calls that save exits. */
	{0x40000001, 0, X86_EAX,  0, V2, "kvmclock (old)"},   {0x40000001, 0, X86_EAX,  1, V2, "kvm-nopiodelay"},
	{0x40000001, 0, X86_EAX,  3, V2, "kvmclock"},         {0x40000001, 0, X86_EAX,  5, V2, "kvm-steal-time"},
	{0x40000001, 0, X86_EAX,  6, V2, "kvm-pv-eoi"},       {0x40000001, 0, X86_EAX,  7, V2, "kvm-pv-unhalt"},
	{0x40000001, 0, X86_EAX,  9, V2, "kvm-pv-tlb-flush"}, {0x40000001, 0, X86_EAX, 11, V2, "kvm-pv-ipi"},
	{0x40000001, 0, X86_EAX, 12, V2, "kvm-poll-control"}, {0x40000001, 0, X86_EAX, 13, V2, "kvm-pv-sched-yield"},
	{0x40000001, 0, X86_EAX, 24, V2, "kvmclock-stable"},

	/* What never reaches a guest, because it does not migrate yet, or because it says what the host is. */
	{0x1, 0, X86_ECX,  3, NEVER, "monitor", "idle states are the host's"},
	{0x1, 0, X86_ECX,  5, NEVER, "vmx", "nested virtualization does not migrate yet"},
	{0x1, 0, X86_ECX,  6, NEVER, "smx", "needs SMM"},
	{0x1, 0, X86_ECX, 15, NEVER, "pdcm", "performance counters do not migrate yet"},
	{0x1, 0, X86_EDX, 21, NEVER, "ds", "performance counters do not migrate yet"},
	{0x7, 0, X86_EBX,  2, NEVER, "sgx", "enclaves do not migrate"},
	{0x7, 0, X86_EBX, 25, NEVER, "intel-pt", "traces do not migrate"},
	{0x7, 0, X86_ECX,  7, NEVER, "cet-ss", "its state is not saved yet"},
	{0x7, 0, X86_ECX, 24, NEVER, "bus-lock-detect", "its state is not saved yet"},
	{0x7, 0, X86_ECX, 30, NEVER, "sgx-lc", "enclaves do not migrate"},
	{0x7, 0, X86_EDX, 19, NEVER, "arch-lbr", "branch records do not migrate"},
	{0x7, 0, X86_EDX, 20, NEVER, "cet-ibt", "its state is not saved yet"},
	{0x7, 0, X86_EDX, 22, NEVER, "amx-bf16", "tile state is not offered"},
	{0x7, 0, X86_EDX, 24, NEVER, "amx-tile", "tile state is not offered"},
	{0x7, 0, X86_EDX, 25, NEVER, "amx-int8", "tile state is not offered"},
	{0x7, 1, X86_EAX, 21, NEVER, "amx-fp16", "tile state is not offered"},
	{0x7, 1, X86_EDX,  8, NEVER, "amx-complex", "tile state is not offered"},
	{0x80000001, 0, X86_ECX,  2, NEVER, "svm", "nested virtualization does not migrate yet"},
	{0x80000001, 0, X86_ECX, 10, NEVER, "ibs", "samples do not migrate"},
	{0x80000001, 0, X86_ECX, 12, NEVER, "skinit", "needs SVM"},
	{0x80000001, 0, X86_ECX, 15, NEVER, "lwp", "its state is not saved"},
	{0x80000001, 0, X86_ECX, 22, NEVER, "topoext", "the topology is described by older leaves"},
	{0x80000001, 0, X86_ECX, 23, NEVER, "perfctr-core", "performance counters do not migrate yet"},
	{0x80000001, 0, X86_ECX, 24, NEVER, "perfctr-nb", "performance counters do not migrate yet"},
	{0x80000001, 0, X86_ECX, 28, NEVER, "perfctr-llc", "performance counters do not migrate yet"},
	{0x40000001, 0, X86_EAX,  4, NEVER, "kvm-async-pf", "a page fault in flight does not migrate"},
	{0x40000001, 0, X86_EAX, 10, NEVER, "kvm-async-pf-vmexit", "a page fault in flight does not migrate"},
	{0x40000001, 0, X86_EAX, 14, NEVER, "kvm-async-pf-int", "a page fault in flight does not migrate"},
	{0x40000001, 0, X86_EAX, 15, NEVER, "kvm-msi-ext-dest-id", "machine version 1 has no such messages"},
	{0x40000001, 0, X86_EAX, 16, NEVER, "kvm-map-gpa-range", "for encrypted guests"},
	{0x40000001, 0, X86_EAX, 17, NEVER, "kvm-migration-control", "for encrypted guests"},

	/* Named for messages only. */
	{0x1, 0, X86_ECX, 1, X86_LEVEL_NONE, "pclmulqdq"}, {0x1, 0, X86_ECX, 17, X86_LEVEL_NONE, "pcid"},
	{0x1, 0, X86_ECX, 25, X86_LEVEL_NONE, "aes"},      {0x1, 0, X86_ECX, 30, X86_LEVEL_NONE, "rdrand"},
	{0x7, 0, X86_EBX, 10, X86_LEVEL_NONE, "invpcid"},  {0x7, 0, X86_EBX, 18, X86_LEVEL_NONE, "rdseed"},
	{0x7, 0, X86_ECX, 2, X86_LEVEL_NONE, "umip"},      {0x7, 0, X86_ECX, 16, X86_LEVEL_NONE, "la57"},
	{0x80000007, 0, X86_EDX, 8, X86_LEVEL_NONE, "invariant tsc"},
};
const size_t x86_nfeatures = ARRAY_SIZE(x86_features);

const struct x86_feature_reg x86_feature_regs[] = {
	{0x1, 0, X86_ECX, 1U << 27 | 1U << 31}, /* OSXSAVE follows CR4; hypervisor is ours to say */
	{0x1, 0, X86_EDX, 1U << 28},            /* several CPUs in a package */
	{0x6, 0, X86_EAX, 0},
	{0x7, 0, X86_EBX, 0}, {0x7, 0, X86_ECX, 0}, {0x7, 0, X86_EDX, 0},
	{0x7, 1, X86_EAX, 0}, {0x7, 1, X86_EBX, 0}, {0x7, 1, X86_ECX, 0}, {0x7, 1, X86_EDX, 0},
	{0x7, 2, X86_EDX, 0},
	{0xd, 0, X86_EAX, 0}, {0xd, 0, X86_EDX, 0}, {0xd, 1, X86_EAX, 0},
	{0x80000001, 0, X86_ECX, 1U << 1},      /* which of two ways to count CPUs in a package */
	{0x80000001, 0, X86_EDX, 0},
	{0x80000007, 0, X86_EDX, 0},
	{0x80000008, 0, X86_EBX, 0},
	{0x80000021, 0, X86_EAX, 0},
	{0x40000001, 0, X86_EAX, 0},
};
/* clang-format on */
const size_t x86_nfeature_regs = ARRAY_SIZE(x86_feature_regs);

const char *x86_feature_name(uint32_t function, uint32_t index, enum x86_reg reg, uint8_t bit)
{
	for (size_t i = 0; i < x86_nfeatures; i++) {
		const struct x86_feature *f = &x86_features[i];

		if (f->function == function && f->index == index && f->reg == reg && f->bit == bit)
			return f->name;
	}
	return NULL;
}
