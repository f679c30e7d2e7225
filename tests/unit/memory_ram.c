// SPDX-License-Identifier: GPL-2.0-or-later
/* memory/ram: translation both ways, bounds of every accessor, and the marks that Tern's own writes leave. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "memory/ram.h"

#define MIB (1ULL << 20)
#define TOP (4ULL << 30)

/* 4 MiB at 0 and 2 MiB at 4 GiB: 1,024 + 512 pages. */
static struct ram *two_regions(void)
{
	struct ram_layout layout = {.nranges = 2, .range = {{0, 4 * MIB}, {TOP, 2 * MIB}}};
	struct ram *ram;

	g_assert_cmpint(ram_new(&ram, &layout), ==, 0);
	return ram;
}

static void test_translation(void)
{
	struct ram *ram = two_regions();
	page_t page;

	g_assert_cmpuint(ram->npages, ==, 1536);
	for (page_t i = 0; i < ram->npages; i++) {
		gpa_t gpa = ram_page_to_gpa(ram, i);

		g_assert_true(ram_gpa_to_page(ram, gpa + 4095, &page));
		g_assert_cmpuint(page, ==, i);
		g_assert_true(ram_page_to_hva(ram, i) == ram_ptr(ram, gpa, 4096));
	}
	g_assert_cmphex(ram_page_to_gpa(ram, 1024), ==, TOP);
	g_assert_false(ram_gpa_to_page(ram, 4 * MIB, &page));
	g_assert_false(ram_gpa_to_page(ram, TOP - 1, &page));
	g_assert_false(ram_gpa_to_page(ram, UINT64_MAX, &page));
	ram_free(ram);
}

static void test_bounds(void)
{
	static const struct {
		gpa_t gpa;
		uint64_t len;
		bool ok;
	} cases[] = {
		{0, 4 * MIB, true},
		{0, 4 * MIB + 1, false},
		{4 * MIB - 1, 1, true},
		{4 * MIB - 1, 2, false},
		{4 * MIB, 0, true},
		{4 * MIB, 1, false},
		{TOP, 2 * MIB, true},
		{TOP - 1, 2, false},
		{TOP, UINT64_MAX, false},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, UINT64_MAX, false},
		{1, UINT64_MAX, false},
	};
	struct ram *ram = two_regions();
	char bytes[2] = {};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		g_assert_cmpint(ram_ptr(ram, cases[i].gpa, cases[i].len) != NULL, ==, cases[i].ok);
	g_assert_cmpint(ram_write(ram, 4 * MIB - 1, "ab", 2), ==, -EFAULT);
	g_assert_cmpint(ram_read(ram, 4 * MIB - 1, bytes, 1), ==, 0);
	g_assert_cmpint(bytes[0], ==, 0); /* nothing was copied */
	g_assert_cmpint(ram_write(ram, TOP + 2 * MIB - 2, "ab", 2), ==, 0);
	g_assert_cmpint(ram_read(ram, TOP + 2 * MIB - 2, bytes, 2), ==, 0);
	g_assert_cmpmem(bytes, 2, "ab", 2);
	ram_free(ram);
}

static unsigned int count(const uint64_t *map, page_t npages)
{
	unsigned int n = 0;

	for (page_t i = 0; i < npages; i++)
		n += map[i / 64] >> (i % 64) & 1;
	return n;
}

static void test_marks(void)
{
	struct ram *ram = two_regions();
	uint64_t map[24] = {};

	ram_take_written(ram, map);
	g_assert_cmpuint(count(map, 1536), ==, 0);
	g_assert_cmpint(ram_write(ram, 4095, "ab", 2), ==, 0);		    /* pages 0 and 1 */
	ram_mark_dirty(ram, TOP + 4096, 1);				    /* page 1025 */
	ram_mark_dirty_hva(ram, (char *)ram_ptr(ram, TOP, 1) + 8192, 4096); /* page 1026 */
	ram_mark_dirty(ram, 4 * MIB - 1, 8192); /* page 1023 and then no RAM */
	ram_mark_dirty(ram, UINT64_MAX, 100);
	ram_mark_dirty(ram, 0x123000, 0);
	ram_take_written(ram, map);
	g_assert_cmpuint(count(map, 1536), ==, 5);
	g_assert_cmphex(map[0], ==, 3);
	g_assert_cmphex(map[1023 / 64], ==, 1ULL << 63);
	g_assert_cmphex(map[1024 / 64], ==, 6);
	memset(map, 0, sizeof(map));
	ram_take_written(ram, map);
	g_assert_cmpuint(count(map, 1536), ==, 0); /* taken once */
	ram_free(ram);
}

/* The second mapping of the memfd sees the first one's pages at offset page * 4096, and nobody can shrink it. */
static void test_memfd(void)
{
	struct ram *ram = two_regions();
	uint8_t *second =
		mmap(NULL, ram->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ram->memfd, 0);

	g_assert_true(second != MAP_FAILED);
	ram_page_to_hva(ram, 1024)[7] = 42;
	g_assert_cmpint(second[1024 * 4096 + 7], ==, 42);
	g_assert_cmpint(ftruncate(ram->memfd, 0), ==, -1);
	g_assert_cmpint(errno, ==, EPERM);
	munmap(second, ram->size_bytes);
	ram_free(ram);
}

/* As the mover has it: all regions as one stretch, where huge pages can back it. */
static void test_map_file(void)
{
	struct ram *ram = two_regions();
	uint8_t *all = ram_map_file(ram->memfd, 0, ram->size_bytes);

	g_assert_nonnull(all);
	g_assert_cmphex((uintptr_t)all % RAM_GRAIN, ==, 0);
	for (page_t page = 0; page < ram->npages; page += 511) {
		*ram_page_to_hva(ram, page) = (uint8_t)page | 1;
		g_assert_cmpuint(all[page * RAM_PAGE_BYTES], ==, (uint8_t)page | 1);
	}
	munmap(all, ram->size_bytes);
	g_assert_null(ram_map_file(-1, 0, RAM_GRAIN));
	g_assert_cmpint(errno, ==, EBADF);
	ram_free(ram);
}

static void test_bad_layouts(void)
{
	static const struct ram_layout bad[] = {
		{.nranges = 0},
		{.nranges = RAM_REGIONS_MAX + 1},
		{.nranges = 1, .range = {{0, 0}}},
		{.nranges = 1, .range = {{0, 3 * MIB}}},
		{.nranges = 1, .range = {{MIB, 2 * MIB}}},
		{.nranges = 2, .range = {{0, 4 * MIB}, {2 * MIB, 2 * MIB}}},
		{.nranges = 2, .range = {{0, 4 * MIB}, {4 * MIB, 2 * MIB}}},
		{.nranges = 2, .range = {{TOP, 2 * MIB}, {0, 2 * MIB}}},
		{.nranges = 1, .range = {{UINT64_MAX - 2 * MIB + 1, 4 * MIB}}},
		{.nranges = 1, .range = {{0, 2 * MIB}}, .backing = RAM_HUGETLB_1G},
	};
	struct ram_layout huge = {.nranges = 1, .range = {{0, 1ULL << 50}}};
	struct ram *ram;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_cmpint(ram_new(&ram, &bad[i]), ==, -EINVAL);
	g_assert_cmpint(ram_new(&ram, &huge), ==, -ENOMEM);
	g_assert_nonnull(strstr(fail_text(), "1073741824 MiB"));
}

static void test_residency(void)
{
	struct ram *ram = two_regions();
	struct ram_residency residency;

	memset(ram_ptr(ram, 0, 3 * 4096), 1, 3 * 4096);
	g_assert_cmpint(ram_get_residency(ram, &residency), ==, 0);
	g_assert_cmpuint(residency.resident_bytes, >=, 3 * 4096);
	g_assert_cmpuint(residency.resident_bytes, <=, ram->size_bytes);
	ram_free(ram);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory/ram/translation", test_translation);
	g_test_add_func("/memory/ram/bounds", test_bounds);
	g_test_add_func("/memory/ram/marks", test_marks);
	g_test_add_func("/memory/ram/memfd", test_memfd);
	g_test_add_func("/memory/ram/map-file", test_map_file);
	g_test_add_func("/memory/ram/bad-layouts", test_bad_layouts);
	g_test_add_func("/memory/ram/residency", test_residency);
	return g_test_run();
}
