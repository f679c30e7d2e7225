// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PC's real-time clock and CMOS memory (MC146818A). The time is computed from the host's wall clock at each read;
 * nothing ticks. What a guest does to the clock is an offset to that.
 *
 * Update in progress (UIP) is told as on the real part: for the last 244 microseconds of each second, so that a driver
 * that saw it clear has that long to read a consistent time.
 */
#include "devices/cmos.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/state.h"

/* Registers, data sheet figures 7 to 13. */
#define RTC_SECONDS	 0x00
#define RTC_MINUTES	 0x02
#define RTC_HOURS	 0x04
#define RTC_DAY_OF_WEEK	 0x06
#define RTC_DAY_OF_MONTH 0x07
#define RTC_MONTH	 0x08
#define RTC_YEAR	 0x09
#define RTC_FREQ_SELECT	 0x0a
#define RTC_CONTROL	 0x0b
#define RTC_INTR_FLAGS	 0x0c
#define RTC_VALID	 0x0d

#define RTC_UIP		    0x80 /* in FREQ_SELECT */
#define RTC_REF_CLOCK_32KHZ 0x20
#define RTC_SET		    0x80 /* in CONTROL: the time stands still while it is set */
#define RTC_BINARY	    0x04
#define RTC_24H		    0x02
#define RTC_VRT		    0x80 /* in VALID: the battery is good */

#define CMOS_BYTES  128
#define UIP_US	    244
#define DAY_SECONDS 86400LL

/* clang-format off */
#define CMOS_STATE(T, F, A, V)                                                        \
	F(T, 1, u8, index)                                                                \
	A(T, 2, u8, memory, CMOS_BYTES)  /* time registers: as last written, while SET */ \
	F(T, 3, u64, offset_seconds)     /* the guest's clock minus the host's, two's complement */
/* clang-format on */
STATE_STRUCT(cmos_state, CMOS_STATE);
STATE_TABLE(cmos_state, 1, CMOS_STATE);

struct cmos {
	struct device device;
	pthread_mutex_t lock; /* the state */
	struct cmos_state state;
	wall_clock_fn *clock;
	void *opaque;
};

/* Numbers as registers hold them, by register B: BCD or binary, 24 or 12 hours. */

static uint8_t encode(const struct cmos *cmos, unsigned int value)
{
	if (cmos->state.memory[RTC_CONTROL] & RTC_BINARY)
		return value;
	return value / 10 << 4 | value % 10;
}

static unsigned int decode(const struct cmos *cmos, uint8_t value)
{
	if (cmos->state.memory[RTC_CONTROL] & RTC_BINARY)
		return value;
	return (value >> 4) * 10 + (value & 0xf);
}

static uint8_t encode_hour(const struct cmos *cmos, unsigned int hour)
{
	unsigned int twelve = hour % 12 ? hour % 12 : 12;

	if (cmos->state.memory[RTC_CONTROL] & RTC_24H)
		return encode(cmos, hour);
	return encode(cmos, twelve) | (hour >= 12 ? 0x80 : 0);
}

static unsigned int decode_hour(const struct cmos *cmos, uint8_t value)
{
	if (cmos->state.memory[RTC_CONTROL] & RTC_24H)
		return decode(cmos, value);
	return decode(cmos, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

static bool is_time_register(uint8_t index)
{
	switch (index) {
	case RTC_SECONDS:
	case RTC_MINUTES:
	case RTC_HOURS:
	case RTC_DAY_OF_WEEK:
	case RTC_DAY_OF_MONTH:
	case RTC_MONTH:
	case RTC_YEAR:
	case CMOS_CENTURY:
		return true;
	default:
		return false;
	}
}

/* The guest's time now, as a register shows it. */
static uint8_t time_register(const struct cmos *cmos, uint8_t index)
{
	time_t seconds = (time_t)(cmos->clock(cmos->opaque) / 1000000 + cmos->state.offset_seconds);
	struct tm tm = {};

	gmtime_r(&seconds, &tm);
	switch (index) {
	case RTC_SECONDS:
		return encode(cmos, tm.tm_sec);
	case RTC_MINUTES:
		return encode(cmos, tm.tm_min);
	case RTC_HOURS:
		return encode_hour(cmos, tm.tm_hour);
	case RTC_DAY_OF_WEEK:
		return encode(cmos, tm.tm_wday + 1);
	case RTC_DAY_OF_MONTH:
		return encode(cmos, tm.tm_mday);
	case RTC_MONTH:
		return encode(cmos, tm.tm_mon + 1);
	case RTC_YEAR:
		return encode(cmos, (unsigned int)tm.tm_year % 100);
	default:
		return encode(cmos, ((unsigned int)tm.tm_year + 1900) / 100 % 100);
	}
}

static bool stopped(const struct cmos *cmos)
{
	return cmos->state.memory[RTC_CONTROL] & RTC_SET;
}

static bool update_in_progress(const struct cmos *cmos)
{
	return !stopped(cmos) && cmos->clock(cmos->opaque) % 1000000 >= 1000000 - UIP_US;
}

static uint8_t read_memory(const struct cmos *cmos)
{
	uint8_t index = cmos->state.index;
	uint8_t value = cmos->state.memory[index];

	if (is_time_register(index) && !stopped(cmos))
		return time_register(cmos, index);
	switch (index) {
	case RTC_FREQ_SELECT:
		return (value & ~RTC_UIP) | (update_in_progress(cmos) ? RTC_UIP : 0);
	case RTC_INTR_FLAGS: /* no interrupts, no flags */
		return 0;
	case RTC_VALID:
		return RTC_VRT;
	default:
		return value;
	}
}

/* Days since 1970 of a proleptic Gregorian date; month 1..12, any year. */
static int64_t days_of(int64_t year, unsigned int month, unsigned int day)
{
	/* Years that begin in March have their leap day last; 400 of them have 146097 days. */
	int64_t y = month <= 2 ? year - 1 : year;
	unsigned int m = month <= 2 ? month + 9 : month - 3;

	return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/* The time that the memory holds becomes now. Nonsense (a month of 0) is passed over, as is the day of the week. */
static void set_clock(struct cmos *cmos)
{
	const uint8_t *memory = cmos->state.memory;
	unsigned int month = decode(cmos, memory[RTC_MONTH]);
	unsigned int day = decode(cmos, memory[RTC_DAY_OF_MONTH]);
	int64_t year = decode(cmos, memory[RTC_YEAR]) + 100LL * decode(cmos, memory[CMOS_CENTURY]);
	int64_t seconds;

	if (month < 1 || month > 12 || day < 1 || day > 31)
		return;
	seconds = days_of(year, month, day) * DAY_SECONDS +
		  decode_hour(cmos, memory[RTC_HOURS]) * 3600LL +
		  decode(cmos, memory[RTC_MINUTES]) * 60LL + decode(cmos, memory[RTC_SECONDS]);
	cmos->state.offset_seconds = (uint64_t)seconds - cmos->clock(cmos->opaque) / 1000000;
}

/* The memory's time registers get the time, so that one of them can be changed. */
static void latch_clock(struct cmos *cmos)
{
	for (unsigned int i = 0; i < CMOS_BYTES; i++) {
		if (is_time_register(i))
			cmos->state.memory[i] = time_register(cmos, i);
	}
}

static void write_control(struct cmos *cmos, uint8_t value)
{
	bool was_stopped = stopped(cmos);

	if (!was_stopped && value & RTC_SET)
		latch_clock(cmos);
	cmos->state.memory[RTC_CONTROL] = value;
	if (was_stopped && !(value & RTC_SET))
		set_clock(cmos);
}

static void write_memory(struct cmos *cmos, uint8_t value)
{
	uint8_t index = cmos->state.index;

	if (index == RTC_CONTROL) {
		write_control(cmos, value);
	} else if (is_time_register(index) && !stopped(cmos)) {
		latch_clock(cmos);
		cmos->state.memory[index] = value;
		set_clock(cmos);
	} else if (index != RTC_INTR_FLAGS && index != RTC_VALID) {
		cmos->state.memory[index] = index == RTC_FREQ_SELECT ? value & ~RTC_UIP : value;
	}
}

static void bus_read_cmos(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct cmos *cmos = opaque;

	pthread_mutex_lock(&cmos->lock);
	for (unsigned int i = 0; i < len; i++)
		((uint8_t *)data)[i] = offset + i == 1 ? read_memory(cmos) : 0xff;
	pthread_mutex_unlock(&cmos->lock);
}

static void bus_write_cmos(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct cmos *cmos = opaque;

	pthread_mutex_lock(&cmos->lock);
	for (unsigned int i = 0; i < len; i++) {
		uint8_t value = ((const uint8_t *)data)[i];

		/* Bit 7 of the index port masks NMIs, of which there are none. */
		if (offset + i == 0)
			cmos->state.index = value % CMOS_BYTES;
		else if (offset + i == 1)
			write_memory(cmos, value);
	}
	pthread_mutex_unlock(&cmos->lock);
}

const struct bus_ops cmos_bus_ops = {.read = bus_read_cmos, .write = bus_write_cmos};

static struct cmos *cmos_of(struct device *device)
{
	return CONTAINER_OF(device, struct cmos, device);
}

/* A battery keeps memory and time over a reset; only the index goes, and a clock that was stopped runs again. */
static void reset(struct device *device)
{
	struct cmos *cmos = cmos_of(device);

	pthread_mutex_lock(&cmos->lock);
	cmos->state.index = 0;
	cmos->state.memory[RTC_FREQ_SELECT] = RTC_REF_CLOCK_32KHZ | 6;
	cmos->state.memory[RTC_CONTROL] = RTC_24H;
	pthread_mutex_unlock(&cmos->lock);
}

static int save(const struct device *device, struct buf *out)
{
	const struct cmos *cmos = (const struct cmos *)device;

	return state_save(&cmos_state_table, device->instance, &cmos->state, out);
}

static int load(struct device *device, struct state_set *in)
{
	struct cmos *cmos = cmos_of(device);
	struct cmos_state loaded;
	int error = state_load(in, &cmos_state_table, device->instance, &loaded);

	if (error)
		return error;
	if (loaded.index >= CMOS_BYTES)
		return fail(-EBADMSG, "cmos: index %u", loaded.index);
	pthread_mutex_lock(&cmos->lock);
	cmos->state = loaded;
	pthread_mutex_unlock(&cmos->lock);
	return 0;
}

static void free_device(struct device *device)
{
	struct cmos *cmos = cmos_of(device);

	pthread_mutex_destroy(&cmos->lock);
	free(cmos);
}

static const struct device_ops cmos_device_ops = {
	.type = "cmos",
	.table = &cmos_state_table,
	.reset = reset,
	.save = save,
	.load = load,
	.free = free_device,
};

int cmos_new(struct cmos **out, const char *id, wall_clock_fn *clock, void *opaque)
{
	struct cmos *cmos = calloc(1, sizeof(*cmos));

	_Static_assert(offsetof(struct cmos, device) == 0, "device is embedded first");
	if (!cmos)
		return fail(-ENOMEM, "cmos: no memory");
	device_init(&cmos->device, &cmos_device_ops, id, 0);
	pthread_mutex_init(&cmos->lock, NULL);
	cmos->clock = clock ? clock : wall_clock_host;
	cmos->opaque = opaque;
	reset(&cmos->device);
	*out = cmos;
	return 0;
}

struct device *cmos_device(struct cmos *cmos)
{
	return &cmos->device;
}
