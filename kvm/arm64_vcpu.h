/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Typed calls on an arm64 vCPU and on arm64 parts of a VM. Each returns 0 or -errno, logged with the call's name unless
 * it says otherwise. Source: KVM api.rst sections 4.68 (ONE_REG), 4.77 (REG_LIST), 4.82 (VCPU_INIT), 4.139 (masks).
 */
#ifndef KVM_ARM64_VCPU_H
#define KVM_ARM64_VCPU_H

#include <linux/kvm.h>

#include "kvm/vcpu.h"

/* The target of this host's CPUs; the caller adds features. */
int kvm_arm64_preferred_target(struct kvm_vm *vm, struct kvm_vcpu_init *init) must_check;
/* The VCPU_INIT step: the vCPU gets its features. */
int kvm_arm64_vcpu_init(struct kvm_vcpu *vcpu, const struct kvm_vcpu_init *init) must_check;
/* Back to the reset state, with the same features; at any time while the vCPU does not run. */
int kvm_arm64_vcpu_reset(struct kvm_vcpu *vcpu, const struct kvm_vcpu_init *init) must_check;
/* Fixes a feature's settings (KVM_ARM_VCPU_SVE) before any other register is touched. */
int kvm_arm64_vcpu_finalize(struct kvm_vcpu *vcpu, int feature) must_check;

/* Register ids carry their size; value has that many bytes. get_reg and set_reg do not log: the caller knows names. */
int kvm_arm64_get_reg(struct kvm_vcpu *vcpu, uint64_t id, void *value) must_check;
int kvm_arm64_set_reg(struct kvm_vcpu *vcpu, uint64_t id, const void *value) must_check;
static inline uint32_t kvm_arm64_reg_bytes(uint64_t id)
{
	return 1U << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}
/* Calls `each` for every register of the vCPU, in KVM's order, until it returns an error, which is returned. */
int kvm_arm64_each_reg(struct kvm_vcpu *vcpu,
		       int (*each)(void *opaque, struct kvm_vcpu *vcpu, uint64_t id),
		       void *opaque) must_check;
/* Which bits of the ID registers (op0 3, op1 0, CRn 0) may be written: masks[CRm * 8 + op2]. -ENOTSUP before 6.7. */
#define KVM_ARM64_ID_REGS 64
int kvm_arm64_writable_masks(struct kvm_vm *vm, uint64_t masks[KVM_ARM64_ID_REGS]) must_check;

/* A VM's counters read `offset` less than the host's from now on; timer registers then no longer move it. */
bool kvm_arm64_has_counter_offset(const struct kvm_vm *vm);
int kvm_arm64_set_counter_offset(struct kvm_vm *vm, uint64_t offset) must_check;

#endif
