/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine's wiring without a machine: MSI vectors and doorbells in arrays. A connected vector delivers what is in its
 * eventfd when it is looked at, or when it is connected, as KVM does; an unconnected one leaves it there.
 */
#ifndef TESTS_FAKE_WIRING_H
#define TESTS_FAKE_WIRING_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "devices/wiring.h"

#define FAKE_VECTORS   256
#define FAKE_DOORBELLS 512

struct fake_vector {
	bool open, connected;
	int eventfd;
	struct msi_message message;
	uint64_t delivered; /* how often; a write of n at once counts once, as an edge does */
};

struct fake_doorbell {
	bool used;
	uint64_t gpa;
	int eventfd;
};

struct fake_wiring {
	struct wiring wiring;
	struct fake_vector vector[FAKE_VECTORS];
	struct fake_doorbell doorbell[FAKE_DOORBELLS];
	unsigned int ndoorbells;
	int refuse; /* -errno that msi_set() returns for a message, 0: none */
};

static inline void fake_deliver(struct fake_vector *vector)
{
	uint64_t count;

	if (vector->connected && read(vector->eventfd, &count, sizeof(count)) == sizeof(count))
		vector->delivered++;
}

static inline int fake_msi_open(void *opaque, int eventfd, uint32_t *handle)
{
	struct fake_wiring *fake = opaque;

	for (uint32_t i = 0; i < FAKE_VECTORS; i++) {
		if (fake->vector[i].open)
			continue;
		fake->vector[i] = (struct fake_vector){.open = true, .eventfd = eventfd};
		*handle = i;
		return 0;
	}
	return -ENOSPC;
}

static inline void fake_msi_close(void *opaque, uint32_t handle)
{
	struct fake_wiring *fake = opaque;

	fake->vector[handle].open = false;
}

static inline int fake_msi_set(void *opaque, uint32_t handle, const struct msi_message *message)
{
	struct fake_wiring *fake = opaque;
	struct fake_vector *vector = &fake->vector[handle];

	fake_deliver(vector);
	vector->connected = false;
	if (!message)
		return 0;
	if (fake->refuse)
		return fake->refuse;
	vector->connected = true;
	vector->message = *message;
	fake_deliver(vector);
	return 0;
}

static inline int fake_doorbell_add(void *opaque, uint64_t gpa, uint32_t len, int eventfd)
{
	struct fake_wiring *fake = opaque;

	for (unsigned int i = 0; i < FAKE_DOORBELLS; i++) {
		if (fake->doorbell[i].used)
			continue;
		fake->doorbell[i] = (struct fake_doorbell){true, gpa, eventfd};
		fake->ndoorbells++;
		return 0;
	}
	return -ENOSPC;
}

static inline void fake_doorbell_remove(void *opaque, uint64_t gpa, uint32_t len, int eventfd)
{
	struct fake_wiring *fake = opaque;

	for (unsigned int i = 0; i < FAKE_DOORBELLS; i++) {
		struct fake_doorbell *doorbell = &fake->doorbell[i];

		if (!doorbell->used || doorbell->gpa != gpa || doorbell->eventfd != eventfd)
			continue;
		doorbell->used = false;
		fake->ndoorbells--;
	}
}

static inline void fake_wiring_init(struct fake_wiring *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->wiring = (struct wiring){
		.opaque = fake,
		.msi_open = fake_msi_open,
		.msi_close = fake_msi_close,
		.msi_set = fake_msi_set,
		.doorbell_add = fake_doorbell_add,
		.doorbell_remove = fake_doorbell_remove,
	};
}

/* A guest's write at gpa; false: no doorbell there (the write would exit to the bus). */
static inline bool fake_ring_doorbell(struct fake_wiring *fake, uint64_t gpa)
{
	uint64_t one = 1;

	for (unsigned int i = 0; i < FAKE_DOORBELLS; i++) {
		if (fake->doorbell[i].used && fake->doorbell[i].gpa == gpa)
			return write(fake->doorbell[i].eventfd, &one, sizeof(one)) == sizeof(one);
	}
	return false;
}

/* How often the vector of that handle has interrupted. */
static inline uint64_t fake_delivered(struct fake_wiring *fake, uint32_t handle)
{
	fake_deliver(&fake->vector[handle]);
	return fake->vector[handle].delivered;
}

/* How often an edge-triggered line's eventfd was raised since the last look: 0, or the sum of what was written. */
static inline uint64_t fake_edges(int eventfd)
{
	uint64_t count = 0;

	return read(eventfd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

#endif
