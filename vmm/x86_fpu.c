// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x87, SSE and the larger vector registers: between KVM's XSAVE area and saved state by component number.
 *
 * Where a component lies in the area differs between processors, so the area never travels: each component that is in
 * use travels under its number and goes where this host keeps it. That the guest sees the same places on both hosts is
 * another matter, checked with its CPUID (x86_cpuid_check).
 */
#include "vmm/x86_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/x86_cpuid.h"

STATE_TABLE(x86_fpu, 1, X86_FPU);
STATE_TABLE(x86_xsave, 1, X86_XSAVE);

const struct state_table *const x86_fpu_tables[] = {&x86_fpu_table, &x86_xsave_table, NULL};

#define XSAVE_MXCSR_MASK 28
#define XSAVE_HEADER	 512 /* XSTATE_BV; the area is in the standard form, so XCOMP_BV is zero */
#define X87_SSE		 3ULL

static uint32_t component_instance(const struct kvm_vcpu *vcpu, unsigned int component)
{
	return vcpu->index * 64 + component;
}

static int save_components(const struct arch_vm *arch, const struct kvm_vcpu *vcpu,
			   const uint8_t *area, uint32_t area_bytes, uint64_t in_use,
			   struct buf *out)
{
	for (unsigned int i = 2; i < 63; i++) {
		struct x86_xsave state = {};
		uint32_t offset, size_bytes;
		int error;

		if (!(in_use & 1ULL << i) ||
		    !x86_cpuid_xsave_component(arch->cpuid, i, &offset, &size_bytes))
			continue;
		if (size_bytes > X86_COMPONENT_MAX || offset > area_bytes ||
		    size_bytes > area_bytes - offset)
			return fail(-ENOTSUP, "x86: XSAVE component %u of %u bytes at %#x", i,
				    size_bytes, offset);
		state.n_bytes = size_bytes;
		memcpy(state.bytes, area + offset, size_bytes);
		error = state_save(&x86_xsave_table, component_instance(vcpu, i), &state, out);
		if (error)
			return error;
	}
	return 0;
}

static int get_xcr0(const struct arch_vm *arch, struct kvm_vcpu *vcpu, uint64_t *xcr0)
{
	struct kvm_xcrs xcrs = {};
	int error;

	*xcr0 = 1;
	if (!x86_cpuid_xcr0(arch->cpuid))
		return 0;
	error = kvm_x86_get_xcrs(vcpu, &xcrs);
	if (!error && xcrs.nr_xcrs > 0)
		*xcr0 = xcrs.xcrs[0].value;
	return error;
}

int x86_fpu_save(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out)
{
	const uint32_t area_bytes = kvm_x86_xsave_bytes(vcpu->vm);
	AUTO_FREE uint8_t *area = calloc(1, area_bytes);
	struct x86_fpu state = {};
	uint64_t offered = x86_cpuid_xcr0(arch->cpuid) | X87_SSE;
	int error;

	if (!area)
		return fail(-ENOMEM, "x86: no memory for vector state");
	error = kvm_x86_get_xsave(vcpu, area);
	if (error)
		return error;
	memcpy(state.legacy, area, sizeof(state.legacy));
	memset(state.legacy + XSAVE_MXCSR_MASK, 0, 4); /* the processor's, not the guest's */
	state.xstate_bv = get_le64(area + XSAVE_HEADER) & offered;
	error = get_xcr0(arch, vcpu, &state.xcr0);
	if (!error)
		error = state_save(&x86_fpu_table, vcpu->index, &state, out);
	return error ? error : save_components(arch, vcpu, area, area_bytes, state.xstate_bv, out);
}

static int load_components(const struct arch_vm *arch, const struct kvm_vcpu *vcpu,
			   struct state_set *in, uint8_t *area, uint32_t area_bytes,
			   uint64_t in_use)
{
	for (unsigned int i = 2; i < 63; i++) {
		struct x86_xsave state;
		uint32_t offset, size_bytes;
		int error;

		if (!(in_use & 1ULL << i))
			continue;
		if (!x86_cpuid_xsave_component(arch->cpuid, i, &offset, &size_bytes) ||
		    offset > area_bytes || size_bytes > area_bytes - offset)
			return fail(-EBADMSG,
				    "x86: XSAVE component %u is not in this guest's CPUID", i);
		error = state_load(in, &x86_xsave_table, component_instance(vcpu, i), &state);
		if (error)
			return error;
		if (state.n_bytes != size_bytes)
			return fail(-EBADMSG, "x86: XSAVE component %u of %u bytes, not %u", i,
				    state.n_bytes, size_bytes);
		memcpy(area + offset, state.bytes, size_bytes);
	}
	return 0;
}

static int set_xcr0(const struct arch_vm *arch, struct kvm_vcpu *vcpu, uint64_t xcr0)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = xcr0};

	if (!x86_cpuid_xcr0(arch->cpuid))
		return xcr0 == 1 ? 0 : fail(-EBADMSG, "x86: XCR0 of a guest without XSAVE");
	return kvm_x86_set_xcrs(vcpu, &xcrs);
}

int x86_fpu_load(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in)
{
	const uint32_t area_bytes = kvm_x86_xsave_bytes(vcpu->vm);
	struct x86_fpu state;
	uint8_t *area;
	int error = state_load(in, &x86_fpu_table, vcpu->index, &state);

	if (error)
		return error;
	area = calloc(1, area_bytes);
	if (!area)
		return fail(-ENOMEM, "x86: no memory for vector state");
	memcpy(area, state.legacy, sizeof(state.legacy));
	put_le64(area + XSAVE_HEADER, state.xstate_bv);
	error = load_components(arch, vcpu, in, area, area_bytes, state.xstate_bv);
	if (!error)
		error = set_xcr0(arch, vcpu, state.xcr0);
	if (!error)
		error = kvm_x86_set_xsave(vcpu, area);
	free(area);
	return error;
}
