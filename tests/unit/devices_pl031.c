// SPDX-License-Identifier: GPL-2.0-or-later
/* The Arm clock: identification, counting, setting, and the alarm's status. */
#include "devices/pl031.h"

#include <glib.h>

struct fixture {
	struct pl031 *pl031;
	uint64_t now_us;
};

static uint64_t test_clock(void *opaque)
{
	return ((struct fixture *)opaque)->now_us;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	f->now_us = 1772323198ULL * 1000000;
	g_assert_cmpint(pl031_new(&f->pl031, "rtc", test_clock, f), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	pl031_device(f->pl031)->ops->free(pl031_device(f->pl031));
}

static uint32_t in(struct fixture *f, uint64_t offset)
{
	uint32_t value = 0;

	pl031_bus_ops.read(f->pl031, offset, &value, 4);
	return value;
}

static void out(struct fixture *f, uint64_t offset, uint32_t value)
{
	pl031_bus_ops.write(f->pl031, offset, &value, 4);
}

static void identification(struct fixture *f, gconstpointer data)
{
	/* What an AMBA bus driver matches: peripheral 0x00041031, PrimeCell 0xb105f00d. */
	uint32_t peripheral = 0, cell = 0;
	uint8_t byte = 0;

	for (unsigned int i = 0; i < 4; i++) {
		peripheral |= in(f, 0xfe0 + 4 * i) << (8 * i);
		cell |= in(f, 0xff0 + 4 * i) << (8 * i);
	}
	g_assert_cmphex(peripheral, ==, 0x00041031);
	g_assert_cmphex(cell, ==, 0xb105f00d);
	pl031_bus_ops.read(f->pl031, 0xffc, &byte, 1);
	g_assert_cmphex(byte, ==, 0xb1);
}

static void counts(struct fixture *f, gconstpointer data)
{
	g_assert_cmpuint(in(f, 0), ==, 1772323198);
	f->now_us += 1500000;
	g_assert_cmpuint(in(f, 0), ==, 1772323199);
	g_assert_cmpuint(in(f, 0xc), ==, 1);
	out(f, 8, 1000);
	g_assert_cmpuint(in(f, 0), ==, 1000);
	g_assert_cmpuint(in(f, 8), ==, 1000);
	f->now_us += 5000000;
	g_assert_cmpuint(in(f, 0), ==, 1005);
	pl031_device(f->pl031)->ops->reset(pl031_device(f->pl031));
	g_assert_cmpuint(in(f, 0), ==, 1005);
}

static void alarm_status(struct fixture *f, gconstpointer data)
{
	out(f, 4, in(f, 0) + 3);
	g_assert_cmpuint(in(f, 0x14), ==, 0);
	f->now_us += 3000000;
	g_assert_cmpuint(in(f, 0x14), ==, 1);
	g_assert_cmpuint(in(f, 0x18), ==, 0); /* masked */
	out(f, 0x10, 0xff);
	g_assert_cmpuint(in(f, 0x10), ==, 1);
	g_assert_cmpuint(in(f, 0x18), ==, 1);
	out(f, 0x1c, 1);
	g_assert_cmpuint(in(f, 0x14), ==, 0);
	f->now_us += 3000000;
	g_assert_cmpuint(in(f, 0x14), ==, 0); /* once */
	out(f, 4, in(f, 0) + 1);
	f->now_us += 1000000;
	g_assert_cmpuint(in(f, 0x14), ==, 1);
}

static void odd_accesses(struct fixture *f, gconstpointer data)
{
	uint64_t wide = UINT64_MAX;

	pl031_bus_ops.write(f->pl031, 8, &wide, 8);
	pl031_bus_ops.write(f->pl031, 9, &wide, 4);
	pl031_bus_ops.write(f->pl031, 8, &wide, 2);
	g_assert_cmpuint(in(f, 8), ==, 0);
	wide = 0;
	pl031_bus_ops.read(f->pl031, 0xffe, &wide, 4);
	g_assert_cmpuint(wide, ==, 0);
	pl031_bus_ops.read(f->pl031, 0xffc, &wide, 8);
	g_assert_cmpuint(wide, ==, 0);
}

#define TEST(name, fn) g_test_add("/pl031/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("identification", identification);
	TEST("counts", counts);
	TEST("alarm-status", alarm_status);
	TEST("odd-accesses", odd_accesses);
	return g_test_run();
}
