// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A walk over PCI configuration space: identity, read-only fields, sizes and places of BARs, the capability list, MSI-X
 * tables inside their BARs; and that absent functions read as all ones and swallow writes.
 */
#include "ktest.h"
#include "pci.h"

#define MSIX_TABLE_MASK 0x7ff

static void check_absent(struct ktest *t, unsigned int function)
{
	for (unsigned int offset = 0; offset < 4096; offset += 1020) {
		pci_write(function, offset, 4, 0x5a5a5a5a);
		KTEST_CHECK(t, pci_read(function, offset, 4) == UINT32_MAX,
			    "function %x is absent but reads %x at %x", function,
			    pci_read(function, offset, 4), offset);
	}
}

static void check_read_only(struct ktest *t, unsigned int function)
{
	static const uint16_t offsets[] = {PCI_VENDOR, PCI_CLASS, PCI_SUBSYSTEM};

	for (unsigned int i = 0; i < ARRAY_SIZE(offsets); i++) {
		uint32_t before = pci_read(function, offsets[i], 4);

		pci_write(function, offsets[i], 4, ~before);
		KTEST_CHECK(t, pci_read(function, offsets[i], 4) == before,
			    "function %x: %x was %x and could be written to %x", function,
			    offsets[i], before, pci_read(function, offsets[i], 4));
	}
}

/* The same bytes whether read by one, two or four. */
static void check_widths(struct ktest *t, unsigned int function)
{
	for (unsigned int offset = 0; offset < 64; offset += 4) {
		uint32_t whole = pci_read(function, offset, 4), pieces = 0;

		for (unsigned int i = 0; i < 4; i++)
			pieces |= pci_read(function, offset + i, 1) << 8 * i;
		KTEST_CHECK(t, pieces == whole, "function %x: %x is %x by bytes, %x by words",
			    function, offset, pieces, whole);
		pieces = pci_read(function, offset, 2) | pci_read(function, offset + 2, 2) << 16;
		KTEST_CHECK(t, pieces == whole, "function %x: %x is %x by halves, %x by words",
			    function, offset, pieces, whole);
	}
}

static void check_bars(struct ktest *t, unsigned int function, const struct pci_bar *bars)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *b = &bars[i];

		if (!b->size)
			continue;
		KTEST_CHECK(t, (b->size & (b->size - 1)) == 0 && b->size >= 4,
			    "function %x: BAR %u has size %lx", function, i, b->size);
		KTEST_CHECK(t, (b->base & (b->size - 1)) == 0,
			    "function %x: BAR %u of size %lx lies at %lx", function, i, b->size,
			    b->base);
	}
}

static void check_msix(struct ktest *t, unsigned int function, const struct pci_bar *bars,
		       unsigned int cap)
{
	unsigned int entries = (pci_read(function, cap + 2, 2) & MSIX_TABLE_MASK) + 1;
	uint32_t table = pci_read(function, cap + 4, 4), pending = pci_read(function, cap + 8, 4);
	const struct pci_bar *bar = (table & 7) < PCI_BARS ? &bars[table & 7] : NULL;
	uint64_t entry;

	KTEST_CHECK(t, bar && (table & ~7u) + entries * 16ul <= bar->size,
		    "function %x: MSI-X table %x with %u entries is not in its BAR", function,
		    table, entries);
	KTEST_CHECK(t, (pending & 7) < PCI_BARS && (pending & ~7u) < bars[pending & 7].size,
		    "function %x: MSI-X pending bits %x are not in their BAR", function, pending);
	if (!bar || !bar->base)
		return;
	entry = bar->base + (table & ~7u);
	for (unsigned int i = 0; i < entries; i++, entry += 16) {
		KTEST_CHECK(t, mmio_read32(entry + 12) & 1,
			    "function %x: MSI-X vector %u is not masked at the start", function, i);
		mmio_write32(entry + 8, 0x1234 + i);
		KTEST_CHECK(t, mmio_read32(entry + 8) == 0x1234 + i,
			    "function %x: MSI-X vector %u keeps no data", function, i);
		mmio_write32(entry + 8, 0);
	}
}

static void check_capabilities(struct ktest *t, unsigned int function, const struct pci_bar *bars)
{
	unsigned int at, seen = 0;

	if (!(pci_read(function, PCI_STATUS, 2) & PCI_STATUS_CAPABILITY))
		return;
	for (at = pci_read(function, PCI_CAPABILITIES, 1); at; at = pci_read(function, at + 1, 1)) {
		KTEST_CHECK(t, at >= 0x40 && (at & 3) == 0, "function %x: a capability at %x",
			    function, at);
		if (at < 0x40 || ++seen > 48)
			break;
		if (pci_read(function, at, 1) == PCI_CAP_MSIX)
			check_msix(t, function, bars, at);
	}
	KTEST_CHECK(t, seen <= 48, "function %x: the capability list has no end", function);
}

void ktest_pci(struct ktest *t)
{
	unsigned int present = 0;

	if (!machine.ecam_base) {
		t->skipped = "no ECAM";
		return;
	}
	for (unsigned int function = 0; function < PCI_FUNCTIONS; function++) {
		struct pci_bar bars[PCI_BARS];

		if (!pci_present(function)) {
			check_absent(t, function);
			continue;
		}
		present++;
		check_read_only(t, function);
		check_widths(t, function);
		pci_enable(function, bars);
		check_bars(t, function, bars);
		check_capabilities(t, function, bars);
	}
	KTEST_CHECK(t, present > 0, "bus 0 is empty");
}
