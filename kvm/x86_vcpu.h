/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Typed calls on an x86 vCPU and on x86 parts of a VM. Each returns 0 or -errno, logged with the call's name.
 */
#ifndef KVM_X86_VCPU_H
#define KVM_X86_VCPU_H

#include <linux/kvm.h>

#include "kvm/vcpu.h"

int kvm_x86_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs) must_check;
int kvm_x86_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs) must_check;
int kvm_x86_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs) must_check;
int kvm_x86_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs) must_check;
int kvm_x86_get_sregs2(struct kvm_vcpu *vcpu, struct kvm_sregs2 *sregs) must_check;
int kvm_x86_set_sregs2(struct kvm_vcpu *vcpu, const struct kvm_sregs2 *sregs) must_check;
int kvm_x86_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *regs) must_check;
int kvm_x86_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs) must_check;
int kvm_x86_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs) must_check;
int kvm_x86_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs) must_check;
/* size_bytes: what KVM_CAP_XSAVE2 says for the VM, at least 4096; the buffer has that many. */
uint32_t kvm_x86_xsave_bytes(const struct kvm_vm *vm);
int kvm_x86_get_xsave(struct kvm_vcpu *vcpu, void *xsave) must_check;
int kvm_x86_set_xsave(struct kvm_vcpu *vcpu, const void *xsave) must_check;
int kvm_x86_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic) must_check;
int kvm_x86_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic) must_check;
/* How many of the list were handled in order (KVM stops at the first it refuses), or -errno. */
int kvm_x86_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs) must_check;
int kvm_x86_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs) must_check;
int kvm_x86_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid) must_check;
int kvm_x86_get_tsc_khz(struct kvm_vcpu *vcpu); /* kHz or -errno */
int kvm_x86_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz) must_check;
int kvm_x86_kvmclock_ctrl(struct kvm_vcpu *vcpu)
	must_check; /* -EINVAL, not logged: the guest has no kvmclock */

/* Host-wide: the caller frees what comes back with free(). */
int kvm_x86_supported_cpuid(const struct kvm_host *host, struct kvm_cpuid2 **out) must_check;
int kvm_x86_msr_list(const struct kvm_host *host, struct kvm_msr_list **out) must_check;
int kvm_x86_feature_msr_list(const struct kvm_host *host, struct kvm_msr_list **out) must_check;
int kvm_x86_get_feature_msrs(const struct kvm_host *host, struct kvm_msrs *msrs) must_check;

/* VM parts; the first two take their step in kvm/vm.h. */
int kvm_x86_create_irqchip(struct kvm_vm *vm) must_check; /* PIC, IOAPIC, LAPICs in the kernel */
int kvm_x86_set_tss_addr(struct kvm_vm *vm, uint64_t gpa) must_check;
int kvm_x86_set_identity_map_addr(struct kvm_vm *vm, uint64_t gpa) must_check;
int kvm_x86_get_irqchip(struct kvm_vm *vm, struct kvm_irqchip *chip) must_check;
int kvm_x86_set_irqchip(struct kvm_vm *vm, const struct kvm_irqchip *chip) must_check;
int kvm_x86_create_pit2(struct kvm_vm *vm) must_check;
int kvm_x86_get_pit2(struct kvm_vm *vm, struct kvm_pit_state2 *pit) must_check;
int kvm_x86_set_pit2(struct kvm_vm *vm, const struct kvm_pit_state2 *pit) must_check;
int kvm_x86_set_msr_filter(struct kvm_vm *vm, const struct kvm_msr_filter *filter) must_check;

#endif
