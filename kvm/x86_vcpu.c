// SPDX-License-Identifier: GPL-2.0-or-later
/* Typed calls on an x86 vCPU and on x86 parts of a VM. One row or one line each; no policy. */
#include "kvm/x86_vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"

#define XSAVE_MIN_BYTES 4096

/* get(name, type, request) and set(...): int kvm_x86_get_NAME(vcpu, type *), int kvm_x86_set_NAME(vcpu, const type *) */
#define GET(name, type, request, what)                                    \
	int kvm_x86_get_##name(struct kvm_vcpu *vcpu, type *value)        \
	{                                                                 \
		return kvm_vcpu_ioctl(vcpu, "get " what, request, value); \
	}
#define SET(name, type, request, what)                                            \
	int kvm_x86_set_##name(struct kvm_vcpu *vcpu, const type *value)          \
	{                                                                         \
		return kvm_vcpu_ioctl(vcpu, "set " what, request, (void *)value); \
	}

GET(regs, struct kvm_regs, KVM_GET_REGS, "registers")
SET(regs, struct kvm_regs, KVM_SET_REGS, "registers")
GET(sregs, struct kvm_sregs, KVM_GET_SREGS, "system registers")
SET(sregs, struct kvm_sregs, KVM_SET_SREGS, "system registers")
GET(sregs2, struct kvm_sregs2, KVM_GET_SREGS2, "system registers")
SET(sregs2, struct kvm_sregs2, KVM_SET_SREGS2, "system registers")
GET(debugregs, struct kvm_debugregs, KVM_GET_DEBUGREGS, "debug registers")
SET(debugregs, struct kvm_debugregs, KVM_SET_DEBUGREGS, "debug registers")
GET(xcrs, struct kvm_xcrs, KVM_GET_XCRS, "XCRs")
SET(xcrs, struct kvm_xcrs, KVM_SET_XCRS, "XCRs")
GET(lapic, struct kvm_lapic_state, KVM_GET_LAPIC, "local APIC")
SET(lapic, struct kvm_lapic_state, KVM_SET_LAPIC, "local APIC")
SET(cpuid, struct kvm_cpuid2, KVM_SET_CPUID2, "CPUID")

uint32_t kvm_x86_xsave_bytes(const struct kvm_vm *vm)
{
	int bytes = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return bytes > XSAVE_MIN_BYTES ? bytes : XSAVE_MIN_BYTES;
}

int kvm_x86_get_xsave(struct kvm_vcpu *vcpu, void *xsave)
{
	/* Older kernels have only the fixed 4 KiB form, which is then the whole area. */
	unsigned long request = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) > 0
					? KVM_GET_XSAVE2
					: KVM_GET_XSAVE;

	return kvm_vcpu_ioctl(vcpu, "get XSAVE", request, xsave);
}

int kvm_x86_set_xsave(struct kvm_vcpu *vcpu, const void *xsave)
{
	return kvm_vcpu_ioctl(vcpu, "set XSAVE", KVM_SET_XSAVE, (void *)xsave);
}

static int msrs_call(int fd, const char *what, unsigned long request, void *msrs)
{
	int done = ioctl(fd, request, msrs);

	if (done < 0)
		return fail(-errno, "kvm: %s MSRs: %s", what, strerror(errno));
	return done;
}

int kvm_x86_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs)
{
	return msrs_call(vcpu->fd, "get", KVM_GET_MSRS, msrs);
}

int kvm_x86_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs)
{
	return msrs_call(vcpu->fd, "set", KVM_SET_MSRS, (void *)msrs);
}

int kvm_x86_get_feature_msrs(const struct kvm_host *host, struct kvm_msrs *msrs)
{
	return msrs_call(host->fd, "get feature", KVM_GET_MSRS, msrs);
}

int kvm_x86_get_tsc_khz(struct kvm_vcpu *vcpu)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return khz < 0 ? fail(-errno, "kvm: get TSC frequency: %s", strerror(errno)) : khz;
}

int kvm_x86_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz)
{
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0)
		return fail(-errno, "kvm: set TSC frequency to %u kHz: %s", khz, strerror(errno));
	return 0;
}

int kvm_x86_kvmclock_ctrl(struct kvm_vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) == 0)
		return 0;
	if (errno == EINVAL)
		return -EINVAL;
	return fail(-errno, "kvm: tell vCPU %u that it was paused: %s", vcpu->index,
		    strerror(errno));
}

int kvm_x86_supported_cpuid(const struct kvm_host *host, struct kvm_cpuid2 **out)
{
	for (unsigned int n = 128; n <= 1024; n *= 2) {
		struct kvm_cpuid2 *cpuid =
			calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));

		if (!cpuid)
			return fail(-ENOMEM, "kvm: no memory for CPUID");
		cpuid->nent = n;
		if (ioctl(host->fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) {
			*out = cpuid;
			return 0;
		}
		free(cpuid);
		if (errno != E2BIG)
			break;
	}
	return fail(-errno, "kvm: supported CPUID: %s", strerror(errno));
}

static int msr_list(const struct kvm_host *host, unsigned long request, struct kvm_msr_list **out)
{
	struct kvm_msr_list size = {.nmsrs = 0};
	struct kvm_msr_list *list;

	if (ioctl(host->fd, request, &size) == 0 || errno != E2BIG)
		return fail(-EIO, "kvm: size of the MSR list: %s", strerror(errno));
	list = calloc(1, sizeof(*list) + size.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return fail(-ENOMEM, "kvm: no memory for the MSR list");
	list->nmsrs = size.nmsrs;
	if (ioctl(host->fd, request, list) < 0) {
		int error = fail(-errno, "kvm: MSR list: %s", strerror(errno));

		free(list);
		return error;
	}
	*out = list;
	return 0;
}

int kvm_x86_msr_list(const struct kvm_host *host, struct kvm_msr_list **out)
{
	return msr_list(host, KVM_GET_MSR_INDEX_LIST, out);
}

int kvm_x86_feature_msr_list(const struct kvm_host *host, struct kvm_msr_list **out)
{
	return msr_list(host, KVM_GET_MSR_FEATURE_INDEX_LIST, out);
}

static int vm_call(struct kvm_vm *vm, const char *what, unsigned long request, void *arg)
{
	if (ioctl(vm->fd, request, arg) < 0)
		return fail(-errno, "kvm: %s: %s", what, strerror(errno));
	return 0;
}

int kvm_x86_create_irqchip(struct kvm_vm *vm)
{
	int error = kvm_vm_step(vm, VM_STEP_IRQCHIP);

	return error ? error
		     : vm_call(vm, "create interrupt controllers", KVM_CREATE_IRQCHIP, NULL);
}

int kvm_x86_set_tss_addr(struct kvm_vm *vm, uint64_t gpa)
{
	int error = kvm_vm_step(vm, VM_STEP_VM_CAP);

	return error ? error
		     : vm_call(vm, "set TSS address", KVM_SET_TSS_ADDR, (void *)(uintptr_t)gpa);
}

int kvm_x86_set_identity_map_addr(struct kvm_vm *vm, uint64_t gpa)
{
	int error = kvm_vm_step(vm, VM_STEP_VM_CAP);

	return error ? error
		     : vm_call(vm, "set identity map address", KVM_SET_IDENTITY_MAP_ADDR, &gpa);
}

int kvm_x86_get_irqchip(struct kvm_vm *vm, struct kvm_irqchip *chip)
{
	return vm_call(vm, "get interrupt controller", KVM_GET_IRQCHIP, chip);
}

int kvm_x86_set_irqchip(struct kvm_vm *vm, const struct kvm_irqchip *chip)
{
	return vm_call(vm, "set interrupt controller", KVM_SET_IRQCHIP, (void *)chip);
}

int kvm_x86_create_pit2(struct kvm_vm *vm)
{
	struct kvm_pit_config config = {};

	return vm_call(vm, "create timer", KVM_CREATE_PIT2, &config);
}

int kvm_x86_get_pit2(struct kvm_vm *vm, struct kvm_pit_state2 *pit)
{
	return vm_call(vm, "get timer", KVM_GET_PIT2, pit);
}

int kvm_x86_set_pit2(struct kvm_vm *vm, const struct kvm_pit_state2 *pit)
{
	return vm_call(vm, "set timer", KVM_SET_PIT2, (void *)pit);
}

int kvm_x86_set_msr_filter(struct kvm_vm *vm, const struct kvm_msr_filter *filter)
{
	return vm_call(vm, "set MSR filter", KVM_X86_SET_MSR_FILTER, (void *)filter);
}
