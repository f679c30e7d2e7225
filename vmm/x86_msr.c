// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The MSRs of a vCPU: which are saved, and what they are before the first instruction.
 *
 * Theory of operation. KVM lists the MSRs that it keeps for a guest on this host (KVM_GET_MSR_INDEX_LIST). Taking the
 * list as it is would carry registers of features that no guest here has; writing a list by hand would forget what a
 * new kernel adds. So it is KVM's list without ranges that are refused by name below, plus the memory type registers,
 * which KVM keeps but does not list. At load, a register that this host refuses is an error unless its value is zero:
 * a zero that cannot be set is what the register reads as anyway.
 */
#include "vmm/x86_msr.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "kvm/x86_vcpu.h"
#include "vmm/x86_cpuid.h"

#define MSR_UCODE_REV	      0x8b
#define MSR_PLATFORM_INFO     0xce
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_MISC_ENABLE	      0x1a0
#define MSR_MTRR_DEFAULT      0x2ff

#define MISC_ENABLE_FAST_STRINGS (1ULL << 0)
#define MTRR_ENABLE		 (1ULL << 11)
#define MTRR_WRITE_BACK		 6
#define UCODE_REV_AMD		 0x01000065ULL
#define UCODE_REV_INTEL		 0x100000000ULL

struct range {
	uint32_t first, last;
	const char *why;
};

static const struct range not_saved[] = {
	{0x00000186, 0x0000018e, "performance event selectors"},
	{0x000000c1, 0x000000c8, "performance counters"},
	{0x00000309, 0x0000030b, "fixed performance counters"},
	{0x00000345, 0x00000345, "performance capabilities"},
	{0x0000038d, 0x00000390, "performance control"},
	{0x000003f1, 0x000003f2, "event-based sampling"},
	{0x000004c1, 0x000004c8, "performance counters, full width"},
	{0x00000480, 0x00000493, "VMX capabilities"},
	{0x00000560, 0x00000587, "processor trace"},
	{0x000001d9, 0x000001de, "branch records"},
	{0x0000008c, 0x0000008f, "enclave launch keys"},
	{0x0000003a, 0x0000003a, "feature control: VMX and SGX"},
	{0x0000009e, 0x0000009e, "SMM base"},
	{0x00000034, 0x00000034, "SMI count"},
	{0x40000000, 0x400001ff, "Hyper-V"},
	{0x4b564d02, 0x4b564d02, "async page faults"},
	{0x4b564d06, 0x4b564d07, "async page faults"},
	{0x4b564d08, 0x4b564d08, "migration control of encrypted guests"},
	{0xc0010000, 0xc0010007, "performance counters"},
	{0xc0010114, 0xc0010117, "nested virtualization"},
	{0xc0010200, 0xc001020b, "performance counters"},
	{0xc0000300, 0xc0000303, "performance control"},
	{0xc0000080, 0xc0000080, "EFER: with the system registers"},
};

/* Kept by KVM and not in its list: memory types. */
static const struct range also_saved[] = {
	{0x200, 0x20f, "variable ranges"}, {0x250, 0x250, "fixed ranges"},
	{0x258, 0x259, "fixed ranges"},	   {0x268, 0x26f, "fixed ranges"},
	{0x277, 0x277, "page attributes"}, {MSR_MTRR_DEFAULT, MSR_MTRR_DEFAULT, "default type"},
};

static bool in_ranges(const struct range *ranges, size_t n, uint32_t index)
{
	for (size_t i = 0; i < n; i++) {
		if (index >= ranges[i].first && index <= ranges[i].last)
			return true;
	}
	return false;
}

bool x86_msr_is_saved(uint32_t index)
{
	return !in_ranges(not_saved, ARRAY_SIZE(not_saved), index);
}

static bool is_listed(const struct kvm_msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		if (list->indices[i] == index)
			return true;
	}
	return false;
}

int x86_msr_list_build(const struct kvm_host *host, const struct kvm_cpuid2 *cpuid,
		       struct kvm_msr_list **out)
{
	AUTO_FREE struct kvm_msr_list *known = NULL;
	struct kvm_msr_list *list;
	int error = kvm_x86_msr_list(host, &known);

	if (error)
		return error;
	list = calloc(1, sizeof(*list) + X86_MSRS_MAX * sizeof(list->indices[0]));
	if (!list)
		return fail(-ENOMEM, "x86: no memory for the MSR list");
	for (uint32_t i = 0; i < known->nmsrs; i++) {
		if (x86_msr_is_saved(known->indices[i]) && list->nmsrs < X86_MSRS_MAX - 64)
			list->indices[list->nmsrs++] = known->indices[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(also_saved); i++) {
		for (uint32_t msr = also_saved[i].first; msr <= also_saved[i].last; msr++) {
			if (!is_listed(list, msr))
				list->indices[list->nmsrs++] = msr;
		}
	}
	*out = list;
	return 0;
}

/*
 * AMD's SYSENTER registers are 32 bits wide, and unused in long mode. Guests write them without an exit, so that KVM may
 * report what an emulated processor kept above; it takes 32 bits. Intel's are whole, on whatever host.
 */
uint64_t x86_msr_held(const struct kvm_cpuid2 *cpuid, uint32_t index, uint64_t value)
{
	bool narrow = (index == X86_MSR_SYSENTER_ESP || index == X86_MSR_SYSENTER_EIP) &&
		      x86_cpuid_is_amd(cpuid);

	return narrow ? (uint32_t)value : value;
}

static int set_msr(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value, bool optional)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = value}};
	int done = kvm_x86_set_msrs(vcpu, &msr.head);

	if (done < 0)
		return done;
	if (done == 0 && !optional)
		return fail(-EINVAL, "x86: KVM refuses MSR %#x = %#llx", index,
			    (unsigned long long)value);
	return 0;
}

static bool has_arch_capabilities(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *leaf = x86_cpuid_find(cpuid, 0x7, 0);

	return leaf && leaf->edx & 1U << 29;
}

int x86_msr_init_vcpu(const struct kvm_cpuid2 *cpuid, struct kvm_vcpu *vcpu)
{
	bool amd = x86_cpuid_is_amd(cpuid);
	int error = set_msr(vcpu, MSR_MTRR_DEFAULT, MTRR_ENABLE | MTRR_WRITE_BACK, false);

	if (!error)
		error = set_msr(vcpu, MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS, true);
	/* What says which processor this is does not say it of the host's. */
	if (!error)
		error = set_msr(vcpu, MSR_UCODE_REV, amd ? UCODE_REV_AMD : UCODE_REV_INTEL, true);
	if (!error)
		error = set_msr(vcpu, MSR_PLATFORM_INFO, 0, true);
	/* KVM fills it in by the host, whether the guest is told of it or not. */
	if (!error && !has_arch_capabilities(cpuid))
		error = set_msr(vcpu, MSR_ARCH_CAPABILITIES, 0, true);
	return error;
}
