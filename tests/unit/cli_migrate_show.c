// SPDX-License-Identifier: GPL-2.0-or-later
/* cli/migrate_show.c: the words of the last line, from what query-migrate's x-tern may hold. */
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

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/migrate-show/felt", test_felt);
	g_test_add_func("/migrate-show/fits", test_fits);
	return g_test_run();
}
