// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The x86-64 body of vmm/arch.h, but for state (x86_state.c) and the layout (x86_layout.c): how a VM and its vCPUs are
 * made, what they see, how the guest is loaded and started, and which exits there are beyond MMIO and ports.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kvm/uapi.h"
#include "vmm/x86.h"
#include "vmm/x86_cpuid.h"
#include "vmm/x86_msr.h"

static int read_cpuid(struct arch_vm *arch)
{
	const struct kvm_host *host = arch->vm->host;
	int error = kvm_x86_supported_cpuid(host, &arch->supported);

	if (error)
		return error;
	x86_cpuid_prepare_supported(arch->supported,
				    kvm_host_extension(host, KVM_CAP_TSC_DEADLINE_TIMER));
	return x86_cpuid_build(arch->config->cpu, arch->supported, arch->config->cpus,
			       &arch->cpuid);
}

/* The interrupt controllers in the kernel; only the IOAPIC is wired: this machine has no 8259 that anyone hears. */
static int create_irqchip(struct arch_vm *arch)
{
	int error = kvm_x86_set_identity_map_addr(arch->vm, X86_IDENTITY_MAP);

	if (!error)
		error = kvm_x86_set_tss_addr(arch->vm, X86_TSS);
	if (!error)
		error = kvm_x86_create_irqchip(arch->vm);
	for (unsigned int pin = 0; pin < X86_IOAPIC_PINS && !error; pin++)
		error = kvm_irq_add_line(arch->irq, pin, KVM_IRQCHIP_IOAPIC, pin);
	return error ? error : kvm_irq_commit(arch->irq);
}

int arch_vm_new(struct arch_vm **out, struct kvm_vm *vm, const struct config *config,
		const struct arch_layout *layout, struct kvm_irq *irq)
{
	struct arch_vm *arch = calloc(1, sizeof(*arch));
	int error;

	if (!arch)
		return fail(-ENOMEM, "x86: no memory for a VM");
	*arch = (struct arch_vm){.vm = vm, .irq = irq, .config = config, .layout = *layout};
	arch->boot.kernel.fd = arch->boot.initrd.fd = -1;
	arch->boot.cmdline = config->cmdline ? config->cmdline : "";
	error = image_open(&arch->boot.kernel, "kernel", config->kernel);
	if (!error)
		error = image_open(&arch->boot.initrd, "initrd", config->initrd);
	if (!error)
		error = read_cpuid(arch);
	if (!error)
		error = x86_msr_list_build(vm->host, arch->cpuid, &arch->msrs);
	if (!error)
		error = create_irqchip(arch);
	buf_init(&arch->power_on_chips, RAM_PAGE_BYTES);
	if (!error)
		error = x86_chips_save(arch, &arch->power_on_chips);
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
	image_close(&arch->boot.kernel);
	image_close(&arch->boot.initrd);
	for (unsigned int i = 0; i < CONFIG_CPUS_MAX; i++)
		buf_fini(&arch->power_on[i]);
	buf_fini(&arch->power_on_chips);
	free(arch->supported);
	free(arch->cpuid);
	free(arch->msrs);
	free(arch);
}

int x86_vcpu_set_cpuid(const struct arch_vm *arch, struct kvm_vcpu *vcpu,
		       const struct kvm_cpuid2 *table)
{
	const size_t bytes = sizeof(*table) + table->nent * sizeof(table->entries[0]);
	AUTO_FREE struct kvm_cpuid2 *cpuid = malloc(bytes);

	if (!cpuid)
		return fail(-ENOMEM, "x86: no memory for CPUID");
	memcpy(cpuid, table, bytes);
	x86_cpuid_set_apic_id(cpuid, vcpu->index);
	return kvm_x86_set_cpuid(vcpu, cpuid);
}

int arch_vcpu_init(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	int error = x86_vcpu_set_cpuid(arch, vcpu, arch->cpuid);

	if (!error)
		error = x86_msr_init_vcpu(arch->cpuid, vcpu);
	arch->vcpu[vcpu->index] = vcpu;
	arch->nvcpus = vcpu->index + 1;
	if (!error && vcpu->index == 0) {
		int khz = kvm_x86_get_tsc_khz(vcpu);

		error = khz < 0 ? khz : 0;
		arch->tsc_khz = khz;
	}
	if (error)
		return error;
	/* What a reset goes back to is what KVM made: no list of reset values of our own. */
	buf_init(&arch->power_on[vcpu->index], X86_VCPU_STATE_MAX);
	return arch_vcpu_save(arch, vcpu, &arch->power_on[vcpu->index]);
}

int arch_irq_init(struct arch_vm *arch, unsigned int nvcpus)
{
	return 0;
}

int arch_load_guest(struct arch_vm *arch, struct ram *ram, bool fresh_ram)
{
	const struct arch_layout *layout = &arch->layout;
	struct x86_acpi_input acpi = {
		.ncpus = arch->config->cpus,
		.ecam = layout->ecam,
		.ecam_bytes = layout->ecam_bytes,
		.mmio32 = layout->mmio32,
		.mmio32_bytes = layout->mmio32_bytes,
		.mmio64 = layout->mmio64,
		.mmio64_bytes = layout->mmio64_bytes,
		.vmgenid = layout->vmgenid,
		.serial = arch->config->serial != SERIAL_OFF,
	};
	struct x86_boot *boot = &arch->boot;
	int error = x86_acpi_write(ram, &acpi, &boot->rsdp);

	boot->fresh = fresh_ram;
	boot->low_ram_end = layout->ram.range[0].size_bytes;
	x86_map_fill(&boot->map, layout);
	if (!error)
		error = image_refresh(&boot->kernel);
	if (!error && boot->initrd.fd >= 0)
		error = image_refresh(&boot->initrd);
	return error ? error : x86_boot_load(boot, ram, &arch->entry);
}

int arch_vm_reset(struct arch_vm *arch)
{
	struct state_set *set;
	int error = state_set_parse(&set, arch->power_on_chips.bytes, arch->power_on_chips.len);

	if (error)
		return error;
	error = x86_chips_load(arch, set);
	state_set_free(set);
	return error;
}

int arch_vcpu_reset(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	const struct buf *power_on = &arch->power_on[vcpu->index];
	struct state_set *set;
	uint32_t ignored;
	/*
	 * Asking for the MP state makes KVM take in an INIT or start-up message that came too late to be seen before
	 * the vCPU was parked. Left where it is, it would start this vCPU after the reset, in memory that is new.
	 */
	int error = kvm_vcpu_get_mp_state(vcpu, &ignored);

	if (!error)
		error = state_set_parse(&set, power_on->bytes, power_on->len);
	if (error)
		return error;
	error = arch_vcpu_load(arch, vcpu, set);
	state_set_free(set);
	/* The others wait for the first one's start-up message. */
	return error || vcpu->index > 0 ? error : x86_boot_set_entry(vcpu, &arch->entry);
}

static void log_internal_error(const struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs = {};
	const struct kvm_run *run = vcpu->run;

	if (kvm_x86_get_regs((struct kvm_vcpu *)vcpu, &regs))
		return;
	log_error("x86: vCPU %u at rip %#llx: KVM cannot go on: suberror %u (%s), data %#llx %#llx "
		  "%#llx",
		  vcpu->index, regs.rip, run->internal.suberror,
		  run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
			  ? "an instruction that it does not emulate"
			  : "see linux/kvm.h",
		  run->internal.data[0], run->internal.data[1], run->internal.data[2]);
}

enum arch_exit arch_vcpu_exit(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = {};

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		if (!kvm_x86_get_regs(vcpu, &regs))
			log_error("x86: vCPU %u: triple fault at rip %#llx", vcpu->index, regs.rip);
		return ARCH_EXIT_PANIC;
	case KVM_EXIT_INTERNAL_ERROR:
		log_internal_error(vcpu);
		return ARCH_EXIT_ERROR;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("x86: vCPU %u: the processor refused to enter the guest: reason %#llx",
			  vcpu->index, run->fail_entry.hardware_entry_failure_reason);
		return ARCH_EXIT_ERROR;
	case KVM_EXIT_SYSTEM_EVENT:
		return run->system_event.type == KVM_SYSTEM_EVENT_RESET	     ? ARCH_EXIT_RESET
		       : run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? ARCH_EXIT_POWEROFF
									     : ARCH_EXIT_PANIC;
	default:
		log_error("x86: vCPU %u: exit %u of KVM is not known", vcpu->index,
			  run->exit_reason);
		return ARCH_EXIT_ERROR;
	}
}

void arch_vcpu_resume(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	int error = kvm_x86_kvmclock_ctrl(vcpu);

	/* -EINVAL: this guest has no kvmclock; then nothing is told of the pause but the time itself. */
	if (error && error != -EINVAL)
		log_warn("x86: vCPU %u: its watchdogs may complain about the pause", vcpu->index);
}
