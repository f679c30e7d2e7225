/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine: one VM with its memory, vCPUs and devices, and its lifecycle.
 *
 *	machine_new -> [machine_load] -> machine_start -> { pause | resume | reset | powerdown }* -> machine_free
 *
 * All calls on the main thread, which also runs machine->loop. Pausing either succeeds, or everything is running again.
 * docs/lifecycle.md has the states, docs/threads.md the threads.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/bus.h"
#include "devices/device.h"
#include "kvm/irq.h"
#include "kvm/vcpu.h"
#include "memory/dirty.h"
#include "memory/ram.h"
#include "vmm/clock.h"
#include "vmm/config.h"

/* The names are QMP's RunState names, see machine_status_name(). */
enum machine_status {
	MACHINE_PRELAUNCH, /* built, never run */
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_SHUTDOWN,	/* the guest powered off or was told to; vCPUs never run again */
	MACHINE_GUEST_PANICKED, /* triple fault or the like; same */
	MACHINE_INTERNAL_ERROR, /* KVM refused to go on; same */
	MACHINE_INMIGRATE,
	MACHINE_POSTMIGRATE,
};
const char *machine_status_name(enum machine_status status);

/* What happened, told to the owner on the main thread; cli/ turns them into QMP events and an exit status. */
enum machine_event {
	MACHINE_EVENT_STOP, /* paused */
	MACHINE_EVENT_RESUME,
	MACHINE_EVENT_RESET,	 /* guest or host asked; already done */
	MACHINE_EVENT_POWERDOWN, /* the power button was pressed */
	MACHINE_EVENT_SHUTDOWN,	 /* `guest`: by the guest */
	MACHINE_EVENT_PANIC,
};
struct machine_events {
	void *opaque;
	void (*event)(void *opaque, enum machine_event event, bool guest);
};

struct machine;

/*
 * Builds everything up to "nothing but a start is left": opens the host's means (images with their locks, taps), KVM,
 * memory, boot image, devices, vCPU threads (parked). config is copied; loop runs on the calling thread and stays the
 * caller's. Errors: -errno, one line logged that names what and why; nothing is left behind.
 */
int machine_new(struct machine **out, const struct config *config, struct loop *loop,
		const struct machine_events *events) must_check;
/*
 * The same, but RAM and state come from elsewhere: no boot image is loaded, machine_start() needs machine_load(). Its own
 * threads are in their sandboxes at once, the calling one from machine_load() on: until then the machine can be freed,
 * and another be made.
 */
int machine_new_incoming(struct machine **out, const struct config *config, struct loop *loop,
			 const struct machine_events *events) must_check;
/* The calling thread's sandbox is closed: this process can make no other machine. */
bool machine_is_sealed(const struct machine *machine);
void machine_free(struct machine *machine); /* stops what runs; takes NULL */

int machine_start(struct machine *machine) must_check;
/* vCPUs, then devices. 0 when paused (also if it was). -EBUSY in a final status; else it runs on. */
int machine_pause(struct machine *machine) must_check;
int machine_resume(struct machine *machine) must_check;
int machine_reset(struct machine *machine) must_check;	   /* full reset, boot image loaded again */
int machine_powerdown(struct machine *machine) must_check; /* presses the power button */
/* No way back: vCPUs stop, devices drain, MACHINE_EVENT_SHUTDOWN. */
void machine_shutdown(struct machine *machine);

/*
 * A migration's part of the lifecycle. hold: a paused machine stays as it is, whoever asks (-EBUSY), until it is let go
 * of. leave: it lives elsewhere now (postmigrate); it must be paused and its disks released. adopt: instead of
 * machine_start(), for one that was paused where it came from: it takes the disks and is paused here.
 */
void machine_hold(struct machine *machine, bool hold);
void machine_leave(struct machine *machine);
int machine_adopt(struct machine *machine) must_check;

/*
 * Everything but RAM, of a paused machine / into one that has never run and whose RAM is in place. Sections as in
 * base/state.h. The mode says what clocks do, and whether the guest gets a new generation ID (CLOCK_RESTORE).
 */
int machine_save(struct machine *machine, struct buf *out) must_check;
int machine_load(struct machine *machine, const void *bytes, size_t len,
		 enum clock_mode mode) must_check;

/*
 * What the guest was told of its CPUs, as sections: of any machine, running or not / compared with what this host can
 * show, on one that waits for its state, before any of its memory comes. -ENOTSUP names the feature or register.
 */
int machine_save_told(struct machine *machine, struct buf *out) must_check;
int machine_check_told(struct machine *machine, const void *bytes, size_t len) must_check;

/*
 * The disks' part of a hand-over, on a paused (release) or loaded and not yet started machine (acquire). release: all is on
 * stable storage, the images' locks are given up; on an error every lock is held again, or the log says which is not.
 * acquire: takes the locks and reads sizes again; on an error none is held. machine_start() of an incoming machine
 * acquires what is not held yet.
 */
int machine_release_disks(struct machine *machine) must_check;
int machine_acquire_disks(struct machine *machine) must_check;

/*
 * What writable disks are, for a saved VM's file (docs/snapshot.md, section `disk`). save: of a paused machine; sync: what
 * was written is on stable storage first. check: of a loaded machine that holds its disks; -ESTALE, logged with both values,
 * when a disk is another or has changed; as_they_are: that is only warned of. -EBADMSG: bytes that are no such sections.
 */
int machine_save_disks(struct machine *machine, bool sync, struct buf *out) must_check;
int machine_check_disks(struct machine *machine, const void *bytes, size_t len,
			bool as_they_are) must_check;

enum machine_status machine_get_status(const struct machine *machine);
const struct config *machine_config(const struct machine *machine); /* effective values */
struct ram *machine_ram(struct machine *machine);
struct dirty *machine_dirty(struct machine *machine);
const struct dirty_choice *machine_dirty_choice(const struct machine *machine);
struct device_list *machine_devices(struct machine *machine);
unsigned int machine_nvcpus(const struct machine *machine);
pid_t machine_vcpu_tid(const struct machine *machine, unsigned int index);
/* The master side of --serial pty, "" otherwise; and what goes to the guest's serial input (main thread). */
const char *machine_pty_path(const struct machine *machine);
void machine_serial_input(struct machine *machine, const void *bytes, size_t len);

#endif
