/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lifecycle contract of every device: reset, pause, resume, save, load.
 *
 *	pause	after all vCPUs have stopped. A paused device produces no work and touches no guest memory; requests in
 *		flight have completed (and are marked dirty) or been given back; it keeps the kicks that arrive. 0, or
 *		-ETIMEDOUT/-errno when it cannot within DEVICE_PAUSE_MS: then it runs as before, and the machine resumes all.
 *	resume	before any vCPU starts. Every enabled queue is processed once as if kicked, and its interrupt is raised
 *		once if the used index has moved past what the guest asked to be told of: a kick's count does not travel.
 *	save	paused only; the device is const: saving changes nothing.
 *	load	paused only, fresh from reset: reads all, validates, then commits. -EBADMSG leaves the device unusable but safe.
 *		A loaded device is paused until resume.
 *	reset	paused or before the first run: as after power on.
 *
 * All of them on the main thread. Each device either has state tables or says STATE_NONE: `table` must not be NULL.
 */
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include <stdint.h>

#include "base/state.h"

#define DEVICE_PAUSE_MS 5000

struct device;

struct device_ops {
	const char *type;		 /* "virtio-blk", "serial" ... also in logs */
	const struct state_table *table; /* its main section, or STATE_NONE */
	void (*reset)(struct device *device);
	int (*pause)(struct device *device);   /* NULL: nothing ever runs by itself */
	void (*resume)(struct device *device); /* NULL with pause */
	int (*save)(const struct device *device, struct buf *out);
	int (*load)(struct device *device,
		    struct state_set *in); /* NULL with save: STATE_NONE only */
	void (*free)(struct device *device);
};

/* Embedded first in every device. */
struct device {
	const struct device_ops *ops;
	char id[32]; /* "disk0", "net0", "serial0": unique in the VM; named in maps and logs */
	uint32_t instance; /* the sections' instance number: stable across hosts (PCI slot, or 0) */
};

/* Fills the embedded part; asserts that ops is complete (a NULL table, or save/load without one, is our bug). */
void device_init(struct device *device, const struct device_ops *ops, const char *id,
		 uint32_t instance);

/* The devices of one VM in creation order. */
#define DEVICES_MAX 64
struct device_list {
	unsigned int n;
	struct device *device[DEVICES_MAX];
};
int device_list_add(struct device_list *list,
		    struct device *device) must_check; /* takes ownership; -EEXIST id, -ENOSPC */
void device_list_free(struct device_list *list);       /* frees all, last first */
void device_list_reset(struct device_list *list);
/* All or none: when one fails, those already paused are resumed and its error is returned (logged with its id). */
int device_list_pause(struct device_list *list) must_check;
void device_list_resume(struct device_list *list);
int device_list_save(const struct device_list *list, struct buf *out) must_check;
int device_list_load(struct device_list *list, struct state_set *in) must_check;

#endif
