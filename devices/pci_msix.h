/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pci.c asks of pci_msix.c; everybody else uses pci.h. Calls with pci_host.lock held unless stated. */
#ifndef DEVICES_PCI_MSIX_H
#define DEVICES_PCI_MSIX_H

#include "devices/pci.h"

/* Table and pending bits have one BAR to themselves: 128 vectors of 16 bytes, then the bits. */
#define MSIX_BAR_BYTES	4096
#define MSIX_PBA_OFFSET 2048

/* The guest's accesses to that BAR; no lock held. */
void pci_msix_bar_read(struct pci_function *function, uint64_t offset, void *data,
		       unsigned int len);
void pci_msix_bar_write(struct pci_function *function, uint64_t offset, const void *data,
			unsigned int len);
/* Message control or bus mastering may have changed. */
void pci_msix_control_changed(struct pci_function *function);
/* All vectors masked, disconnected, nothing pending. */
void pci_msix_reset(struct pci_function *function);
void pci_msix_fini(struct pci_function *function);

/* The state's parts. commit: after configuration space is in place. */
void pci_msix_save(const struct pci_function *function, struct pci_state *out);
int pci_msix_check(const struct pci_function *function, const struct pci_state *loaded) must_check;
void pci_msix_commit(struct pci_function *function, const struct pci_state *loaded);

#endif
