/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a fuzz target of devices ends with: whatever the guest did, the devices pause, their state is saved, loads into
 * fresh devices without complaint, and saves to the same bytes.
 */
#ifndef TESTS_FUZZ_SAVED_H
#define TESTS_FUZZ_SAVED_H

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/state.h"
#include "devices/device.h"

static inline void saved_or_abort(bool good)
{
	if (!good)
		abort();
}

static inline void check_saved(struct device_list *devices)
{
	struct buf first, second;
	struct state_set *set;

	buf_init(&first, 1 << 20);
	buf_init(&second, 1 << 20);
	saved_or_abort(device_list_pause(devices) == 0);
	saved_or_abort(device_list_save(devices, &first) == 0);
	device_list_reset(devices);
	saved_or_abort(state_set_parse(&set, first.bytes, first.len) == 0);
	saved_or_abort(device_list_load(devices, set) == 0);
	saved_or_abort(state_set_all_used(set) == 0);
	state_set_free(set);
	saved_or_abort(device_list_save(devices, &second) == 0);
	saved_or_abort(first.len == second.len && !memcmp(first.bytes, second.bytes, first.len));
	device_list_resume(devices);
	buf_fini(&first);
	buf_fini(&second);
}

/* As after power on, for the next input. */
static inline void power_cycle(struct device_list *devices)
{
	saved_or_abort(device_list_pause(devices) == 0);
	device_list_reset(devices);
	device_list_resume(devices);
}

#endif
