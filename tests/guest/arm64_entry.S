/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arm64 guest's way to C: a Linux Image header (Documentation/arch/arm64/booting.rst), the MMU on with as few
 * mappings as will do, relocation, stacks; the same for vCPUs that PSCI starts; and a vector table that only says where
 * things went wrong. Everything runs at EL1.
 *
 * The image runs where it is put (it is linked at 0 and relocates itself). Page tables are written before the MMU is on,
 * past the caches; so their lines are invalidated before they are used.
 */
#include "arm64_layout.h"

#define DESC_TABLE   0x3
#define DESC_NORMAL  0x701		/* block, attribute 0, inner shareable, accessed */
#define DESC_DEVICE  0x0060000000000705	/* block, attribute 1, never executed, accessed */

	.section .entry, "ax"
	.globl image_start
image_start:
	b	start
	.long	0
	.quad	0			/* text_offset */
	.quad	guest_image_bytes	/* image_size, with .bss */
	.quad	0xa			/* little-endian, 4 KiB pages, anywhere */
	.quad	0, 0, 0
	.ascii	"ARM\x64"
	.long	0

start:					/* x0: device tree */
	mov	x19, x0
	mov	x20, #0			/* number of the vCPU */

	/* Level 0: 512 GiB each; its first entry is our level 1 table, 1 GiB each. */
	adrp	x0, boot_l0
	add	x0, x0, :lo12:boot_l0
	mov	x1, x0
	add	x2, x0, #(8 * 4096)
1:	stp	xzr, xzr, [x1], #16
	cmp	x1, x2
	b.lo	1b
	add	x1, x0, #4096		/* level 1 */
	orr	x2, x1, #DESC_TABLE
	str	x2, [x0]
	/* GiB 0: devices, unless something below says that it is RAM. */
	ldr	x3, =DESC_DEVICE
	str	x3, [x1]
	/* The GiB that we run in, and that of the device tree. */
	adr	x2, image_start
	bl	map_normal
	mov	x2, x19
	bl	map_normal
	dsb	sy
	mov	x1, x0
	add	x2, x0, #(8 * 4096)
2:	dc	ivac, x1
	add	x1, x1, #16
	cmp	x1, x2
	b.lo	2b
	dsb	sy
	bl	mmu_on

	/* Relocate: R_AARCH64_RELATIVE only. */
	adrp	x1, guest_rela_start
	add	x1, x1, :lo12:guest_rela_start
	adrp	x2, guest_rela_end
	add	x2, x2, :lo12:guest_rela_end
	adr	x3, image_start
3:	cmp	x1, x2
	b.hs	4f
	ldp	x4, x5, [x1], #16	/* offset, info */
	ldr	x6, [x1], #8		/* addend */
	add	x6, x6, x3
	str	x6, [x4, x3]
	b	3b
4:	bl	stack_and_vectors
	mov	x0, x19
	bl	arm64_boot_main
	b	.

map_normal:				/* x1: level 1, x2: address */
	ubfx	x3, x2, #30, #9
	lsl	x4, x3, #30
	mov	x5, #DESC_NORMAL
	orr	x4, x4, x5
	str	x4, [x1, x3, lsl #3]
	ret

	/* PSCI CPU_ON enters here, x0: number. */
	.globl arm64_ap_entry
arm64_ap_entry:
	mov	x20, x0
	adrp	x0, boot_l0
	add	x0, x0, :lo12:boot_l0
	bl	mmu_on
	bl	stack_and_vectors
	mov	x0, x20
	bl	arm64_ap_main
	b	.

mmu_on:					/* x0: level 0 */
	ldr	x1, =0x04ff		/* attribute 0: write-back memory, 1: device nGnRE */
	msr	mair_el1, x1
	mrs	x2, id_aa64mmfr0_el1
	and	x2, x2, #0xf
	cmp	x2, #5
	mov	x3, #5
	csel	x2, x2, x3, lo
	lsl	x2, x2, #32
	ldr	x1, =0x00803510		/* T0SZ 16, write-back inner shareable walks, TTBR1 off */
	orr	x1, x1, x2
	msr	tcr_el1, x1
	msr	ttbr0_el1, x0
	mov	x1, #(3 << 20)		/* no FP traps: not used, but harmless */
	msr	cpacr_el1, x1
	dsb	sy
	tlbi	vmalle1
	ic	iallu
	dsb	sy
	isb
	ldr	x1, =0x30d01805		/* RES1, MMU, caches; no alignment checks */
	msr	sctlr_el1, x1
	isb
	ret

stack_and_vectors:
	adrp	x1, boot_stacks_end
	add	x1, x1, :lo12:boot_stacks_end
	sub	x1, x1, x20, lsl #STACK_SHIFT
	mov	sp, x1
	adrp	x1, vectors
	add	x1, x1, :lo12:vectors
	msr	vbar_el1, x1
	isb
	ret
	.ltorg

	.text
	.balign 2048
vectors:
	.rept	16
	mrs	x0, esr_el1
	mrs	x1, elr_el1
	mrs	x2, far_el1
	bl	arm64_exception
	b	.
	.balign	128
	.endr

	.section .stacks, "aw", @nobits
	.balign 4096
	.skip	MAX_VCPUS << STACK_SHIFT
boot_stacks_end:
	.globl boot_l0
	/* Level 0, the first level 1, and six more level 1 tables for what lies higher. */
boot_l0:
	.skip	8 * 4096
