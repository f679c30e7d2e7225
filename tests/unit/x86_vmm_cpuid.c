// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUID: levels are closed lists (the same bytes on every host that can do them), refusals name what lacks, and `host`
 * never shows what does not migrate.
 */
#include "vmm/x86_cpuid.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/x86_cpuid_features.h"

static struct kvm_cpuid2 *table_new(void)
{
	return calloc(1,
		      sizeof(struct kvm_cpuid2) + X86_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
}

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *table, uint32_t function, uint32_t index,
				    uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	struct kvm_cpuid_entry2 *entry = &table->entries[table->nent++];
	bool indexed = function == 4 || function == 7 || function == 0xb || function == 0xd;

	*entry = (struct kvm_cpuid_entry2){.function = function,
					   .index = index,
					   .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
					   .eax = eax,
					   .ebx = ebx,
					   .ecx = ecx,
					   .edx = edx};
	return entry;
}

/* A host that has every bit of every feature register, of some vendor, with AMD's or Intel's AVX-512 layout. */
static struct kvm_cpuid2 *rich_host(bool amd, uint32_t noise)
{
	struct kvm_cpuid2 *t = table_new();

	if (amd)
		add(t, 0, 0, 0x1f, 0x68747541, 0x444d4163, 0x69746e65);
	else
		add(t, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69);
	add(t, 1, 0, 0x00a20f10 + noise, noise << 8, ~0U, ~0U);
	add(t, 2, 0, 0x00feff01, 0xf0, 0, noise);
	add(t, 4, 0, 0x1c004121, 0x01c0003f, 0x3f, 0);
	add(t, 4, 3, 0x1c03c163, 0x03c0003f, 0x7fff, 4);
	add(t, 6, 0, ~0U, 2, 9, 0);
	add(t, 7, 0, 2, ~0U, ~0U, ~0U);
	add(t, 7, 1, ~0U, ~0U, ~0U, ~0U);
	add(t, 0xa, 0, 0x07300404, 0, 0, 0x603);
	add(t, 0xb, 0, 1, 2, 0x100, noise);
	add(t, 0xd, 0, 0x602e7, 0x240, 0x2b00, 0);
	add(t, 0xd, 1, 0x1f, 0x2400, 0x1900, 0);
	add(t, 0xd, 2, 0x100, 0x240, 0, 0);
	add(t, 0xd, 5, 0x40, amd ? 0x340 : 0x440, 0, 0);
	add(t, 0xd, 6, 0x200, amd ? 0x380 : 0x480, 0, 0);
	add(t, 0xd, 7, 0x400, amd ? 0x580 : 0x680, 0, 0);
	add(t, 0xd, 9, 8, amd ? 0x980 : 0xa80, 0, 0);
	add(t, 0xd, 17, 0x40, 0xac0, 2, 0);
	add(t, 0xd, 18, 0x2000, 0xb00, 6, 0);
	add(t, 0x12, 0, 1, 1, 0, 0x241f);
	add(t, 0x15, 0, 2, 166, 24000000, 0);
	add(t, 0x80000000, 0, 0x80000023, 0, 0, 0);
	add(t, 0x80000001, 0, noise, 0x40000000, ~0U, ~0U);
	add(t, 0x80000002, 0, noise, 0x6e65474d, 0x20656e69, 0x74656e49);
	add(t, 0x80000005, 0, noise, 1, 2, 3);
	add(t, 0x80000007, 0, 0, 0, 0, 0x100);
	add(t, 0x80000008, 0, 0x3030, ~0U, 0x7007 + noise, 0);
	add(t, 0x8000000a, 0, 1, 0x8000, 0, 0x119b9cff);
	add(t, 0x8000001e, 0, 3, 0x102, 0, 0);
	add(t, 0x80000021, 0, 0x45, 0, 0, 0);
	add(t, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(t, 0x40000001, 0, ~0U, 0, 0, 1);
	return t;
}

static void assert_same(const struct kvm_cpuid2 *a, const struct kvm_cpuid2 *b)
{
	g_assert_cmpuint(a->nent, ==, b->nent);
	g_assert_cmpmem(a->entries, a->nent * sizeof(a->entries[0]), b->entries,
			b->nent * sizeof(b->entries[0]));
}

static void test_level_is_the_same_on_every_host(void)
{
	static const char *const names[] = {"x86-64-v2", "x86-64-v3"};

	for (unsigned int i = 0; i < 2; i++) {
		g_autofree struct kvm_cpuid2 *amd = rich_host(true, 1),
					     *intel = rich_host(false, 7);
		g_autofree struct kvm_cpuid2 *one = NULL, *other = NULL;

		g_assert_cmpint(x86_cpuid_build(names[i], amd, 4, &one), ==, 0);
		g_assert_cmpint(x86_cpuid_build(names[i], intel, 4, &other), ==, 0);
		assert_same(one, other);
	}
}

static void test_levels_grow(void)
{
	g_autofree struct kvm_cpuid2 *host = rich_host(true, 1);
	static const struct {
		const char *name;
		bool avx, avx512;
		uint32_t xsave_bytes;
	} levels[] = {{"x86-64-v2", false, false, 0},
		      {"x86-64-v3", true, false, 0x340},
		      {"x86-64-v4", true, true, 0x980}};

	for (unsigned int i = 0; i < 3; i++) {
		g_autofree struct kvm_cpuid2 *t = NULL;
		const struct kvm_cpuid_entry2 *leaf;

		g_assert_cmpint(x86_cpuid_build(levels[i].name, host, 1, &t), ==, 0);
		g_assert_cmpint(!!(x86_cpuid_find(t, 1, 0)->ecx & 1U << 28), ==, levels[i].avx);
		g_assert_cmpint(!!(x86_cpuid_find(t, 7, 0)->ebx & 1U << 16), ==, levels[i].avx512);
		leaf = x86_cpuid_find(t, 0xd, 0);
		g_assert_cmpuint(leaf->ecx, ==, levels[i].xsave_bytes);
	}
}

/* Every bit of a level is needed: take each away, and the refusal names it. */
static void test_refusal_names_the_bit(void)
{
	for (size_t i = 0; i < x86_nfeatures; i++) {
		const struct x86_feature *f = &x86_features[i];
		g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;
		struct kvm_cpuid_entry2 *leaf;
		uint32_t *regs;

		if (f->level < X86_LEVEL_2 || f->level > X86_LEVEL_4)
			continue;
		leaf = (struct kvm_cpuid_entry2 *)x86_cpuid_find(host, f->function, f->index);
		g_assert_nonnull(leaf);
		regs = &leaf->eax;
		regs[f->reg] &= ~(1U << f->bit);
		fail_clear();
		g_assert_cmpint(x86_cpuid_build("x86-64-v4", host, 1, &t), ==, -ENOTSUP);
		/* Without XSAVE its components are not there either; the bit itself comes first. */
		g_assert_nonnull(strstr(fail_text(), f->name));
	}
}

static void test_level_needs_its_xsave_layout(void)
{
	g_autofree struct kvm_cpuid2 *intel = rich_host(false, 1), *t = NULL;

	fail_clear();
	g_assert_cmpint(x86_cpuid_build("x86-64-v4", intel, 1, &t), ==, -ENOTSUP);
	g_assert_nonnull(strstr(fail_text(), "XSAVE component 5"));
}

static void test_level_needs_physical_bits(void)
{
	g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;

	((struct kvm_cpuid_entry2 *)x86_cpuid_find(host, 0x80000008, 0))->eax = 0x3024;
	g_assert_cmpint(x86_cpuid_build("x86-64-v2", host, 1, &t), ==, -ENOTSUP);
	g_assert_nonnull(strstr(fail_text(), "36 bits"));
}

static void test_unknown_name_lists_the_known(void)
{
	g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;

	g_assert_cmpint(x86_cpuid_build("pentium", host, 1, &t), ==, -EINVAL);
	g_assert_nonnull(strstr(fail_text(), "x86-64-v3"));
}

static void test_host_shows_nothing_that_does_not_migrate(void)
{
	for (int amd = 0; amd < 2; amd++) {
		g_autofree struct kvm_cpuid2 *host = rich_host(amd, 1), *t = NULL;

		g_assert_cmpint(x86_cpuid_build("host", host, 2, &t), ==, 0);
		for (size_t i = 0; i < x86_nfeatures; i++) {
			const struct x86_feature *f = &x86_features[i];
			const struct kvm_cpuid_entry2 *leaf =
				x86_cpuid_find(t, f->function, f->index);
			const uint32_t *regs = leaf ? &leaf->eax : NULL;

			if (f->level != X86_LEVEL_NEVER || !leaf)
				continue;
			g_assert_cmpuint(regs[f->reg] & 1U << f->bit, ==, 0);
		}
		g_assert_null(x86_cpuid_find(t, 0xa, 0));
		g_assert_null(x86_cpuid_find(t, 0x12, 0));
		g_assert_null(x86_cpuid_find(t, 0x8000000a, 0));
		g_assert_cmpuint(x86_cpuid_xcr0(t), ==, 0x2e7);
		/* KVM's features: what is known here, nothing newer. */
		g_assert_cmpuint(x86_cpuid_find(t, 0x40000001, 0)->eax, ==, 0x01003aeb);
		g_assert_cmpuint(x86_cpuid_find(t, 0x40000001, 0)->edx, ==, 0);
		/* A host can always be what it shows. */
		g_assert_cmpint(x86_cpuid_check(t, host), ==, 0);
	}
}

static void test_host_without_xsave_has_no_xsave_leaf(void)
{
	g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;

	((struct kvm_cpuid_entry2 *)x86_cpuid_find(host, 1, 0))->ecx &= ~(1U << 26);
	g_assert_cmpint(x86_cpuid_build("host", host, 2, &t), ==, 0);
	g_assert_null(x86_cpuid_find(t, 0xd, 0));
	g_assert_cmpuint(x86_cpuid_xcr0(t), ==, 0);
	/* Nor instructions on registers that it cannot switch on: AVX, AVX2, AVX-512, protection keys. */
	g_assert_cmphex(x86_cpuid_find(t, 1, 0)->ecx & 1U << 28, ==, 0);
	g_assert_cmphex(x86_cpuid_find(t, 7, 0)->ebx & (1U << 5 | 1U << 16), ==, 0);
	g_assert_cmphex(x86_cpuid_find(t, 7, 0)->ecx & 1U << 3, ==, 0);
	/* The others stay. */
	g_assert_cmphex(x86_cpuid_find(t, 1, 0)->ecx & 1U << 20, !=, 0);
}

static void test_host_without_avx512_state(void)
{
	g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;

	((struct kvm_cpuid_entry2 *)x86_cpuid_find(host, 0xd, 0))->eax = 0x47;
	g_assert_cmpint(x86_cpuid_build("host", host, 1, &t), ==, 0);
	g_assert_cmphex(x86_cpuid_find(t, 7, 0)->ebx & 1U << 16, ==, 0);
	g_assert_cmphex(x86_cpuid_find(t, 7, 0)->ebx & 1U << 5, !=, 0);
}

static void test_check_names_what_a_target_lacks(void)
{
	g_autofree struct kvm_cpuid2 *rich = rich_host(true, 1), *poor = rich_host(true, 2),
				     *t = NULL;

	g_assert_cmpint(x86_cpuid_build("host", rich, 2, &t), ==, 0);
	((struct kvm_cpuid_entry2 *)x86_cpuid_find(poor, 7, 0))->ebx &= ~(1U << 10);
	fail_clear();
	g_assert_cmpint(x86_cpuid_check(t, poor), ==, -ENOTSUP);
	g_assert_nonnull(strstr(fail_text(), "invpcid"));
	/* A bit without a name is named by its place. */
	((struct kvm_cpuid_entry2 *)x86_cpuid_find(poor, 7, 0))->ebx |= 1U << 10;
	((struct kvm_cpuid_entry2 *)x86_cpuid_find(poor, 7, 1))->eax &= ~(1U << 4);
	g_assert_cmpint(x86_cpuid_check(t, poor), ==, -ENOTSUP);
	g_assert_nonnull(strstr(fail_text(), "0x7.1 EAX bit 4"));
}

static void test_topology(void)
{
	static const unsigned int counts[] = {1, 2, 3, 4, 8, 64};

	for (unsigned int i = 0; i < G_N_ELEMENTS(counts); i++) {
		unsigned int n = counts[i];
		g_autofree struct kvm_cpuid2 *intel = rich_host(false, 1), *t = NULL, *amd = NULL;
		uint32_t shift;

		g_assert_cmpint(x86_cpuid_build("host", intel, n, &t), ==, 0);
		x86_cpuid_set_apic_id(t, n - 1);
		g_assert_cmpuint(x86_cpuid_find(t, 1, 0)->ebx >> 24, ==, n - 1);
		g_assert_cmpint(!!(x86_cpuid_find(t, 1, 0)->edx & 1U << 28), ==, n > 1);
		shift = x86_cpuid_find(t, 0xb, 1)->eax;
		g_assert_cmpuint(x86_cpuid_find(t, 0xb, 1)->ebx, ==, n);
		g_assert_cmpuint(x86_cpuid_find(t, 0xb, 0)->edx, ==, n - 1);
		g_assert_cmpuint((n - 1) >> shift, ==, 0); /* one package */
		g_assert_cmpint(x86_cpuid_build("x86-64-v2", intel, n, &amd), ==, 0);
		g_assert_cmpuint(x86_cpuid_find(amd, 0x80000008, 0)->ecx & 0xff, ==, n - 1);
	}
}

/* What machine version 1 shows of a level may never change: saved machines were told this. FNV-1a over all entries. */
static uint64_t digest(const struct kvm_cpuid2 *t)
{
	const uint8_t *bytes = (const uint8_t *)t->entries;
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < t->nent * sizeof(t->entries[0]); i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
	return hash;
}

static void test_golden(void)
{
	static const struct {
		const char *name;
		uint64_t digest;
	} golden[] = {
		{"x86-64-v2", 0xcf812767f4cf923cULL},
		{"x86-64-v3", 0xbdd835f9d6e22726ULL},
		{"x86-64-v4", 0x16b7895a4e76ae4bULL},
	};

	for (unsigned int i = 0; i < G_N_ELEMENTS(golden); i++) {
		g_autofree struct kvm_cpuid2 *host = rich_host(true, 1), *t = NULL;

		g_assert_cmpint(x86_cpuid_build(golden[i].name, host, 4, &t), ==, 0);
		g_test_message("%s %#llx", golden[i].name, (unsigned long long)digest(t));
		g_assert_cmphex(digest(t), ==, golden[i].digest);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_ERROR;
	g_test_add_func("/cpuid/level_same_everywhere", test_level_is_the_same_on_every_host);
	g_test_add_func("/cpuid/levels_grow", test_levels_grow);
	g_test_add_func("/cpuid/refusal_names_the_bit", test_refusal_names_the_bit);
	g_test_add_func("/cpuid/xsave_layout", test_level_needs_its_xsave_layout);
	g_test_add_func("/cpuid/physical_bits", test_level_needs_physical_bits);
	g_test_add_func("/cpuid/unknown_name", test_unknown_name_lists_the_known);
	g_test_add_func("/cpuid/host_masks", test_host_shows_nothing_that_does_not_migrate);
	g_test_add_func("/cpuid/host_without_xsave", test_host_without_xsave_has_no_xsave_leaf);
	g_test_add_func("/cpuid/host_without_avx512", test_host_without_avx512_state);
	g_test_add_func("/cpuid/check", test_check_names_what_a_target_lacks);
	g_test_add_func("/cpuid/topology", test_topology);
	g_test_add_func("/cpuid/golden", test_golden);
	return g_test_run();
}
