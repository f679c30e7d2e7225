// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The windows of an address space, sorted by start, and the dispatch of accesses to them. What answers inside a window,
 * and what MMIO or port exits look like, is not in here.
 */
#include "devices/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	pthread_rwlock_init(&bus->lock, NULL);
}

void bus_fini(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

/* How many windows start at or below the address; the candidate is the last of them. */
static unsigned int windows_up_to(const struct bus *bus, uint64_t address)
{
	unsigned int low = 0, high = bus->nwindows;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;

		if (bus->window[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool overlaps(const struct bus_window *window, uint64_t start, uint64_t last)
{
	return window->start <= last && start <= window->start + (window->size_bytes - 1);
}

static int insert(struct bus *bus, const struct bus_window *new)
{
	unsigned int at = windows_up_to(bus, new->start);
	uint64_t last = new->start + (new->size_bytes - 1);
	const struct bus_window *other = NULL;

	if (at > 0 && overlaps(&bus->window[at - 1], new->start, last))
		other = &bus->window[at - 1];
	else if (at < bus->nwindows && overlaps(&bus->window[at], new->start, last))
		other = &bus->window[at];
	if (other)
		return fail(-EEXIST,
			    "bus: %s at 0x%" PRIx64 "+0x%" PRIx64 ": overlaps %s at 0x%" PRIx64
			    "+0x%" PRIx64,
			    new->name, new->start, new->size_bytes, other->name, other->start,
			    other->size_bytes);
	if (bus->nwindows == BUS_WINDOWS_MAX)
		return fail(-ENOSPC, "bus: %s: all %d windows are taken", new->name,
			    BUS_WINDOWS_MAX);
	memmove(&bus->window[at + 1], &bus->window[at],
		(bus->nwindows - at) * sizeof(bus->window[0]));
	bus->window[at] = *new;
	bus->nwindows++;
	return 0;
}

int bus_add(struct bus *bus, const char *name, uint64_t start, uint64_t size_bytes,
	    const struct bus_ops *ops, void *opaque)
{
	struct bus_window new = {
		.start = start, .size_bytes = size_bytes, .ops = ops, .opaque = opaque};
	size_t len = strnlen(name, sizeof(new.name) - 1);
	int ret;

	memcpy(new.name, name, len);
	if (size_bytes == 0 || start + (size_bytes - 1) < start)
		return fail(-EINVAL, "bus: %s at 0x%" PRIx64 "+0x%" PRIx64 ": empty or wraps",
			    new.name, start, size_bytes);
	pthread_rwlock_wrlock(&bus->lock);
	ret = insert(bus, &new);
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

int bus_remove(struct bus *bus, uint64_t start)
{
	int ret = -ENOENT;

	pthread_rwlock_wrlock(&bus->lock);
	for (unsigned int i = 0; i < bus->nwindows; i++) {
		if (bus->window[i].start != start)
			continue;
		bus->nwindows--;
		memmove(&bus->window[i], &bus->window[i + 1],
			(bus->nwindows - i) * sizeof(bus->window[0]));
		ret = 0;
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

static bool find(struct bus *bus, uint64_t address, struct bus_window *out)
{
	const struct bus_window *window;
	bool found = false;
	unsigned int n;

	pthread_rwlock_rdlock(&bus->lock);
	n = windows_up_to(bus, address);
	if (n > 0) {
		window = &bus->window[n - 1];
		found = address - window->start < window->size_bytes;
		if (found)
			*out = *window;
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

bool bus_read(struct bus *bus, uint64_t address, void *data, unsigned int len)
{
	struct bus_window window;

	if (!find(bus, address, &window)) {
		memset(data, 0xff, len);
		return false;
	}
	memset(data, 0, len);
	window.ops->read(window.opaque, address - window.start, data, len);
	return true;
}

bool bus_write(struct bus *bus, uint64_t address, const void *data, unsigned int len)
{
	struct bus_window window;

	if (!find(bus, address, &window))
		return false;
	window.ops->write(window.opaque, address - window.start, data, len);
	return true;
}
