// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The machine's lifecycle: start, pause, resume, reset, power button, shutdown, and what guests ask for.
 *
 * Theory of operation. docs/lifecycle.md has the states. Only the main thread changes them. Stopping always goes vCPUs
 * first, devices second; starting the other way round. A pause that fails half-way undoes its own steps in reverse, so
 * that afterwards either all stands or all runs.
 *
 * What a guest does to itself (power off, reset, triple fault) is seen on a vCPU's thread. machine_ask() notes it as a
 * bit, parks the vCPUs without waiting, and wakes the main thread; nothing is allocated on that way, so nothing can be
 * lost. Bits that arrive together are answered by importance: an error ends the machine whatever else was asked. A
 * request that finds the machine paused by a user is answered all the same: it is reset, or over, and stays paused.
 */
#include <assert.h>
#include <errno.h>

#include "base/log.h"
#include "vmm/machine_internal.h"

static void tell(struct machine *machine, enum machine_event event, bool guest)
{
	if (machine->events.event)
		machine->events.event(machine->events.opaque, event, guest);
}

static bool is_final(const struct machine *machine)
{
	return machine->status == MACHINE_SHUTDOWN || machine->status == MACHINE_GUEST_PANICKED ||
	       machine->status == MACHINE_INTERNAL_ERROR || machine->status == MACHINE_POSTMIGRATE;
}

static int refuse(const struct machine *machine, const char *what)
{
	return fail(-EBUSY, "machine: cannot %s: the VM is in status %s", what,
		    machine_status_name(machine->status));
}

/* ---- Stopping and running, without words ---- */

static int stop(struct machine *machine)
{
	int error = vcpus_park(&machine->vcpus);

	if (error || machine->devices_paused)
		return error;
	error = device_list_pause(&machine->devices);
	if (error && machine->status == MACHINE_RUNNING)
		vcpus_run(&machine->vcpus);
	machine->devices_paused = !error;
	return error;
}

static void run(struct machine *machine)
{
	for (unsigned int i = 0; (machine->ran || machine->loaded) && i < machine->vcpus.n; i++)
		arch_vcpu_resume(machine->arch, &machine->vcpus.vcpu[i].kvm);
	if (machine->devices_paused)
		device_list_resume(&machine->devices);
	machine->devices_paused = false;
	machine->ran = true;
	machine->status = MACHINE_RUNNING;
	vcpus_run(&machine->vcpus);
}

/* No way back. What cannot be stopped any more is at least never started again. */
static void end(struct machine *machine, enum machine_status status)
{
	if (stop(machine)) {
		log_warn("machine: it ends although not all of it has stopped");
		vcpus_request_park(&machine->vcpus);
	}
	machine->status = status;
}

/* ---- What the owner may ask ---- */

int machine_start(struct machine *machine)
{
	if (machine->status != MACHINE_PRELAUNCH && machine->status != MACHINE_INMIGRATE)
		return refuse(machine, "start");
	if (machine->status == MACHINE_INMIGRATE && !machine->loaded)
		return refuse(machine, "start without its state");
	if (machine->status == MACHINE_INMIGRATE) {
		int error = machine_acquire_disks(machine);

		if (error)
			return error;
	}
	run(machine);
	return 0;
}

int machine_adopt(struct machine *machine)
{
	int error;

	if (machine->status != MACHINE_INMIGRATE || !machine->loaded)
		return refuse(machine, "take over without its state");
	error = machine_acquire_disks(machine);
	if (error)
		return error;
	machine->status = MACHINE_PAUSED;
	return 0;
}

void machine_hold(struct machine *machine, bool hold)
{
	machine->held = hold;
}

void machine_leave(struct machine *machine)
{
	assert(machine->held && machine->status == MACHINE_PAUSED);
	machine->status = MACHINE_POSTMIGRATE;
}

int machine_pause(struct machine *machine)
{
	int error;

	if (is_final(machine))
		return refuse(machine, "pause");
	if (machine->status != MACHINE_RUNNING)
		return 0; /* paused, or never run */
	error = stop(machine);
	if (error)
		return error;
	machine->status = MACHINE_PAUSED;
	tell(machine, MACHINE_EVENT_STOP, false);
	return 0;
}

int machine_resume(struct machine *machine)
{
	if (machine->status == MACHINE_RUNNING)
		return 0;
	if (machine->status != MACHINE_PAUSED)
		return refuse(machine, "resume");
	if (machine->held)
		return fail(-EBUSY, "machine: cannot resume: the VM is being moved");
	run(machine);
	tell(machine, MACHINE_EVENT_RESUME, false);
	return 0;
}

int machine_load_guest(struct machine *machine)
{
	bool fresh = !machine->ran && !machine->loaded;
	int error = arch_load_guest(machine->arch, machine->ram, fresh);

	if (!error)
		error = vmgenid_place(machine->vmgenid, machine->layout.vmgenid);
	for (unsigned int i = 0; i < machine->vcpus.n && !error; i++)
		error = arch_vcpu_reset(machine->arch, &machine->vcpus.vcpu[i].kvm);
	return error;
}

static int reset(struct machine *machine, bool guest)
{
	bool running = machine->status == MACHINE_RUNNING;
	int error = stop(machine);

	if (error)
		return error;
	device_list_reset(&machine->devices);
	error = arch_vm_reset(machine->arch);
	if (!error)
		error = machine_load_guest(machine);
	if (error) {
		/* Neither what it was nor reset: there is nothing to run. */
		machine->status = MACHINE_INTERNAL_ERROR;
		tell(machine, MACHINE_EVENT_STOP, false);
		return error;
	}
	tell(machine, MACHINE_EVENT_RESET, guest);
	if (running && machine->status == MACHINE_RUNNING)
		run(machine);
	return 0;
}

int machine_reset(struct machine *machine)
{
	if (is_final(machine) || machine->status == MACHINE_INMIGRATE)
		return refuse(machine, "reset");
	if (machine->held)
		return fail(-EBUSY, "machine: cannot reset: the VM is being moved");
	return reset(machine, false);
}

int machine_powerdown(struct machine *machine)
{
	if (is_final(machine) || machine->status == MACHINE_INMIGRATE)
		return refuse(machine, "press the power button");
	arch_press_power(machine->arch);
	tell(machine, MACHINE_EVENT_POWERDOWN, false);
	return 0;
}

void machine_shutdown(struct machine *machine)
{
	if (is_final(machine))
		return;
	end(machine, MACHINE_SHUTDOWN);
	tell(machine, MACHINE_EVENT_SHUTDOWN, false);
}

/* ---- What the guest asks ---- */

void machine_ask(struct machine *machine, enum machine_request request)
{
	uint64_t one = 1;
	ssize_t written;

	atomic_fetch_or(&machine->requests, request);
	vcpus_request_park(&machine->vcpus);
	written = write(machine->request_fd, &one, sizeof(one));
	(void)written; /* a full counter is a pending wake-up */
}

void machine_handle_requests(struct machine *machine)
{
	unsigned int requests = atomic_exchange(&machine->requests, 0);

	if (!requests || is_final(machine))
		return;
	if (requests == REQUEST_RESET && !reset(machine, true))
		return;
	if (is_final(machine)) /* a reset that failed has said so */
		return;
	if (requests & REQUEST_ERROR || requests == REQUEST_RESET) {
		/* A guest that asked for a reset and could not get it must not go on as it was. */
		end(machine, MACHINE_INTERNAL_ERROR);
		tell(machine, MACHINE_EVENT_STOP, false);
	} else if (requests & REQUEST_PANIC) {
		end(machine, MACHINE_GUEST_PANICKED);
		tell(machine, MACHINE_EVENT_PANIC, true);
	} else {
		end(machine, MACHINE_SHUTDOWN);
		tell(machine, MACHINE_EVENT_SHUTDOWN, true);
	}
}
