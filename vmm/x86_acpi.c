// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ACPI tables of a hardware-reduced machine (ACPI 6.5 section 5.2): RSDP, XSDT, FADT, MADT, MCFG written here, and the
 * DSDT, which iasl compiles from x86_dsdt.asl and which is patched for this VM.
 *
 * All tables lie between X86_ACPI and X86_ACPI_END, the RSDP first. They are built in a buffer and copied to the guest
 * in one piece; nothing is read back from the guest.
 */
#include "vmm/x86.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "devices/cmos.h"
#include "devices/power.h"
#include "vmm/x86_dsdt.h" /* made from x86_dsdt.asl: x86_dsdt_aml_code */

#define HEADER_BYTES 36
#define RSDP_BYTES   36
#define FADT_BYTES   276
#define TABLE_ALIGN  16

#define MACHINE_REVISION 1

/* FADT fields. */
#define FADT_DSDT	   40
#define FADT_CENTURY	   108
#define FADT_BOOT_ARCH	   109
#define FADT_FLAGS	   112
#define FADT_RESET_REG	   116
#define FADT_RESET_VALUE   128
#define FADT_MINOR_VERSION 131
#define FADT_X_DSDT	   140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS  256
#define FADT_HYPERVISOR	   268

#define BOOT_ARCH_NO_VGA  (1U << 2)
#define BOOT_ARCH_NO_ASPM (1U << 4)

#define FLAG_WBINVD	(1U << 0)
#define FLAG_PWR_BUTTON (1U << 4) /* not a fixed one */
#define FLAG_SLP_BUTTON (1U << 5) /* same */
#define FLAG_RESET_REG	(1U << 10)
#define FLAG_HW_REDUCED (1U << 20)

#define GAS_SYSTEM_IO 1

#define MADT_LAPIC_ENABLED 1

/* Fields of fixed length: padded with spaces, never terminated. */
static const char rsdp_signature[8] = "RSD PTR ";
static const char oem_id[6] = "TERN  ";
static const char oem_table_id[8] = "TERNVM  ";
static const char creator_id[4] = "TERN";
static const char hypervisor_id[8] = "KVM     ";

struct tables {
	uint8_t *bytes;
	size_t size, used;
	bool full;
};

/* A zeroed piece; offset 0 with `full` set when there is no room. */
static size_t take(struct tables *tables, size_t len)
{
	size_t at = (tables->used + TABLE_ALIGN - 1) / TABLE_ALIGN * TABLE_ALIGN;

	if (tables->full || len > tables->size || at > tables->size - len) {
		tables->full = true;
		return 0;
	}
	memset(tables->bytes + at, 0, len);
	tables->used = at + len;
	return at;
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *bytes++;
	return -sum;
}

/* The header of a table whose body is complete. */
static void finish(uint8_t *table, const char *signature, uint32_t len, uint8_t revision)
{
	memcpy(table, signature, 4);
	put_le32(table + 4, len);
	table[8] = revision;
	memcpy(table + 10, oem_id, sizeof(oem_id));
	memcpy(table + 16, oem_table_id, sizeof(oem_table_id));
	put_le32(table + 24, MACHINE_REVISION);
	memcpy(table + 28, creator_id, sizeof(creator_id));
	put_le32(table + 32, MACHINE_REVISION);
	table[9] = 0;
	table[9] = checksum(table, len);
}

/* ---- DSDT ---- */

/*
 * Gives the eight-byte integer Name(name) its value; each name is there exactly once. It is looked for in the code as
 * compiled: in `aml` a value patched earlier may look like a name.
 */
static void patch_integer(uint8_t *aml, const char *name, uint64_t value)
{
	const uint8_t name_op = 0x08, qword_prefix = 0x0e;
	const uint8_t *code = x86_dsdt_aml_code;
	unsigned int found = 0;

	for (size_t i = 0; i + 14 <= sizeof(x86_dsdt_aml_code); i++) {
		if (code[i] != name_op || memcmp(code + i + 1, name, 4) != 0 ||
		    code[i + 5] != qword_prefix)
			continue;
		put_le64(aml + i + 6, value);
		found++;
	}
	assert(found == 1);
}

static gpa_t build_dsdt(struct tables *tables, const struct x86_acpi_input *input)
{
	const size_t len = sizeof(x86_dsdt_aml_code);
	const struct {
		const char *name;
		uint64_t value;
	} patches[] = {
		{"P32B", input->mmio32},  {"P32L", input->mmio32_bytes},
		{"P64B", input->mmio64},  {"P64L", input->mmio64_bytes},
		{"ECMB", input->ecam},	  {"ECML", input->ecam_bytes},
		{"GENA", input->vmgenid}, {"SERP", input->serial},
	};
	size_t at = take(tables, len);
	uint8_t *aml = tables->bytes + at;

	if (tables->full)
		return 0;
	memcpy(aml, x86_dsdt_aml_code, len);
	for (size_t i = 0; i < ARRAY_SIZE(patches); i++)
		patch_integer(aml, patches[i].name, patches[i].value);
	aml[9] = 0;
	aml[9] = checksum(aml, len);
	return X86_ACPI + at;
}

/* ---- Fixed tables ---- */

static void put_gas_byte_port(uint8_t *at, uint16_t port)
{
	at[0] = GAS_SYSTEM_IO;
	at[1] = 8; /* bits */
	at[2] = 0;
	at[3] = 1; /* access by bytes */
	put_le64(at + 4, port);
}

static gpa_t build_fadt(struct tables *tables, gpa_t dsdt)
{
	size_t at = take(tables, FADT_BYTES);
	uint8_t *fadt = tables->bytes + at;

	if (tables->full)
		return 0;
	put_le32(fadt + FADT_DSDT, (uint32_t)dsdt);
	fadt[FADT_CENTURY] = CMOS_CENTURY;
	put_le16(fadt + FADT_BOOT_ARCH, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM);
	put_le32(fadt + FADT_FLAGS, FLAG_WBINVD | FLAG_PWR_BUTTON | FLAG_SLP_BUTTON |
					    FLAG_RESET_REG | FLAG_HW_REDUCED);
	put_gas_byte_port(fadt + FADT_RESET_REG, X86_PORT_POWER + POWER_RESET);
	fadt[FADT_RESET_VALUE] = POWER_RESET_VALUE;
	fadt[FADT_MINOR_VERSION] = 5;
	put_le64(fadt + FADT_X_DSDT, dsdt);
	put_gas_byte_port(fadt + FADT_SLEEP_CONTROL, X86_PORT_POWER + POWER_SLEEP_CONTROL);
	put_gas_byte_port(fadt + FADT_SLEEP_STATUS, X86_PORT_POWER + POWER_SLEEP_STATUS);
	memcpy(fadt + FADT_HYPERVISOR, hypervisor_id, sizeof(hypervisor_id));
	finish(fadt, "FACP", FADT_BYTES, 6);
	return X86_ACPI + at;
}

/* One local APIC each (id = index, below 255), and the IOAPIC with its 24 pins as interrupts 0..23. */
static gpa_t build_madt(struct tables *tables, unsigned int ncpus)
{
	const size_t len = HEADER_BYTES + 8 + ncpus * 8 + 12;
	size_t at = take(tables, len);
	uint8_t *madt = tables->bytes + at, *p = madt + HEADER_BYTES + 8;

	if (tables->full)
		return 0;
	put_le32(madt + HEADER_BYTES, X86_LAPIC); /* flags: no 8259 */
	for (unsigned int i = 0; i < ncpus; i++, p += 8) {
		p[0] = 0; /* processor local APIC */
		p[1] = 8;
		p[2] = i; /* processor UID */
		p[3] = i; /* APIC id */
		put_le32(p + 4, MADT_LAPIC_ENABLED);
	}
	p[0] = 1; /* I/O APIC */
	p[1] = 12;
	put_le32(p + 4, X86_IOAPIC);
	finish(madt, "APIC", len, 6);
	return X86_ACPI + at;
}

static gpa_t build_mcfg(struct tables *tables, const struct x86_acpi_input *input)
{
	const size_t len = HEADER_BYTES + 8 + 16;
	size_t at = take(tables, len);
	uint8_t *mcfg = tables->bytes + at;

	if (tables->full)
		return 0;
	put_le64(mcfg + HEADER_BYTES + 8, input->ecam);
	/* segment 0, buses 0 to what the window holds, 1 MiB each */
	mcfg[HEADER_BYTES + 8 + 11] = (input->ecam_bytes >> 20) - 1;
	finish(mcfg, "MCFG", len, 1);
	return X86_ACPI + at;
}

static gpa_t build_xsdt(struct tables *tables, const gpa_t *entries, unsigned int n)
{
	const size_t len = HEADER_BYTES + n * 8;
	size_t at = take(tables, len);

	if (tables->full)
		return 0;
	for (unsigned int i = 0; i < n; i++)
		put_le64(tables->bytes + at + HEADER_BYTES + i * 8, entries[i]);
	finish(tables->bytes + at, "XSDT", len, 1);
	return X86_ACPI + at;
}

static void build_rsdp(uint8_t *rsdp, gpa_t xsdt)
{
	memcpy(rsdp, rsdp_signature, sizeof(rsdp_signature));
	memcpy(rsdp + 9, oem_id, sizeof(oem_id));
	rsdp[15] = 2; /* revision: with an XSDT */
	put_le32(rsdp + 20, RSDP_BYTES);
	put_le64(rsdp + 24, xsdt);
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, RSDP_BYTES);
}

int x86_acpi_build(uint8_t *bytes, size_t size, const struct x86_acpi_input *input)
{
	struct tables tables = {.bytes = bytes, .size = size};
	gpa_t list[3], xsdt;
	size_t rsdp;

	assert(input->ncpus >= 1 && input->ncpus < 255);
	rsdp = take(&tables, RSDP_BYTES);
	list[0] = build_fadt(&tables, build_dsdt(&tables, input));
	list[1] = build_madt(&tables, input->ncpus);
	list[2] = build_mcfg(&tables, input);
	xsdt = build_xsdt(&tables, list, ARRAY_SIZE(list));
	if (tables.full)
		return fail(-ENOSPC, "acpi: tables of %u vCPUs need more than %zu bytes",
			    input->ncpus, size);
	build_rsdp(bytes + rsdp, xsdt);
	return tables.used;
}

int x86_acpi_write(struct ram *ram, const struct x86_acpi_input *input, gpa_t *rsdp)
{
	/* A page is enough for a few vCPUs; what they all may need is bounded by the window. */
	uint8_t bytes[2 * RAM_PAGE_BYTES];
	int len = x86_acpi_build(bytes, sizeof(bytes), input);

	_Static_assert(sizeof(bytes) <= X86_ACPI_END - X86_ACPI, "the window holds the tables");
	if (len < 0)
		return len;
	*rsdp = X86_ACPI;
	return ram_write(ram, X86_ACPI, bytes, len);
}
