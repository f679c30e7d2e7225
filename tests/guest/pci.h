/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PCI through ECAM, bus 0: configuration space, BARs, capabilities. */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "guest.h"

#define PCI_VENDOR	 0x00
#define PCI_COMMAND	 0x04
#define PCI_STATUS	 0x06
#define PCI_CLASS	 0x08
#define PCI_HEADER_TYPE	 0x0e
#define PCI_BAR(n)	 (0x10 + 4 * (n))
#define PCI_SUBSYSTEM	 0x2c
#define PCI_CAPABILITIES 0x34

#define PCI_COMMAND_MEMORY    0x2
#define PCI_COMMAND_MASTER    0x4
#define PCI_STATUS_CAPABILITY 0x10
#define PCI_CAP_VENDOR	      0x09
#define PCI_CAP_MSIX	      0x11

#define PCI_FUNCTIONS 256 /* of one bus: device << 3 | function */
#define PCI_BARS      6

struct pci_bar {
	uint64_t base, size; /* size 0: not there, or the upper half of the one before */
	bool is_io, is_64;
};

/* Reads and writes of 1, 2 or 4 bytes; without ECAM reads give all ones. */
uint32_t pci_read(unsigned int function, unsigned int offset, unsigned int bytes);
void pci_write(unsigned int function, unsigned int offset, unsigned int bytes, uint32_t value);

static inline bool pci_present(unsigned int function)
{
	return (uint16_t)pci_read(function, PCI_VENDOR, 2) != 0xffff;
}

/*
 * Sizes the function's BARs; memory BARs that nobody has placed get an address from machine.pci_window. Then switches
 * on memory decoding and bus mastering, and maps what is there.
 */
void pci_enable(unsigned int function, struct pci_bar bars[PCI_BARS]);

/* The next capability with this id after offset `after` (0: from the start); 0: none. */
unsigned int pci_find_capability(unsigned int function, unsigned int id, unsigned int after);

/* Where the firmware's ECAM is, machine.ecam_base. To be called once before all others. */
void pci_init(void);

#endif
