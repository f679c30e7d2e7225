// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Creating the GICv3 and its ITS in the kernel. What the guest programs into them is arm64_gic_state.c's.
 * Sources: Documentation/virt/kvm/devices/arm-vgic-v3.rst, arm-vgic-its.rst.
 */
#include "vmm/arm64.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

/* KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION: count, base, flags and index in one word. */
static uint64_t redist_region(uint64_t count, gpa_t base)
{
	return count << 52 | base;
}

static int create_gic(struct arch_vm *arch)
{
	uint64_t distributor = ARM64_GICD;
	uint64_t redistributors = redist_region(arch->config->cpus, ARM64_GICR);
	uint32_t nr_irqs = ARM64_NR_IRQS;
	int none, error;

	if (kvm_vm_create_device(arch->vm, KVM_DEV_TYPE_ARM_VGIC_V3, true, &none))
		return fail(-ENOTSUP, "interrupt controller: this host cannot give a guest a GICv3 "
				      "(a GICv2 has no ITS, "
				      "and without one there are no MSIs)");
	error = kvm_vm_create_device(arch->vm, KVM_DEV_TYPE_ARM_VGIC_V3, false, &arch->gic_fd);
	if (!error)
		error = kvm_set_attr(arch->gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &nr_irqs);
	if (!error)
		error = kvm_set_attr(arch->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
				     KVM_VGIC_V3_ADDR_TYPE_DIST, &distributor);
	if (!error)
		error = kvm_set_attr(arch->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
				     KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &redistributors);
	return error;
}

static int create_its(struct arch_vm *arch)
{
	int none;

	if (kvm_vm_create_device(arch->vm, KVM_DEV_TYPE_ARM_VGIC_ITS, true, &none))
		return fail(-ENOTSUP, "interrupt controller: this host offers no ITS, without "
				      "which there are no MSIs");
	return kvm_vm_create_device(arch->vm, KVM_DEV_TYPE_ARM_VGIC_ITS, false, &arch->its_fd);
}

int arm64_gic_new(struct arch_vm *arch)
{
	int error = create_gic(arch);

	if (!error)
		error = create_its(arch);
	for (uint32_t gsi = 0; !error && gsi < ARM64_NLINES; gsi++)
		error = kvm_irq_add_line(arch->irq, gsi, 0, gsi);
	return error;
}

int arm64_gic_init(struct arch_vm *arch)
{
	uint64_t its = ARM64_ITS;
	int error = kvm_vm_step(arch->vm, VM_STEP_IRQ_INIT);

	if (!error)
		error = kvm_set_attr(arch->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
				     KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
	if (!error)
		error = kvm_set_attr(arch->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
				     KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
	if (!error)
		error = kvm_set_attr(arch->its_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
				     KVM_VGIC_ITS_ADDR_TYPE, &its);
	if (!error)
		error = kvm_irq_commit(arch->irq);
	return error;
}

void arm64_gic_free(struct arch_vm *arch)
{
	close_fd(&arch->its_fd);
	close_fd(&arch->gic_fd);
}
