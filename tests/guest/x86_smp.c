// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Starts the other vCPUs: INIT and start-up IPI through the local APIC (which level 3 may touch, being mapped like all
 * else), one at a time, because they share the trampoline page.
 */
#include "acpi.h"
#include "x86_boot.h"
#include "x86_layout.h"

#define LAPIC_SVR      0xf0
#define LAPIC_ICR_LOW  0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_INIT       0x4500
#define ICR_STARTUP    0x4600
#define START_LIMIT_MS 1000

extern uint64_t boot_gdt[];
extern char ap_trampoline[], ap_trampoline_end[], ap_trampoline_number[];

static void (*volatile ap_entry)(unsigned int number);
static volatile unsigned int ap_running; /* number of the vCPU that came up last */

void x86_ap_main(unsigned int number)
{
	void (*entry)(unsigned int) = ap_entry;

	__atomic_store_n(&ap_running, number, __ATOMIC_RELEASE); /* pairs with arch_vcpu_start() */
	entry(number);
	for (;;)
		cpu_relax();
}

static void send_ipi(uint32_t apic_id, uint32_t command)
{
	lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
	lapic_write(LAPIC_ICR_LOW, command);
}

static bool wait_running(unsigned int number, uint64_t limit_ms)
{
	uint64_t start = clock_now();

	while (__atomic_load_n(&ap_running, __ATOMIC_ACQUIRE) != number) {
		if (clock_now() - start > ms_to_ticks(limit_ms))
			return false;
		cpu_relax();
	}
	return true;
}

bool arch_vcpu_start(unsigned int number, void (*fn)(unsigned int number))
{
	uint64_t *tss = &boot_gdt[SEL_TSS / 8];
	uint32_t apic_id = acpi.apic_id[number];
	char *page = (char *)AP_TRAMPOLINE;

	/* Each vCPU has a TSS descriptor of its own, in the state "available": ltr marks it busy. */
	tss[number * 2] = tss[0] & ~(2ul << 40);
	tss[number * 2 + 1] = tss[1];
	memcpy(page, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	*(volatile uint32_t *)(page + (ap_trampoline_number - ap_trampoline)) = number;
	ap_entry = fn;

	__atomic_store_n(&ap_running, 0, __ATOMIC_RELAXED);
	lapic_write(LAPIC_SVR, 0x1ff);
	send_ipi(apic_id, ICR_INIT);
	wait_us(200);
	send_ipi(apic_id, ICR_STARTUP | AP_TRAMPOLINE >> 12);
	if (wait_running(number, START_LIMIT_MS / 5))
		return true;
	send_ipi(apic_id, ICR_STARTUP | AP_TRAMPOLINE >> 12);
	return wait_running(number, START_LIMIT_MS);
}
