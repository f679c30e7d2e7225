// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The list of a VM's devices: ownership, and the lifecycle calls over all of them. What a device does in each is its own
 * business; the order among vCPUs, devices and interrupt controllers is the machine's.
 */
#include "devices/device.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

void device_init(struct device *device, const struct device_ops *ops, const char *id,
		 uint32_t instance)
{
	assert(ops->type && ops->table && ops->reset && ops->free);
	assert(ops->table == STATE_NONE || (ops->save && ops->load));
	assert(!ops->pause == !ops->resume && !ops->save == !ops->load);
	device->ops = ops;
	device->instance = instance;
	snprintf(device->id, sizeof(device->id), "%s", id);
}

int device_list_add(struct device_list *list, struct device *device)
{
	for (unsigned int i = 0; i < list->n; i++) {
		if (strcmp(list->device[i]->id, device->id) == 0)
			return fail(-EEXIST, "device: %s: there is a %s of that name", device->id,
				    list->device[i]->ops->type);
	}
	if (list->n == DEVICES_MAX)
		return fail(-ENOSPC, "device: %s: there are %d devices already", device->id,
			    DEVICES_MAX);
	list->device[list->n++] = device;
	return 0;
}

void device_list_free(struct device_list *list)
{
	while (list->n > 0) {
		struct device *device = list->device[--list->n];

		list->device[list->n] = NULL;
		device->ops->free(device);
	}
}

void device_list_reset(struct device_list *list)
{
	for (unsigned int i = 0; i < list->n; i++)
		list->device[i]->ops->reset(list->device[i]);
}

static void resume_first(struct device_list *list, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (list->device[i]->ops->resume)
			list->device[i]->ops->resume(list->device[i]);
	}
}

int device_list_pause(struct device_list *list)
{
	for (unsigned int i = 0; i < list->n; i++) {
		struct device *device = list->device[i];
		int ret = device->ops->pause ? device->ops->pause(device) : 0;

		if (ret < 0) {
			resume_first(list, i);
			return fail(ret, "device: %s: does not pause: %s", device->id,
				    strerror(-ret));
		}
	}
	return 0;
}

void device_list_resume(struct device_list *list)
{
	resume_first(list, list->n);
}

int device_list_save(const struct device_list *list, struct buf *out)
{
	for (unsigned int i = 0; i < list->n; i++) {
		const struct device *device = list->device[i];
		int ret = device->ops->save ? device->ops->save(device, out) : 0;

		if (ret < 0)
			return fail(ret, "device: %s: cannot be saved: %s", device->id,
				    strerror(-ret));
	}
	return 0;
}

int device_list_load(struct device_list *list, struct state_set *in)
{
	for (unsigned int i = 0; i < list->n; i++) {
		struct device *device = list->device[i];
		int ret = device->ops->load ? device->ops->load(device, in) : 0;

		if (ret < 0)
			return fail(ret, "device: %s: cannot be loaded: %s", device->id,
				    strerror(-ret));
	}
	return 0;
}
