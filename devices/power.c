// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Power control for hardware-reduced ACPI: sleep and reset registers, and the event register behind a GED. What the
 * tables say of them is the machine's.
 */
#include "devices/power.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/state.h"
#include "devices/wiring.h"

#define SLEEP_ENABLE  0x20 /* SLP_EN */
#define SLEEP_TYPE(v) ((v) >> 2 & 7)
#define EVENTS_ALL    (POWER_EVENT_BUTTON | POWER_EVENT_VMGENID)

/* clang-format off */
#define POWER_STATE(T, F, A, V) \
	F(T, 1, u32, events)    /* pending */
/* clang-format on */
STATE_STRUCT(power_state, POWER_STATE);
STATE_TABLE(power_state, 1, POWER_STATE);

struct power {
	struct device device;
	pthread_mutex_t lock; /* the state and paused */
	struct power_state state;
	bool paused;
	int irq;
	struct power_host host;
};

static void bus_read_power(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct power *power = opaque;

	/* Everything else reads as zero. Taking the events apart would lose some: one whole access only. */
	if (offset != POWER_EVENTS || len != 4)
		return;
	pthread_mutex_lock(&power->lock);
	put_le32(data, power->state.events);
	power->state.events = 0;
	pthread_mutex_unlock(&power->lock);
}

static void bus_write_power(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct power *power = opaque;

	for (unsigned int i = 0; i < len; i++) {
		uint8_t value = ((const uint8_t *)data)[i];

		if (offset + i == POWER_SLEEP_CONTROL && value & SLEEP_ENABLE &&
		    SLEEP_TYPE(value) == POWER_SLEEP_S5)
			power->host.poweroff(power->host.opaque);
		else if (offset + i == POWER_RESET && value == POWER_RESET_VALUE)
			power->host.reset(power->host.opaque);
	}
}

const struct bus_ops power_bus_ops = {.read = bus_read_power, .write = bus_write_power};

void power_event(struct power *power, uint32_t event)
{
	pthread_mutex_lock(&power->lock);
	power->state.events |= event & EVENTS_ALL;
	if (!power->paused)
		irq_raise(power->irq);
	pthread_mutex_unlock(&power->lock);
}

static struct power *power_of(struct device *device)
{
	return CONTAINER_OF(device, struct power, device);
}

static void reset(struct device *device)
{
	struct power *power = power_of(device);

	pthread_mutex_lock(&power->lock);
	power->state.events = 0;
	pthread_mutex_unlock(&power->lock);
}

static int pause_device(struct device *device)
{
	struct power *power = power_of(device);

	pthread_mutex_lock(&power->lock);
	power->paused = true;
	pthread_mutex_unlock(&power->lock);
	return 0;
}

static void resume_device(struct device *device)
{
	struct power *power = power_of(device);

	pthread_mutex_lock(&power->lock);
	power->paused = false;
	/* The edge may have been lost on the way; one too many finds no bit set. */
	if (power->state.events)
		irq_raise(power->irq);
	pthread_mutex_unlock(&power->lock);
}

static int save(const struct device *device, struct buf *out)
{
	const struct power *power = (const struct power *)device;

	return state_save(&power_state_table, device->instance, &power->state, out);
}

static int load(struct device *device, struct state_set *in)
{
	struct power *power = power_of(device);
	struct power_state loaded;
	int error = state_load(in, &power_state_table, device->instance, &loaded);

	if (error)
		return error;
	if (loaded.events & ~EVENTS_ALL)
		return fail(-EBADMSG, "power: events 0x%x", loaded.events);
	pthread_mutex_lock(&power->lock);
	power->state = loaded;
	power->paused = true;
	pthread_mutex_unlock(&power->lock);
	return 0;
}

static void free_device(struct device *device)
{
	struct power *power = power_of(device);

	pthread_mutex_destroy(&power->lock);
	free(power);
}

static const struct device_ops power_device_ops = {
	.type = "power",
	.table = &power_state_table,
	.reset = reset,
	.pause = pause_device,
	.resume = resume_device,
	.save = save,
	.load = load,
	.free = free_device,
};

int power_new(struct power **out, const char *id, int irq, const struct power_host *host)
{
	struct power *power = calloc(1, sizeof(*power));

	_Static_assert(offsetof(struct power, device) == 0, "device is embedded first");
	if (!power)
		return fail(-ENOMEM, "power: no memory");
	device_init(&power->device, &power_device_ops, id, 0);
	pthread_mutex_init(&power->lock, NULL);
	power->irq = irq;
	power->host = *host;
	*out = power;
	return 0;
}

struct device *power_device(struct power *power)
{
	return &power->device;
}
