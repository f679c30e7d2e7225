/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest takes from the ACPI tables. */
#ifndef GUEST_ACPI_H
#define GUEST_ACPI_H

#include "guest.h"

/* One register write, in port or memory space. */
struct acpi_write {
	bool known, is_port;
	unsigned int width_bytes;
	uint64_t address;
	uint32_t value;
};

struct acpi {
	uint32_t apic_id[GUEST_VCPUS]; /* of machine.nvcpus vCPUs, this one first */
	struct acpi_write power_off, reset;
};

extern struct acpi acpi;

/* Reads FADT, MADT, MCFG and the DSDT's \_S5; rsdp 0: no tables. Fills in `acpi` and its share of `machine`. */
void acpi_read(uint64_t rsdp, uint32_t this_apic_id);

#endif
