// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Arm PrimeCell real-time clock (PL031). The counter is the host's wall clock in seconds plus what the guest set.
 */
#include "devices/pl031.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/state.h"

/* Registers, DDI 0224 section 3. */
#define RTC_DR	 0x000
#define RTC_MR	 0x004
#define RTC_LR	 0x008
#define RTC_CR	 0x00c
#define RTC_IMSC 0x010
#define RTC_RIS	 0x014
#define RTC_MIS	 0x018
#define RTC_ICR	 0x01c
#define RTC_ID	 0xfe0

/* clang-format off */
#define PL031_STATE(T, F, A, V)                                                             \
	F(T, 1, u32, offset)    /* the guest's counter minus the host's seconds, modulo 2^32 */ \
	F(T, 2, u32, load)      /* as last written */                                           \
	F(T, 3, u32, match)                                                                     \
	F(T, 4, u8, mask)                                                                       \
	F(T, 5, u32, matched)   /* the match value whose interrupt was cleared; with matched_valid */ \
	F(T, 6, u8, matched_valid)
/* clang-format on */
STATE_STRUCT(pl031_state, PL031_STATE);
STATE_TABLE(pl031_state, 1, PL031_STATE);

struct pl031 {
	struct device device;
	pthread_mutex_t lock; /* the state */
	struct pl031_state state;
	wall_clock_fn *clock;
	void *opaque;
};

static uint32_t host_seconds(const struct pl031 *pl031)
{
	return pl031->clock(pl031->opaque) / 1000000;
}

static uint32_t counter(const struct pl031 *pl031)
{
	return host_seconds(pl031) + pl031->state.offset;
}

/* The raw interrupt: the counter has reached the match value (as a signed distance, it wraps), and nobody cleared it. */
static bool has_matched(const struct pl031 *pl031)
{
	const struct pl031_state *state = &pl031->state;

	if (state->match == 0 || (state->matched_valid && state->matched == state->match))
		return false;
	return (int32_t)(counter(pl031) - state->match) >= 0;
}

static uint32_t read_register(const struct pl031 *pl031, uint64_t offset)
{
	/* Peripheral and PrimeCell identification, a byte in each word. */
	static const uint8_t id[] = {0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
	const struct pl031_state *state = &pl031->state;

	if (offset >= RTC_ID)
		return id[(offset - RTC_ID) / 4];
	switch (offset) {
	case RTC_DR:
		return counter(pl031);
	case RTC_MR:
		return state->match;
	case RTC_LR:
		return state->load;
	case RTC_CR:
		return 1;
	case RTC_IMSC:
		return state->mask;
	case RTC_RIS:
		return has_matched(pl031);
	case RTC_MIS:
		return state->mask && has_matched(pl031);
	default:
		return 0;
	}
}

static void write_register(struct pl031 *pl031, uint64_t offset, uint32_t value)
{
	struct pl031_state *state = &pl031->state;

	switch (offset) {
	case RTC_MR:
		state->match = value;
		state->matched_valid = 0;
		break;
	case RTC_LR:
		state->load = value;
		state->offset = value - host_seconds(pl031);
		break;
	case RTC_IMSC:
		state->mask = value & 1;
		break;
	case RTC_ICR:
		if (value & 1 && has_matched(pl031)) {
			state->matched = state->match;
			state->matched_valid = 1;
		}
		break;
	default: /* it starts by itself and does not stop; the rest is read-only */
		break;
	}
}

/* Registers are words; narrower reads see their part of one, anything else is dropped. */
static void bus_read_pl031(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct pl031 *pl031 = opaque;
	uint8_t word[4];

	if (offset % 4 + len > 4 || offset + len > PL031_WINDOW_BYTES)
		return;
	pthread_mutex_lock(&pl031->lock);
	put_le32(word, read_register(pl031, offset & ~3ULL));
	pthread_mutex_unlock(&pl031->lock);
	__builtin_memcpy(data, word + offset % 4, len);
}

static void bus_write_pl031(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct pl031 *pl031 = opaque;

	if (len != 4 || offset % 4)
		return;
	pthread_mutex_lock(&pl031->lock);
	write_register(pl031, offset, get_le32(data));
	pthread_mutex_unlock(&pl031->lock);
}

const struct bus_ops pl031_bus_ops = {.read = bus_read_pl031, .write = bus_write_pl031};

static struct pl031 *pl031_of(struct device *device)
{
	return CONTAINER_OF(device, struct pl031, device);
}

/* A battery keeps the time over a reset. */
static void reset(struct device *device)
{
	struct pl031 *pl031 = pl031_of(device);

	pthread_mutex_lock(&pl031->lock);
	pl031->state = (struct pl031_state){.offset = pl031->state.offset};
	pthread_mutex_unlock(&pl031->lock);
}

static int save(const struct device *device, struct buf *out)
{
	const struct pl031 *pl031 = (const struct pl031 *)device;

	return state_save(&pl031_state_table, device->instance, &pl031->state, out);
}

static int load(struct device *device, struct state_set *in)
{
	struct pl031 *pl031 = pl031_of(device);
	struct pl031_state loaded;
	int error = state_load(in, &pl031_state_table, device->instance, &loaded);

	if (error)
		return error;
	if (loaded.mask > 1 || loaded.matched_valid > 1)
		return fail(-EBADMSG, "pl031: a register holds bits that it does not have");
	pthread_mutex_lock(&pl031->lock);
	pl031->state = loaded;
	pthread_mutex_unlock(&pl031->lock);
	return 0;
}

static void free_device(struct device *device)
{
	struct pl031 *pl031 = pl031_of(device);

	pthread_mutex_destroy(&pl031->lock);
	free(pl031);
}

static const struct device_ops pl031_device_ops = {
	.type = "pl031",
	.table = &pl031_state_table,
	.reset = reset,
	.save = save,
	.load = load,
	.free = free_device,
};

int pl031_new(struct pl031 **out, const char *id, wall_clock_fn *clock, void *opaque)
{
	struct pl031 *pl031 = calloc(1, sizeof(*pl031));

	_Static_assert(offsetof(struct pl031, device) == 0, "device is embedded first");
	if (!pl031)
		return fail(-ENOMEM, "pl031: no memory");
	device_init(&pl031->device, &pl031_device_ops, id, 0);
	pthread_mutex_init(&pl031->lock, NULL);
	pl031->clock = clock ? clock : wall_clock_host;
	pl031->opaque = opaque;
	*out = pl031;
	return 0;
}

struct device *pl031_device(struct pl031 *pl031)
{
	return &pl031->device;
}
