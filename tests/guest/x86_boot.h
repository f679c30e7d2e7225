/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the x86-64 parts of the guest say to one another. */
#ifndef GUEST_X86_BOOT_H
#define GUEST_X86_BOOT_H

#include "guest.h"

#define LAPIC_BASE 0xfee00000ul
#define LAPIC_ID   0x20

/* Called by x86_entry.S at level 3. */
_Noreturn void x86_boot_main(void);
_Noreturn void x86_ap_main(unsigned int number);

/* Sets machine.clock_khz and clock_source. After acpi_read(). */
void x86_clock_init(void);

static inline uint32_t lapic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(LAPIC_BASE + reg);
}

static inline void lapic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)(LAPIC_BASE + reg) = value;
}

#endif
