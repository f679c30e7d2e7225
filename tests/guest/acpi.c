// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A reader for the few things that the guest needs from ACPI (6.5: 5.2.9 FADT, 5.2.12 MADT, 5.2.16; PCI firmware
 * specification: MCFG): which vCPUs there are, where PCI configuration space is, and what to write to end the VM.
 * It checks every table's checksum, so it is a test of the tables too.
 *
 * Not an AML interpreter: \_S5 is found by its name, as every small kernel does.
 */
#include "acpi.h"

#define FADT_RESET_REG	   116
#define FADT_RESET_VALUE   128
#define FADT_DSDT	   40
#define FADT_PM1A_CNT	   64
#define FADT_FLAGS	   112
#define FADT_X_DSDT	   140
#define FADT_SLEEP_CONTROL 244
#define FADT_HW_REDUCED	   (1u << 20)
#define FADT_RESET_SUP	   (1u << 10)
#define GAS_MEMORY	   0
#define GAS_PORT	   1
#define SLEEP_ENABLE	   (1u << 5)
#define PM1_SLEEP_ENABLE   (1u << 13)

struct table {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision, creator, creator_revision;
} __attribute__((packed));

struct gas {
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));

struct acpi acpi;

static uint64_t read_le(const void *p, unsigned int bytes)
{
	uint64_t value = 0;

	memcpy(&value, p, bytes);
	return value;
}

static bool sums_to_zero(const void *p, size_t n)
{
	uint8_t sum = 0;

	for (const uint8_t *b = p; n--; b++)
		sum = (uint8_t)(sum + *b);
	return sum == 0;
}

static const struct table *table_at(uint64_t gpa)
{
	const struct table *t = (const struct table *)gpa;

	arch_map_device(gpa, 2ul << 20);
	if (!sums_to_zero(t, t->length))
		say("guest: warning acpi table %c%c%c%c has a wrong checksum\n", t->signature[0],
		    t->signature[1], t->signature[2], t->signature[3]);
	return t;
}

static bool is(const struct table *t, const char *signature)
{
	return memcmp(t->signature, signature, 4) == 0;
}

/* The first element of \_S5's package: 08 '_S5_' 12 PkgLength NumElements element ... */
static int find_s5(const struct table *dsdt)
{
	const uint8_t *p = (const uint8_t *)dsdt, *end = p + dsdt->length;

	for (; p + 12 <= end; p++) {
		if (memcmp(p, "_S5_", 4) != 0 || p[4] != 0x12)
			continue;
		p += 5;
		p += 1 + (*p >> 6); /* PkgLength */
		p++;		    /* NumElements */
		if (*p == 0x0a)
			return p[1];
		return *p == 0xff ? -1 : *p; /* ZeroOp, OneOp */
	}
	return -1;
}

static struct acpi_write gas_write(const void *p, uint32_t value)
{
	struct gas gas;

	memcpy(&gas, p, sizeof(gas));
	return (struct acpi_write){.known = gas.address != 0 && gas.space <= GAS_PORT,
				   .is_port = gas.space == GAS_PORT,
				   .width_bytes = 1,
				   .address = gas.address,
				   .value = value};
}

static void read_fadt(const struct table *t)
{
	const uint8_t *fadt = (const uint8_t *)t;
	uint32_t flags = (uint32_t)read_le(fadt + FADT_FLAGS, 4);
	uint64_t dsdt = read_le(fadt + FADT_DSDT, 4);
	int s5;

	if (t->length >= FADT_X_DSDT + 8 && read_le(fadt + FADT_X_DSDT, 8))
		dsdt = read_le(fadt + FADT_X_DSDT, 8);
	s5 = dsdt ? find_s5(table_at(dsdt)) : -1;
	if (t->length > FADT_RESET_VALUE && flags & FADT_RESET_SUP)
		acpi.reset = gas_write(fadt + FADT_RESET_REG, fadt[FADT_RESET_VALUE]);
	if (s5 < 0)
		return;
	if (flags & FADT_HW_REDUCED && t->length >= FADT_SLEEP_CONTROL + sizeof(struct gas))
		acpi.power_off =
			gas_write(fadt + FADT_SLEEP_CONTROL, (uint32_t)s5 << 2 | SLEEP_ENABLE);
	else if (read_le(fadt + FADT_PM1A_CNT, 4))
		acpi.power_off =
			(struct acpi_write){.known = true,
					    .is_port = true,
					    .width_bytes = 2,
					    .address = read_le(fadt + FADT_PM1A_CNT, 4),
					    .value = (uint32_t)s5 << 10 | PM1_SLEEP_ENABLE};
}

static void vcpu_add(uint32_t apic_id, uint32_t flags)
{
	if (!(flags & 1) || apic_id == acpi.apic_id[0])
		return;
	if (machine.nvcpus < GUEST_VCPUS)
		acpi.apic_id[machine.nvcpus++] = apic_id;
}

static void read_madt(const struct table *t)
{
	const uint8_t *p = (const uint8_t *)t + sizeof(*t) + 8,
		      *end = (const uint8_t *)t + t->length;

	for (; p + 2 <= end && p[1] >= 2; p += p[1]) {
		if (p[0] == 0)
			vcpu_add(p[3], (uint32_t)read_le(p + 4, 4));
		else if (p[0] == 9)
			vcpu_add((uint32_t)read_le(p + 4, 4), (uint32_t)read_le(p + 8, 4));
	}
}

static void read_mcfg(const struct table *t)
{
	const uint8_t *entry = (const uint8_t *)t + sizeof(*t) + 8;

	if (t->length < sizeof(*t) + 8 + 16)
		return;
	machine.ecam_base = read_le(entry, 8);
	machine.ecam_last_bus = entry[11];
}

static void read_table(uint64_t gpa)
{
	const struct table *t = table_at(gpa);

	if (is(t, "FACP"))
		read_fadt(t);
	else if (is(t, "APIC"))
		read_madt(t);
	else if (is(t, "MCFG"))
		read_mcfg(t);
}

void acpi_read(uint64_t rsdp, uint32_t this_apic_id)
{
	const uint8_t *p = (const uint8_t *)rsdp;
	const struct table *root;
	unsigned int width = 4;
	uint64_t root_gpa;

	acpi.apic_id[0] = this_apic_id;
	machine.nvcpus = 1;
	if (!rsdp)
		return;
	if (memcmp(p, "RSD PTR ", 8) != 0 || !sums_to_zero(p, 20)) {
		say("guest: warning no RSDP at 0x%lx\n", rsdp);
		return;
	}
	root_gpa = read_le(p + 16, 4);
	if (p[15] >= 2 && read_le(p + 24, 8)) {
		root_gpa = read_le(p + 24, 8);
		width = 8;
	}
	root = table_at(root_gpa);
	for (uint32_t at = sizeof(*root); at + width <= root->length; at += width)
		read_table(read_le((const uint8_t *)root + at, width));
}
