// SPDX-License-Identifier: GPL-2.0-or-later
/* The devices that only the x86-64 machine has: CMOS clock and power control, behind ports. */
#include "devices/cmos.h"
#include "devices/power.h"
#include "vmm/x86.h"

int arch_add_devices(struct arch_vm *arch, const struct arch_board *board)
{
	struct power_host host = {
		.opaque = board->opaque, .poweroff = board->poweroff, .reset = board->reset};
	struct cmos *cmos;
	int irq, error;

	error = cmos_new(&cmos, "rtc", NULL, NULL);
	if (!error)
		error = device_list_add(board->devices, cmos_device(cmos));
	if (!error)
		error = bus_add(board->pio, "rtc", CMOS_PORT, CMOS_WINDOW_BYTES, &cmos_bus_ops,
				cmos);
	if (!error)
		error = wiring_add_line(board->wiring, X86_GSI_POWER, &irq);
	if (!error)
		error = power_new(&arch->power, "power", irq, &host);
	if (!error)
		error = device_list_add(board->devices, power_device(arch->power));
	return error ? error
		     : bus_add(board->pio, "power", X86_PORT_POWER, POWER_WINDOW_BYTES,
			       &power_bus_ops, arch->power);
}

void arch_press_power(struct arch_vm *arch)
{
	power_event(arch->power, POWER_EVENT_BUTTON);
}

void arch_notify_vmgenid(struct arch_vm *arch)
{
	power_event(arch->power, POWER_EVENT_VMGENID);
}
