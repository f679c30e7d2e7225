// SPDX-License-Identifier: GPL-2.0-or-later
/* The bus: who answers where, what overlaps, and a window that goes away under its own access. */
#include "devices/bus.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/log.h"

struct probe {
	uint64_t offset;
	unsigned int len, reads, writes;
	uint64_t written;
	struct bus *bus; /* removed from it during an access */
	uint64_t start;
};

static void probe_read(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct probe *probe = opaque;

	probe->reads++;
	probe->offset = offset;
	probe->len = len;
	memset(data, 0x5a, len ? 1 : 0);
	if (probe->bus)
		bus_remove(probe->bus, probe->start);
}

static void probe_write(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct probe *probe = opaque;

	probe->writes++;
	probe->offset = offset;
	probe->len = len;
	probe->written = 0;
	memcpy(&probe->written, data, len);
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

static void dispatch(void)
{
	struct probe low = {}, high = {};
	struct bus bus;
	uint64_t value = 0;

	bus_init(&bus);
	g_assert_cmpint(bus_add(&bus, "high", 0x2000, 0x100, &probe_ops, &high), ==, 0);
	g_assert_cmpint(bus_add(&bus, "low", 0x1000, 0x1000, &probe_ops, &low), ==, 0);
	g_assert_true(bus_read(&bus, 0x1fff, &value, 4));
	g_assert_cmpuint(low.offset, ==, 0xfff);
	g_assert_cmpuint(low.len, ==, 4);
	g_assert_cmphex(value, ==, 0x5a);
	value = 0x1234;
	g_assert_true(bus_write(&bus, 0x2000, &value, 2));
	g_assert_cmpuint(high.offset, ==, 0);
	g_assert_cmphex(high.written, ==, 0x1234);
	g_assert_false(bus_read(&bus, 0x2100, &value, 8));
	g_assert_cmphex(value, ==, UINT64_MAX);
	g_assert_false(bus_read(&bus, 0xfff, &value, 1));
	g_assert_false(bus_write(&bus, 0, &value, 1));
	g_assert_cmpuint(low.reads + high.reads, ==, 1);
	bus_fini(&bus);
}

static void refuses_overlap(void)
{
	struct probe probe = {};
	struct bus bus;

	bus_init(&bus);
	g_assert_cmpint(bus_add(&bus, "middle", 0x1000, 0x1000, &probe_ops, &probe), ==, 0);
	g_assert_cmpint(bus_add(&bus, "same", 0x1000, 1, &probe_ops, &probe), ==, -EEXIST);
	g_assert_nonnull(strstr(fail_text(), "same"));
	g_assert_nonnull(strstr(fail_text(), "middle"));
	g_assert_cmpint(bus_add(&bus, "tail", 0x1fff, 0x10, &probe_ops, &probe), ==, -EEXIST);
	g_assert_cmpint(bus_add(&bus, "head", 0xff0, 0x11, &probe_ops, &probe), ==, -EEXIST);
	g_assert_cmpint(bus_add(&bus, "around", 0, 0x10000, &probe_ops, &probe), ==, -EEXIST);
	g_assert_cmpint(bus_add(&bus, "empty", 0x5000, 0, &probe_ops, &probe), ==, -EINVAL);
	g_assert_cmpint(bus_add(&bus, "wraps", UINT64_MAX, 2, &probe_ops, &probe), ==, -EINVAL);
	g_assert_cmpint(bus_add(&bus, "end", UINT64_MAX, 1, &probe_ops, &probe), ==, 0);
	g_assert_cmpint(bus_add(&bus, "before", 0xff0, 0x10, &probe_ops, &probe), ==, 0);
	g_assert_cmpint(bus_add(&bus, "after", 0x2000, 0x10, &probe_ops, &probe), ==, 0);
	g_assert_cmpint(bus_remove(&bus, 0x1000), ==, 0);
	g_assert_cmpint(bus_remove(&bus, 0x1000), ==, -ENOENT);
	g_assert_cmpint(bus_add(&bus, "again", 0x1000, 0x1000, &probe_ops, &probe), ==, 0);
	bus_fini(&bus);
}

static void full(void)
{
	struct probe probe = {};
	struct bus bus;

	bus_init(&bus);
	for (unsigned int i = 0; i < BUS_WINDOWS_MAX; i++)
		g_assert_cmpint(bus_add(&bus, "w", 0x10 * i, 0x10, &probe_ops, &probe), ==, 0);
	g_assert_cmpint(bus_add(&bus, "one more", 0x100000, 1, &probe_ops, &probe), ==, -ENOSPC);
	bus_fini(&bus);
}

/* A device may take its own window off the bus: the lock is not held while it is called. */
static void removes_itself(void)
{
	struct bus bus;
	struct probe probe = {.bus = &bus, .start = 0x1000};
	uint8_t byte;

	bus_init(&bus);
	g_assert_cmpint(bus_add(&bus, "shy", 0x1000, 0x10, &probe_ops, &probe), ==, 0);
	g_assert_true(bus_read(&bus, 0x1000, &byte, 1));
	g_assert_false(bus_read(&bus, 0x1000, &byte, 1));
	bus_fini(&bus);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bus/dispatch", dispatch);
	g_test_add_func("/bus/refuses-overlap", refuses_overlap);
	g_test_add_func("/bus/full", full);
	g_test_add_func("/bus/removes-itself", removes_itself);
	return g_test_run();
}
