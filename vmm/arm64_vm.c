// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * arm64's part of a VM's life: capabilities, vCPUs, the boot image and device tree, and the exits that only arm64 has.
 */
#include "vmm/arm64.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "kvm/uapi.h"

#define BLOCK_2M (2ULL << 20)
/* EL1 with its own stack pointer, all interrupts masked (booting.rst). */
#define PSTATE_EL1H_DAIF 0x3c5

#define CORE_REG(member) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(member))

/* Without it the first write to each huge page after logging starts pays for the split. */
static int enable_eager_split(struct kvm_vm *vm)
{
	uint64_t args[4] = {BLOCK_2M};

	if (!(vm->host->eager_split_sizes & BLOCK_2M))
		return 0;
	return kvm_vm_enable_cap(vm, VM_STEP_EAGER_SPLIT, KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE, args);
}

int arch_vm_new(struct arch_vm **out, struct kvm_vm *vm, const struct config *config,
		const struct arch_layout *layout, struct kvm_irq *irq)
{
	struct arch_vm *arch = calloc(1, sizeof(*arch));
	int error;

	if (!arch)
		return fail(-ENOMEM, "machine: no memory");
	*arch = (struct arch_vm){
		.vm = vm,
		.irq = irq,
		.config = config,
		.layout = *layout,
		.kernel.fd = -1,
		.initrd.fd = -1,
		.gic_fd = -1,
		.its_fd = -1,
	};
	error = image_open(&arch->kernel, "kernel", config->kernel);
	if (!error)
		error = image_open(&arch->initrd, "initrd", config->initrd);
	if (!error)
		error = enable_eager_split(vm);
	if (!error)
		error = arm64_cpu_choose(arch);
	if (!error)
		error = arm64_gic_new(arch);
	if (error) {
		arch_vm_free(arch);
		return error;
	}
	*out = arch;
	return 0;
}

void arch_vm_free(struct arch_vm *arch)
{
	if (!arch)
		return;
	arm64_gic_free(arch);
	image_close(&arch->kernel);
	image_close(&arch->initrd);
	buf_fini(&arch->told);
	free(arch);
}

static struct kvm_vcpu_init vcpu_features(const struct arch_vm *arch, const struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init = arch->init;

	/* All but the first wait for PSCI CPU_ON. */
	if (vcpu->index > 0)
		init.features[0] |= 1U << KVM_ARM_VCPU_POWER_OFF;
	return init;
}

/* Stolen time, told to the guest through its page at ARM64_PVTIME (SMCCC PV_TIME_ST), where the host keeps it. */
static int offer_pvtime(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	uint64_t ipa = ARM64_PVTIME + (uint64_t)vcpu->index * ARM64_PVTIME_BYTES;

	if (!kvm_has_attr(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA))
		return 0;
	arch->pvtime = true;
	return kvm_set_attr(vcpu->fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &ipa);
}

int arch_vcpu_init(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init = vcpu_features(arch, vcpu);
	int error = kvm_arm64_vcpu_init(vcpu, &init);

	if (!error && arch->sve)
		error = kvm_arm64_vcpu_finalize(vcpu, KVM_ARM_VCPU_SVE);
	if (!error && !strcmp(arch->config->cpu, "armv8-base"))
		error = arm64_cpu_fix_ids(arch, vcpu);
	if (!error)
		error = offer_pvtime(arch, vcpu);
	arch->vcpu[vcpu->index] = vcpu;
	if (vcpu->index >= arch->nvcpus)
		arch->nvcpus = vcpu->index + 1;
	return error;
}

int arch_irq_init(struct arch_vm *arch, unsigned int nvcpus)
{
	int error = arm64_gic_init(arch);

	return error ? error : arm64_told_take(arch);
}

static int load_initrd(struct arch_vm *arch, struct ram *ram, gpa_t after, gpa_t *start, gpa_t *end)
{
	/* booting.rst: a 1 GiB window with the kernel; 2 MiB alignment keeps mappings large. */
	*start = (after + BLOCK_2M - 1) & ~(BLOCK_2M - 1);
	*end = *start + (arch->initrd.fd >= 0 ? arch->initrd.size_bytes : 0);
	if (arch->initrd.fd < 0)
		return 0;
	if (!ram_ptr(ram, *start, arch->initrd.size_bytes))
		return image_bad(&arch->initrd,
				 "%llu KiB do not fit behind the kernel in %llu MiB of memory",
				 (unsigned long long)arch->initrd.size_bytes / 1024,
				 (unsigned long long)ram->size_bytes >> 20);
	return image_load(&arch->initrd, 0, arch->initrd.size_bytes, ram, *start);
}

int arch_load_guest(struct arch_vm *arch, struct ram *ram, bool fresh_ram)
{
	struct arm64_fdt_input input = {
		.layout = &arch->layout,
		.cmdline = arch->config->cmdline ? arch->config->cmdline : "",
		.nvcpus = arch->config->cpus,
		.serial = arch->config->serial != SERIAL_OFF,
	};
	gpa_t end = 0;
	int error = image_refresh(&arch->kernel);

	if (!error && arch->initrd.fd >= 0)
		error = image_refresh(&arch->initrd);
	if (!error)
		error = arm64_image_load(&arch->kernel, ram, &arch->entry, &end);
	if (!error)
		error = load_initrd(arch, ram, end, &input.initrd, &input.initrd_end);
	if (error)
		return error;
	if (getrandom(input.seed, sizeof(input.seed), 0) != sizeof(input.seed))
		return fail(-EIO, "machine: no random seed for the guest");
	error = arm64_fdt_build(ram_ptr(ram, ARM64_FDT, ARM64_FDT_MAX), ARM64_FDT_MAX, &input);
	ram_mark_dirty(ram, ARM64_FDT, ARM64_FDT_MAX);
	return error;
}

static int set_core(struct kvm_vcpu *vcpu, uint64_t id, uint64_t value)
{
	int error = kvm_arm64_set_reg(vcpu, id, &value);

	return error ? fail(error, "machine: register %#llx of vCPU %u: %s", (unsigned long long)id,
			    vcpu->index, strerror(-error))
		     : 0;
}

int arch_vcpu_reset(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init = vcpu_features(arch, vcpu);
	int error = kvm_arm64_vcpu_reset(vcpu, &init);

	if (error || vcpu->index > 0)
		return error;
	error = set_core(vcpu, CORE_REG(regs.pstate), PSTATE_EL1H_DAIF);
	if (!error)
		error = set_core(vcpu, CORE_REG(regs.pc), arch->entry);
	if (!error)
		error = set_core(vcpu, CORE_REG(regs.regs[0]), ARM64_FDT);
	return error;
}

int arch_vm_reset(struct arch_vm *arch)
{
	return arm64_gic_reset(arch);
}

enum arch_exit arch_vcpu_exit(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_SYSTEM_EVENT:
		switch (run->system_event.type) {
		case KVM_SYSTEM_EVENT_SHUTDOWN:
			return ARCH_EXIT_POWEROFF;
		case KVM_SYSTEM_EVENT_RESET:
			return ARCH_EXIT_RESET;
		case KVM_SYSTEM_EVENT_CRASH:
			return ARCH_EXIT_PANIC;
		}
		log_error("machine: vCPU %u: system event %u", vcpu->index, run->system_event.type);
		return ARCH_EXIT_ERROR;
	case KVM_EXIT_ARM_NISV:
		/* A load or store to device memory that the CPU does not describe (paired, with writeback...). */
		log_error("machine: vCPU %u: access to %#llx by an instruction that cannot be "
			  "emulated",
			  vcpu->index, (unsigned long long)run->arm_nisv.fault_ipa);
		return ARCH_EXIT_PANIC;
	default:
		log_error("machine: vCPU %u: KVM exit %u", vcpu->index, run->exit_reason);
		return ARCH_EXIT_ERROR;
	}
}

void arch_vcpu_resume(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	/* Guest time stands still with the counter's offset; there is nothing to tell the guest. */
}
