/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arm64 machine's addresses (machine version 1), and what loads a kernel and describes the machine to it. Nothing in
 * here or behind it needs an arm64 host, so that tests and fuzzers of the loaders run anywhere.
 */
#ifndef VMM_ARM64_BOOT_H
#define VMM_ARM64_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/ram.h"
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

#endif
