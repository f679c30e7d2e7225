// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * arm64, first vCPU, from the MMU to guest_main(): what the device tree says, memory in the page tables, the serial port
 * (16550 or PL011, whichever there is).
 *
 * Not here: the first instructions (arm64_entry.S), PSCI (arm64_psci.c).
 */
#include "arm64_boot.h"
#include "fdt.h"

#define DESC_TABLE  0x3ul
#define DESC_NORMAL 0x701ul
#define DESC_DEVICE 0x0060000000000705ul
#define SIZE_1G	    0x40000000ul
#define L1_TABLES   7
#define FDT_ROOM    0x200000ul /* as much as a device tree may have (booting.rst) */

#define PL011_DR	0x00
#define PL011_FR	0x18
#define PL011_FR_RXFE	0x10
#define PL011_FR_TXFE	0x80
#define UART_LSR	5
#define UART_LSR_READY	0x01
#define UART_LSR_EMPTY	0x20
#define UART_FIFO_BYTES 16

#define PCI_SPACE_MASK	0x03000000u
#define PCI_SPACE_MEM32 0x02000000u
#define PCI_RANGE_CELLS 7 /* three of PCI, two of the CPU, two of size */

extern char guest_image_start[], guest_image_end[], guest_bss_start[], guest_bss_end[];
extern uint64_t boot_l0[512];

struct machine machine;
struct arm64 arm64;

static struct {
	uint64_t base;
	unsigned int shift;
	bool is_pl011;
} serial;

static unsigned int l1_used = 1;

/* Absent entries only ever become present: no TLB holds them, a barrier is enough. */
static void map_gigabyte(uint64_t gpa, uint64_t attributes)
{
	uint64_t *l0e = &boot_l0[gpa >> 39 & 511], *l1e;

	if (!*l0e) {
		if (l1_used == L1_TABLES)
			fatal("no page table left for 0x%lx", gpa);
		/* Zero since before the MMU was on. */
		*l0e = (uint64_t)(boot_l0 + 512 * (1 + l1_used++)) | DESC_TABLE;
	}
	l1e = (uint64_t *)(*l0e & ~0xffful) + (gpa >> 30 & 511);
	if (!*l1e)
		*l1e = (gpa & ~(SIZE_1G - 1)) | attributes;
	__asm__ volatile("dsb ishst; isb" ::: "memory");
}

void arch_map_device(uint64_t gpa, uint64_t size)
{
	for (uint64_t at = gpa & ~(SIZE_1G - 1); at < gpa + size; at += SIZE_1G)
		map_gigabyte(at, DESC_DEVICE);
}

static uint64_t uart(unsigned int reg)
{
	return serial.base + ((uint64_t)reg << serial.shift);
}

unsigned int arch_console_room(void)
{
	if (!serial.base)
		return UART_FIFO_BYTES;
	if (serial.is_pl011)
		return mmio_read32(serial.base + PL011_FR) & PL011_FR_TXFE ? UART_FIFO_BYTES : 0;
	return mmio_read8(uart(UART_LSR)) & UART_LSR_EMPTY ? UART_FIFO_BYTES : 0;
}

void arch_console_put(char c)
{
	if (!serial.base)
		return;
	if (serial.is_pl011)
		mmio_write32(serial.base + PL011_DR, (uint8_t)c);
	else
		mmio_write8(uart(0), (uint8_t)c);
}

int arch_console_get(void)
{
	if (!serial.base)
		return -1;
	if (serial.is_pl011)
		return mmio_read32(serial.base + PL011_FR) & PL011_FR_RXFE
			       ? -1
			       : (int)(mmio_read32(serial.base + PL011_DR) & 0xff);
	return mmio_read8(uart(UART_LSR)) & UART_LSR_READY ? mmio_read8(uart(0)) : -1;
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
}

/* The device tree is read to its end before anybody writes to RAM, so only the image is in the way. */
static void take_memory(const struct fdt_property *reg)
{
	uint64_t image_start = (uint64_t)guest_image_start, image_end = (uint64_t)guest_image_end;

	for (uint32_t at = 0; at + 16 <= reg->length; at += 16) {
		uint64_t start = fdt_cells(reg->value + at, 2);
		uint64_t end = start + fdt_cells(reg->value + at + 8, 2);

		machine.ram_bytes += end - start;
		for (uint64_t gib = start & ~(SIZE_1G - 1); gib < end; gib += SIZE_1G)
			map_gigabyte(gib, DESC_NORMAL);
		if (start < image_end && end > image_start) {
			ram_add(start, image_start);
			start = image_end;
		}
		ram_add(start, end);
	}
}

static void take_pci(const struct fdt_node *node)
{
	machine.ecam_base = fdt_cells(node->reg.value, 2);
	machine.ecam_last_bus = node->bus_range.length >= 8
					? (unsigned int)fdt_cells(node->bus_range.value + 4, 1)
					: 0;
	for (uint32_t at = 0; at + 4 * PCI_RANGE_CELLS <= node->ranges.length;
	     at += 4 * PCI_RANGE_CELLS) {
		const uint8_t *range = node->ranges.value + at;

		if ((fdt_cells(range, 1) & PCI_SPACE_MASK) == PCI_SPACE_MEM32)
			machine.pci_window = fdt_cells(range + 12, 2);
	}
}

static void take_serial(const struct fdt_node *node, bool is_pl011)
{
	if (serial.base)
		return;
	serial.base = fdt_cells(node->reg.value, 2);
	serial.is_pl011 = is_pl011;
	if (node->reg_shift.value)
		serial.shift = (unsigned int)fdt_cells(node->reg_shift.value, 1);
	arch_map_device(serial.base, PAGE_SIZE);
}

static void take_cpu(const struct fdt_node *node)
{
	if (machine.nvcpus < GUEST_VCPUS)
		arm64.mpidr[machine.nvcpus++] = fdt_cells(node->reg.value, node->reg.length / 4);
}

/* Distributor, then redistributors. */
static void take_gic(const struct fdt_node *node)
{
	arm64.gicd = fdt_cells(node->reg.value, 2);
	arm64.gicr = fdt_cells(node->reg.value + 16, 2);
}

static void take_bootargs(const struct fdt_property *bootargs)
{
	if (bootargs->length > CMDLINE_MAX)
		fatal("command line of %u bytes: at most %u", bootargs->length, CMDLINE_MAX - 1);
	memcpy(machine.cmdline, bootargs->value, bootargs->length);
}

static void take_node(const struct fdt_node *node)
{
	if (node->bootargs.value)
		take_bootargs(&node->bootargs);
	if (fdt_lists(&node->device_type, "memory"))
		take_memory(&node->reg);
	if (fdt_lists(&node->device_type, "cpu"))
		take_cpu(node);
	if (fdt_lists(&node->method, "smc"))
		arm64.psci_by_smc = true;
	if (fdt_lists(&node->compatible, "arm,gic-v3"))
		take_gic(node);
	if (fdt_lists(&node->compatible, "arm,gic-v3-its"))
		arm64.its = fdt_cells(node->reg.value, 2);
	if (fdt_lists(&node->compatible, "pci-host-ecam-generic"))
		take_pci(node);
	if (fdt_lists(&node->compatible, "ns16550a"))
		take_serial(node, false);
	if (fdt_lists(&node->compatible, "arm,pl011"))
		take_serial(node, true);
}

void arm64_boot_main(const void *fdt)
{
	uint64_t hz;

	memset(guest_bss_start, 0, (size_t)(guest_bss_end - guest_bss_start));
	l1_used = 1;
	machine.arch = "arm64";
	machine.told_end = (uint64_t)fdt + FDT_ROOM;
	if (!fdt_walk(fdt, take_node))
		fatal("no device tree at 0x%lx", (uint64_t)fdt);
	say("guest: hello arch=arm64\n");
	console_flush();
	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hz));
	machine.clock_khz = param_number("tsc_khz", hz / 1000);
	machine.clock_source = param_number("tsc_khz", 0) ? "cmdline" : "cntfrq";
	if (!machine.clock_khz)
		fatal("CNTFRQ_EL0 is %lu", hz);
	guest_main();
}

uint64_t arch_guest_time_ns(void)
{
	uint64_t count = clock_now();

	return count / machine.clock_khz * 1000000 +
	       count % machine.clock_khz * 1000000 / machine.clock_khz;
}

void arm64_exception(uint64_t esr, uint64_t elr, uint64_t far)
{
	fatal("exception esr=0x%lx elr=0x%lx (image + 0x%lx) far=0x%lx", esr, elr,
	      elr - (uint64_t)guest_image_start, far);
}
