// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x86-64, first vCPU, from the first instruction at level 3 to guest_main(): start info (PVH), memory map, the rest of
 * the page tables, and the serial port.
 *
 * Not here: kernel-mode code (x86_entry.S), firmware tables (acpi.c), clock (x86_clock.c), other vCPUs (x86_smp.c).
 */
#include "acpi.h"
#include "guest.h"
#include "x86_boot.h"

#define COM1	      0x3f8
#define COM_LSR	      5
#define COM_LSR_READY 0x01
#define COM_LSR_EMPTY 0x20
#define COM_FIFO_SIZE 16

#define START_MAGIC 0x336ec578
#define E820_RAM    1
#define LOW_LIMIT   0x100000 /* what lies below 1 MiB is left to firmware tables and the trampoline */

#define PTE_TABLE 0x07ul
#define PTE_2M	  0xe7ul
#define SIZE_2M	  0x200000ul
#define SIZE_1G	  0x40000000ul
#define SIZE_4G	  0x100000000ul

/* Xen's include/public/arch-x86/hvm/start_info.h */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr;
	uint64_t memmap_paddr; /* from version 1 on */
	uint32_t memmap_entries, reserved;
};

struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

extern char guest_image_start[], guest_image_end[], guest_bss_start[], guest_bss_end[];
extern uint32_t boot_start_info;
extern uint64_t boot_pml4[512], boot_pdpt[512];

struct machine machine;

/* Page directories for memory and devices above 4 GiB: as many GiB as there are pages here. */
static uint64_t more_pd[128][512] NOINIT __attribute__((aligned(4096)));
static unsigned int more_pd_used;
static uint64_t more_pdpt[4][512] NOINIT __attribute__((aligned(4096)));
static unsigned int more_pdpt_used;

unsigned int arch_console_room(void)
{
	return inb(COM1 + COM_LSR) & COM_LSR_EMPTY ? COM_FIFO_SIZE : 0;
}

void arch_console_put(char c)
{
	outb(COM1, (uint8_t)c);
}

int arch_console_get(void)
{
	return inb(COM1 + COM_LSR) & COM_LSR_READY ? inb(COM1) : -1;
}

/* New entries only ever replace absent ones, which no TLB caches: nothing to flush, so this works at level 3. */
static void map_gigabyte(uint64_t gpa)
{
	uint64_t *pml4e = &boot_pml4[gpa >> 39 & 511];
	uint64_t *pdpt, *pd;

	if (!*pml4e) {
		if (more_pdpt_used == ARRAY_SIZE(more_pdpt))
			fatal("no page table left for 0x%lx", gpa);
		memset(more_pdpt[more_pdpt_used], 0, PAGE_SIZE);
		*pml4e = (uint64_t)more_pdpt[more_pdpt_used++] | PTE_TABLE;
	}
	pdpt = (uint64_t *)(*pml4e & ~0xffful);
	if (pdpt[gpa >> 30 & 511])
		return;
	if (more_pd_used == ARRAY_SIZE(more_pd))
		fatal("no page directory left for 0x%lx", gpa);
	pd = more_pd[more_pd_used++];
	gpa &= ~(SIZE_1G - 1);
	for (unsigned int i = 0; i < 512; i++)
		pd[i] = (gpa + i * SIZE_2M) | PTE_2M;
	__asm__ volatile("" ::: "memory");
	pdpt[gpa >> 30 & 511] = (uint64_t)pd | PTE_TABLE;
}

void arch_map_device(uint64_t gpa, uint64_t size)
{
	for (uint64_t at = gpa & ~(SIZE_1G - 1); at < gpa + size; at += SIZE_1G)
		map_gigabyte(at);
}

static void ram_add(uint64_t start, uint64_t end)
{
	start = (start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	end &= ~(PAGE_SIZE - 1);
	if (start >= end)
		return;
	if (machine.nram == MAX_RAM)
		fatal("more than %u pieces of RAM", MAX_RAM);
	machine.ram[machine.nram++] =
		(struct extent){.start = start, .npages = (end - start) >> PAGE_SHIFT};
	if (end > SIZE_4G)
		arch_map_device(start, end - start);
}

/* Adds a piece of RAM without the image and what lies below 1 MiB. */
static void ram_add_around_image(uint64_t start, uint64_t end)
{
	uint64_t image_start = (uint64_t)guest_image_start, image_end = (uint64_t)guest_image_end;

	if (start < LOW_LIMIT)
		start = LOW_LIMIT;
	if (start < image_end && end > image_start) {
		if (start < image_start)
			ram_add(start, image_start);
		start = image_end;
	}
	if (start < end)
		ram_add(start, end);
}

static void read_start_info(const struct start_info *info)
{
	const char *cmdline = (const char *)info->cmdline_paddr;
	const struct memmap_entry *map = (const struct memmap_entry *)info->memmap_paddr;

	if (info->magic != START_MAGIC)
		fatal("start info at 0x%lx has magic 0x%x", (uint64_t)info, info->magic);
	if (cmdline) {
		size_t n = strlen(cmdline);

		if (n >= CMDLINE_MAX)
			fatal("command line of %lu bytes: at most %u", (uint64_t)n,
			      CMDLINE_MAX - 1);
		memcpy(machine.cmdline, cmdline, n);
	}
	if (info->version < 1 || !map)
		fatal("start info has no memory map");
	for (unsigned int i = 0; i < info->memmap_entries; i++) {
		if (map[i].type != E820_RAM)
			continue;
		machine.ram_bytes += map[i].size;
		ram_add_around_image(map[i].addr, map[i].addr + map[i].size);
	}
}

/*
 * The start info's own pieces may lie in what the map calls RAM, so everything is read (and the command line copied)
 * before any of that memory is used for something else.
 */
void x86_boot_main(void)
{
	const struct start_info *info = (const struct start_info *)(uintptr_t)boot_start_info;

	memset(guest_bss_start, 0, (size_t)(guest_bss_end - guest_bss_start));
	say("guest: hello arch=x86-64\n");
	console_flush();
	machine.arch = "x86-64";
	machine.pci_window = 0xc0000000; /* below ECAM on Tern, and free on QEMU with little RAM */
	read_start_info(info);
	acpi_read(info->rsdp_paddr, lapic_read(LAPIC_ID) >> 24);
	x86_clock_init();
	guest_main();
}
