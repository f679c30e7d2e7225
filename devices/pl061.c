// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Arm PrimeCell GPIO (PL061): registers, the levels of eight lines, and the interrupts that they make. No pins leave it:
 * output lines are registers and nothing else.
 */
#include "devices/pl061.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/state.h"
#include "devices/wiring.h"

/* Registers, DDI 0190 section 3. Data: bits 2 to 9 of the address select the lines. */
#define GPIO_DATA_END 0x400
#define GPIO_DIR      0x400
#define GPIO_IS	      0x404
#define GPIO_IBE      0x408
#define GPIO_IEV      0x40c
#define GPIO_IE	      0x410
#define GPIO_RIS      0x414
#define GPIO_MIS      0x418
#define GPIO_IC	      0x41c
#define GPIO_AFSEL    0x420
#define GPIO_ID	      0xfe0

/* clang-format off */
#define PL061_STATE(T, F, A, V)                                     \
	F(T, 1, u8, input)    /* levels from outside */                 \
	F(T, 2, u8, output)                                             \
	F(T, 3, u8, direction) /* set: output */                        \
	F(T, 4, u8, is)        /* set: level, clear: edge */            \
	F(T, 5, u8, ibe)       /* both edges */                         \
	F(T, 6, u8, iev)       /* set: rising or high */                \
	F(T, 7, u8, ie)        /* enabled */                            \
	F(T, 8, u8, edges)     /* edges seen and not cleared */         \
	F(T, 9, u8, afsel)                                              \
	F(T, 10, u8, pressed)  /* keys that are yet to be let go */
/* clang-format on */
STATE_STRUCT(pl061_state, PL061_STATE);
STATE_TABLE(pl061_state, 1, PL061_STATE);

struct pl061 {
	struct device device;
	pthread_mutex_t lock; /* all but the timer */
	struct pl061_state state;
	uint8_t raised; /* masked interrupts as of the last update */
	bool paused;
	int irq;
	struct loop *loop;
	struct loop_timer *release;
};

static uint8_t levels(const struct pl061_state *state)
{
	return (state->input & ~state->direction) | (state->output & state->direction);
}

static uint8_t raw_interrupts(const struct pl061_state *state)
{
	uint8_t level = levels(state);
	uint8_t active = (level & state->iev) | (~level & ~state->iev);

	return (state->edges & ~state->is) | (active & state->is);
}

static void update_irq(struct pl061 *pl061)
{
	uint8_t now = raw_interrupts(&pl061->state) & pl061->state.ie;

	if (now & ~pl061->raised && !pl061->paused)
		irq_raise(pl061->irq);
	pl061->raised = now;
}

/* After a change of levels: notes the edges that somebody asked for. */
static void note_edges(struct pl061 *pl061, uint8_t before)
{
	struct pl061_state *state = &pl061->state;
	uint8_t after = levels(state);
	uint8_t rising = after & ~before, falling = before & ~after;
	uint8_t seen = (state->ibe & (rising | falling)) | (~state->ibe & state->iev & rising) |
		       (~state->ibe & ~state->iev & falling);

	/* A new edge on a line whose last one is still pending is no new cause, but the driver may just be past it. */
	pl061->raised &= ~seen;
	state->edges |= seen & ~state->is;
}

static uint8_t read_register(const struct pl061 *pl061, uint64_t offset)
{
	static const uint8_t id[] = {0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
	const struct pl061_state *state = &pl061->state;

	if (offset < GPIO_DATA_END)
		return levels(state) & offset >> 2;
	if (offset >= GPIO_ID)
		return id[(offset - GPIO_ID) / 4];
	switch (offset) {
	case GPIO_DIR:
		return state->direction;
	case GPIO_IS:
		return state->is;
	case GPIO_IBE:
		return state->ibe;
	case GPIO_IEV:
		return state->iev;
	case GPIO_IE:
		return state->ie;
	case GPIO_RIS:
		return raw_interrupts(state);
	case GPIO_MIS:
		return raw_interrupts(state) & state->ie;
	case GPIO_AFSEL:
		return state->afsel;
	default:
		return 0;
	}
}

static void write_register(struct pl061 *pl061, uint64_t offset, uint8_t value)
{
	struct pl061_state *state = &pl061->state;
	uint8_t before = levels(state), lines;

	if (offset < GPIO_DATA_END) {
		lines = (uint8_t)(offset >> 2) & state->direction;
		state->output = (state->output & ~lines) | (value & lines);
		note_edges(pl061, before);
		return;
	}
	switch (offset) {
	case GPIO_DIR:
		state->direction = value;
		note_edges(pl061, before);
		break;
	case GPIO_IS:
		state->is = value;
		break;
	case GPIO_IBE:
		state->ibe = value;
		break;
	case GPIO_IEV:
		state->iev = value;
		break;
	case GPIO_IE:
		state->ie = value;
		break;
	case GPIO_IC:
		state->edges &= ~value;
		break;
	case GPIO_AFSEL:
		state->afsel = value;
		break;
	default:
		break;
	}
}

/* Registers are words of which the low byte counts; wider or misaligned accesses read zero and are dropped. */
static void bus_read_pl061(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct pl061 *pl061 = opaque;

	if (offset % 4 || len > 4 || offset >= PL061_WINDOW_BYTES)
		return;
	pthread_mutex_lock(&pl061->lock);
	*(uint8_t *)data = read_register(pl061, offset);
	pthread_mutex_unlock(&pl061->lock);
}

static void bus_write_pl061(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct pl061 *pl061 = opaque;

	if (offset % 4 || len > 4 || offset >= PL061_WINDOW_BYTES)
		return;
	pthread_mutex_lock(&pl061->lock);
	write_register(pl061, offset, *(const uint8_t *)data);
	update_irq(pl061);
	pthread_mutex_unlock(&pl061->lock);
}

const struct bus_ops pl061_bus_ops = {.read = bus_read_pl061, .write = bus_write_pl061};

/* Lock held. */
static void set_inputs(struct pl061 *pl061, uint8_t lines, bool high)
{
	struct pl061_state *state = &pl061->state;
	uint8_t before = levels(state);

	state->input = high ? state->input | lines : state->input & ~lines;
	note_edges(pl061, before);
	update_irq(pl061);
}

void pl061_set_line(struct pl061 *pl061, unsigned int line, bool high)
{
	pthread_mutex_lock(&pl061->lock);
	set_inputs(pl061, (uint8_t)(1U << line), high);
	pthread_mutex_unlock(&pl061->lock);
}

void pl061_press(struct pl061 *pl061, unsigned int line)
{
	pthread_mutex_lock(&pl061->lock);
	pl061->state.pressed |= 1U << line;
	set_inputs(pl061, (uint8_t)(1U << line), true);
	pthread_mutex_unlock(&pl061->lock);
	loop_timer_arm(pl061->release, PL061_PRESS_MS * 1000);
}

static void let_go(void *opaque)
{
	struct pl061 *pl061 = opaque;

	pthread_mutex_lock(&pl061->lock);
	/* Paused: state stands still; resume lets go. */
	if (!pl061->paused) {
		uint8_t lines = pl061->state.pressed;

		pl061->state.pressed = 0;
		set_inputs(pl061, lines, false);
	}
	pthread_mutex_unlock(&pl061->lock);
}

static struct pl061 *pl061_of(struct device *device)
{
	return CONTAINER_OF(device, struct pl061, device);
}

static void reset(struct device *device)
{
	struct pl061 *pl061 = pl061_of(device);

	pthread_mutex_lock(&pl061->lock);
	/* Keys are let go too: nobody holds them through a reset. */
	pl061->state = (struct pl061_state){};
	pl061->raised = 0;
	pthread_mutex_unlock(&pl061->lock);
}

static int pause_device(struct device *device)
{
	struct pl061 *pl061 = pl061_of(device);

	pthread_mutex_lock(&pl061->lock);
	pl061->paused = true;
	pthread_mutex_unlock(&pl061->lock);
	return 0;
}

static void arm_release(void *opaque)
{
	struct pl061 *pl061 = opaque;

	loop_timer_arm(pl061->release, PL061_PRESS_MS * 1000);
}

static void resume_device(struct device *device)
{
	struct pl061 *pl061 = pl061_of(device);
	bool held;

	pthread_mutex_lock(&pl061->lock);
	pl061->paused = false;
	pl061->raised = 0;
	update_irq(pl061);
	held = pl061->state.pressed;
	pthread_mutex_unlock(&pl061->lock);
	if (held)
		loop_call(pl061->loop, arm_release, pl061);
}

static int save(const struct device *device, struct buf *out)
{
	const struct pl061 *pl061 = (const struct pl061 *)device;

	return state_save(&pl061_state_table, device->instance, &pl061->state, out);
}

static int load(struct device *device, struct state_set *in)
{
	struct pl061 *pl061 = pl061_of(device);
	struct pl061_state loaded;
	int error = state_load(in, &pl061_state_table, device->instance, &loaded);

	if (error)
		return error;
	pthread_mutex_lock(&pl061->lock);
	pl061->state = loaded;
	pl061->paused = true;
	pthread_mutex_unlock(&pl061->lock);
	return 0;
}

static void free_timer(void *opaque)
{
	struct pl061 *pl061 = opaque;

	loop_timer_free(pl061->release);
}

static void free_device(struct device *device)
{
	struct pl061 *pl061 = pl061_of(device);

	loop_call(pl061->loop, free_timer, pl061);
	pthread_mutex_destroy(&pl061->lock);
	free(pl061);
}

static const struct device_ops pl061_device_ops = {
	.type = "pl061",
	.table = &pl061_state_table,
	.reset = reset,
	.pause = pause_device,
	.resume = resume_device,
	.save = save,
	.load = load,
	.free = free_device,
};

int pl061_new(struct pl061 **out, struct loop *loop, const char *id, int irq)
{
	struct pl061 *pl061 = calloc(1, sizeof(*pl061));
	int error;

	_Static_assert(offsetof(struct pl061, device) == 0, "device is embedded first");
	if (!pl061)
		return fail(-ENOMEM, "pl061: no memory");
	device_init(&pl061->device, &pl061_device_ops, id, 0);
	error = loop_timer_new(loop, let_go, pl061, &pl061->release);
	if (error) {
		free(pl061);
		return error;
	}
	pthread_mutex_init(&pl061->lock, NULL);
	pl061->irq = irq;
	pl061->loop = loop;
	*out = pl061;
	return 0;
}

struct device *pl061_device(struct pl061 *pl061)
{
	return &pl061->device;
}
