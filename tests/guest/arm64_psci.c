// SPDX-License-Identifier: GPL-2.0-or-later
/* PSCI (Arm DEN 0022): starting vCPUs and ending the VM. */
#include "arm64_boot.h"

#define PSCI_CPU_ON	  0xc4000003ul
#define PSCI_SYSTEM_OFF	  0x84000008ul
#define PSCI_SYSTEM_RESET 0x84000009ul
#define START_LIMIT_MS	  1000

extern char arm64_ap_entry[];

static void (*ap_entry)(unsigned int number);
static unsigned int ap_running; /* number of the vCPU that came up last */

static int64_t psci(uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	register uint64_t x0 __asm__("x0") = function;
	register uint64_t x1 __asm__("x1") = a;
	register uint64_t x2 __asm__("x2") = b;
	register uint64_t x3 __asm__("x3") = c;

	if (arm64.psci_by_smc)
		__asm__ volatile("smc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
	else
		__asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
	return (int64_t)x0;
}

void arm64_ap_main(uint64_t number)
{
	void (*entry)(unsigned int) = __atomic_load_n(&ap_entry, __ATOMIC_ACQUIRE);

	__atomic_store_n(&ap_running, (unsigned int)number,
			 __ATOMIC_RELEASE); /* arch_vcpu_start() */
	entry((unsigned int)number);
	for (;;)
		cpu_relax();
}

bool arch_vcpu_start(unsigned int number, void (*fn)(unsigned int number))
{
	uint64_t start = clock_now();

	__atomic_store_n(&ap_entry, fn, __ATOMIC_RELEASE);
	io_barrier();
	if (psci(PSCI_CPU_ON, arm64.mpidr[number], (uint64_t)arm64_ap_entry, number) != 0)
		return false;
	while (__atomic_load_n(&ap_running, __ATOMIC_ACQUIRE) != number) {
		if (clock_now() - start > ms_to_ticks(START_LIMIT_MS))
			return false;
		cpu_relax();
	}
	return true;
}

void arch_power_off(void)
{
	console_flush();
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
	for (;;)
		cpu_relax();
}

void arch_reset(void)
{
	console_flush();
	psci(PSCI_SYSTEM_RESET, 0, 0, 0);
	for (;;)
		cpu_relax();
}
