// SPDX-License-Identifier: GPL-2.0-or-later
/* cli/migrate_show.c: lines and JSON from what query-migrate returns, and the words of the last line. */
#include <glib.h>
#include <string.h>

#include "cli/migrate_show.h"

#define MOVED "\"elapsed-us\": 1500000, \"bytes\": 1048576, \"round\": 2, \"downtime-us\": 4200"

static void expect_end(const char *members, const char *end)
{
	g_autofree char *json = g_strdup_printf("{%s}", members);
	json_t *tern = json_loads(json, 0, NULL);
	char text[MIGRATE_DONE_BYTES];

	g_assert_nonnull(tern);
	migrate_text_done(text, sizeof(text), tern);
	g_test_message("%s", text);
	g_assert_true(g_str_has_suffix(text, end));
	json_decref(tern);
}

static void test_felt(void)
{
	char text[MIGRATE_DONE_BYTES];
	json_t *none = json_object();

	expect_end(MOVED ", \"standstill-us\": 4100, \"ring-waits\": 12, \"ring-wait-us\": 5200, "
			 "\"ring-wait-longest-us\": 800",
		   "resume 0 us); the guest stood still for 4.10 ms; vCPUs waited 12 times for a "
		   "full ring (5.20 ms in all, 800 us at most)");
	expect_end(MOVED ", \"standstill-us\": 4100, \"ring-waits\": 1, \"ring-wait-us\": 800, "
			 "\"ring-wait-longest-us\": 800",
		   "; one vCPU waited once for a full ring (800 us)");
	expect_end(MOVED ", \"standstill-us\": 4100, \"ring-waits\": 0",
		   "still for 4.10 ms; no vCPU waited for a full ring");
	/* Bitmap mode: just the standstill. */
	expect_end(MOVED ", \"standstill-us\": 4100",
		   "resume 0 us); the guest stood still for 4.10 ms");
	/* A switch-over that was taken back was felt, too. */
	expect_end(MOVED ", \"standstill-us\": 4100, \"early-stops\": 1, \"early-stops-us\": 900",
		   "still for 4.10 ms, and 1 time before for 900 us");
	expect_end(MOVED ", \"standstill-us\": 4100, \"early-stops\": 2, \"early-stops-us\": 900",
		   "still for 4.10 ms, and 2 times before for 900 us in all");
	/* A VM that was paused felt nothing; one that says nothing is not made words of. */
	expect_end(MOVED, "resume 0 us)");
	migrate_text_done(text, sizeof(text), none);
	g_assert_true(g_str_has_suffix(text, "resume 0 us)"));
	json_decref(none);
}

/* The largest numbers that there are do not cut the line. */
static void test_fits(void)
{
	static const char *const keys[] = {
		"elapsed-us",
		"bytes",
		"round",
		"downtime-us",
		"pause-us",
		"harvest-us",
		"pages-us",
		"state-us",
		"handover-us",
		"resume-us",
		"pages-again",
		"early-stops",
		"early-stops-us",
		"standstill-us",
		"ring-waits",
		"ring-wait-us",
		"ring-wait-longest-us",
	};
	char text[MIGRATE_DONE_BYTES];
	json_t *tern = json_object();

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		json_object_set_new(tern, keys[i], json_integer(INT64_MAX - 1));
	migrate_text_done(text, sizeof(text), tern);
	g_assert_true(g_str_has_suffix(text, " at most)"));
	json_decref(tern);
}

/* What is shown of a migration's progress, by the number of milliseconds. */
static char *show_all(bool json)
{
	static const struct {
		int64_t ms;
		const char *info;
	} news[] = {
		{1, "{\"x-tern\": {\"phase\": \"connect\", \"elapsed-us\": 900}}"},
		{2, "{\"x-tern\": {\"phase\": \"rounds\", \"round\": 0, \"pages-left\": 1000}}"},
		{3, "{\"x-tern\": {\"phase\": \"rounds\", \"round\": 0, \"pages-left\": 900}}"},
		{5, "{\"x-tern\": {\"phase\": \"rounds\", \"round\": 1, \"pages-left\": 500, "
		    "\"send-rate\": 104857600, \"dirty-rate\": 1000, \"expected-downtime-us\": "
		    "2500}}"},
	};
	char *text = NULL;
	size_t size = 0;
	struct migrate_show show;

	migrate_show_init(&show, "web", "unix:/x", json);
	show.how = json ? SHOW_JSON : SHOW_LINES;
	show.to = open_memstream(&text, &size);
	for (size_t i = 0; i < G_N_ELEMENTS(news); i++) {
		json_t *info = json_loads(news[i].info, 0, NULL);

		g_assert_nonnull(info);
		migrate_show(&show, info, news[i].ms);
		json_decref(info);
	}
	migrate_show_end(&show, "completed", NULL, "moved");
	fclose(show.to);
	return text;
}

static void test_lines(void)
{
	g_autofree char *text = show_all(false);

	/* A round that is no news within a second has no line. */
	g_assert_cmpstr(
		text, ==,
		"web: connect, 900 us\n"
		"web: round 0: 1000 pages left\n"
		"web: round 1: 500 pages left, 100.0 MiB/s, dirty 3.9 MiB/s, downtime 2.50 ms, "
		"20.3 ms to go\n"
		"web: moved\n");
}

static void test_json(void)
{
	static const char *const events[] = {"progress", "progress", "progress", "completed"};
	g_autofree char *text = show_all(true);
	g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

	g_assert_cmpuint(g_strv_length(lines), ==, G_N_ELEMENTS(events) + 1);
	for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
		json_t *line = json_loads(lines[i], 0, NULL);

		g_assert_cmpstr(json_string_value(json_object_get(line, "event")), ==, events[i]);
		g_assert_cmpstr(json_string_value(json_object_get(line, "vm")), ==, "web");
		json_decref(line);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/migrate-show/lines", test_lines);
	g_test_add_func("/migrate-show/json", test_json);
	g_test_add_func("/migrate-show/felt", test_felt);
	g_test_add_func("/migrate-show/fits", test_fits);
	return g_test_run();
}
