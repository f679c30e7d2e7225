// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ACPI tables: their checksums and links, and what iasl, which shares no code with what built them, makes of them when it
 * takes them apart again.
 */
#include "vmm/x86.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "devices/power.h"

#define AREA (X86_ACPI_END - X86_ACPI)

static const struct x86_acpi_input normal = {
	.ncpus = 4,
	.ecam = X86_ECAM,
	.ecam_bytes = X86_ECAM_BYTES,
	.mmio32 = X86_MMIO32,
	.mmio32_bytes = X86_MMIO32_BYTES,
	.mmio64 = 0x1000000000,
	.mmio64_bytes = X86_MMIO64_BYTES,
	.vmgenid = X86_VMGENID,
	.serial = true,
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;

	while (len--)
		total += *bytes++;
	return total;
}

/* The table at that guest address, checked. */
static const uint8_t *table_at(const uint8_t *area, int len, uint64_t gpa)
{
	const uint8_t *table = area + (gpa - X86_ACPI);

	g_assert_cmphex(gpa, >=, X86_ACPI);
	g_assert_cmpint(gpa - X86_ACPI + 36, <=, len);
	g_assert_cmpint(gpa - X86_ACPI + get_le32(table + 4), <=, len);
	g_assert_cmpint(sum(table, get_le32(table + 4)), ==, 0);
	return table;
}

static const uint8_t *find(const uint8_t *area, int len, const char *signature)
{
	const uint8_t *xsdt = table_at(area, len, get_le64(area + 24));

	for (uint32_t at = 36; at < get_le32(xsdt + 4); at += 8) {
		const uint8_t *table = table_at(area, len, get_le64(xsdt + at));

		if (!memcmp(table, signature, 4))
			return table;
	}
	if (!strcmp(signature, "DSDT"))
		return table_at(area, len, get_le64(find(area, len, "FACP") + 140));
	g_assert_not_reached();
}

static void test_links_and_checksums(void)
{
	static const unsigned int counts[] = {1, 4, 64, 254};

	for (unsigned int i = 0; i < G_N_ELEMENTS(counts); i++) {
		g_autofree uint8_t *area = g_malloc(AREA);
		struct x86_acpi_input input = normal;
		const uint8_t *madt;
		int len;

		memset(area, 0xee, AREA);
		input.ncpus = counts[i];
		len = x86_acpi_build(area, AREA, &input);
		g_assert_cmpint(len, >, 0);
		g_assert_cmpmem(area, 8, "RSD PTR ", 8);
		g_assert_cmpint(sum(area, 20), ==, 0);
		g_assert_cmpint(sum(area, 36), ==, 0);
		madt = find(area, len, "APIC");
		g_assert_cmpuint(get_le32(madt + 4), ==, 44 + counts[i] * 8 + 12);
		g_assert_cmphex(get_le64(find(area, len, "MCFG") + 44), ==, X86_ECAM);
		g_assert_cmphex(get_le64(find(area, len, "FACP") + 244 + 4), ==,
				X86_PORT_POWER + POWER_SLEEP_CONTROL);
		find(area, len, "DSDT");
	}
}

static void test_no_room(void)
{
	g_autofree uint8_t *area = g_malloc(AREA);
	int whole = x86_acpi_build(area, AREA, &normal);

	log_level = LOG_ERROR;
	for (int size = 0; size < whole; size += 53) {
		/* Exactly so many bytes, so that a byte too far is seen. */
		g_autofree uint8_t *tight = g_malloc(size ? size : 1);

		g_assert_cmpint(x86_acpi_build(tight, size, &normal), ==, -ENOSPC);
	}
	g_assert_cmpint(x86_acpi_build(area, whole, &normal), ==, whole);
}

/* ---- iasl -d ---- */

static char *disassemble(const char *directory, const char *name, const uint8_t *table)
{
	g_autofree char *aml = g_strdup_printf("%s/%s.aml", directory, name);
	g_autofree char *dsl = g_strdup_printf("%s/%s.dsl", directory, name);
	g_autofree char *command = g_strdup_printf("iasl -d %s", aml);
	g_autofree char *output = NULL, *errors = NULL;
	char *text = NULL;
	int status;

	g_assert_true(g_file_set_contents(aml, (const char *)table, get_le32(table + 4), NULL));
	g_assert_true(g_spawn_command_line_sync(command, &output, &errors, &status, NULL));
	g_assert_cmpint(status, ==, 0);
	g_assert_null(strstr(errors, "Error"));
	g_assert_true(g_file_get_contents(dsl, &text, NULL, NULL));
	g_unlink(aml);
	g_unlink(dsl);
	return text;
}

#define assert_says(text, what) g_assert_nonnull(strstr(text, what))

static void test_disassembled(void)
{
	g_autofree char *iasl = g_find_program_in_path("iasl");
	g_autofree char *directory = g_dir_make_tmp("tern-acpi-XXXXXX", NULL);
	g_autofree uint8_t *area = g_malloc(AREA);
	int len = x86_acpi_build(area, AREA, &normal);
	g_autofree char *dsdt = NULL, *fadt = NULL, *madt = NULL, *mcfg = NULL;

	if (!iasl) {
		g_test_skip("iasl is not installed");
		return;
	}
	dsdt = disassemble(directory, "dsdt", find(area, len, "DSDT"));
	assert_says(dsdt, "Name (P32B, 0x00000000C0000000)");
	assert_says(dsdt, "Name (P32L, 0x0000000020000000)");
	assert_says(dsdt, "Name (P64B, 0x0000001000000000)");
	assert_says(dsdt, "Name (ECMB, 0x00000000E0000000)");
	assert_says(dsdt, "Name (GENA, 0x00000000000A0000)");
	assert_says(dsdt, "Name (SERP, 0x0000000000000001)");
	assert_says(dsdt, "Notify (PWRB, 0x80)");
	assert_says(dsdt, "Notify (VGEN, 0x80)");
	g_assert_null(strstr(dsdt, "0x1111111111111111"));
	/* The numbers that stand in the source and in C alike. */
	assert_says(dsdt, "OperationRegion (EVTR, SystemIO, 0x0604, 0x04)");
	g_assert_cmphex(X86_PORT_POWER + POWER_EVENTS, ==, 0x604);
	assert_says(dsdt, "0x00000009,");
	g_assert_cmpint(X86_GSI_POWER, ==, 9);
	assert_says(dsdt, "0x00000004,");
	g_assert_cmpint(X86_GSI_SERIAL, ==, 4);

	fadt = disassemble(directory, "facp", find(area, len, "FACP"));
	assert_says(fadt, "Hardware Reduced (V5) : 1");
	assert_says(fadt, "Reset Register Supported (V2) : 1");
	assert_says(fadt, "Control Method Power Button (V1) : 1");
	assert_says(fadt, "0000000000000600");
	assert_says(fadt, "0000000000000602");
	madt = disassemble(directory, "apic", find(area, len, "APIC"));
	assert_says(madt, "Local Apic ID : 03");
	assert_says(madt, "PC-AT Compatibility : 0");
	g_assert_null(strstr(madt, "Local Apic ID : 04"));
	mcfg = disassemble(directory, "mcfg", find(area, len, "MCFG"));
	assert_says(mcfg, "Base Address : 00000000E0000000");
	g_rmdir(directory);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/links", test_links_and_checksums);
	g_test_add_func("/acpi/no_room", test_no_room);
	g_test_add_func("/acpi/disassembled", test_disassembled);
	return g_test_run();
}
