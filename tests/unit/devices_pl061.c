// SPDX-License-Identifier: GPL-2.0-or-later
/* GPIO: levels, edges of both kinds, and the power key's press. */
#include "devices/pl061.h"

#include <glib.h>
#include <sys/eventfd.h>

#include "tests/unit/fake_wiring.h"

struct fixture {
	struct loop *loop;
	struct pl061 *pl061;
	int irq;
};

static void set_up(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	g_assert_cmpint(pl061_new(&f->pl061, f->loop, "gpio", f->irq), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	pl061_device(f->pl061)->ops->free(pl061_device(f->pl061));
	loop_free(f->loop);
	close(f->irq);
}

static uint32_t in(struct fixture *f, uint64_t offset)
{
	uint32_t value = 0;

	pl061_bus_ops.read(f->pl061, offset, &value, 4);
	return value;
}

static void out(struct fixture *f, uint64_t offset, uint32_t value)
{
	pl061_bus_ops.write(f->pl061, offset, &value, 4);
}

#define DATA 0x3fc
#define DIR  0x400
#define IS   0x404
#define IBE  0x408
#define IEV  0x40c
#define IE   0x410
#define RIS  0x414
#define MIS  0x418
#define IC   0x41c

static void identification(struct fixture *f, gconstpointer data)
{
	uint32_t peripheral = 0, cell = 0;

	for (unsigned int i = 0; i < 4; i++) {
		peripheral |= in(f, 0xfe0 + 4 * i) << (8 * i);
		cell |= in(f, 0xff0 + 4 * i) << (8 * i);
	}
	g_assert_cmphex(peripheral, ==, 0x00041061);
	g_assert_cmphex(cell, ==, 0xb105f00d);
}

static void data_is_masked_by_address(struct fixture *f, gconstpointer data)
{
	out(f, DIR, 0x0f);
	out(f, DATA, 0xff);
	g_assert_cmphex(in(f, DATA), ==, 0x0f); /* inputs are not written */
	out(f, 0x01 << 2, 0);
	g_assert_cmphex(in(f, DATA), ==, 0x0e);
	pl061_set_line(f->pl061, 7, true);
	g_assert_cmphex(in(f, DATA), ==, 0x8e);
	g_assert_cmphex(in(f, 0x80 << 2), ==, 0x80);
	g_assert_cmphex(in(f, 0), ==, 0);
}

static void edges(struct fixture *f, gconstpointer data)
{
	out(f, IEV, 0x08);
	out(f, IE, 0x08);
	pl061_set_line(f->pl061, 3, true);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, MIS), ==, 0x08);
	pl061_set_line(f->pl061, 3, false); /* falling: not asked for */
	g_assert_cmpuint(fake_edges(f->irq), ==, 0);
	out(f, IC, 0x08);
	g_assert_cmphex(in(f, RIS), ==, 0);
	out(f, IBE, 0x08);
	pl061_set_line(f->pl061, 3, true);
	out(f, IC, 0x08);
	pl061_set_line(f->pl061, 3, false);
	g_assert_cmpuint(fake_edges(f->irq), ==, 2);
	out(f, IC, 0x08);
	/* Masked it shows in RIS alone; unmasked it is an edge. */
	out(f, IE, 0);
	pl061_set_line(f->pl061, 3, true);
	g_assert_cmphex(in(f, RIS), ==, 0x08);
	g_assert_cmphex(in(f, MIS), ==, 0);
	g_assert_cmpuint(fake_edges(f->irq), ==, 0);
	out(f, IE, 0x08);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
}

static void level(struct fixture *f, gconstpointer data)
{
	out(f, IS, 0x02);
	out(f, IEV, 0x02);
	out(f, IE, 0x02);
	pl061_set_line(f->pl061, 1, true);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	out(f, IC, 0x02);
	g_assert_cmphex(in(f, RIS), ==, 0x02); /* as long as it is high */
	pl061_set_line(f->pl061, 1, false);
	g_assert_cmphex(in(f, RIS), ==, 0);
	out(f, IEV, 0); /* low is active: now */
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
}

static void press(struct fixture *f, gconstpointer data)
{
	gint64 begin = g_get_monotonic_time();

	out(f, IBE, 0x08);
	out(f, IE, 0x08);
	pl061_press(f->pl061, PL061_POWER_KEY);
	g_assert_cmphex(in(f, DATA), ==, 0x08);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	out(f, IC, 0x08);
	while (in(f, DATA) && g_get_monotonic_time() - begin < 5000000)
		loop_run_once(f->loop, 1000);
	g_assert_cmpint(g_get_monotonic_time() - begin, >=, PL061_PRESS_MS * 1000 - 1000);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, DATA), ==, 0);
}

/* Paused in mid-press, perhaps to go on elsewhere: the key is let go after resume. */
static void pressed_over_a_pause(struct fixture *f, gconstpointer data)
{
	struct device *device = pl061_device(f->pl061);

	out(f, IBE, 0x08);
	out(f, IE, 0x08);
	pl061_press(f->pl061, PL061_POWER_KEY);
	g_assert_cmpint(device->ops->pause(device), ==, 0);
	loop_run_once(f->loop, 2 * PL061_PRESS_MS);
	g_assert_cmphex(in(f, DATA), ==, 0x08);
	fake_edges(f->irq);
	device->ops->resume(device);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	loop_run_once(f->loop, 5000);
	g_assert_cmphex(in(f, DATA), ==, 0);
}

static void odd_accesses(struct fixture *f, gconstpointer data)
{
	uint64_t wide = UINT64_MAX;

	pl061_bus_ops.write(f->pl061, IE, &wide, 8);
	pl061_bus_ops.write(f->pl061, IE + 1, &wide, 1);
	pl061_bus_ops.write(f->pl061, 0xffc, &wide, 4);
	pl061_bus_ops.write(f->pl061, 0x1000, &wide, 4);
	g_assert_cmphex(in(f, IE), ==, 0);
	wide = 0;
	pl061_bus_ops.read(f->pl061, 0x1000, &wide, 4);
	pl061_bus_ops.read(f->pl061, 0xffd, &wide, 2);
	g_assert_cmphex(wide, ==, 0);
}

#define TEST(name, fn) g_test_add("/pl061/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("identification", identification);
	TEST("data-is-masked-by-address", data_is_masked_by_address);
	TEST("edges", edges);
	TEST("level", level);
	TEST("press", press);
	TEST("pressed-over-a-pause", pressed_over_a_pause);
	TEST("odd-accesses", odd_accesses);
	return g_test_run();
}
