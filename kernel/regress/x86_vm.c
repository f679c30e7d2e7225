// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * x86-64: the guest runs in long mode at privilege level 0, over a one-to-one map of the first 4 GiB in 2 MiB pages;
 * but for the 2 MiB at TEST_GPA, which are mapped page by page, so that shadow paging meets both. The loop uses only instructions that KVM's emulator knows.
 */
#include "vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

const char *const arch_name = "x86-64";

enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD = 0x3000, /* four of them */
	PT = 0x7000,
	CODE = 0x8000,
	STACKS = 0x10000, /* 1 KiB each */
	DONE_PORT = 0x80,
};

/*
 * rdi gpa, rsi count, rdx stride, rcx value, r8 step, r9 operation
 * r10 mismatches, r11 first mismatch, r12 passes, r13 index; rax and rbx walk.
 */
extern const char guest_code[] __attribute__((visibility("hidden")));
extern const char guest_code_end[] __attribute__((visibility("hidden")));
asm(".pushsection .rodata\n"
    "guest_code:\n"
    "pass:	mov	%rdi, %rax\n"
    "	mov	%rcx, %rbx\n"
    "	xor	%r13d, %r13d\n"
    "	test	%rsi, %rsi\n"
    "	je	end_pass\n"
    "	cmp	$1, %r9b\n"
    "	je	check\n"
    "	cmp	$2, %r9b\n"
    "	je	add\n"
    "	cmp	$3, %r9b\n"
    "	je	call\n"
    "write:	mov	%rbx, (%rax)\n"
    "	add	%rdx, %rax\n"
    "	add	%r8, %rbx\n"
    "	inc	%r13\n"
    "	cmp	%rsi, %r13\n"
    "	jne	write\n"
    "	jmp	end_pass\n"
    "check:	cmp	%rbx, (%rax)\n"
    "	je	2f\n"
    "	test	%r10, %r10\n"
    "	jne	1f\n"
    "	mov	%r13, %r11\n"
    "1:	inc	%r10\n"
    "2:	add	%rdx, %rax\n"
    "	add	%r8, %rbx\n"
    "	inc	%r13\n"
    "	cmp	%rsi, %r13\n"
    "	jne	check\n"
    "	jmp	end_pass\n"
    "add:	add	%r8, (%rax)\n"
    "	add	%rdx, %rax\n"
    "	inc	%r13\n"
    "	cmp	%rsi, %r13\n"
    "	jne	add\n"
    "	jmp	end_pass\n"
    "call:	call	*%rax\n"
    "	add	%rdx, %rax\n"
    "	inc	%r13\n"
    "	cmp	%rsi, %r13\n"
    "	jne	call\n"
    "end_pass:\n"
    "	inc	%r12\n"
    "	test	$0x100, %r9d\n"
    "	jne	pass\n"
    "done:	out	%al, $0x80\n"
    "	jmp	done\n"
    "guest_code_end:\n"
    ".popsection\n");

unsigned long arch_vm_type(int kvm, unsigned long type)
{
	(void)kvm;
	return type;
}

void arch_fill_low_memory(uint8_t *low)
{
	const uint64_t present_writable_user = 7, accessed_dirty = 0x60, large = 0x80;
	uint64_t *entry, i;

	*(uint64_t *)(low + PML4) = PDPT | present_writable_user;
	for (i = 0; i < 4; i++)
		((uint64_t *)(low + PDPT))[i] = (PD + i * PAGE) | present_writable_user;
	entry = (uint64_t *)(low + PD);
	for (i = 0; i < 4 * 512; i++)
		entry[i] = i * HUGE | large | accessed_dirty | present_writable_user;
	entry[TEST_GPA / HUGE] = PT | present_writable_user;
	for (i = 0; i < 512; i++)
		((uint64_t *)(low + PT))[i] = (TEST_GPA + i * PAGE) | accessed_dirty | present_writable_user;
	memcpy(low + CODE, guest_code, (size_t)(guest_code_end - guest_code));
}

static void set_cpuid(struct vcpu *vcpu)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));

	need(cpuid, "memory");
	cpuid->nent = ENTRIES;
	need(ioctl(vcpu->vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0, "KVM_GET_SUPPORTED_CPUID");
	need(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) == 0, "KVM_SET_CPUID2");
	free(cpuid);
}

void arch_start_vcpu(struct vcpu *vcpu)
{
	struct kvm_segment flat = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1
	};
	struct kvm_sregs sregs;

	set_cpuid(vcpu);
	need(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;	 /* PAE */
	sregs.cr0 = 0x80010033;	 /* PG WP NE ET MP PE */
	sregs.efer = 0x500;	 /* LMA LME */
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
	flat.selector = 0x8;
	flat.type = 11;
	flat.db = 0;
	flat.l = 1;
	sregs.cs = flat;
	need(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
}

void arch_give(struct vcpu *vcpu, const struct work *work)
{
	struct kvm_regs regs = {
		.rip = CODE,
		.rsp = STACKS + (vcpu->index + 1) * 0x400,
		.rflags = 2,
		.rdi = work->gpa,
		.rsi = work->count,
		.rdx = work->stride,
		.rcx = work->value,
		.r8 = work->step,
		.r9 = work->op,
	};

	need(ioctl(vcpu->fd, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
}

void arch_outcome(struct vcpu *vcpu, struct outcome *outcome)
{
	struct kvm_regs regs;

	need(ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0, "KVM_GET_REGS");
	outcome->mismatches = regs.r10;
	outcome->first = regs.r11;
	outcome->passes = regs.r12;
	outcome->index = regs.r13;
}

bool arch_is_done(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == DONE_PORT;
}

uint64_t arch_refused_gpa(struct vm *vm, int *error)
{
	(void)vm;
	*error = EINVAL;
	return 1ull << 52; /* no physical address has more bits */
}

void arch_move_page_table(struct vcpu *vcpu, uint64_t gpa, void *memory)
{
	struct kvm_sregs sregs;

	/* The top level; those below it stay where they are. */
	memcpy(memory, vcpu->vm->low + PML4, PAGE);
	need(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
	sregs.cr3 = gpa;
	need(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
}

void arch_put_return_code(void *page)
{
	*(uint8_t *)page = 0xc3; /* ret */
}

/*
 * Guest kernel mode is emulated where a loop of a million instructions at privilege level 0 takes longer than any
 * hardware, or QEMU's translator, would need.
 */
bool host_emulates_guest_kernel(void)
{
	struct work work = { .op = GUEST_CHECK, .gpa = 0x20000, .count = 4096, .stride = 8 };
	struct vm vm;
	struct outcome outcome;
	struct kvm_regs regs;
	uint64_t exits;
	int i;

	vm_start(&vm, 1);
	for (i = 0; i < 4; i++)
		need(vcpu_do(&vm.vcpu[0], &work) == STOP_DONE, "a loop");
	vcpu_outcome(&vm.vcpu[0], &outcome);
	need(ioctl(vm.vcpu[0].fd, KVM_GET_REGS, &regs) == 0, "KVM_GET_REGS");
	exits = (uint64_t)vm_statistic(&vm, "insn_emulation");
	vm_destroy(&vm);
	return exits != UINT64_MAX && exits > 4096;
}
