/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine that only remembers what it was told, for tests of what stands above vmm/. It defines every function of
 * vmm/machine.h, so that the real one is not linked.
 */
#ifndef TESTS_FAKE_MACHINE_H
#define TESTS_FAKE_MACHINE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/machine.h"

struct machine {
	struct config config;
	enum machine_status status;
	struct machine_events events;
	struct dirty_choice choice;
	struct device_list devices;
	struct ram ram;
	unsigned int resets, powerdowns;
	int pause_error;
	char serial[4096];
	size_t serial_len;
	struct loop *loop;
	bool sealed;
};

/*
 * What a machine made by machine_new() does once started, by the name of its kernel: "poweroff", "panic", "error",
 * "resets" (asks for three), "off-on-powerdown" (ends when the button is pressed); others run on. "no-start" and
 * "no-machine" fail.
 */

static inline void fake_machine_init(struct machine *machine)
{
	memset(machine, 0, sizeof(*machine));
	config_init(&machine->config);
	machine->config.name = strdup("fake");
	machine->config.cpus = 2;
	machine->status = MACHINE_RUNNING;
	machine->choice.mode = DIRTY_RING;
	machine->choice.ring_entries = 65536;
	strcpy(machine->choice.reason, "the host offers it");
}

static inline void fake_machine_fini(struct machine *machine)
{
	config_fini(&machine->config);
}

static inline void fake_event(struct machine *machine, enum machine_event event, bool guest)
{
	if (machine->events.event)
		machine->events.event(machine->events.opaque, event, guest);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
const char *machine_status_name(enum machine_status status)
{
	static const char *const names[] = {
		[MACHINE_PRELAUNCH] = "prelaunch",
		[MACHINE_RUNNING] = "running",
		[MACHINE_PAUSED] = "paused",
		[MACHINE_SHUTDOWN] = "shutdown",
		[MACHINE_GUEST_PANICKED] = "guest-panicked",
		[MACHINE_INTERNAL_ERROR] = "internal-error",
		[MACHINE_INMIGRATE] = "inmigrate",
		[MACHINE_POSTMIGRATE] = "postmigrate",
	};
	return names[status];
}

int machine_new(struct machine **out, const struct config *config, struct loop *loop,
		const struct machine_events *events)
{
	struct machine *machine;

	if (!strcmp(config->kernel, "no-machine"))
		return fail(-ENOENT, "fake: no such kernel");
	machine = calloc(1, sizeof(*machine));
	if (config_copy(&machine->config, config))
		abort();
	machine->status = MACHINE_PRELAUNCH;
	machine->events = *events;
	machine->loop = loop;
	*out = machine;
	return 0;
}

int machine_new_incoming(struct machine **out, const struct config *config, struct loop *loop,
			 const struct machine_events *events)
{
	int error = machine_new(out, config, loop, events);

	if (!error)
		(*out)->status = MACHINE_INMIGRATE;
	return error;
}

bool machine_is_sealed(const struct machine *machine)
{
	return machine->sealed;
}

void machine_free(struct machine *machine)
{
	if (!machine)
		return;
	config_fini(&machine->config);
	free(machine);
}

static inline void fake_behave(void *opaque)
{
	struct machine *machine = opaque;
	const char *kernel = machine->config.kernel;

	if (!strcmp(kernel, "poweroff")) {
		machine->status = MACHINE_SHUTDOWN;
		fake_event(machine, MACHINE_EVENT_SHUTDOWN, true);
	} else if (!strcmp(kernel, "panic")) {
		machine->status = MACHINE_GUEST_PANICKED;
		fake_event(machine, MACHINE_EVENT_PANIC, true);
	} else if (!strcmp(kernel, "error")) {
		machine->status = MACHINE_INTERNAL_ERROR;
		fake_event(machine, MACHINE_EVENT_STOP, false);
	} else if (!strcmp(kernel, "resets")) {
		for (int i = 0; i < 3; i++)
			fake_event(machine, MACHINE_EVENT_RESET, true);
	}
}

int machine_start(struct machine *machine)
{
	machine->status = MACHINE_RUNNING;
	if (!strcmp(machine->config.kernel, "no-start"))
		return fail(-EIO, "fake: does not start");
	return loop_post(machine->loop, fake_behave, machine);
}

int machine_pause(struct machine *machine)
{
	if (machine->pause_error)
		return fail(machine->pause_error, "fake: disk0 did not drain");
	if (machine->status == MACHINE_RUNNING) {
		machine->status = MACHINE_PAUSED;
		fake_event(machine, MACHINE_EVENT_STOP, false);
	}
	return 0;
}

/* A guest that runs and whose button was pressed, now or while it was paused. */
static inline void fake_notice_button(struct machine *machine)
{
	const char *kernel = machine->config.kernel;

	if (!machine->powerdowns || machine->status != MACHINE_RUNNING || !kernel ||
	    strcmp(kernel, "off-on-powerdown") != 0)
		return;
	machine->status = MACHINE_SHUTDOWN;
	fake_event(machine, MACHINE_EVENT_SHUTDOWN, true);
}

int machine_resume(struct machine *machine)
{
	if (machine->status == MACHINE_PAUSED) {
		machine->status = MACHINE_RUNNING;
		fake_event(machine, MACHINE_EVENT_RESUME, false);
	}
	fake_notice_button(machine);
	return 0;
}

int machine_reset(struct machine *machine)
{
	machine->resets++;
	fake_event(machine, MACHINE_EVENT_RESET, false);
	return 0;
}

int machine_powerdown(struct machine *machine)
{
	machine->powerdowns++;
	fake_event(machine, MACHINE_EVENT_POWERDOWN, false);
	fake_notice_button(machine);
	return 0;
}

void machine_shutdown(struct machine *machine)
{
	machine->status = MACHINE_SHUTDOWN;
	fake_event(machine, MACHINE_EVENT_SHUTDOWN, false);
}

int machine_save(struct machine *machine, struct buf *out)
{
	return -ENOTSUP;
}

int machine_load(struct machine *machine, const void *bytes, size_t len, enum clock_mode mode)
{
	return -ENOTSUP;
}

enum machine_status machine_get_status(const struct machine *machine)
{
	return machine->status;
}

const struct config *machine_config(const struct machine *machine)
{
	return &machine->config;
}

struct ram *machine_ram(struct machine *machine)
{
	return &machine->ram;
}

struct dirty *machine_dirty(struct machine *machine)
{
	return NULL;
}

const struct dirty_choice *machine_dirty_choice(const struct machine *machine)
{
	return &machine->choice;
}

struct device_list *machine_devices(struct machine *machine)
{
	return &machine->devices;
}

unsigned int machine_nvcpus(const struct machine *machine)
{
	return machine->config.cpus;
}

pid_t machine_vcpu_tid(const struct machine *machine, unsigned int index)
{
	return 1000 + (pid_t)index;
}

const char *machine_pty_path(const struct machine *machine)
{
	return "";
}

void machine_serial_input(struct machine *machine, const void *bytes, size_t len)
{
	if (len > sizeof(machine->serial) - machine->serial_len)
		len = sizeof(machine->serial) - machine->serial_len;
	memcpy(machine->serial + machine->serial_len, bytes, len);
	machine->serial_len += len;
}
void machine_hold(struct machine *machine, bool hold)
{
}

void machine_leave(struct machine *machine)
{
	machine->status = MACHINE_POSTMIGRATE;
}

int machine_adopt(struct machine *machine)
{
	machine->status = MACHINE_PAUSED;
	return 0;
}

int machine_save_told(struct machine *machine, struct buf *out)
{
	return 0;
}

int machine_acquire_disks(struct machine *machine)
{
	return 0;
}

int machine_save_disks(struct machine *machine, bool sync, struct buf *out)
{
	return 0;
}

int machine_check_disks(struct machine *machine, const void *bytes, size_t len, bool as_they_are)
{
	return 0;
}

int machine_check_told(struct machine *machine, const void *bytes, size_t len)
{
	return 0;
}
#pragma GCC diagnostic pop

#endif
