// SPDX-License-Identifier: GPL-2.0-or-later
/* Power control: off, reset, and events that are told once. */
#include "devices/power.h"

#include <errno.h>
#include <glib.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "tests/unit/fake_wiring.h"

struct fixture {
	struct power *power;
	int irq;
	unsigned int offs, resets;
};

static void on_off(void *opaque)
{
	((struct fixture *)opaque)->offs++;
}

static void on_reset(void *opaque)
{
	((struct fixture *)opaque)->resets++;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	const struct power_host host = {f, on_off, on_reset};

	f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	g_assert_cmpint(power_new(&f->power, "power", f->irq, &host), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	power_device(f->power)->ops->free(power_device(f->power));
	close(f->irq);
}

static uint32_t in(struct fixture *f, uint64_t offset, unsigned int len)
{
	uint32_t value = 0;

	power_bus_ops.read(f->power, offset, &value, len);
	return value;
}

static void out(struct fixture *f, uint64_t offset, uint32_t value, unsigned int len)
{
	power_bus_ops.write(f->power, offset, &value, len);
}

static void off_and_reset(struct fixture *f, gconstpointer data)
{
	/* Only SLP_EN with S5 is off; other states are not offered. */
	for (unsigned int value = 0; value < 256; value++) {
		if ((value & 0x20) == 0 || (value >> 2 & 7) != POWER_SLEEP_S5)
			out(f, POWER_SLEEP_CONTROL, value, 1);
	}
	g_assert_cmpuint(f->offs, ==, 0);
	out(f, POWER_SLEEP_CONTROL, 0x20 | POWER_SLEEP_S5 << 2, 1);
	g_assert_cmpuint(f->offs, ==, 1);
	out(f, POWER_SLEEP_STATUS, 0x80, 1);
	g_assert_cmphex(in(f, POWER_SLEEP_STATUS, 1), ==, 0);
	out(f, POWER_RESET, 0xff, 1);
	g_assert_cmpuint(f->resets, ==, 0);
	out(f, POWER_RESET, POWER_RESET_VALUE, 1);
	g_assert_cmpuint(f->resets, ==, 1);
	out(f, POWER_EVENTS, UINT32_MAX, 4);
	g_assert_cmphex(in(f, POWER_EVENTS, 4), ==, 0);
}

static void events(struct fixture *f, gconstpointer data)
{
	power_event(f->power, POWER_EVENT_BUTTON);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	power_event(f->power, POWER_EVENT_VMGENID);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	/* Only a whole read takes them. */
	g_assert_cmphex(in(f, POWER_EVENTS, 1), ==, 0);
	g_assert_cmphex(in(f, 0, 4), ==, 0);
	g_assert_cmphex(in(f, POWER_EVENTS, 4), ==, POWER_EVENT_BUTTON | POWER_EVENT_VMGENID);
	g_assert_cmphex(in(f, POWER_EVENTS, 4), ==, 0);
	power_event(f->power, POWER_EVENT_BUTTON);
	power_device(f->power)->ops->reset(power_device(f->power));
	g_assert_cmphex(in(f, POWER_EVENTS, 4), ==, 0);
}

/* Pressed while paused: the guest learns of it on resume, on whichever host that is. */
static void pressed_while_paused(struct fixture *f, gconstpointer data)
{
	struct device *device = power_device(f->power);
	struct fixture there = {};
	struct state_set *set;
	struct buf buf;

	g_assert_cmpint(device->ops->pause(device), ==, 0);
	power_event(f->power, POWER_EVENT_BUTTON);
	g_assert_cmpuint(fake_edges(f->irq), ==, 0);
	buf_init(&buf, 4096);
	g_assert_cmpint(device->ops->save(device, &buf), ==, 0);
	device->ops->resume(device);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);

	set_up(&there, NULL);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	device = power_device(there.power);
	g_assert_cmpint(device->ops->load(device, set), ==, 0);
	g_assert_cmpuint(fake_edges(there.irq), ==, 0);
	device->ops->resume(device);
	g_assert_cmpuint(fake_edges(there.irq), ==, 1);
	g_assert_cmphex(in(&there, POWER_EVENTS, 4), ==, POWER_EVENT_BUTTON);
	device->ops->resume(device);
	g_assert_cmpuint(fake_edges(there.irq), ==, 0);
	state_set_free(set);
	buf_fini(&buf);
	tear_down(&there, NULL);
}

#define TEST(name, fn) g_test_add("/power/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("off-and-reset", off_and_reset);
	TEST("events", events);
	TEST("pressed-while-paused", pressed_while_paused);
	return g_test_run();
}
