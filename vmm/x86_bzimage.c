// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Linux bzImage through the 64-bit boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst), version 2.12 on.
 *
 * The file is hostile: the setup header says how long it is and where the rest begins, and each of these is checked
 * against the file and against RAM. The zero page is built from nothing but the header's own bytes and what we know.
 */
#include "vmm/x86.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"

/* Offsets in the file's first sectors, which are also those in the zero page. */
#define ZP_ACPI_RSDP	   0x070
#define ZP_EXT_INITRD	   0x0c0
#define ZP_EXT_INITRD_SIZE 0x0c4
#define ZP_EXT_CMDLINE	   0x0c8
#define ZP_E820_ENTRIES	   0x1e8
#define HDR_START	   0x1f1
#define HDR_SETUP_SECTS	   0x1f1
#define HDR_BOOT_FLAG	   0x1fe
#define HDR_JUMP	   0x200 /* two bytes: the second is how far the header goes beyond 0x202 */
#define HDR_VERSION	   0x206
#define HDR_LOADER	   0x210
#define HDR_LOADFLAGS	   0x211
#define HDR_INITRD	   0x218
#define HDR_INITRD_SIZE	   0x21c
#define HDR_CMDLINE	   0x228
#define HDR_INITRD_MAX	   0x22c
#define HDR_ALIGNMENT	   0x230
#define HDR_RELOCATABLE	   0x234
#define HDR_XLOADFLAGS	   0x236
#define HDR_CMDLINE_SIZE   0x238
#define HDR_PREF_ADDRESS   0x258
#define HDR_INIT_SIZE	   0x260
#define HDR_END_MIN	   0x264
#define HDR_END_MAX	   0x290 /* the e820 table follows in the zero page */
#define ZP_E820		   0x2d0

#define BOOT_FLAG	     0xaa55
#define VERSION_MIN	     0x20c
#define XLF_KERNEL_64	     (1 << 0)
#define LOADFLAG_LOADED_HIGH (1 << 0)
#define LOADER_UNDEFINED     0xff
#define ENTRY64_OFFSET	     0x200
#define SECTOR_BYTES	     512

#define ZERO_PAGE_BYTES 4096

struct header {
	uint8_t bytes[ZERO_PAGE_BYTES]; /* the file's first bytes at their own offsets */
	uint32_t end;
	uint64_t setup_bytes; /* where the 64-bit code begins in the file */
	uint64_t code_bytes;
	uint64_t pref_address, init_size;
	uint32_t alignment;
};

static int read_header(const struct image *kernel, struct header *header)
{
	const uint8_t *b = header->bytes;
	uint32_t sects;
	int error =
		image_read(kernel, HDR_START, header->bytes + HDR_START, HDR_END_MIN - HDR_START);

	if (error)
		return error;
	header->end = HDR_JUMP + 2 + b[HDR_JUMP + 1];
	if (get_le16(b + HDR_BOOT_FLAG) != BOOT_FLAG || get_le16(b + HDR_VERSION) < VERSION_MIN ||
	    header->end < HDR_END_MIN)
		return image_bad(kernel, "boot protocol %u.%02u, at least 2.12 is needed",
				 b[HDR_VERSION + 1], b[HDR_VERSION]);
	if (!(get_le16(b + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return image_bad(kernel, "a kernel without a 64-bit entry");
	if (header->end > HDR_END_MAX)
		header->end = HDR_END_MAX;
	error = image_read(kernel, HDR_START, header->bytes + HDR_START, header->end - HDR_START);
	if (error)
		return error;
	sects = b[HDR_SETUP_SECTS] ? b[HDR_SETUP_SECTS] : 4;
	header->setup_bytes = (sects + 1) * SECTOR_BYTES;
	if (kernel->size_bytes <= header->setup_bytes + ENTRY64_OFFSET)
		return image_bad(kernel, "truncated: %llu bytes, its setup code alone says %llu",
				 (unsigned long long)kernel->size_bytes,
				 (unsigned long long)header->setup_bytes);
	header->code_bytes = kernel->size_bytes - header->setup_bytes;
	header->pref_address = get_le64(b + HDR_PREF_ADDRESS);
	header->init_size = get_le32(b + HDR_INIT_SIZE);
	header->alignment = get_le32(b + HDR_ALIGNMENT);
	return 0;
}

#define HDR_SYSSIZE 0x1f4 /* of the protected-mode code, in 16-byte units */

/* A file cut short has less code than the header says; one with a signature behind it has more. */
static int check_code(const struct image *kernel, const struct header *header)
{
	uint64_t said = get_le32(header->bytes + HDR_SYSSIZE) * 16ULL;

	/* The size is rounded up to the unit. */
	if (said > header->code_bytes + 15)
		return image_bad(kernel, "truncated: %llu bytes of code, its header says %llu",
				 (unsigned long long)header->code_bytes, (unsigned long long)said);
	return 0;
}

static bool fits(const struct x86_boot *boot, const struct header *header, uint64_t gpa)
{
	uint64_t need = header->init_size > header->code_bytes ? header->init_size
							       : header->code_bytes;

	return gpa >= X86_HIGH_RAM && gpa < boot->low_ram_end && need <= boot->low_ram_end - gpa;
}

/* Where the kernel would like to be, else, if it can be moved, as low as its alignment allows. */
static int choose_address(const struct x86_boot *boot, const struct header *header, uint64_t *gpa)
{
	uint64_t alignment = header->alignment;

	if (fits(boot, header, header->pref_address)) {
		*gpa = header->pref_address;
		return 0;
	}
	if (header->bytes[HDR_RELOCATABLE] && alignment && !(alignment & (alignment - 1))) {
		*gpa = (X86_HIGH_RAM + alignment - 1) & ~(alignment - 1);
		if (fits(boot, header, *gpa))
			return 0;
	}
	return image_bad(
		&boot->kernel, "it needs %llu KiB of memory from %#llx on, RAM there ends at %#llx",
		(unsigned long long)header->init_size / 1024,
		(unsigned long long)header->pref_address, (unsigned long long)boot->low_ram_end);
}

static int write_zero_page(const struct x86_boot *boot, struct ram *ram, struct header *header,
			   gpa_t initrd)
{
	uint64_t initrd_bytes = initrd ? boot->initrd.size_bytes : 0;
	uint8_t *page = header->bytes, *e820 = page + ZP_E820;

	/* read_header() filled [HDR_START, end); the rest is still zero. */
	page[HDR_LOADER] = LOADER_UNDEFINED;
	page[HDR_LOADFLAGS] |= LOADFLAG_LOADED_HIGH;
	put_le32(page + HDR_INITRD, (uint32_t)initrd);
	put_le32(page + ZP_EXT_INITRD, initrd >> 32);
	put_le32(page + HDR_INITRD_SIZE, (uint32_t)initrd_bytes);
	put_le32(page + ZP_EXT_INITRD_SIZE, initrd_bytes >> 32);
	put_le32(page + HDR_CMDLINE, X86_BOOT_CMDLINE);
	put_le32(page + ZP_EXT_CMDLINE, 0);
	put_le64(page + ZP_ACPI_RSDP, boot->rsdp);
	page[ZP_E820_ENTRIES] = boot->map.n;
	for (unsigned int i = 0; i < boot->map.n; i++, e820 += 20) {
		put_le64(e820, boot->map.entry[i].gpa);
		put_le64(e820 + 8, boot->map.entry[i].size_bytes);
		put_le32(e820 + 16, boot->map.entry[i].type);
	}
	return ram_write(ram, X86_BOOT_PARAMS, page, ZERO_PAGE_BYTES);
}

int x86_bzimage_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry)
{
	struct header header = {};
	uint64_t gpa = 0, end;
	gpa_t initrd = 0;
	int error = read_header(&boot->kernel, &header);

	if (!error)
		error = check_code(&boot->kernel, &header);
	if (!error)
		error = choose_address(boot, &header, &gpa);
	if (!error)
		error = image_load(&boot->kernel, header.setup_bytes, header.code_bytes, ram, gpa);
	if (error)
		return error;
	end = gpa + (header.init_size > header.code_bytes ? header.init_size : header.code_bytes);
	error = x86_boot_load_initrd(boot, ram, (end + RAM_PAGE_BYTES - 1) & ~(RAM_PAGE_BYTES - 1),
				     get_le32(header.bytes + HDR_INITRD_MAX) + 1ULL, &initrd);
	if (!error)
		error = x86_boot_load_cmdline(boot, ram, get_le32(header.bytes + HDR_CMDLINE_SIZE));
	if (!error)
		error = write_zero_page(boot, ram, &header, initrd);
	if (!error)
		error = x86_boot_write_tables(ram);
	*entry = (struct x86_entry){.kind = X86_ENTRY_LINUX64, .rip = gpa + ENTRY64_OFFSET};
	return error;
}
