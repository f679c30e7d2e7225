// SPDX-License-Identifier: GPL-2.0-or-later
/* The device list: names, ownership, order, and a pause that fails half way. */
#include "devices/device.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

static GString *trace;

struct probe {
	struct device device;
	int pause_error;
};

static void note(const char *what, const struct device *device)
{
	g_string_append_printf(trace, "%s %s;", what, device->id);
}

static void probe_reset(struct device *device)
{
	note("reset", device);
}

static int probe_pause(struct device *device)
{
	note("pause", device);
	return ((struct probe *)device)->pause_error;
}

static void probe_resume(struct device *device)
{
	note("resume", device);
}

static void probe_free(struct device *device)
{
	note("free", device);
	g_free(device);
}

static const struct device_ops probe_ops = {
	.type = "probe",
	.table = &state_none_table,
	.reset = probe_reset,
	.pause = probe_pause,
	.resume = probe_resume,
	.free = probe_free,
};

static struct probe *add(struct device_list *list, const char *id, int pause_error)
{
	struct probe *probe = g_new0(struct probe, 1);

	device_init(&probe->device, &probe_ops, id, 0);
	probe->pause_error = pause_error;
	g_assert_cmpint(device_list_add(list, &probe->device), ==, 0);
	return probe;
}

static void order(void)
{
	struct device_list list = {};

	trace = g_string_new("");
	add(&list, "a", 0);
	add(&list, "b", 0);
	device_list_reset(&list);
	g_assert_cmpint(device_list_pause(&list), ==, 0);
	device_list_resume(&list);
	device_list_free(&list);
	g_assert_cmpuint(list.n, ==, 0);
	g_assert_cmpstr(trace->str, ==,
			"reset a;reset b;pause a;pause b;resume a;resume b;free b;free a;");
	g_string_free(trace, TRUE);
}

static void pause_is_all_or_none(void)
{
	struct device_list list = {};

	trace = g_string_new("");
	add(&list, "a", 0);
	add(&list, "b", 0);
	add(&list, "c", -ETIMEDOUT);
	add(&list, "d", 0);
	g_assert_cmpint(device_list_pause(&list), ==, -ETIMEDOUT);
	g_assert_cmpstr(trace->str, ==, "pause a;pause b;pause c;resume a;resume b;");
	device_list_free(&list);
	g_string_free(trace, TRUE);
}

static void names_are_unique(void)
{
	struct device_list list = {};
	struct probe twin = {};

	trace = g_string_new("");
	add(&list, "disk0", 0);
	device_init(&twin.device, &probe_ops, "disk0", 1);
	g_assert_cmpint(device_list_add(&list, &twin.device), ==, -EEXIST);
	device_list_free(&list);
	g_string_free(trace, TRUE);
}

static void full(void)
{
	struct device_list list = {};
	struct probe late = {};
	char id[16];

	trace = g_string_new("");
	for (unsigned int i = 0; i < DEVICES_MAX; i++) {
		g_snprintf(id, sizeof(id), "d%u", i);
		add(&list, id, 0);
	}
	device_init(&late.device, &probe_ops, "late", 1);
	g_assert_cmpint(device_list_add(&list, &late.device), ==, -ENOSPC);
	device_list_free(&list);
	g_string_free(trace, TRUE);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/device/order", order);
	g_test_add_func("/device/pause-is-all-or-none", pause_is_all_or_none);
	g_test_add_func("/device/names-are-unique", names_are_unique);
	g_test_add_func("/device/full", full);
	return g_test_run();
}
