// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which devices a machine has, where they are, and in which order they are made: the same for both architectures, but
 * for clock and power control, which the architecture adds (arch_add_devices).
 *
 * PCI slots are part of what a guest sees and of saved state, so they follow from the configuration alone: disks from
 * slot 1, network cards behind the last possible disk, then the rest.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "devices/serial.h"
#include "devices/virtio_rng.h"
#include "vmm/machine_internal.h"

#define SLOT_DISKS 1
#define SLOT_NETS  (SLOT_DISKS + CONFIG_DISKS_MAX)
#define SLOT_RNG   (SLOT_NETS + CONFIG_NETS_MAX)
_Static_assert(SLOT_RNG < PCI_SLOTS, "every device has a slot");

static int add_serial(struct machine *machine)
{
	struct bus *bus = machine->layout.io_pio ? &machine->pio : &machine->mmio;
	struct serial_host host;
	struct serial *serial;
	int irq, error;

	error = serial_host_new(&machine->serial, &machine->config, machine->loop);
	if (error || machine->config.serial == SERIAL_OFF)
		return error;
	error = wiring_add_line(&machine->wiring, machine->layout.serial_gsi, &irq);
	if (error)
		return error;
	host = serial_host_ops(machine->serial);
	error = serial_new(&serial, machine->loop, "serial0", irq, &host);
	if (error)
		return error;
	serial_host_attach(machine->serial, serial);
	error = device_list_add(&machine->devices, serial_device(serial));
	return error ? error
		     : bus_add(bus, "serial0", machine->layout.serial, SERIAL_WINDOW_BYTES,
			       &serial_bus_ops, serial);
}

static void on_poweroff(void *opaque)
{
	machine_ask(opaque, REQUEST_POWEROFF);
}

static void on_reset(void *opaque)
{
	machine_ask(opaque, REQUEST_RESET);
}

static int add_platform(struct machine *machine)
{
	struct arch_board board = {
		.mmio = &machine->mmio,
		.pio = &machine->pio,
		.devices = &machine->devices,
		.wiring = &machine->wiring,
		.opaque = machine,
		.poweroff = on_poweroff,
		.reset = on_reset,
	};

	return arch_add_devices(machine->arch, &board);
}

static void notify_vmgenid(void *opaque)
{
	struct machine *machine = opaque;

	arch_notify_vmgenid(machine->arch);
}

static int add_vmgenid(struct machine *machine)
{
	uint8_t guid[VMGENID_BYTES];
	int error;

	if (getrandom(guid, sizeof(guid), 0) != sizeof(guid))
		return fail(-errno, "machine: random bytes: %s", strerror(errno));
	error = vmgenid_new(&machine->vmgenid, machine->ram, "vmgenid", guid, notify_vmgenid,
			    machine);
	return error ? error : device_list_add(&machine->devices, vmgenid_device(machine->vmgenid));
}

static int add_pci(struct machine *machine)
{
	const struct arch_layout *layout = &machine->layout;
	struct wiring wiring = wiring_for_devices(&machine->wiring);
	struct pci_windows windows = {
		.ecam = layout->ecam,
		.ecam_bytes = layout->ecam_bytes,
		.mmio32 = layout->mmio32,
		.mmio32_bytes = layout->mmio32_bytes,
		.mmio64 = layout->mmio64,
		.mmio64_bytes = layout->mmio64_bytes,
	};
	int error = pci_host_new(&machine->pci, &machine->mmio, &wiring, &windows);

	return error ? error : device_list_add(&machine->devices, &machine->pci->device);
}

static int add_rng(struct machine *machine, const struct virtio_env *env)
{
	struct device *device;
	int error = virtio_rng_new(&device, env, "rng0", SLOT_RNG);

	return error ? error : device_list_add(&machine->devices, device);
}

static int add_virtio(struct machine *machine)
{
	struct virtio_env env = {
		.pci = machine->pci, .ram = machine->ram, .loop = machine->io_loop};
	int error = 0;

	if (machine->config.rng)
		error = add_rng(machine, &env);
	return error;
}

/* The host bridge comes before its functions, for devices are freed last first. */
int board_new(struct machine *machine)
{
	int error = add_serial(machine);

	if (!error)
		error = add_platform(machine);
	if (!error)
		error = add_vmgenid(machine);
	if (!error)
		error = add_pci(machine);
	return error ? error : add_virtio(machine);
}
