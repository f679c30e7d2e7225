/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the arm64 bodies share: fixed addresses of machine version 1, and the architecture's part of a VM.
 * Only arm64_*.c includes this.
 */
#ifndef VMM_ARM64_H
#define VMM_ARM64_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/arm64_vcpu.h"
#include "vmm/arch.h"
#include "vmm/image.h"

/*
 * Guest physical memory:
 *	128 MiB ..		interrupt controllers, then the wired devices
 *	256 MiB .. 1008 MiB	32-bit BARs
 *	1008 MiB		ECAM of bus 0
 *	1 GiB ..		RAM; its first 2 MiB are the firmware's (generation id, steal time), no memory to the guest.
 *				Then the device tree, the kernel, the initrd
 *	above RAM		64-bit BARs, at the next multiple of the window's size
 */
#define ARM64_GICD	   0x08000000ULL
#define ARM64_GICR	   0x080a0000ULL
#define ARM64_GICR_BYTES   0x20000ULL /* a redistributor: two 64 KiB frames */
#define ARM64_ITS	   0x08900000ULL
#define ARM64_ITS_BYTES	   0x20000ULL
#define ARM64_GICD_BYTES   0x10000ULL
#define ARM64_SERIAL	   0x09000000ULL
#define ARM64_RTC	   0x09010000ULL
#define ARM64_GPIO	   0x09030000ULL
#define ARM64_MMIO32	   0x10000000ULL
#define ARM64_MMIO32_BYTES 0x2f000000ULL
#define ARM64_ECAM	   0x3f000000ULL
#define ARM64_ECAM_BYTES   0x00100000ULL
#define ARM64_RAM	   0x40000000ULL
#define ARM64_MMIO64_BYTES 0x1000000000ULL /* 64 GiB */

#define ARM64_FIRMWARE_BYTES 0x200000ULL
#define ARM64_VMGENID	     ARM64_RAM
#define ARM64_PVTIME	     (ARM64_RAM + 0x10000)
#define ARM64_PVTIME_BYTES   64 /* one vCPU's structure */
#define ARM64_FDT	     (ARM64_RAM + ARM64_FIRMWARE_BYTES)
#define ARM64_FDT_MAX	     0x200000
#define ARM64_KERNEL	     (ARM64_FDT + ARM64_FDT_MAX) /* 2 MiB aligned; text_offset is added */

/* Wired lines: GSI n is SPI n, interrupt 32 + n. */
#define ARM64_GSI_SERIAL  1
#define ARM64_GSI_GPIO	  2
#define ARM64_GSI_VMGENID 3
#define ARM64_NLINES	  32
#define ARM64_NR_IRQS	  64 /* what the distributor has, private ones included */

/* The guest physical address space that a VM asks for. */
#define ARM64_IPA_BITS 40

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
};

/* MPIDR_EL1's affinity bits, as KVM gives them to vCPU `index`. */
uint64_t arm64_mpidr(unsigned int index);

/* arm64_image.c: Image or gzipped Image to ARM64_KERNEL; *end: first byte behind what it needs. -EINVAL with the reason. */
int arm64_image_load(const struct image *kernel, struct ram *ram, gpa_t *entry,
		     gpa_t *end) must_check;

/* arm64_fdt.c: the device tree into `bytes`. Returns 0 or -ENOSPC. */
struct arm64_fdt_input {
	const struct arch_layout *layout;
	const char *cmdline;
	unsigned int nvcpus;
	gpa_t initrd, initrd_end; /* equal: none */
	bool serial;
	uint8_t seed[64]; /* random, for the guest's early generators */
};
int arm64_fdt_build(void *bytes, size_t size, const struct arm64_fdt_input *input) must_check;

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

/* arm64_cpu.c: what the guest may see of the CPU. */
int arm64_cpu_choose(struct arch_vm *arch) must_check; /* fills arch->init */
int arm64_cpu_fix_ids(struct arch_vm *arch,
		      struct kvm_vcpu *vcpu) must_check; /* --cpu armv8-base */
/* "ID_AA64ISAR0_EL1", or op0:op1:CRn:CRm:op2 and the like; in buffer, which is returned. */
#define ARM64_REG_NAME_MAX 48
const char *arm64_reg_name(uint64_t id, char buffer[ARM64_REG_NAME_MAX]);

#endif
