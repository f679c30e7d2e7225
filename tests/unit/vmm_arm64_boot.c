// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmm/arm64_image and vmm/arm64_fdt: crafted kernels, whole and broken; the device tree read back. They need no arm64
 * host, so on others they are compiled in here.
 */
#include <errno.h>
#include <glib.h>
#include <libfdt.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"
#include "vmm/arm64_boot.h"
#ifndef __aarch64__
#include "vmm/arm64_fdt.c"
#include "vmm/arm64_image.c"
#endif

#define MIB	    (1ULL << 20)
#define MEMORY	    (64 * MIB)
#define KERNEL_SIZE 300000

static struct ram *new_ram(void)
{
	struct ram_layout layout = {.nranges = 1, .range = {{ARM64_RAM, MEMORY}}};
	struct ram *ram;

	g_assert_cmpint(ram_new(&ram, &layout), ==, 0);
	return ram;
}

/* A kernel whose bytes tell where they are from. */
static void fill_kernel(uint8_t *bytes, size_t size, uint64_t text_offset, uint64_t image_size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = i * 7 + (i >> 8);
	put_le64(bytes + 8, text_offset);
	put_le64(bytes + 16, image_size);
	put_le64(bytes + 24, 0xa);
	put_le32(bytes + 56, 0x644d5241);
	put_le32(bytes + 60, 0);
}

/* What EFI wants to see in it: a PE header with two sections, the second of which ends where the file does. */
static void add_pe_header(uint8_t *bytes, size_t size)
{
	uint8_t *section = bytes + 64 + 24 + 160;

	put_le32(bytes + 60, 64);
	memset(bytes + 64, 0, 24 + 160 + 2 * 40);
	put_le32(bytes + 64, 0x4550);
	put_le16(bytes + 64 + 6, 2);
	put_le16(bytes + 64 + 20, 160);
	put_le32(section + 16, 4096);
	put_le32(section + 20, 4096);
	put_le32(section + 40 + 16, size - 8192);
	put_le32(section + 40 + 20, 8192);
}

static size_t compress_gzip(const uint8_t *from, size_t len, uint8_t *to, size_t max)
{
	z_stream stream = {
		.next_in = (uint8_t *)from, .avail_in = len, .next_out = to, .avail_out = max};

	g_assert_cmpint(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), ==,
			Z_OK);
	g_assert_cmpint(deflate(&stream, Z_FINISH), ==, Z_STREAM_END);
	deflateEnd(&stream);
	return stream.total_out;
}

static struct image new_image(const void *bytes, size_t len)
{
	struct image image;
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	g_assert_cmpint(write(fd, bytes, len), ==, len);
	g_assert_cmpint(image_take(&image, "kernel", "test-kernel", fd), ==, 0);
	g_assert_cmpint(image_refresh(&image), ==, 0);
	return image;
}

static int load(const void *bytes, size_t len, struct ram *ram, gpa_t *entry, gpa_t *end)
{
	struct image image = new_image(bytes, len);
	int error = arm64_image_load(&image, ram, entry, end);

	image_close(&image);
	return error;
}

static void test_plain_and_gzip(void)
{
	g_autofree uint8_t *kernel = g_malloc(KERNEL_SIZE), *packed = g_malloc(2 * KERNEL_SIZE);
	size_t packed_len;
	gpa_t entry, end;

	fill_kernel(kernel, KERNEL_SIZE, 0x1000, 5 * MIB);
	packed_len = compress_gzip(kernel, KERNEL_SIZE, packed, 2 * KERNEL_SIZE);
	for (int gzip = 0; gzip < 2; gzip++) {
		struct ram *ram = new_ram();

		g_assert_cmpint(load(gzip ? packed : kernel, gzip ? packed_len : KERNEL_SIZE, ram,
				     &entry, &end),
				==, 0);
		g_assert_cmphex(entry, ==, ARM64_KERNEL + 0x1000);
		g_assert_cmphex(end, ==, entry + 5 * MIB);
		g_assert_cmpmem(ram_ptr(ram, entry, KERNEL_SIZE), KERNEL_SIZE, kernel, KERNEL_SIZE);
		ram_free(ram);
	}
}

static void test_broken(void)
{
	static const struct {
		const char *what;
		size_t offset;
		uint64_t value; /* eight bytes at offset */
	} cases[] = {
		{"magic", 56, 0},
		{"big-endian", 24, 1},
		{"larger than memory", 16, MEMORY},
		{"size that wraps", 16, UINT64_MAX - ARM64_KERNEL},
		{"text offset", 8, 2 * MIB},
		{"huge text offset", 8, UINT64_MAX},
	};
	g_autofree uint8_t *kernel = g_malloc(KERNEL_SIZE), *packed = g_malloc(2 * KERNEL_SIZE);
	struct ram *ram = new_ram();
	size_t packed_len;
	gpa_t entry, end;

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_test_message("%s", cases[i].what);
		fill_kernel(kernel, KERNEL_SIZE, 0, MIB);
		put_le64(kernel + cases[i].offset, cases[i].value);
		g_assert_cmpint(load(kernel, KERNEL_SIZE, ram, &entry, &end), ==, -EINVAL);
		g_assert_nonnull(strstr(fail_text(), "test-kernel"));
		packed_len = compress_gzip(kernel, KERNEL_SIZE, packed, 2 * KERNEL_SIZE);
		g_assert_cmpint(load(packed, packed_len, ram, &entry, &end), ==, -EINVAL);
	}
	/* A header that promises less than the stream inflates to. */
	fill_kernel(kernel, KERNEL_SIZE, 0, 4096);
	packed_len = compress_gzip(kernel, KERNEL_SIZE, packed, 2 * KERNEL_SIZE);
	g_assert_cmpint(load(packed, packed_len, ram, &entry, &end), ==, -EINVAL);
	ram_free(ram);
}

static void test_truncated(void)
{
	g_autofree uint8_t *kernel = g_malloc(KERNEL_SIZE), *packed = g_malloc(2 * KERNEL_SIZE);
	struct ram *ram = new_ram();
	size_t packed_len;
	gpa_t entry, end;

	fill_kernel(kernel, KERNEL_SIZE, 0, MIB);
	for (size_t len = 1; len < 64; len++)
		g_assert_cmpint(load(kernel, len, ram, &entry, &end), ==, -EINVAL);
	packed_len = compress_gzip(kernel, KERNEL_SIZE, packed, 2 * KERNEL_SIZE);
	add_pe_header(kernel, KERNEL_SIZE);
	for (size_t len = 64; len < KERNEL_SIZE; len += len < 400 ? 1 : 997)
		g_assert_cmpint(load(kernel, len, ram, &entry, &end), ==, -EINVAL);
	g_assert_cmpint(load(kernel, KERNEL_SIZE, ram, &entry, &end), ==, 0);
	for (size_t len = 1; len < packed_len; len += 997)
		g_assert_cmpint(load(packed, len, ram, &entry, &end), ==, -EINVAL);
	packed[packed_len / 2] ^= 0xff;
	g_assert_cmpint(load(packed, packed_len, ram, &entry, &end), ==, -EINVAL);
	ram_free(ram);
}

static const struct arch_layout layout = {
	.ram = {.nranges = 1, .range = {{ARM64_RAM, 4096 * MIB}}},
	.ecam = ARM64_ECAM,
	.ecam_bytes = ARM64_ECAM_BYTES,
	.mmio32 = ARM64_MMIO32,
	.mmio32_bytes = ARM64_MMIO32_BYTES,
	.mmio64 = 0x2000000000,
	.mmio64_bytes = ARM64_MMIO64_BYTES,
};

static void test_device_tree(void)
{
	struct arm64_fdt_input input = {.layout = &layout,
					.cmdline = "console=ttyS0",
					.nvcpus = 64,
					.initrd = 0x48000000,
					.initrd_end = 0x48001000,
					.serial = true};
	g_autofree void *fdt = g_malloc(65536);
	const fdt32_t *cells;
	int node, n = 0, len;

	g_assert_cmpint(arm64_fdt_build(fdt, 65536, &input), ==, 0);
	g_assert_cmpint(fdt_check_full(fdt, 65536), ==, 0);
	node = fdt_path_offset(fdt, "/chosen");
	g_assert_cmpstr(fdt_getprop(fdt, node, "bootargs", NULL), ==, "console=ttyS0");
	g_assert_cmpint(fdt_path_offset(fdt, fdt_getprop(fdt, node, "stdout-path", NULL)), >=, 0);
	cells = fdt_getprop(fdt, node, "linux,initrd-end", &len);
	g_assert_cmpint(len, ==, 8);
	g_assert_cmphex(fdt32_to_cpu(cells[1]), ==, 0x48001000);
	/* Memory begins behind what is the firmware's. */
	node = fdt_path_offset(fdt, "/memory");
	cells = fdt_getprop(fdt, node, "reg", &len);
	g_assert_cmphex(fdt32_to_cpu(cells[1]), ==, ARM64_FDT);
	g_assert_cmphex((uint64_t)fdt32_to_cpu(cells[2]) << 32 | fdt32_to_cpu(cells[3]), ==,
			4096 * MIB - ARM64_FIRMWARE_BYTES);
	for (node = fdt_node_offset_by_prop_value(fdt, -1, "device_type", "cpu", 4); node >= 0;
	     node = fdt_node_offset_by_prop_value(fdt, node, "device_type", "cpu", 4))
		n++;
	g_assert_cmpint(n, ==, 64);
	g_assert_cmphex(arm64_mpidr(17), ==, 0x101);
	g_assert_cmpint(fdt_node_offset_by_compatible(fdt, -1, "arm,gic-v3-its"), >=, 0);
	g_assert_cmpint(fdt_node_offset_by_compatible(fdt, -1, "pci-host-ecam-generic"), >=, 0);
	g_assert_cmpint(fdt_node_offset_by_compatible(fdt, -1, "microsoft,vmgenid"), >=, 0);
}

static void test_device_tree_without(void)
{
	struct arm64_fdt_input input = {.layout = &layout, .cmdline = "", .nvcpus = 1};
	g_autofree void *fdt = g_malloc(65536);
	int node;

	g_assert_cmpint(arm64_fdt_build(fdt, 65536, &input), ==, 0);
	node = fdt_path_offset(fdt, "/chosen");
	g_assert_null(fdt_getprop(fdt, node, "linux,initrd-start", NULL));
	g_assert_null(fdt_getprop(fdt, node, "stdout-path", NULL));
	g_assert_cmpint(fdt_node_offset_by_compatible(fdt, -1, "ns16550a"), <, 0);
	g_assert_cmpint(arm64_fdt_build(fdt, 512, &input), ==, -ENOSPC);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vmm/arm64-image/plain-and-gzip", test_plain_and_gzip);
	g_test_add_func("/vmm/arm64-image/broken", test_broken);
	g_test_add_func("/vmm/arm64-image/truncated", test_truncated);
	g_test_add_func("/vmm/arm64-fdt/all", test_device_tree);
	g_test_add_func("/vmm/arm64-fdt/without", test_device_tree_without);
	return g_test_run();
}
