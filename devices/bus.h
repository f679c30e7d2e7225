/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An address space of device registers (MMIO or port I/O): which device answers at an address.
 * Filled at machine creation and changed only when the guest moves a BAR. Lookups: vCPU threads, under a reader lock,
 * which is given up before the device is called: a device may therefore add and remove windows from its own access, and
 * may see one more access that was under way when its window went. What ops and opaque point to lives as long as vCPUs run.
 */
#ifndef DEVICES_BUS_H
#define DEVICES_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"

/*
 * One access of a vCPU: offset from the window's start; len 1, 2, 4 or 8, any alignment, possibly reaching past the
 * window's end by less than 8 bytes: hostile. A device whose registers are touched from several threads locks inside.
 * read fills `data` (len bytes, zeroed before), write gets them. Neither fails: bad accesses read ones or are dropped.
 */
struct bus_ops {
	void (*read)(void *opaque, uint64_t offset, void *data, unsigned int len);
	void (*write)(void *opaque, uint64_t offset, const void *data, unsigned int len);
};

#define BUS_WINDOWS_MAX 128
struct bus_window {
	uint64_t start, size_bytes;
	const struct bus_ops *ops;
	void *opaque;
	char name[24];
};
struct bus {
	pthread_rwlock_t lock; /* the windows; not the devices behind them */
	unsigned int nwindows;
	struct bus_window window[BUS_WINDOWS_MAX]; /* sorted by start */
};

void bus_init(struct bus *bus);
void bus_fini(struct bus *bus);
/* -EEXIST names both windows when they overlap; -ENOSPC; -EINVAL (size 0, wraps). Logged. name is cut to fit. */
int bus_add(struct bus *bus, const char *name, uint64_t start, uint64_t size_bytes,
	    const struct bus_ops *ops, void *opaque) must_check;
/* The window that starts there; -ENOENT: none. */
int bus_remove(struct bus *bus, uint64_t start);
/* false: nobody there (read gives all ones). */
bool bus_read(struct bus *bus, uint64_t address, void *data, unsigned int len);
bool bus_write(struct bus *bus, uint64_t address, const void *data, unsigned int len);

#endif
