/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest's CPUID says. Pure: tables in, tables out. Only x86_*.c and tests include this.
 *
 * `host` is what KVM supports minus what cannot migrate. A level (x86-64-v2, -v3, -v4) is a closed list: every leaf that
 * the guest can read follows from the level's name and the number of vCPUs alone, so that a VM looks the same on every
 * host that can run it at all.
 */
#ifndef VMM_X86_CPUID_H
#define VMM_X86_CPUID_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"

#define X86_CPUID_MAX 256 /* KVM takes no more entries */

/* supported: KVM_GET_SUPPORTED_CPUID, changed here to what Tern may offer. tsc_deadline: KVM_CAP_TSC_DEADLINE_TIMER. */
void x86_cpuid_prepare_supported(struct kvm_cpuid2 *supported, bool tsc_deadline);

/*
 * The table for all vCPUs (x86_cpuid_set_apic_id() makes it one vCPU's). The caller frees it with free(). Errors, logged:
 * -EINVAL unknown name (lists the known), -ENOTSUP a level's feature that this host lacks (named), -ENOMEM.
 */
int x86_cpuid_build(const char *name, const struct kvm_cpuid2 *supported, unsigned int ncpus,
		    struct kvm_cpuid2 **out) must_check;
void x86_cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, uint32_t apic_id);

/* Whether a host that supports `supported` can show exactly `wanted`; -ENOTSUP names the first bit or leaf that it cannot. */
int x86_cpuid_check(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported) must_check;

const struct kvm_cpuid_entry2 *x86_cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function,
					      uint32_t index);
/* The user-state components that XCR0 may enable, by CPUID 0xd; 0 without XSAVE. */
uint64_t x86_cpuid_xcr0(const struct kvm_cpuid2 *cpuid);
/* Where a component (2..62) lies in the standard XSAVE layout and how long it is; false: not there. */
bool x86_cpuid_xsave_component(const struct kvm_cpuid2 *cpuid, unsigned int component,
			       uint32_t *offset, uint32_t *size_bytes);
/* Vendor of the table: AuthenticAMD (or Hygon). */
bool x86_cpuid_is_amd(const struct kvm_cpuid2 *cpuid);

#endif
