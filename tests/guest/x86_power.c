// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Ends the VM: by `poweroff=port:PORT,VALUE` or `reset=port:PORT,VALUE` from the command line, else by what the FADT
 * says, else by a triple fault, which every VMM takes for a reset.
 */
#include "acpi.h"
#include "x86_boot.h"

static bool parse_port(const char *key, struct acpi_write *w)
{
	size_t n;
	const char *v = param_find(key, &n);
	uint64_t numbers[2] = {0, 0};
	unsigned int which = 0;

	if (!v || n < 5 || memcmp(v, "port:", 5) != 0)
		return false;
	for (const char *s = v + 5; s < v + n; s++) {
		if (*s == ',' && which == 0)
			which = 1;
		else if (*s >= '0' && *s <= '9')
			numbers[which] = numbers[which] * 16 + (uint64_t)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			numbers[which] = numbers[which] * 16 + (uint64_t)(*s - 'a') + 10;
	}
	*w = (struct acpi_write){.known = true,
				 .is_port = true,
				 .width_bytes = numbers[1] > 0xff ? 2 : 1,
				 .address = numbers[0],
				 .value = (uint32_t)numbers[1]};
	return true;
}

static void issue(const struct acpi_write *w)
{
	if (!w->known)
		return;
	if (!w->is_port)
		*(volatile uint8_t *)w->address = (uint8_t)w->value;
	else if (w->width_bytes == 2)
		outw((uint16_t)w->address, (uint16_t)w->value);
	else
		outb((uint16_t)w->address, (uint8_t)w->value);
	/* The VMM may stop this vCPU a little after the write; much later on a busy machine, or when it is paused. */
	wait_us(10000000);
}

static _Noreturn void triple_fault(void)
{
	for (;;)
		__asm__ volatile("ud2");
}

void arch_power_off(void)
{
	console_flush();
	if (parse_port("poweroff", &acpi.power_off) || acpi.power_off.known)
		issue(&acpi.power_off);
	say("guest: warning no power-off\n");
	console_flush();
	triple_fault();
}

void arch_reset(void)
{
	console_flush();
	if (parse_port("reset", &acpi.reset) || acpi.reset.known)
		issue(&acpi.reset);
	triple_fault();
}
