// SPDX-License-Identifier: GPL-2.0-or-later
/* The devices that only the arm64 machine has: PL031 clock and the PL061 with the power key. Power off and reset are PSCI's. */
#include "devices/pl031.h"
#include "devices/pl061.h"
#include "vmm/arm64.h"

static int add_clock(const struct arch_board *board)
{
	struct pl031 *pl031;
	int error = pl031_new(&pl031, "rtc", NULL, NULL);

	if (!error)
		error = device_list_add(board->devices, pl031_device(pl031));
	return error ? error
		     : bus_add(board->mmio, "rtc", ARM64_RTC, PL031_WINDOW_BYTES, &pl031_bus_ops,
			       pl031);
}

static int add_power_key(struct arch_vm *arch, const struct arch_board *board)
{
	int irq, error = wiring_add_line(board->wiring, ARM64_GSI_GPIO, &irq);

	if (!error)
		error = pl061_new(&arch->gpio, board->loop, "power", irq);
	if (!error)
		error = device_list_add(board->devices, pl061_device(arch->gpio));
	return error ? error
		     : bus_add(board->mmio, "power", ARM64_GPIO, PL061_WINDOW_BYTES, &pl061_bus_ops,
			       arch->gpio);
}

int arch_add_devices(struct arch_vm *arch, const struct arch_board *board)
{
	int error = add_clock(board);

	if (!error)
		error = add_power_key(arch, board);
	return error ? error
		     : wiring_add_line(board->wiring, ARM64_GSI_VMGENID, &arch->vmgenid_irq);
}

void arch_press_power(struct arch_vm *arch)
{
	pl061_press(arch->gpio, PL061_POWER_KEY);
}

void arch_notify_vmgenid(struct arch_vm *arch)
{
	irq_raise(arch->vmgenid_irq);
}
