// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kernel images: arbitrary bytes as bzImage or ELF. Whatever they say, the loader writes into RAM only, keeps out of the
 * tables, and never enters the guest elsewhere than in RAM. The first byte chooses the initrd's size.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/x86.h"

#define MEMORY (32ULL << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
	if (ftruncate(fd, 0) < 0 || pwrite(fd, bytes, len, 0) != (ssize_t)len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t
		untouched[X86_ACPI_END - X86_LOW_RAM_END]; /* the reset vector is behind it */
	static struct ram *ram;
	static int kernel_fd, initrd_fd;
	struct arch_layout layout = {
		.ram = {.nranges = 1, .range[0] = {.gpa = 0, .size_bytes = MEMORY}},
		.ecam = X86_ECAM,
		.ecam_bytes = X86_ECAM_BYTES,
	};
	struct x86_boot boot = {
		.cmdline = "console=ttyS0", .low_ram_end = MEMORY, .rsdp = X86_ACPI, .fresh = true};
	struct x86_entry entry = {};
	uint8_t *tables;

	if (!ram) {
		memset(untouched, 0xa5, sizeof(untouched));
		log_level = LOG_NONE;
		kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
		initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
		if (ram_new(&ram, &layout.ram))
			abort();
	}
	if (size < 2)
		return 0;
	x86_map_fill(&boot.map, &layout);
	write_all(kernel_fd, data + 1, size - 1);
	boot.kernel = (struct image){
		.fd = kernel_fd, .what = "kernel", .path = "fuzz", .size_bytes = size - 1};
	boot.initrd = (struct image){.fd = -1, .what = "initrd", .path = "fuzz"};
	if (data[0]) {
		if (ftruncate(initrd_fd, data[0] * 100) < 0)
			abort();
		boot.initrd.fd = initrd_fd;
		boot.initrd.size_bytes = data[0] * 100;
	}
	tables = ram_ptr(ram, X86_LOW_RAM_END, sizeof(untouched));
	memcpy(tables, untouched, sizeof(untouched));
	if (x86_boot_load(&boot, ram, &entry) == 0)
		assert(ram_ptr(ram, entry.rip, 1) && entry.rip >= X86_HIGH_RAM);
	assert(!memcmp(tables, untouched, sizeof(untouched)));
	return 0;
}
