/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which model-specific registers a vCPU has, starts with, and takes along. Only x86_*.c and tests include this. */
#ifndef VMM_X86_MSR_H
#define VMM_X86_MSR_H

#include <linux/kvm.h>

#include "base/auto.h"
#include "kvm/vcpu.h"
#include "kvm/host.h"

#define X86_MSR_TSC	     0x10
#define X86_MSR_TSC_ADJUST   0x3b
#define X86_MSR_SYSENTER_ESP 0x175
#define X86_MSR_SYSENTER_EIP 0x176
#define X86_MSR_TSC_DEADLINE 0x6e0
#define X86_MSRS_MAX	     256

/*
 * The list to save: KVM's own list, minus what does not migrate (nested virtualization, performance counters, Hyper-V,
 * async page faults) and what other state carries, plus what KVM's list lacks. The caller frees it. -ENOMEM, -errno.
 */
int x86_msr_list_build(const struct kvm_host *host, const struct kvm_cpuid2 *cpuid,
		       struct kvm_msr_list **out) must_check;
/* Whether an MSR out of a stream may be set at all. */
bool x86_msr_is_saved(uint32_t index);
/* As much of a value that KVM reports as the guest's processor has room for, and KVM takes back. */
uint64_t x86_msr_held(const struct kvm_cpuid2 *cpuid, uint32_t index, uint64_t value);
/* What firmware would have set, and the registers that describe the processor at fixed values. */
int x86_msr_init_vcpu(const struct kvm_cpuid2 *cpuid, struct kvm_vcpu *vcpu) must_check;

#endif
