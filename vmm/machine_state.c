// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A machine's state but RAM: saving a paused one, loading into one that has never run.
 *
 * Theory of operation of the order. Saving: vCPUs, then the VM (on arm64 its interrupt controller writes RAM), then
 * devices; nothing may write guest memory after it but the harvest's reader. Loading: what the guest was told, vCPUs,
 * the VM's controllers and clock, devices (which put their interrupt routes back), and last what needs those routes.
 * All sections must have been used in the end: one that nobody took is a device that this machine lacks.
 *
 * A load that fails leaves a machine that will not start; it can only be freed.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "vmm/machine_internal.h"

int machine_save(struct machine *machine, struct buf *out)
{
	int error = 0;

	if (machine->status != MACHINE_PAUSED &&
	    !(machine->status == MACHINE_INMIGRATE && machine->loaded))
		return fail(-EBUSY,
			    "machine: only a paused VM can be saved, this one is in status %s",
			    machine_status_name(machine->status));
	/* What it asked for is no register: in a machine made of this state nobody would know. */
	if (atomic_load(&machine->requests))
		return fail(-EBUSY, "machine: the guest has just asked for its end or a reset");
	for (unsigned int i = 0; i < machine->vcpus.n && !error; i++)
		error = arch_vcpu_save(machine->arch, &machine->vcpus.vcpu[i].kvm, out);
	if (!error)
		error = arch_vm_save(machine->arch, out);
	return error ? error : device_list_save(&machine->devices, out);
}

static int load_sections(struct machine *machine, struct state_set *in, enum clock_mode mode)
{
	int error = arch_vm_load_first(machine->arch, in);

	for (unsigned int i = 0; i < machine->vcpus.n && !error; i++)
		error = arch_vcpu_load(machine->arch, &machine->vcpus.vcpu[i].kvm, in);
	if (!error)
		error = arch_vm_load(machine->arch, in, mode);
	if (!error)
		error = device_list_load(&machine->devices, in);
	if (!error)
		error = arch_vm_load_late(machine->arch, in);
	return error ? error : state_set_all_used(in);
}

/* A restored guest's past may have been lived before: it must know before it makes keys again. */
static int renew_generation(struct machine *machine)
{
	uint8_t guid[VMGENID_BYTES];

	if (getrandom(guid, sizeof(guid), 0) != sizeof(guid))
		return fail(-errno, "machine: random bytes: %s", strerror(errno));
	return vmgenid_renew(machine->vmgenid, guid);
}

int machine_load(struct machine *machine, const void *bytes, size_t len, enum clock_mode mode)
{
	struct state_set *in;
	int error;

	if (machine->status != MACHINE_INMIGRATE || machine->loaded)
		return fail(-EBUSY, "machine: this VM does not wait for state");
	/* Before a peer's bytes are looked at. */
	error = machine_seal(machine);
	if (!error)
		error = device_list_pause(&machine->devices);
	if (error)
		return error;
	machine->devices_paused = true;
	error = vmgenid_place(machine->vmgenid, machine->layout.vmgenid);
	if (!error)
		error = state_set_parse(&in, bytes, len);
	if (error)
		return error;
	error = load_sections(machine, in, mode);
	state_set_free(in);
	if (!error && mode == CLOCK_RESTORE)
		error = renew_generation(machine);
	machine->loaded = !error;
	return error;
}

int machine_save_told(struct machine *machine, struct buf *out)
{
	return arch_vm_save_first(machine->arch, out);
}

int machine_check_told(struct machine *machine, const void *bytes, size_t len)
{
	struct state_set *in;
	int error;

	if (machine->status != MACHINE_INMIGRATE || machine->loaded)
		return fail(-EBUSY, "machine: this VM does not wait for state");
	error = state_set_parse(&in, bytes, len);
	if (error)
		return error;
	error = arch_vm_check_first(machine->arch, in);
	if (!error)
		error = state_set_all_used(in);
	state_set_free(in);
	return error;
}
