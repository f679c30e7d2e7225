// SPDX-License-Identifier: GPL-2.0-or-later
/* Typed calls on an arm64 vCPU and on arm64 parts of a VM. No policy. */
#include "kvm/arm64_vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "kvm/uapi.h"

int kvm_arm64_preferred_target(struct kvm_vm *vm, struct kvm_vcpu_init *init)
{
	*init = (struct kvm_vcpu_init){};
	if (ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, init) < 0)
		return fail(-errno, "kvm: preferred CPU target: %s", strerror(errno));
	return 0;
}

int kvm_arm64_vcpu_init(struct kvm_vcpu *vcpu, const struct kvm_vcpu_init *init)
{
	int error = kvm_vm_step(vcpu->vm, VM_STEP_VCPU_INIT);

	return error ? error : kvm_vcpu_ioctl(vcpu, "initialise", KVM_ARM_VCPU_INIT, (void *)init);
}

int kvm_arm64_vcpu_reset(struct kvm_vcpu *vcpu, const struct kvm_vcpu_init *init)
{
	return kvm_vcpu_ioctl(vcpu, "reset", KVM_ARM_VCPU_INIT, (void *)init);
}

int kvm_arm64_vcpu_finalize(struct kvm_vcpu *vcpu, int feature)
{
	return kvm_vcpu_ioctl(vcpu, "finalise features", KVM_ARM_VCPU_FINALIZE, &feature);
}

int kvm_arm64_get_reg(struct kvm_vcpu *vcpu, uint64_t id, void *value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};

	return ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg) < 0 ? -errno : 0;
}

int kvm_arm64_set_reg(struct kvm_vcpu *vcpu, uint64_t id, const void *value)
{
	struct kvm_one_reg reg = {.id = id, .addr = (uintptr_t)value};

	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg) < 0 ? -errno : 0;
}

int kvm_arm64_each_reg(struct kvm_vcpu *vcpu,
		       int (*each)(void *opaque, struct kvm_vcpu *vcpu, uint64_t id), void *opaque)
{
	AUTO_FREE struct kvm_reg_list *list = NULL;
	struct kvm_reg_list size = {.n = 0};
	int error;

	if (ioctl(vcpu->fd, KVM_GET_REG_LIST, &size) == 0 || errno != E2BIG)
		return fail(-EIO, "kvm: size of the register list of vCPU %u: %s", vcpu->index,
			    strerror(errno));
	list = calloc(1, sizeof(*list) + size.n * sizeof(list->reg[0]));
	if (!list)
		return fail(-ENOMEM, "kvm: no memory for a list of %llu registers",
			    (unsigned long long)size.n);
	list->n = size.n;
	error = kvm_vcpu_ioctl(vcpu, "get register list", KVM_GET_REG_LIST, list);
	for (uint64_t i = 0; !error && i < list->n; i++)
		error = each(opaque, vcpu, list->reg[i]);
	return error;
}

int kvm_arm64_writable_masks(struct kvm_vm *vm, uint64_t masks[KVM_ARM64_ID_REGS])
{
	/* The range covers op1 0, 1 and 3; the first 64 entries are op1 0. */
	uint64_t all[KVM_ARM_FEATURE_ID_RANGE_SIZE] = {};
	struct reg_mask_range range = {.addr = (uintptr_t)all, .range = KVM_ARM_FEATURE_ID_RANGE};

	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES) <= 0)
		return -ENOTSUP;
	if (ioctl(vm->fd, KVM_ARM_GET_REG_WRITABLE_MASKS, &range) < 0)
		return fail(-errno, "kvm: writable ID register masks: %s", strerror(errno));
	memcpy(masks, all, KVM_ARM64_ID_REGS * sizeof(masks[0]));
	return 0;
}

bool kvm_arm64_has_counter_offset(const struct kvm_vm *vm)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_COUNTER_OFFSET) > 0;
}

int kvm_arm64_set_counter_offset(struct kvm_vm *vm, uint64_t offset)
{
	struct kvm_arm_counter_offset request = {.counter_offset = offset};

	if (ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &request) < 0)
		return fail(-errno, "kvm: set counter offset: %s", strerror(errno));
	return 0;
}
