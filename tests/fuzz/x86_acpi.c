// SPDX-License-Identifier: GPL-2.0-or-later
/* ACPI building: any shape of a machine, any room. The tables stay within it, and their checksums hold. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "vmm/x86.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sum(const uint8_t *table, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += table[i];
	assert(sum == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct x86_acpi_input input = {};
	struct reader reader;
	uint8_t *bytes;
	size_t room;
	int len;

	log_level = LOG_NONE;
	reader_init(&reader, data, size);
	input.ncpus = reader_u8(&reader) % 254 + 1;
	input.serial = reader_u8(&reader) & 1;
	room = reader_u16(&reader) % (X86_ACPI_END - X86_ACPI);
	input.ecam = reader_u64(&reader);
	input.ecam_bytes = reader_u64(&reader);
	input.mmio32 = reader_u64(&reader);
	input.mmio32_bytes = reader_u64(&reader);
	input.mmio64 = reader_u64(&reader);
	input.mmio64_bytes = reader_u64(&reader);
	input.vmgenid = reader_u64(&reader);
	bytes = malloc(room ? room : 1);
	if (!bytes)
		return 0;
	len = x86_acpi_build(bytes, room, &input);
	if (len >= 0) {
		const uint8_t *xsdt;

		assert((size_t)len <= room);
		check_sum(bytes, 36);
		xsdt = bytes + (get_le64(bytes + 24) - X86_ACPI);
		check_sum(xsdt, get_le32(xsdt + 4));
		for (uint32_t at = 36; at < get_le32(xsdt + 4); at += 8) {
			const uint8_t *table = bytes + (get_le64(xsdt + at) - X86_ACPI);

			check_sum(table, get_le32(table + 4));
		}
	}
	free(bytes);
	return 0;
}
