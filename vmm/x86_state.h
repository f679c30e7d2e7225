/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The saved form of x86 state: one list a section. Numbers are the wire's; docs/wire.md is normative. Only x86_*.c and
 * tests include this.
 */
#ifndef VMM_X86_STATE_H
#define VMM_X86_STATE_H

#include "base/state.h"
#include "vmm/clock.h"
#include "vmm/x86.h"
#include "vmm/x86_msr.h"

/* clang-format off */

/* General registers in KVM's order: rax rbx rcx rdx rsi rdi rsp rbp r8..r15. */
#define X86_REGS(T, F, A, V) \
	A(T, 1, u64, gpr, 16) \
	F(T, 2, u64, rip) \
	F(T, 3, u64, rflags)
STATE_STRUCT(x86_regs, X86_REGS);

/* Segments: cs ds es fs gs ss tr ldt. Attributes: type 0-3, s 4, dpl 5-6, present 7, avl 8, l 9, db 10, g 11, unusable 12. */
#define X86_SEGMENTS 8
#define X86_SREGS(T, F, A, V) \
	A(T, 1, u64, segment_base, X86_SEGMENTS) \
	A(T, 2, u32, segment_limit, X86_SEGMENTS) \
	A(T, 3, u16, segment_selector, X86_SEGMENTS) \
	A(T, 4, u16, segment_attributes, X86_SEGMENTS) \
	F(T, 5, u64, gdt_base) \
	F(T, 6, u16, gdt_limit) \
	F(T, 7, u64, idt_base) \
	F(T, 8, u16, idt_limit) \
	F(T, 9, u64, cr0) \
	F(T, 10, u64, cr2) \
	F(T, 11, u64, cr3) \
	F(T, 12, u64, cr4) \
	F(T, 13, u64, cr8) \
	F(T, 14, u64, efer) \
	F(T, 15, u64, apic_base) \
	F(T, 16, u8, pdptrs_valid) \
	A(T, 17, u64, pdptr, 4)
STATE_STRUCT(x86_sregs, X86_SREGS);

#define X86_DEBUG(T, F, A, V) \
	A(T, 1, u64, db, 4) \
	F(T, 2, u64, dr6) \
	F(T, 3, u64, dr7)
STATE_STRUCT(x86_debug, X86_DEBUG);

#define X86_EVENTS(T, F, A, V) \
	F(T, 1, u8, exception_injected) \
	F(T, 2, u8, exception_nr) \
	F(T, 3, u8, exception_has_error_code) \
	F(T, 4, u32, exception_error_code) \
	F(T, 5, u8, interrupt_injected) \
	F(T, 6, u8, interrupt_nr) \
	F(T, 7, u8, interrupt_soft) \
	F(T, 8, u8, interrupt_shadow) \
	F(T, 9, u8, nmi_injected) \
	F(T, 10, u8, nmi_pending) \
	F(T, 11, u8, nmi_masked) \
	F(T, 12, u32, sipi_vector)
STATE_STRUCT(x86_events, X86_EVENTS);

#define X86_MP(T, F, A, V) \
	F(T, 1, u32, mp_state)
STATE_STRUCT(x86_mp, X86_MP);

/* x87 and SSE: the first 416 bytes of the XSAVE area without MXCSR_MASK. The other components have sections of their own. */
#define X86_FPU_BYTES 416
#define X86_FPU(T, F, A, V) \
	A(T, 1, u8, legacy, X86_FPU_BYTES) \
	F(T, 2, u64, xstate_bv) \
	F(T, 3, u64, xcr0)
STATE_STRUCT(x86_fpu, X86_FPU);

/* One XSAVE component in use, by number: instance is vCPU * 64 + component. */
#define X86_COMPONENT_MAX 2048
#define X86_XSAVE(T, F, A, V) \
	V(T, 1, u8, bytes, X86_COMPONENT_MAX)
STATE_STRUCT(x86_xsave, X86_XSAVE);

#define X86_MSRS(T, F, A, V) \
	V(T, 1, u32, index, X86_MSRS_MAX) \
	V(T, 2, u64, value, X86_MSRS_MAX)
STATE_STRUCT(x86_msrs, X86_MSRS);

/* The register page as architected; KVM's bytes are just that. */
#define X86_LAPIC_STATE(T, F, A, V) \
	A(T, 1, u8, regs, 1024)
STATE_STRUCT(x86_lapic, X86_LAPIC_STATE);

/* ---- The VM ---- */

/* What the guest was told: it is told the same again, or the state is refused. */
#define X86_CPU(T, F, A, V) \
	V(T, 1, u32, function, 256) \
	V(T, 2, u32, index, 256) \
	V(T, 3, u32, flags, 256) \
	V(T, 4, u32, eax, 256) \
	V(T, 5, u32, ebx, 256) \
	V(T, 6, u32, ecx, 256) \
	V(T, 7, u32, edx, 256) \
	F(T, 8, u32, tsc_khz)
STATE_STRUCT(x86_cpu, X86_CPU);

#define X86_IOAPIC_STATE(T, F, A, V) \
	F(T, 1, u64, base) \
	F(T, 2, u32, select) \
	F(T, 3, u32, id) \
	F(T, 4, u32, irr) \
	A(T, 5, u64, redirection, 24)
STATE_STRUCT(x86_ioapic, X86_IOAPIC_STATE);

/* Present in the kernel although nothing is wired to them: a guest may program them. Instance: 0 master, 1 slave. */
#define X86_PIC(T, F, A, V) \
	F(T, 1, u8, last_irr) \
	F(T, 2, u8, irr) \
	F(T, 3, u8, imr) \
	F(T, 4, u8, isr) \
	F(T, 5, u8, priority_add) \
	F(T, 6, u8, irq_base) \
	F(T, 7, u8, read_reg_select) \
	F(T, 8, u8, poll) \
	F(T, 9, u8, special_mask) \
	F(T, 10, u8, init_state) \
	F(T, 11, u8, auto_eoi) \
	F(T, 12, u8, rotate_on_auto_eoi) \
	F(T, 13, u8, special_fully_nested_mode) \
	F(T, 14, u8, init4) \
	F(T, 15, u8, elcr) \
	F(T, 16, u8, elcr_mask)
STATE_STRUCT(x86_pic, X86_PIC);

/* kvmclock and the wall clock at the same moment; paired: with the host's TSC, and each vCPU's offset holds. */
#define X86_CLOCK(T, F, A, V) \
	F(T, 1, u64, guest_ns) \
	F(T, 2, u64, realtime_ns) \
	F(T, 3, u64, host_tsc) \
	F(T, 4, u8, paired)
STATE_STRUCT(x86_clock, X86_CLOCK);
/* clang-format on */

/* The tables, by file, NULL at the end: for tests. */
extern const struct state_table *const x86_register_tables[], *const x86_fpu_tables[],
								      *const x86_clock_tables[];

/* x86_fpu.c: x87, SSE and the components. */
int x86_fpu_save(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out) must_check;
int x86_fpu_load(const struct arch_vm *arch, struct kvm_vcpu *vcpu,
		 struct state_set *in) must_check;

/* x86_clock.c: TSCs and kvmclock. The vCPUs' part is read and checked first, then applied with the VM's. */
int x86_tsc_save(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out) must_check;
int x86_tsc_load(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in) must_check;
int x86_clock_save(const struct arch_vm *arch, struct buf *out) must_check;
int x86_clock_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode) must_check;

/* One MSR. get: -ENOENT when KVM refuses it. */
int x86_msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value) must_check;
int x86_msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value) must_check;

#endif
