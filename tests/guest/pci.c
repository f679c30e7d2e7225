// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PCI bus 0 through ECAM (PCI Express base specification, 7.2.2), and the placing of BARs where no firmware does it.
 *
 * Not here: what the functions are (virtio.c), tests of them (ktest_pci.c).
 */
#include "pci.h"

#define ECAM_FUNCTION_SHIFT 12
#define BAR_IO		    0x1
#define BAR_TYPE_64	    0x4
#define BAR_IO_MASK	    (~0x3u)
#define BAR_MEM_MASK	    (~0xfu)
#define CAPABILITIES_MAX    48

static uint64_t next_bar; /* in machine.pci_window */

void pci_init(void)
{
	next_bar = param_number("pci_window", machine.pci_window);
	if (machine.ecam_base)
		arch_map_device(machine.ecam_base, PCI_FUNCTIONS << ECAM_FUNCTION_SHIFT);
}

static uint64_t config_address(unsigned int function, unsigned int offset)
{
	return machine.ecam_base + ((uint64_t)function << ECAM_FUNCTION_SHIFT) + offset;
}

uint32_t pci_read(unsigned int function, unsigned int offset, unsigned int bytes)
{
	uint64_t at = config_address(function, offset);

	if (!machine.ecam_base)
		return UINT32_MAX;
	return bytes == 1 ? mmio_read8(at) : bytes == 2 ? mmio_read16(at) : mmio_read32(at);
}

void pci_write(unsigned int function, unsigned int offset, unsigned int bytes, uint32_t value)
{
	uint64_t at = config_address(function, offset);

	if (!machine.ecam_base)
		return;
	if (bytes == 1)
		mmio_write8(at, (uint8_t)value);
	else if (bytes == 2)
		mmio_write16(at, (uint16_t)value);
	else
		mmio_write32(at, value);
}

static uint32_t bar_probe(unsigned int function, unsigned int n, uint32_t *original)
{
	uint32_t mask;

	*original = pci_read(function, PCI_BAR(n), 4);
	pci_write(function, PCI_BAR(n), 4, UINT32_MAX);
	mask = pci_read(function, PCI_BAR(n), 4);
	pci_write(function, PCI_BAR(n), 4, *original);
	return mask;
}

/* Returns how many BAR registers this one takes. */
static unsigned int bar_read(unsigned int function, unsigned int n, struct pci_bar *bar)
{
	uint32_t low, low_mask, high = 0, high_mask = UINT32_MAX;

	low_mask = bar_probe(function, n, &low);
	*bar = (struct pci_bar){.is_io = low_mask & BAR_IO};
	if (bar->is_io) {
		bar->base = low & BAR_IO_MASK;
		bar->size = (uint16_t)(~(low_mask & BAR_IO_MASK) + 1);
		return 1;
	}
	bar->is_64 = (low_mask & 0x6) == BAR_TYPE_64;
	if (bar->is_64)
		high_mask = bar_probe(function, n + 1, &high);
	if (low_mask == 0 && (!bar->is_64 || high_mask == 0))
		return bar->is_64 ? 2 : 1;
	bar->base = (uint64_t)high << 32 | (low & BAR_MEM_MASK);
	bar->size = ~((uint64_t)high_mask << 32 | (low_mask & BAR_MEM_MASK)) + 1;
	return bar->is_64 ? 2 : 1;
}

static void bar_place(unsigned int function, unsigned int n, struct pci_bar *bar)
{
	if (!next_bar)
		fatal("pci function 0x%x: BAR %u has no address: give pci_window=", function, n);
	bar->base = (next_bar + bar->size - 1) & ~(bar->size - 1);
	next_bar = bar->base + bar->size;
	pci_write(function, PCI_BAR(n), 4, (uint32_t)bar->base);
	if (bar->is_64)
		pci_write(function, PCI_BAR(n + 1), 4, (uint32_t)(bar->base >> 32));
}

void pci_enable(unsigned int function, struct pci_bar bars[PCI_BARS])
{
	uint32_t command = pci_read(function, PCI_COMMAND, 2);

	memset(bars, 0, PCI_BARS * sizeof(bars[0]));
	if ((pci_read(function, PCI_HEADER_TYPE, 1) & 0x7f) != 0)
		return;
	pci_write(function, PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MEMORY);
	for (unsigned int n = 0; n < PCI_BARS;) {
		struct pci_bar *bar = &bars[n];
		unsigned int taken = bar_read(function, n, bar);

		if (bar->size && !bar->is_io) {
			if (!bar->base)
				bar_place(function, n, bar);
			arch_map_device(bar->base, bar->size);
		}
		n += taken;
	}
	pci_write(function, PCI_COMMAND, 2, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

unsigned int pci_find_capability(unsigned int function, unsigned int id, unsigned int after)
{
	unsigned int at;

	if (!(pci_read(function, PCI_STATUS, 2) & PCI_STATUS_CAPABILITY))
		return 0;
	at = pci_read(function, after ? after + 1 : PCI_CAPABILITIES, 1) & 0xfc;
	for (unsigned int i = 0; at && i < CAPABILITIES_MAX; i++) {
		if (pci_read(function, at, 1) == id)
			return at;
		at = pci_read(function, at + 1, 1) & 0xfc;
	}
	return 0;
}
