// SPDX-License-Identifier: GPL-2.0-or-later
/* Kernel loaders on x86-64: crafted images, whole and broken; what the guest finds in RAM. */
#include "vmm/x86.h"

#include <elf.h>
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

#define MIB    (1ULL << 20)
#define MEMORY (64 * MIB)

struct fixture {
	struct ram *ram;
	struct x86_boot boot;
	struct x86_entry entry;
};

static int memfd_with(const void *bytes, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(write(fd, bytes, len), ==, len);
	return fd;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	struct ram_layout layout = {.nranges = 1, .range[0] = {.gpa = 0, .size_bytes = MEMORY}};
	struct arch_layout arch = {.ram = layout, .ecam = X86_ECAM, .ecam_bytes = X86_ECAM_BYTES};

	log_level = LOG_ERROR;
	memset(f, 0, sizeof(*f));
	g_assert_cmpint(ram_new(&f->ram, &layout), ==, 0);
	f->boot.kernel.fd = f->boot.initrd.fd = -1;
	f->boot.cmdline = "console=ttyS0 quiet";
	f->boot.low_ram_end = MEMORY;
	f->boot.rsdp = X86_ACPI;
	x86_map_fill(&f->boot.map, &arch);
	fail_clear();
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	image_close(&f->boot.kernel);
	image_close(&f->boot.initrd);
	ram_free(f->ram);
}

static void give_kernel(struct fixture *f, const void *bytes, size_t len)
{
	image_close(&f->boot.kernel);
	g_assert_cmpint(image_take(&f->boot.kernel, "kernel", "test.img", memfd_with(bytes, len)),
			==, 0);
}

static void give_initrd(struct fixture *f, size_t len)
{
	g_autofree uint8_t *bytes = g_malloc(len);

	memset(bytes, 0x5a, len);
	g_assert_cmpint(image_take(&f->boot.initrd, "initrd", "initrd.img", memfd_with(bytes, len)),
			==, 0);
}

static int load(struct fixture *f)
{
	fail_clear();
	return x86_boot_load(&f->boot, f->ram, &f->entry);
}

/* Refused with one reason that names the file. */
static void assert_refused(struct fixture *f, const char *why)
{
	g_assert_cmpint(load(f), ==, -EINVAL);
	g_assert_nonnull(strstr(fail_text(), why));
}

/* ---- ELF with a PVH note ---- */

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t entry;
	} pvh;
	uint8_t code[64];
};

static struct elf good_elf(void)
{
	struct elf elf = {
		.header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
			   .e_type = ET_EXEC,
			   .e_machine = EM_X86_64,
			   .e_version = 1,
			   .e_phoff = offsetof(struct elf, load),
			   .e_ehsize = sizeof(Elf64_Ehdr),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 2},
		.load = {.p_type = PT_LOAD,
			 .p_offset = offsetof(struct elf, code),
			 .p_paddr = 2 * MIB,
			 .p_filesz = 64,
			 .p_memsz = 8192},
		.note = {.p_type = PT_NOTE,
			 .p_offset = offsetof(struct elf, pvh),
			 .p_filesz = 20,
			 .p_memsz = 20},
		.pvh = {.header = {.n_namesz = 4, .n_descsz = 4, .n_type = 18},
			.name = "Xen",
			.entry = 2 * MIB + 16},
	};

	memset(elf.code, 0x90, sizeof(elf.code));
	return elf;
}

static void test_pvh(struct fixture *f, gconstpointer data)
{
	struct elf elf = good_elf();
	const uint8_t *info, *map, *module;
	uint8_t *bss = ram_ptr(f->ram, 2 * MIB + 64, 8128);

	memset(bss, 0xff, 8128);
	give_kernel(f, &elf, sizeof(elf));
	give_initrd(f, 5000);
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmpint(f->entry.kind, ==, X86_ENTRY_PVH);
	g_assert_cmphex(f->entry.rip, ==, 2 * MIB + 16);
	g_assert_cmpmem(ram_ptr(f->ram, 2 * MIB, 64), 64, elf.code, 64);
	/* What the file does not hold reads as zero, also the second time. */
	for (unsigned int i = 0; i < 8128; i++)
		g_assert_cmpint(bss[i], ==, 0);

	info = ram_ptr(f->ram, X86_BOOT_PARAMS, 56);
	g_assert_cmphex(get_le32(info), ==, 0x336ec578);
	g_assert_cmpuint(get_le32(info + 4), ==, 1);
	g_assert_cmpuint(get_le32(info + 12), ==, 1);
	g_assert_cmpstr(ram_ptr(f->ram, get_le64(info + 24), 64), ==, "console=ttyS0 quiet");
	g_assert_cmphex(get_le64(info + 32), ==, X86_ACPI);
	g_assert_cmpuint(get_le32(info + 48), ==, f->boot.map.n);
	map = ram_ptr(f->ram, get_le64(info + 40), 24ULL * f->boot.map.n);
	g_assert_cmphex(get_le64(map + 48), ==, MIB);
	g_assert_cmphex(get_le64(map + 56), ==, MEMORY - MIB);
	g_assert_cmpuint(get_le32(map + 64), ==, 1);

	module = ram_ptr(f->ram, get_le64(info + 16), 32);
	g_assert_cmpuint(get_le64(module + 8), ==, 5000);
	g_assert_cmphex(get_le64(module), ==, MEMORY - 8192);
	g_assert_cmpint(*(uint8_t *)ram_ptr(f->ram, get_le64(module) + 4999, 1), ==, 0x5a);
}

static void test_pvh_marks_what_it_wrote(struct fixture *f, gconstpointer data)
{
	struct elf elf = good_elf();
	g_autofree uint64_t *written = g_new0(uint64_t, f->ram->npages / 64);

	ram_take_written(f->ram, written);
	memset(written, 0, f->ram->npages / 8);
	give_kernel(f, &elf, sizeof(elf));
	g_assert_cmpint(load(f), ==, 0);
	ram_take_written(f->ram, written);
	g_assert_true(written[2 * MIB / 4096 / 64] & 1ULL << (2 * MIB / 4096 % 64));
	g_assert_true(written[0] & 1ULL << (X86_BOOT_PARAMS / 4096));
	g_assert_true(written[0] & 1ULL << (X86_BOOT_CMDLINE / 4096));
}

struct elf_case {
	const char *name;
	void (*break_it)(struct elf *elf);
	const char *why;
};

#define BREAK(fn, statement)            \
	static void fn(struct elf *elf) \
	{                               \
		elf->statement;         \
	}
BREAK(elf_32_bit, header.e_ident[EI_CLASS] = ELFCLASS32)
BREAK(elf_big_endian, header.e_ident[EI_DATA] = ELFDATA2MSB)
BREAK(elf_arm, header.e_machine = EM_AARCH64)
BREAK(elf_object, header.e_type = ET_REL)
BREAK(elf_phentsize, header.e_phentsize = 0)
BREAK(elf_no_phdr, header.e_phnum = 0)
BREAK(elf_many_phdr, header.e_phnum = 0xffff)
BREAK(elf_phoff, header.e_phoff = UINT64_MAX - 8)
BREAK(elf_phoff_end, header.e_phoff = sizeof(struct elf) - 8)
BREAK(elf_offset, load.p_offset = UINT64_MAX)
BREAK(elf_offset_wraps, load.p_offset = UINT64_MAX - 32)
BREAK(elf_filesz, load.p_filesz = 4096)
BREAK(elf_filesz_huge, load.p_filesz = UINT64_MAX)
BREAK(elf_memsz_less, load.p_memsz = 32)
BREAK(elf_memsz_huge, load.p_memsz = UINT64_MAX)
BREAK(elf_memsz_beyond, load.p_memsz = MEMORY)
BREAK(elf_low, load.p_paddr = X86_BOOT_PARAMS)
BREAK(elf_high, load.p_paddr = MEMORY)
BREAK(elf_wraps, load.p_paddr = UINT64_MAX - 16)
BREAK(elf_note_huge, note.p_filesz = 1 << 20)
BREAK(elf_note_beyond, note.p_offset = sizeof(struct elf) - 4)
BREAK(elf_note_name, pvh.header.n_namesz = UINT32_MAX)
BREAK(elf_note_desc, pvh.header.n_descsz = UINT32_MAX)
BREAK(elf_note_type, pvh.header.n_type = 17)
BREAK(elf_note_other, pvh.name[0] = 'Y')
BREAK(elf_note_short, note.p_filesz = 8)
BREAK(elf_entry_low, pvh.entry = 0)
BREAK(elf_entry_high, pvh.entry = 3 * MIB)

static const struct elf_case elf_cases[] = {
	{"32-bit", elf_32_bit, "not a 64-bit"},
	{"big-endian", elf_big_endian, "not for x86-64"},
	{"arm", elf_arm, "not for x86-64"},
	{"object", elf_object, "not an executable"},
	{"phentsize", elf_phentsize, "program headers of 0 bytes"},
	{"no-phdr", elf_no_phdr, "0 program headers"},
	{"many-phdr", elf_many_phdr, "65535 program headers"},
	{"phoff", elf_phoff, "truncated"},
	{"phoff-end", elf_phoff_end, "truncated"},
	{"offset", elf_offset, "truncated"},
	{"offset-wraps", elf_offset_wraps, "truncated"},
	{"filesz", elf_filesz, "truncated"},
	{"filesz-huge", elf_filesz_huge, "more bytes in the file than in memory"},
	{"memsz-less", elf_memsz_less, "more bytes in the file than in memory"},
	{"memsz-huge", elf_memsz_huge, "not within RAM"},
	{"memsz-beyond", elf_memsz_beyond, "not within RAM"},
	{"low", elf_low, "not within RAM"},
	{"high", elf_high, "not within RAM"},
	{"wraps", elf_wraps, "not within RAM"},
	{"note-huge", elf_note_huge, "notes of"},
	{"note-beyond", elf_note_beyond, "truncated"},
	{"note-name", elf_note_name, "without a PVH entry"},
	{"note-desc", elf_note_desc, "without a PVH entry"},
	{"note-type", elf_note_type, "without a PVH entry"},
	{"note-other", elf_note_other, "without a PVH entry"},
	{"note-short", elf_note_short, "without a PVH entry"},
	{"entry-low", elf_entry_low, "in none of its segments"},
	{"entry-high", elf_entry_high, "in none of its segments"},
};

static void test_broken_elf(struct fixture *f, gconstpointer data)
{
	const struct elf_case *c = data;
	struct elf elf = good_elf();

	c->break_it(&elf);
	give_kernel(f, &elf, sizeof(elf));
	assert_refused(f, c->why);
}

static void test_truncated_elf(struct fixture *f, gconstpointer data)
{
	struct elf elf = good_elf();

	for (size_t len = 4; len < offsetof(struct elf, code) + sizeof(elf.code); len++) {
		give_kernel(f, &elf, len);
		g_assert_cmpint(load(f), ==, -EINVAL);
		g_assert_nonnull(strstr(fail_text(), "truncated"));
	}
}

static void test_note_with_64_bit_entry(struct fixture *f, gconstpointer data)
{
	struct elf elf = good_elf();

	elf.pvh.header.n_descsz = 8;
	elf.note.p_filesz = 24;
	memset(elf.code, 0, 4); /* the upper half follows the note in this image */
	give_kernel(f, &elf, sizeof(elf));
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(f->entry.rip, ==, 2 * MIB + 16);
}

/* ---- bzImage ---- */

#define BZ_SETUP (2 * 512)
#define BZ_CODE	 8192
#define BZ_BYTES (BZ_SETUP + BZ_CODE)

static void good_bzimage(uint8_t bytes[BZ_BYTES])
{
	memset(bytes, 0, BZ_BYTES);
	memset(bytes + BZ_SETUP, 0x90, BZ_CODE);
	bytes[0x1f1] = BZ_SETUP / 512 - 1;
	put_le32(bytes + 0x1f4, BZ_CODE / 16);
	put_le16(bytes + 0x1fe, 0xaa55);
	bytes[0x201] = 0x6a; /* the header ends at 0x26c */
	memcpy(bytes + 0x202, "HdrS", 4);
	put_le16(bytes + 0x206, 0x20f);
	put_le32(bytes + 0x22c, 0x7fffffff);
	put_le32(bytes + 0x230, 2 * MIB);
	bytes[0x234] = 1;
	put_le16(bytes + 0x236, 1);
	put_le32(bytes + 0x238, 2047);
	put_le64(bytes + 0x258, 16 * MIB);
	put_le32(bytes + 0x260, 4 * MIB);
	put_le64(bytes + 0x268 - 4, 0x1122334455667788ULL); /* something at the header's end */
}

static void test_bzimage(struct fixture *f, gconstpointer data)
{
	uint8_t bytes[BZ_BYTES];
	const uint8_t *zp;

	good_bzimage(bytes);
	give_kernel(f, bytes, sizeof(bytes));
	give_initrd(f, 10000);
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmpint(f->entry.kind, ==, X86_ENTRY_LINUX64);
	g_assert_cmphex(f->entry.rip, ==, 16 * MIB + 0x200);
	g_assert_cmpmem(ram_ptr(f->ram, 16 * MIB, BZ_CODE), BZ_CODE, bytes + BZ_SETUP, BZ_CODE);
	zp = ram_ptr(f->ram, X86_BOOT_PARAMS, 4096);
	g_assert_cmpint(zp[0x1ef], ==, 0); /* the sentinel */
	g_assert_cmpint(zp[0x210], ==, 0xff);
	g_assert_cmpmem(zp + 0x202, 4, "HdrS", 4);
	g_assert_cmphex(get_le64(zp + 0x70), ==, X86_ACPI);
	g_assert_cmphex(get_le32(zp + 0x218), ==, MEMORY - 12288);
	g_assert_cmpuint(get_le32(zp + 0x21c), ==, 10000);
	g_assert_cmpuint(get_le32(zp + 0xc0) | get_le32(zp + 0xc4) | get_le32(zp + 0xc8), ==, 0);
	g_assert_cmpstr(ram_ptr(f->ram, get_le32(zp + 0x228), 64), ==, "console=ttyS0 quiet");
	g_assert_cmpuint(zp[0x1e8], ==, f->boot.map.n);
	g_assert_cmphex(get_le64(zp + 0x2d0), ==, 0);
	g_assert_cmphex(get_le64(zp + 0x2d0 + 8), ==, X86_LOW_RAM_END);
	/* A jump to where firmware begins resets the machine: mov dx, 0x602; mov al, 1; out dx, al; hlt. */
	g_assert_cmpmem(ram_ptr(f->ram, 0xffff0, 7), 7, "\xba\x02\x06\xb0\x01\xee\xf4", 7);
	/* The page tables map the first 4 GiB to themselves. */
	g_assert_cmphex(get_le64(ram_ptr(f->ram, X86_BOOT_PAGETABLES + 0x2000 + 8 * 2047, 8)), ==,
			0xffe00083);
}

static void test_bzimage_moves_where_preferred_memory_is_not(struct fixture *f, gconstpointer data)
{
	uint8_t bytes[BZ_BYTES];

	good_bzimage(bytes);
	put_le64(bytes + 0x258, 256 * MIB);
	give_kernel(f, bytes, sizeof(bytes));
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(f->entry.rip, ==, 2 * MIB + 0x200);
	bytes[0x234] = 0; /* not relocatable */
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "RAM there ends at 0x4000000");
}

static void test_truncated_bzimage(struct fixture *f, gconstpointer data)
{
	static const size_t lengths[] = {0x206, 0x240, 0x26b, 1023,	    1024,
					 1536,	1600,  5000,  BZ_BYTES - 16};
	uint8_t bytes[BZ_BYTES];

	good_bzimage(bytes);
	for (unsigned int i = 0; i < G_N_ELEMENTS(lengths); i++) {
		give_kernel(f, bytes, lengths[i]);
		assert_refused(f, "truncated");
	}
}

static void test_broken_bzimage(struct fixture *f, gconstpointer data)
{
	uint8_t good[BZ_BYTES], bytes[BZ_BYTES];

	good_bzimage(good);
	memcpy(bytes, good, sizeof(good));
	put_le16(bytes + 0x206, 0x20b);
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "boot protocol 2.11");

	memcpy(bytes, good, sizeof(good));
	put_le16(bytes + 0x236, 0);
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "without a 64-bit entry");

	memcpy(bytes, good, sizeof(good));
	put_le32(bytes + 0x260, UINT32_MAX);
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "it needs");

	memcpy(bytes, good, sizeof(good));
	bytes[0x1f1] = 255;
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "truncated");

	memcpy(bytes, good, sizeof(good));
	put_le64(bytes + 0x258, UINT64_MAX - 100);
	put_le32(bytes + 0x230, 3); /* an alignment that is none */
	give_kernel(f, bytes, sizeof(bytes));
	assert_refused(f, "it needs");
}

static void test_zero_setup_sectors_are_four(struct fixture *f, gconstpointer data)
{
	uint8_t bytes[BZ_BYTES];

	good_bzimage(bytes);
	bytes[0x1f1] = 0;
	put_le32(bytes + 0x1f4, (BZ_BYTES - 5 * 512) / 16);
	give_kernel(f, bytes, sizeof(bytes));
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmpmem(ram_ptr(f->ram, 16 * MIB, 512), 512, bytes + 5 * 512, 512);
}

/* ---- Both ---- */

static void test_neither(struct fixture *f, gconstpointer data)
{
	static const uint8_t script[] = "#!/bin/sh\nexit 0\n";

	give_kernel(f, script, sizeof(script));
	assert_refused(f, "kernel: test.img: neither a Linux bzImage nor an ELF image");
	give_kernel(f, "x", 1);
	assert_refused(f, "truncated");
}

static void test_initrd_too_large(struct fixture *f, gconstpointer data)
{
	struct elf elf = good_elf();

	give_kernel(f, &elf, sizeof(elf));
	give_initrd(f, MEMORY - 2 * MIB);
	assert_refused(f, "initrd.img: ");
	g_assert_nonnull(strstr(fail_text(), "do not fit into memory"));
}

static void test_cmdline_too_long(struct fixture *f, gconstpointer data)
{
	uint8_t bytes[BZ_BYTES];
	g_autofree char *cmdline = g_strnfill(2048, 'x');

	good_bzimage(bytes);
	give_kernel(f, bytes, sizeof(bytes));
	f->boot.cmdline = cmdline;
	assert_refused(f, "at most 2047");
	cmdline[2047] = '\0';
	g_assert_cmpint(load(f), ==, 0);
}

static void test_not_a_file(void)
{
	struct image image;

	g_assert_cmpint(image_open(&image, "kernel", "/nonexistent"), ==, -ENOENT);
	g_assert_cmpint(image_open(&image, "kernel", "/"), ==, -EINVAL);
	g_assert_cmpint(image_open(&image, "kernel", "/dev/null"), ==, -EINVAL);
	g_assert_cmpint(image_take(&image, "kernel", "empty", memfd_create("e", 0)), ==, -EINVAL);
	g_assert_cmpint(image.fd, ==, -1);
}

#define ADD(path, data, fn) g_test_add(path, struct fixture, data, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/boot/pvh", NULL, test_pvh);
	ADD("/boot/pvh/marks", NULL, test_pvh_marks_what_it_wrote);
	ADD("/boot/pvh/truncated", NULL, test_truncated_elf);
	ADD("/boot/pvh/entry64", NULL, test_note_with_64_bit_entry);
	for (unsigned int i = 0; i < G_N_ELEMENTS(elf_cases); i++) {
		g_autofree char *path = g_strdup_printf("/boot/pvh/broken/%s", elf_cases[i].name);

		ADD(path, &elf_cases[i], test_broken_elf);
	}
	ADD("/boot/bzimage", NULL, test_bzimage);
	ADD("/boot/bzimage/moves", NULL, test_bzimage_moves_where_preferred_memory_is_not);
	ADD("/boot/bzimage/truncated", NULL, test_truncated_bzimage);
	ADD("/boot/bzimage/broken", NULL, test_broken_bzimage);
	ADD("/boot/bzimage/setup_sects", NULL, test_zero_setup_sectors_are_four);
	ADD("/boot/neither", NULL, test_neither);
	ADD("/boot/initrd", NULL, test_initrd_too_large);
	ADD("/boot/cmdline", NULL, test_cmdline_too_long);
	g_test_add_func("/boot/not_a_file", test_not_a_file);
	return g_test_run();
}
