/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the arm64 bodies share: the architecture's part of a VM. Only arm64_*.c includes this.
 */
#ifndef VMM_ARM64_H
#define VMM_ARM64_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/pl061.h"
#include "kvm/arm64_vcpu.h"
#include "vmm/arm64_boot.h"

struct arch_vm {
	struct kvm_vm *vm;
	struct kvm_irq *irq;
	const struct config *config;
	struct arch_layout layout;
	struct image kernel, initrd;
	unsigned int nvcpus;
	struct kvm_vcpu *vcpu[CONFIG_CPUS_MAX]; /* for what is asked of one and holds for all */
	int gic_fd, its_fd;
	struct kvm_vcpu_init init; /* features of every vCPU */
	bool sve, pvtime;
	gpa_t entry; /* of the boot vCPU; x0 is ARM64_FDT */
	struct pl061 *gpio;
	int vmgenid_irq; /* the wiring's */
	struct buf told; /* the section of arm64_told.c */
};

/* arm64_gic.c: GICv3 and ITS. */
int arm64_gic_new(struct arch_vm *arch) must_check;
int arm64_gic_init(struct arch_vm *arch) must_check; /* after all vCPUs */
void arm64_gic_free(struct arch_vm *arch);

/* arm64_gic_state.c: everything that the guest programmed into them. vCPUs parked. */
int arm64_gic_reset(struct arch_vm *arch) must_check;
int arm64_gic_save(struct arch_vm *arch,
		   struct buf *out) must_check; /* writes ITS and pending tables into RAM */
int arm64_gic_load(struct arch_vm *arch, struct state_set *in) must_check;
int arm64_its_load(struct arch_vm *arch,
		   struct state_set *in) must_check; /* routes are back; last */

/* arm64_clock.c: the guest's counter. vCPUs parked. */
int arm64_clock_save(struct arch_vm *arch, struct buf *out) must_check;
int arm64_clock_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode) must_check;
uint64_t arm64_counter_frequency(void);

/* arm64_told.c: reads what arch_vm_save_first() saves; vCPUs parked. */
int arm64_told_take(struct arch_vm *arch) must_check;

/* arm64_cpu.c: what the guest may see of the CPU. */
int arm64_cpu_choose(struct arch_vm *arch) must_check; /* fills arch->init */
int arm64_cpu_fix_ids(struct arch_vm *arch,
		      struct kvm_vcpu *vcpu) must_check; /* --cpu armv8-base */
/* "ID_AA64ISAR0_EL1", or op0:op1:CRn:CRm:op2 and the like; in buffer, which is returned. */
#define ARM64_REG_NAME_MAX 48
const char *arm64_reg_name(uint64_t id, char buffer[ARM64_REG_NAME_MAX]);

#endif
