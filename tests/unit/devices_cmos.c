// SPDX-License-Identifier: GPL-2.0-or-later
/* The PC clock: every encoding, the update bit, setting it, and memory. */
#include "devices/cmos.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/log.h"

struct fixture {
	struct cmos *cmos;
	uint64_t now_us;
};

static uint64_t test_clock(void *opaque)
{
	return ((struct fixture *)opaque)->now_us;
}

/* 2026-02-28 23:59:58 UTC, a Saturday. */
#define BEGIN 1772323198ULL

static void set_up(struct fixture *f, gconstpointer data)
{
	f->now_us = BEGIN * 1000000;
	g_assert_cmpint(cmos_new(&f->cmos, "cmos", test_clock, f), ==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	cmos_device(f->cmos)->ops->free(cmos_device(f->cmos));
}

static uint8_t in(struct fixture *f, uint8_t index)
{
	uint8_t value = 0;

	cmos_bus_ops.write(f->cmos, 0, &index, 1);
	cmos_bus_ops.read(f->cmos, 1, &value, 1);
	return value;
}

static void out(struct fixture *f, uint8_t index, uint8_t value)
{
	cmos_bus_ops.write(f->cmos, 0, &index, 1);
	cmos_bus_ops.write(f->cmos, 1, &value, 1);
}

static void assert_time(struct fixture *f, const uint8_t expected[8])
{
	static const uint8_t registers[] = {CMOS_CENTURY, 9, 8, 7, 6, 4, 2, 0};

	for (unsigned int i = 0; i < 8; i++)
		g_assert_cmphex(in(f, registers[i]), ==, expected[i]);
}

static void tells_the_time(struct fixture *f, gconstpointer data)
{
	assert_time(f, (const uint8_t[]){0x20, 0x26, 0x02, 0x28, 0x07, 0x23, 0x59, 0x58});
	f->now_us += 2000000; /* the next day, month, weekday */
	assert_time(f, (const uint8_t[]){0x20, 0x26, 0x03, 0x01, 0x01, 0x00, 0x00, 0x00});
	out(f, 0x0b, 0x06); /* binary, 24 hours */
	f->now_us += 13ULL * 3600 * 1000000;
	assert_time(f, (const uint8_t[]){20, 26, 3, 1, 1, 13, 0, 0});
	out(f, 0x0b, 0x04); /* binary, 12 hours */
	g_assert_cmphex(in(f, 4), ==, 0x80 | 1);
	out(f, 0x0b, 0x00); /* BCD, 12 hours */
	g_assert_cmphex(in(f, 4), ==, 0x81);
	f->now_us -= 13ULL * 3600 * 1000000;
	g_assert_cmphex(in(f, 4), ==, 0x12); /* midnight is 12 am */
	f->now_us += 12ULL * 3600 * 1000000;
	g_assert_cmphex(in(f, 4), ==, 0x92); /* noon is 12 pm */
	g_assert_cmphex(in(f, 0x0d), ==, 0x80);
	g_assert_cmphex(in(f, 0x0c), ==, 0);
}

static void update_in_progress(struct fixture *f, gconstpointer data)
{
	g_assert_cmphex(in(f, 0x0a) & 0x80, ==, 0);
	f->now_us += 1000000 - 244;
	g_assert_cmphex(in(f, 0x0a) & 0x80, ==, 0x80);
	f->now_us += 244;
	g_assert_cmphex(in(f, 0x0a) & 0x80, ==, 0);
	out(f, 0x0a, 0xff);
	g_assert_cmphex(in(f, 0x0a), ==, 0x7f);
	/* Stopped, nothing is updated. */
	f->now_us += 1000000 - 244;
	out(f, 0x0b, 0x82);
	g_assert_cmphex(in(f, 0x0a) & 0x80, ==, 0);
}

/* As Linux sets it: SET, all registers, SET off. Every day from 1999 to 2101 is put in and read back. */
static void set_by_guest(struct fixture *f, gconstpointer data)
{
	for (unsigned int day = 0; day < 102 * 366; day += 17) {
		g_autoptr(GDateTime) base = g_date_time_new_utc(1999, 1, 1, 5, 6, 7);
		g_autoptr(GDateTime) t = g_date_time_add_days(base, (gint)day);
		int year = g_date_time_get_year(t);

		out(f, 0x0b, 0x86);
		out(f, 0, 7);
		out(f, 2, 6);
		out(f, 4, 5);
		out(f, 7, g_date_time_get_day_of_month(t));
		out(f, 8, g_date_time_get_month(t));
		out(f, 9, year % 100);
		out(f, CMOS_CENTURY, year / 100);
		f->now_us += 1700000; /* while it stands still */
		g_assert_cmphex(in(f, 0), ==, 7);
		out(f, 0x0b, 0x06);
		assert_time(f, (const uint8_t[]){year / 100, year % 100, g_date_time_get_month(t),
						 g_date_time_get_day_of_month(t),
						 g_date_time_get_day_of_week(t) % 7 + 1, 5, 6, 7});
	}
	f->now_us += 3000000;
	g_assert_cmphex(in(f, 0), ==, 10);
	/* One register by itself, while it runs. */
	out(f, 2, 30);
	g_assert_cmphex(in(f, 2), ==, 30);
	g_assert_cmphex(in(f, 0), ==, 10);
	/* Nonsense is not a time. */
	out(f, 8, 0);
	g_assert_cmpuint(in(f, 8), !=, 0);
	out(f, 7, 99);
	g_assert_cmpuint(in(f, 7), <=, 31);
}

static void memory(struct fixture *f, gconstpointer data)
{
	uint8_t word[2] = {0x0f | 0x80, 0xa5}; /* index and data in one access, NMI bit set */

	cmos_bus_ops.write(f->cmos, 0, word, 2);
	g_assert_cmphex(in(f, 0x0f), ==, 0xa5);
	g_assert_cmphex(in(f, 0x8f), ==, 0xa5);
	cmos_bus_ops.read(f->cmos, 0, word, 2);
	g_assert_cmphex(word[0], ==, 0xff);
	out(f, 0x7f, 1);
	g_assert_cmphex(in(f, 0x7f), ==, 1);
	cmos_device(f->cmos)->ops->reset(cmos_device(f->cmos));
	g_assert_cmphex(in(f, 0x7f), ==, 1); /* a battery keeps it */
}

/* The guest's own offset moves with it; the host's clock on the other side is another. */
static void migration(struct fixture *f, gconstpointer data)
{
	struct device *device = cmos_device(f->cmos);
	struct fixture there = {};
	struct state_set *set;
	struct buf buf;

	out(f, 9, 0x31);
	g_assert_cmphex(in(f, 9), ==, 0x31);
	buf_init(&buf, 4096);
	g_assert_cmpint(device->ops->save(device, &buf), ==, 0);
	set_up(&there, NULL);
	there.now_us += 60000000;
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(cmos_device(there.cmos)->ops->load(cmos_device(there.cmos), set), ==, 0);
	g_assert_cmphex(in(&there, 9), ==, 0x31);
	g_assert_cmphex(in(&there, 2), ==, 0x00);
	g_assert_cmphex(in(&there, 0), ==, 0x58);
	state_set_free(set);
	buf_fini(&buf);
	tear_down(&there, NULL);
}

#define TEST(name, fn) g_test_add("/cmos/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("tells-the-time", tells_the_time);
	TEST("update-in-progress", update_in_progress);
	TEST("set-by-guest", set_by_guest);
	TEST("memory", memory);
	TEST("migration", migration);
	return g_test_run();
}
