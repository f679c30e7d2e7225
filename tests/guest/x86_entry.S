/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All of the guest's kernel-mode code on x86-64: from the PVH entry (32-bit protected mode, paging off) or from the
 * start-up IPI (real mode) to 64-bit user mode, where the C code lives and stays.
 *
 * Theory of operation. Some hosts run only privilege level 3 natively and emulate everything below it one instruction at
 * a time, and not every instruction. So this file does as little as can be done: the descriptor tables and the first
 * page tables are data made by the assembler, no loop runs here, no SSE, no interrupt is ever enabled. What else needs
 * doing (more page tables, the TSS descriptors of other vCPUs, zeroing .bss) is done by C code at level 3, to which all
 * memory is mapped writable, these tables too.
 *
 * Not here: anything that decides something (x86_boot.c, x86_smp.c).
 */
#include "x86_layout.h"

#define MSR_EFER             0xc0000080
#define EFER_LME             0x100
#define CR4_PAE              0x20
#define CR0_PG_PE            0x80000011
#define KVM_MSR_SYSTEM_TIME  0x4b564d01
#define KVM_LEAF_FEATURES    0x40000001
#define KVM_FEATURE_CLOCK2   3
#define PTE_TABLE            0x07	/* present, writable, user */
#define PTE_2M               0xe7	/* the same, accessed, dirty, 2 MiB */

	/* The ELF note by which a PVH loader finds the entry. */
	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 8, 18			/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad pvh_entry

	.section .entry, "ax"
	.code32
	.globl pvh_entry
pvh_entry:				/* ebx: struct hvm_start_info */
	cli
	cld
	movl	%ebx, boot_start_info
	xorl	%edi, %edi		/* vCPU 0 */
	lgdtl	gdt_pointer
	ljmpl	$SEL_KCODE32, $start32

	/* Common to all vCPUs: flat 32-bit protected mode, edi = number of the vCPU. */
start32:
	movl	$SEL_KDATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	movl	$EFER_LME, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$CR0_PG_PE, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_KCODE64, $start64

	.code64
start64:
	movl	%edi, %eax
	shll	$4, %eax
	addl	$SEL_TSS, %eax
	ltr	%ax
	testl	%edi, %edi
	jnz	1f

	/* The clock page is for the first vCPU only, and only if KVM says that it has it. */
	movl	boot_no_kvmclock(%rip), %eax
	testl	%eax, %eax
	jnz	1f
	movl	$0x40000000, %eax
	xorl	%ecx, %ecx
	cpuid
	cmpl	$0x4b4d564b, %ebx	/* "KVMK" */
	jne	1f
	movl	$KVM_LEAF_FEATURES, %eax
	cpuid
	testl	$(1 << KVM_FEATURE_CLOCK2), %eax
	jz	1f
	movl	$KVM_MSR_SYSTEM_TIME, %ecx
	movl	$boot_kvmclock + 1, %eax
	xorl	%edx, %edx
	wrmsr
	xorl	%edi, %edi
1:
	/* Stacks: one slot for each vCPU, below boot_stacks_end. */
	movl	%edi, %eax
	shll	$STACK_SHIFT, %eax
	movl	$boot_stacks_end, %esp
	subl	%eax, %esp
	movl	%esp, %eax
	pushq	$SEL_UDATA
	pushq	%rax
	pushq	$2			/* RFLAGS: interrupts off */
	pushq	$SEL_UCODE64
	pushq	$user64
	iretq

	.text
user64:					/* level 3 from here on */
	movl	$SEL_UDATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	xorl	%ebp, %ebp
	testl	%edi, %edi
	jnz	2f
	call	x86_boot_main
	ud2
2:
	call	x86_ap_main
	ud2

	/*
	 * The start-up IPI's page: copied to AP_TRAMPOLINE by x86_smp.c, which also writes the vCPU's number into it.
	 * Real mode, cs = AP_TRAMPOLINE >> 4.
	 */
	.section .rodata
	.code16
	.globl ap_trampoline, ap_trampoline_end, ap_trampoline_number
ap_trampoline:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	movl	(ap_trampoline_number - ap_trampoline), %edi
	lgdtl	(ap_gdt_pointer - ap_trampoline)
	movl	$0x11, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_KCODE32, $start32
	.balign 4
ap_trampoline_number:
	.long	0
ap_gdt_pointer:
	.word	boot_gdt_end - boot_gdt - 1
	.long	boot_gdt
ap_trampoline_end:
	.code64

	.data
	.balign 16
	.globl boot_gdt, boot_gdt_end, boot_tss, boot_tss_end
boot_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* SEL_KCODE64 */
	.quad	0x00cf93000000ffff	/* SEL_KDATA */
	.quad	0x00cff3000000ffff	/* SEL_UDATA */
	.quad	0x00affb000000ffff	/* SEL_UCODE64 */
	.quad	0x00cf9b000000ffff	/* SEL_KCODE32 */
	.quad	0, 0
	/* SEL_TSS: the first vCPU's; x86_smp.c copies it for the others (ltr marks it busy, so each needs its own). */
	.word	boot_tss_limit
	.word	boot_tss_base_low
	.byte	boot_tss_base_mid
	.byte	0x89, 0
	.byte	boot_tss_base_high
	.quad	0
	.fill	2 * (MAX_VCPUS - 1), 8, 0
boot_gdt_end:
gdt_pointer:
	.word	boot_gdt_end - boot_gdt - 1
	.long	boot_gdt

	/* One TSS serves all: it only carries the I/O permission bitmap (all ports allowed). */
	.balign 4096
boot_tss:
	.fill	0x66, 1, 0
	.word	0x68			/* offset of the bitmap */
	.fill	8192, 1, 0
	.byte	0xff
boot_tss_end:

	/* Identity map of the first 4 GiB; x86_boot.c adds what lies above. */
	.balign 4096
	.globl boot_pml4, boot_pdpt
boot_pml4:
	.quad	boot_pdpt + PTE_TABLE
	.fill	511, 8, 0
boot_pdpt:
	.quad	boot_pd + 0x0000 + PTE_TABLE, boot_pd + 0x1000 + PTE_TABLE
	.quad	boot_pd + 0x2000 + PTE_TABLE, boot_pd + 0x3000 + PTE_TABLE
	.fill	508, 8, 0
boot_pd:
	.set	page, 0
	.rept	2048
	.quad	page + PTE_2M
	.set	page, page + 0x200000
	.endr

	.balign 64
	.globl boot_kvmclock, boot_start_info, boot_no_kvmclock
boot_kvmclock:
	.fill	64, 1, 0
boot_start_info:
	.long	0
boot_no_kvmclock:
	.long	0

	.section .stacks, "aw", @nobits
	.balign 4096
	.fill	MAX_VCPUS << STACK_SHIFT, 1, 0
boot_stacks_end:

	.section .note.GNU-stack, "", @progbits
