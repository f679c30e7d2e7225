/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that the x86-64 assembly, its linker script and its C code share. */
#ifndef GUEST_X86_LAYOUT_H
#define GUEST_X86_LAYOUT_H

#define SEL_KCODE64 0x08
#define SEL_KDATA   0x10
#define SEL_UDATA   0x1b
#define SEL_UCODE64 0x23
#define SEL_KCODE32 0x28
#define SEL_TSS	    0x40

#define MAX_VCPUS   256
#define STACK_SHIFT 14

#define AP_TRAMPOLINE 0x8000

#endif
