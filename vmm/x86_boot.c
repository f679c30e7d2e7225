// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the two boot protocols share: choosing one, placing initrd and command line, and the boot vCPU's registers.
 * The protocols are in x86_bzimage.c and x86_pvh.c.
 */
#include "vmm/x86.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "devices/power.h"

#define CR0_PE	 (1ULL << 0)
#define CR0_ET	 (1ULL << 4)
#define CR0_PG	 (1ULL << 31)
#define CR4_PAE	 (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

#define PTE_PRESENT  (1ULL << 0)
#define PTE_WRITABLE (1ULL << 1)
#define PTE_LARGE    (1ULL << 7)

#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TSS  0x20

/* Descriptors as the guest may reload them; the numbers are those of the Linux 64-bit boot protocol. */
#define DESCRIPTOR_CODE64 0x00af9b000000ffffULL
#define DESCRIPTOR_DATA	  0x00cf93000000ffffULL
#define DESCRIPTOR_TSS	  0x00008b0000000067ULL

/*
 * Code for the reset vector, in 16 bits. Where ACPI is of the hardware-reduced kind Linux restarts by EFI, which is not
 * there, and then by a jump to the firmware in real mode; the FADT's reset register it passes over.
 */
static int write_reset_vector(struct ram *ram)
{
	const uint16_t port = X86_PORT_POWER + POWER_RESET;
	/* clang-format off */
	const uint8_t code[] = {
		0xba, port & 0xff, port >> 8,	/* mov dx, port */
		0xb0, POWER_RESET_VALUE,	/* mov al, value */
		0xee,				/* out dx, al */
		0xf4,				/* halt: hlt */
		0xeb, 0xfd,			/* jmp halt */
	};
	/* clang-format on */

	return ram_write(ram, X86_RESET_VECTOR, code, sizeof(code));
}

int x86_boot_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry)
{
	uint8_t magic[4], boot_magic[4];
	int error;

	error = write_reset_vector(ram);
	if (!error)
		error = image_read(&boot->kernel, 0, magic, sizeof(magic));
	if (error)
		return error;
	if (!memcmp(magic, "\177ELF", 4))
		return x86_pvh_load(boot, ram, entry);
	if (boot->kernel.size_bytes >= 0x206) {
		error = image_read(&boot->kernel, 0x202, boot_magic, sizeof(boot_magic));
		if (error)
			return error;
		if (!memcmp(boot_magic, "HdrS", 4))
			return x86_bzimage_load(boot, ram, entry);
	}
	return image_bad(&boot->kernel, "neither a Linux bzImage nor an ELF image");
}

int x86_boot_load_initrd(const struct x86_boot *boot, struct ram *ram, uint64_t floor,
			 uint64_t limit, gpa_t *gpa)
{
	uint64_t size_bytes = boot->initrd.size_bytes;

	*gpa = 0;
	if (boot->initrd.fd < 0)
		return 0;
	if (limit > boot->low_ram_end)
		limit = boot->low_ram_end;
	if (floor > limit || size_bytes > limit - floor ||
	    ((limit - size_bytes) & ~(RAM_PAGE_BYTES - 1)) < floor)
		return image_bad(&boot->initrd,
				 "%llu KiB do not fit into memory between the kernel's end at "
				 "%#llx and %#llx",
				 (unsigned long long)size_bytes / 1024, (unsigned long long)floor,
				 (unsigned long long)limit);
	*gpa = (limit - size_bytes) & ~(RAM_PAGE_BYTES - 1);
	return image_load(&boot->initrd, 0, size_bytes, ram, *gpa);
}

int x86_boot_load_cmdline(const struct x86_boot *boot, struct ram *ram, uint64_t max)
{
	size_t len = strlen(boot->cmdline);

	if (max > X86_BOOT_CMDLINE_MAX - 1)
		max = X86_BOOT_CMDLINE_MAX - 1;
	if (len > max)
		return fail(-EINVAL, "cmdline: %zu bytes: this kernel takes at most %llu", len,
			    (unsigned long long)max);
	return ram_write(ram, X86_BOOT_CMDLINE, boot->cmdline, len + 1);
}

/* The first 4 GiB mapped to themselves by 2 MiB pages: one PML4, one PDPT, four page directories. */
static int write_page_tables(struct ram *ram)
{
	const gpa_t pdpt = X86_BOOT_PAGETABLES + RAM_PAGE_BYTES, pd = pdpt + RAM_PAGE_BYTES;
	const uint64_t table = PTE_PRESENT | PTE_WRITABLE;
	uint64_t *at = ram_ptr(ram, X86_BOOT_PAGETABLES, 6 * RAM_PAGE_BYTES);

	if (!at)
		return fail(-EFAULT, "boot: no RAM for page tables");
	memset(at, 0, 2 * RAM_PAGE_BYTES);
	at[0] = pdpt | table;
	for (unsigned int i = 0; i < 4; i++)
		at[512 + i] = (pd + i * RAM_PAGE_BYTES) | table;
	for (unsigned int i = 0; i < 4 * 512; i++)
		at[1024 + i] = ((uint64_t)i << 21) | PTE_LARGE | table;
	ram_mark_dirty(ram, X86_BOOT_PAGETABLES, 6 * RAM_PAGE_BYTES);
	return 0;
}

int x86_boot_write_tables(struct ram *ram)
{
	const uint64_t gdt[] = {0, 0, DESCRIPTOR_CODE64, DESCRIPTOR_DATA, DESCRIPTOR_TSS, 0};
	int error = ram_write(ram, X86_BOOT_GDT, gdt, sizeof(gdt));

	return error ? error : write_page_tables(ram);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .s = 1,
				    .g = 1,
				    .db = 1};
}

/*
 * PVH: 32-bit protected mode without paging, flat segments, ebx = start info.
 * Linux: long mode, the first 4 GiB mapped to themselves, rsi = zero page.
 */
int x86_boot_set_entry(struct kvm_vcpu *vcpu, const struct x86_entry *entry)
{
	struct kvm_regs regs = {.rflags = 2, .rip = entry->rip};
	struct kvm_sregs sregs;
	int error = kvm_x86_get_sregs(vcpu, &sregs);

	if (error)
		return error;
	sregs.cs = flat(SELECTOR_CODE, 0xb);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(SELECTOR_DATA, 3);
	sregs.tr = (struct kvm_segment){
		.limit = 0x67, .selector = SELECTOR_TSS, .type = 0xb, .present = 1};
	sregs.gdt = (struct kvm_dtable){.base = X86_BOOT_GDT, .limit = 6 * 8 - 1};
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	if (entry->kind == X86_ENTRY_PVH) {
		regs.rbx = X86_BOOT_PARAMS;
	} else {
		regs.rsi = X86_BOOT_PARAMS;
		sregs.cs.l = 1;
		sregs.cs.db = 0;
		sregs.cr3 = X86_BOOT_PAGETABLES;
		sregs.cr0 |= CR0_PG;
		sregs.cr4 = CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
	}
	error = kvm_x86_set_sregs(vcpu, &sregs);
	return error ? error : kvm_x86_set_regs(vcpu, &regs);
}
