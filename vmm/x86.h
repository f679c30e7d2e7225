/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the x86-64 bodies share: fixed addresses of machine version 1, and the architecture's part of a VM.
 * Only x86_*.c includes this.
 */
#ifndef VMM_X86_H
#define VMM_X86_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm/x86_vcpu.h"
#include "vmm/arch.h"
#include "vmm/image.h"

/*
 * Guest physical memory:
 *	0 .. 640 KiB		RAM; boot data below X86_BOOT_END until the kernel has taken it over
 *	640 KiB .. 1 MiB	RAM that the memory map calls reserved: ACPI tables, the VM generation ID, the reset vector
 *	1 MiB .. 3 GiB		RAM
 *	3 GiB .. 4 GiB		32-bit BARs, ECAM, interrupt controllers, KVM's own pages
 *	4 GiB ..		RAM, then, at the next multiple of its size, the window for 64-bit BARs
 */
#define X86_LOW_RAM_END	 0x0009fc00ULL
#define X86_VMGENID	 0x000a0000ULL /* a page of its own: the guest maps it */
#define X86_ACPI	 0x000e0000ULL /* RSDP first: where legacy code looks for it, too */
#define X86_ACPI_END	 0x000ff000ULL
#define X86_RESET_VECTOR 0x000ffff0ULL /* F000:FFF0, where firmware begins */
#define X86_HIGH_RAM	 0x00100000ULL
#define X86_HOLE	 0xc0000000ULL
#define X86_MMIO32	 0xc0000000ULL
#define X86_MMIO32_BYTES 0x20000000ULL
#define X86_ECAM	 0xe0000000ULL
#define X86_ECAM_BYTES	 0x00100000ULL /* bus 0 */
#define X86_IOAPIC	 0xfec00000ULL
#define X86_LAPIC	 0xfee00000ULL
#define X86_IDENTITY_MAP \
	0xfffbc000ULL /* one page, then three for the TSS: Intel without unrestricted guests */
#define X86_TSS		 0xfffbd000ULL
#define X86_4G		 0x100000000ULL
#define X86_MMIO64_BYTES 0x1000000000ULL /* 64 GiB */

/* Boot data in low RAM. */
#define X86_BOOT_GDT	     0x00000500ULL
#define X86_BOOT_PARAMS	     0x00001000ULL /* zero page, or PVH start info, modules and memory map */
#define X86_BOOT_PAGETABLES  0x00002000ULL /* six pages */
#define X86_BOOT_CMDLINE     0x00010000ULL
#define X86_BOOT_CMDLINE_MAX 0x10000
#define X86_BOOT_END	     0x00020000ULL

#define X86_PORT_SERIAL 0x3f8
#define X86_PORT_RTC	0x70
#define X86_PORT_POWER	0x600 /* eight ports, see devices/power.h */
#define X86_GSI_SERIAL	4
#define X86_GSI_RTC	8
#define X86_GSI_POWER	9
#define X86_IOAPIC_PINS 24

/* The memory map that both boot protocols hand over. */
#define X86_MAP_MAX	 8
#define X86_MAP_RAM	 1
#define X86_MAP_RESERVED 2
struct x86_map_entry {
	uint64_t gpa, size_bytes;
	uint32_t type;
};
struct x86_map {
	unsigned int n;
	struct x86_map_entry entry[X86_MAP_MAX];
};
void x86_map_fill(struct x86_map *map, const struct arch_layout *layout);

/* How the boot vCPU enters the guest. */
enum x86_entry_kind { X86_ENTRY_PVH, X86_ENTRY_LINUX64 };
struct x86_entry {
	enum x86_entry_kind kind;
	uint64_t rip;
};

/* Everything that the loaders need: what to load, where memory is, what to say. */
struct x86_boot {
	struct image kernel, initrd;
	const char *cmdline; /* never NULL */
	struct x86_map map;
	uint64_t low_ram_end; /* of the RAM that begins at 1 MiB */
	gpa_t rsdp;	      /* 0: no ACPI */
	bool fresh;	      /* RAM is as created: all zero */
};

/*
 * The loaders: put the image, its initrd and command line, and the protocol's structures into RAM. -EINVAL with one
 * line that names file and reason for anything that does not hold; RAM may then hold some of it.
 */
int x86_bzimage_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry) must_check;
int x86_pvh_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry) must_check;
/* Tells by its magic which one the kernel is for, and calls that. */
int x86_boot_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry) must_check;
/* Places the initrd as high as possible below limit and above floor, 4 KiB aligned; no initrd: *gpa 0. */
int x86_boot_load_initrd(const struct x86_boot *boot, struct ram *ram, uint64_t floor,
			 uint64_t limit, gpa_t *gpa) must_check;
/* The command line with its final zero, at X86_BOOT_CMDLINE; max: without the zero. */
int x86_boot_load_cmdline(const struct x86_boot *boot, struct ram *ram, uint64_t max) must_check;
/* Page tables and descriptors for entries in long mode; the vCPU's registers for the entry. */
int x86_boot_write_tables(struct ram *ram) must_check;
int x86_boot_set_entry(struct kvm_vcpu *vcpu, const struct x86_entry *entry) must_check;

/* ACPI: writes all tables, returns the RSDP's address. */
struct x86_acpi_input {
	unsigned int ncpus;
	gpa_t ecam, ecam_bytes, mmio32, mmio32_bytes, mmio64, mmio64_bytes;
	uint64_t vmgenid; /* gpa of its 16 bytes */
	bool serial;
};
int x86_acpi_write(struct ram *ram, const struct x86_acpi_input *input, gpa_t *rsdp) must_check;
/* The same into a buffer of X86_ACPI_END - X86_ACPI bytes: what x86_acpi_write() copies. Returns bytes used or -ENOSPC. */
int x86_acpi_build(uint8_t *bytes, size_t size, const struct x86_acpi_input *input) must_check;

/* One vCPU's TSC, its offset and its deadline timer, as saved. */
#define X86_TSC(T, F, A, V)  \
	F(T, 1, u64, tsc)    \
	F(T, 2, u64, offset) \
	F(T, 3, u64, deadline)
STATE_STRUCT(x86_tsc, X86_TSC);

/* One vCPU's saved state is at most this: registers, XSAVE of all components, MSRs, local APIC. */
#define X86_VCPU_STATE_MAX (64 * 1024)

struct arch_vm {
	struct kvm_vm *vm;
	struct kvm_irq *irq;
	const struct config *config;
	struct arch_layout layout;
	struct x86_boot boot;
	struct x86_entry entry;
	struct kvm_cpuid2 *supported; /* by this host */
	struct kvm_cpuid2 *cpuid;     /* effective, without what differs by vCPU */
	struct kvm_msr_list *msrs;    /* to save */
	uint32_t tsc_khz;	      /* effective */
	unsigned int nvcpus;
	struct kvm_vcpu *vcpu[CONFIG_CPUS_MAX];
	struct x86_tsc tsc[CONFIG_CPUS_MAX];  /* loaded, until the VM's clock is */
	struct buf power_on[CONFIG_CPUS_MAX]; /* each vCPU's state as KVM made it */
	struct buf power_on_chips;	      /* the interrupt controllers' */
	struct power *power;
};

/* x86_state.c: PICs and IOAPIC. */
int x86_chips_save(struct arch_vm *arch, struct buf *out) must_check;
int x86_chips_load(struct arch_vm *arch, struct state_set *in) must_check;

/* Gives the vCPU the table, with its own APIC id. */
int x86_vcpu_set_cpuid(const struct arch_vm *arch, struct kvm_vcpu *vcpu,
		       const struct kvm_cpuid2 *table) must_check;
/* The guest's TSC frequency: set where the host can scale, else accepted when it is close. -ENOTSUP with both. */
int x86_tsc_khz_set(struct arch_vm *arch, uint32_t khz) must_check;

#endif
