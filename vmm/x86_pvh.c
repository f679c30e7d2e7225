// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ELF images with the PVH entry (Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h; the ELF format).
 *
 * The file is hostile. Each number out of it is checked against the file's size and against RAM before it is used:
 * headers, note sizes and offsets, segments. Segments go to their physical addresses from 1 MiB up, below the end of
 * low RAM, so that they touch neither the tables nor the boot data.
 */
#include "vmm/x86.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"

#define PHDRS_MAX		 128
#define NOTES_BYTES_MAX		 (64 * 1024)
#define XEN_NOTE_NAME		 "Xen"
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define START_INFO_MAGIC	 0x336ec578
#define START_INFO_VERSION	 1

struct start_info {
	uint32_t magic, version, flags, nmodules;
	uint64_t modules, cmdline, rsdp;
	uint64_t map;
	uint32_t nmap, reserved;
};
struct start_info_module {
	uint64_t gpa, size_bytes, cmdline, reserved;
};
struct start_info_map {
	uint64_t gpa, size_bytes;
	uint32_t type, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "the interface's size");
_Static_assert(sizeof(struct start_info_module) == 32, "the interface's size");
_Static_assert(sizeof(struct start_info_map) == 24, "the interface's size");

#define MODULES_AT (X86_BOOT_PARAMS + 0x100)
#define MAP_AT	   (X86_BOOT_PARAMS + 0x200)

static int check_header(const struct image *kernel, const Elf64_Ehdr *header)
{
	if (header->e_ident[EI_CLASS] != ELFCLASS64)
		return image_bad(kernel, "not a 64-bit ELF image");
	if (header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
		return image_bad(kernel, "an ELF image, but not for x86-64");
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return image_bad(kernel, "an ELF file of type %u, not an executable",
				 header->e_type);
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return image_bad(kernel, "program headers of %u bytes", header->e_phentsize);
	if (header->e_phnum == 0 || header->e_phnum > PHDRS_MAX)
		return image_bad(kernel, "%u program headers, must be 1 to %u", header->e_phnum,
				 PHDRS_MAX);
	return 0;
}

static uint64_t align_note(uint64_t n)
{
	return (n + 3) & ~3ULL;
}

/* True and *entry when the notes hold the PVH entry. Everything is 4-byte aligned, whatever p_align says. */
static bool find_entry(const uint8_t *notes, size_t len, uint64_t *entry)
{
	struct reader reader;

	reader_init(&reader, notes, len);
	while (reader.left >= 12) {
		uint32_t name_len = reader_u32(&reader), desc_len = reader_u32(&reader);
		uint32_t type = reader_u32(&reader);
		const uint8_t *name = reader_bytes(&reader, align_note(name_len));
		/* The last note's padding may be missing. */
		const uint8_t *desc = reader_bytes(&reader, desc_len);
		uint64_t padding = align_note(desc_len) - desc_len;

		if (reader.error)
			return false;
		reader_bytes(&reader, padding <= reader.left ? padding : reader.left);
		if (type != XEN_ELFNOTE_PHYS32_ENTRY || name_len != sizeof(XEN_NOTE_NAME) ||
		    memcmp(name, XEN_NOTE_NAME, sizeof(XEN_NOTE_NAME)) != 0)
			continue;
		if (desc_len != 4 && desc_len != 8)
			return false;
		*entry = desc_len == 4 ? get_le32(desc) : get_le64(desc);
		return true;
	}
	return false;
}

static int read_notes(const struct image *kernel, const Elf64_Phdr *phdr, bool *found,
		      uint64_t *entry)
{
	AUTO_FREE uint8_t *notes = NULL;
	int error;

	if (phdr->p_filesz > NOTES_BYTES_MAX)
		return image_bad(kernel, "notes of %llu bytes, at most %u are read",
				 (unsigned long long)phdr->p_filesz, NOTES_BYTES_MAX);
	notes = malloc(phdr->p_filesz + 1);
	if (!notes)
		return fail(-ENOMEM, "kernel: no memory for its notes");
	error = image_read(kernel, phdr->p_offset, notes, phdr->p_filesz);
	if (!error)
		*found = find_entry(notes, phdr->p_filesz, entry);
	return error;
}

static int load_segment(struct x86_boot *boot, struct ram *ram, const Elf64_Phdr *phdr,
			uint64_t *end)
{
	uint64_t gpa = phdr->p_paddr, memory_bytes = phdr->p_memsz, file_bytes = phdr->p_filesz;
	void *rest;
	int error;

	if (memory_bytes == 0)
		return 0;
	if (file_bytes > memory_bytes)
		return image_bad(&boot->kernel,
				 "a segment has more bytes in the file than in memory");
	if (gpa < X86_HIGH_RAM || gpa >= boot->low_ram_end ||
	    memory_bytes > boot->low_ram_end - gpa)
		return image_bad(
			&boot->kernel,
			"the segment at %#llx of %llu KiB is not within RAM from %#llx to %#llx",
			(unsigned long long)gpa, (unsigned long long)memory_bytes / 1024,
			X86_HIGH_RAM, (unsigned long long)boot->low_ram_end);
	error = image_load(&boot->kernel, phdr->p_offset, file_bytes, ram, gpa);
	if (error)
		return error;
	/* What the file does not hold is zero; in fresh RAM it is so without making pages resident. */
	rest = ram_ptr(ram, gpa + file_bytes, memory_bytes - file_bytes);
	if (rest && !boot->fresh) {
		memset(rest, 0, memory_bytes - file_bytes);
		ram_mark_dirty(ram, gpa + file_bytes, memory_bytes - file_bytes);
	}
	if (gpa + memory_bytes > *end)
		*end = gpa + memory_bytes;
	return 0;
}

static int load_elf(struct x86_boot *boot, struct ram *ram, uint64_t *entry, uint64_t *end)
{
	const struct image *kernel = &boot->kernel;
	Elf64_Phdr phdr[PHDRS_MAX];
	Elf64_Ehdr header;
	bool found = false;
	int error = image_read(kernel, 0, &header, sizeof(header));

	if (!error)
		error = check_header(kernel, &header);
	if (!error)
		error = image_read(kernel, header.e_phoff, phdr, header.e_phnum * sizeof(phdr[0]));
	for (unsigned int i = 0; i < header.e_phnum && !error; i++) {
		if (phdr[i].p_type == PT_NOTE && !found)
			error = read_notes(kernel, &phdr[i], &found, entry);
		else if (phdr[i].p_type == PT_LOAD)
			error = load_segment(boot, ram, &phdr[i], end);
	}
	if (error)
		return error;
	if (!found)
		return image_bad(kernel, "an ELF image without a PVH entry note");
	if (*entry < X86_HIGH_RAM || *entry >= *end)
		return image_bad(kernel, "its entry %#llx is in none of its segments",
				 (unsigned long long)*entry);
	return 0;
}

static int write_start_info(const struct x86_boot *boot, struct ram *ram, gpa_t initrd)
{
	struct start_info info = {
		.magic = START_INFO_MAGIC,
		.version = START_INFO_VERSION,
		.cmdline = X86_BOOT_CMDLINE,
		.rsdp = boot->rsdp,
		.map = MAP_AT,
		.nmap = boot->map.n,
	};
	struct start_info_module module = {.gpa = initrd, .size_bytes = boot->initrd.size_bytes};
	struct start_info_map map[X86_MAP_MAX] = {};
	int error;

	for (unsigned int i = 0; i < boot->map.n; i++)
		map[i] = (struct start_info_map){.gpa = boot->map.entry[i].gpa,
						 .size_bytes = boot->map.entry[i].size_bytes,
						 .type = boot->map.entry[i].type};
	if (boot->initrd.fd >= 0) {
		info.nmodules = 1;
		info.modules = MODULES_AT;
	}
	error = ram_write(ram, X86_BOOT_PARAMS, &info, sizeof(info));
	if (!error)
		error = ram_write(ram, MODULES_AT, &module, sizeof(module));
	return error ? error : ram_write(ram, MAP_AT, map, boot->map.n * sizeof(map[0]));
}

int x86_pvh_load(struct x86_boot *boot, struct ram *ram, struct x86_entry *entry)
{
	uint64_t rip = 0, end = X86_HIGH_RAM;
	gpa_t initrd;
	int error = load_elf(boot, ram, &rip, &end);

	if (error)
		return error;
	error = x86_boot_load_initrd(boot, ram, (end + RAM_PAGE_BYTES - 1) & ~(RAM_PAGE_BYTES - 1),
				     UINT32_MAX, &initrd);
	if (!error)
		error = x86_boot_load_cmdline(boot, ram, UINT64_MAX);
	if (!error)
		error = write_start_info(boot, ram, initrd);
	*entry = (struct x86_entry){.kind = X86_ENTRY_PVH, .rip = rip};
	return error;
}
