// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Vector state by component number. KVM's five calls are played here (so the real ones are not linked): an XSAVE area
 * whose bytes tell where they are from, on hosts that keep components in different places.
 */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "vmm/x86_cpuid.h"
#include "vmm/x86_state.h"

#define AREA_BYTES 4096

static struct {
	uint8_t area[AREA_BYTES];
	uint64_t xcr0;
	unsigned int set_calls;
} fake;

uint32_t kvm_x86_xsave_bytes(const struct kvm_vm *vm)
{
	return AREA_BYTES;
}

int kvm_x86_get_xsave(struct kvm_vcpu *vcpu, void *xsave)
{
	memcpy(xsave, fake.area, AREA_BYTES);
	return 0;
}

int kvm_x86_set_xsave(struct kvm_vcpu *vcpu, const void *xsave)
{
	memcpy(fake.area, xsave, AREA_BYTES);
	fake.set_calls++;
	return 0;
}

int kvm_x86_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *xcrs)
{
	*xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs[0].value = fake.xcr0};
	return 0;
}

int kvm_x86_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs)
{
	fake.xcr0 = xcrs->xcrs[0].value;
	return 0;
}

struct fixture {
	struct arch_vm *arch;
	struct kvm_vcpu vcpu;
	struct buf saved;
};

static void add(struct kvm_cpuid2 *t, uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx,
		uint32_t ecx)
{
	t->entries[t->nent++] = (struct kvm_cpuid_entry2){.function = function,
							  .index = index,
							  .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
							  .eax = eax,
							  .ebx = ebx,
							  .ecx = ecx};
}

/* A guest with AVX at its place and AVX-512's masks at `masks`; without XSAVE when it is 0. */
static void give_cpuid(struct fixture *f, uint32_t masks)
{
	struct kvm_cpuid2 *t = f->arch->cpuid;

	t->nent = 0;
	add(t, 1, 0, 0, 0, masks ? 1U << 26 : 0);
	add(t, 0xd, 0, 0x27, 0, 0);
	add(t, 0xd, 2, 0x100, 0x240, 0);
	add(t, 0xd, 5, 0x40, masks, 0);
}

static void fill_area(uint64_t in_use)
{
	for (unsigned int i = 0; i < AREA_BYTES; i++)
		fake.area[i] = (uint8_t)(i * 7 + 1);
	memset(fake.area + 512, 0, 64);
	put_le64(fake.area + 512, in_use);
}

static void set_up(struct fixture *f, gconstpointer data)
{
	log_level = LOG_ERROR;
	memset(f, 0, sizeof(*f));
	memset(&fake, 0, sizeof(fake));
	f->arch = calloc(1, sizeof(*f->arch));
	f->arch->cpuid = calloc(1, sizeof(struct kvm_cpuid2) + 8 * sizeof(struct kvm_cpuid_entry2));
	f->vcpu.index = 3;
	give_cpuid(f, 0x440);
	buf_init(&f->saved, 1 << 16);
	fail_clear();
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	buf_fini(&f->saved);
	free(f->arch->cpuid);
	free(f->arch);
}

static int load(struct fixture *f)
{
	struct state_set *set;
	int error = state_set_parse(&set, f->saved.bytes, f->saved.len);

	if (error)
		return error;
	error = x86_fpu_load(f->arch, &f->vcpu, set);
	if (!error)
		error = state_set_all_used(set);
	state_set_free(set);
	return error;
}

static void test_round_trip(struct fixture *f, gconstpointer data)
{
	uint8_t before[AREA_BYTES];

	fill_area(0x27);
	fake.xcr0 = 0x27;
	memcpy(before, fake.area, AREA_BYTES);
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	g_assert_cmpmem(before, AREA_BYTES, fake.area, AREA_BYTES);
	memset(&fake, 0xee, sizeof(fake));
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(fake.xcr0, ==, 0x27);
	g_assert_cmphex(get_le64(fake.area + 512), ==, 0x27);
	g_assert_cmphex(get_le64(fake.area + 520), ==, 0); /* the standard form */
	g_assert_cmpmem(before, 28, fake.area, 28);
	g_assert_cmphex(get_le32(fake.area + 28), ==, 0); /* the host's MXCSR mask stays at home */
	g_assert_cmpmem(before + 32, 416 - 32, fake.area + 32, 416 - 32);
	g_assert_cmpmem(before + 0x240, 0x100, fake.area + 0x240, 0x100);
	g_assert_cmpmem(before + 0x440, 0x40, fake.area + 0x440, 0x40);
}

/* A component in its initial state does not travel, and arrives in its initial state. */
static void test_unused_components_stay_at_home(struct fixture *f, gconstpointer data)
{
	fill_area(0x3);
	fake.xcr0 = 0x27;
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	g_assert_cmpuint(f->saved.len, <, 600);
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(get_le64(fake.area + 512), ==, 0x3);
	for (unsigned int i = 576; i < AREA_BYTES; i++)
		g_assert_cmpint(fake.area[i], ==, 0);
}

/* What the guest cannot know of is not saved, whatever the area says (protection keys, bit 9, here). */
static void test_what_is_not_offered_is_not_saved(struct fixture *f, gconstpointer data)
{
	fill_area(0x227);
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(get_le64(fake.area + 512), ==, 0x27);
}

static void test_without_xsave(struct fixture *f, gconstpointer data)
{
	give_cpuid(f, 0);
	fill_area(0x27);
	fake.xcr0 = 0x77;
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	g_assert_cmpint(load(f), ==, 0);
	g_assert_cmphex(get_le64(fake.area + 512), ==, 0x3);
	g_assert_cmphex(fake.xcr0, ==, 0x77); /* never touched */
}

/* Saved with components that this guest's CPUID does not have: refused, and nothing is set. */
static void test_foreign_component_is_refused(struct fixture *f, gconstpointer data)
{
	fill_area(0x27);
	fake.xcr0 = 0x27;
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	f->arch->cpuid->entries[1].eax = 0x7;
	g_assert_cmpint(load(f), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "component 5"));
	g_assert_cmpuint(fake.set_calls, ==, 0);
}

static void test_other_length_is_refused(struct fixture *f, gconstpointer data)
{
	fill_area(0x27);
	fake.xcr0 = 0x27;
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	f->arch->cpuid->entries[2].eax = 0x80;
	g_assert_cmpint(load(f), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "component 2 of 256 bytes, not 128"));
	g_assert_cmpuint(fake.set_calls, ==, 0);
}

/* A table that says that a component lies outside the area (a hostile state's CPUID) writes nowhere. */
static void test_component_beyond_the_area(struct fixture *f, gconstpointer data)
{
	static const uint32_t offsets[] = {AREA_BYTES - 0x3f, AREA_BYTES, UINT32_MAX};

	fill_area(0x27);
	fake.xcr0 = 0x27;
	g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	for (unsigned int i = 0; i < G_N_ELEMENTS(offsets); i++) {
		give_cpuid(f, offsets[i]);
		g_assert_cmpint(load(f), ==, -EBADMSG);
		g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, -ENOTSUP);
		buf_clear(&f->saved);
		give_cpuid(f, 0x440);
		g_assert_cmpint(x86_fpu_save(f->arch, &f->vcpu, &f->saved), ==, 0);
	}
}

#define ADD(path, fn) g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/fpu/round_trip", test_round_trip);
	ADD("/fpu/unused", test_unused_components_stay_at_home);
	ADD("/fpu/not_offered", test_what_is_not_offered_is_not_saved);
	ADD("/fpu/without_xsave", test_without_xsave);
	ADD("/fpu/foreign", test_foreign_component_is_refused);
	ADD("/fpu/length", test_other_length_is_refused);
	ADD("/fpu/beyond", test_component_beyond_the_area);
	return g_test_run();
}
