// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern migrate, receive and resolve as a user calls them, over fake machines and migrations: exit statuses, what is
 * printed for people, logs and programs, Ctrl-C, and how a process ends whose VM has moved.
 */
#include <glib.h>
#include <jansson.h>

#include "cli/client.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/fake_outgoing.h"
#include "tests/unit/tern_process.h"

#define START_VM(output) start_vm("run --name web --kernel stay --serial off", "web", output)

static void expect_has(char *text, const char *words)
{
	g_test_message("%s", text);
	g_assert_nonnull(strstr(text, words));
	g_free(text);
}

static void wait_until(const char *vm, const char *words)
{
	for (int i = 0; i < 1000; i++) {
		g_autofree char *text = NULL;

		tern(&text, "status %s", vm);
		if (strstr(text, words))
			return;
		g_usleep(5000);
	}
	g_assert_not_reached();
}

/* What a process has written, once these words are among it. */
static char *read_until(int output, const char *words)
{
	GString *all = g_string_new(NULL);
	char byte;

	while (!strstr(all->str, words)) {
		g_assert_cmpint(read(output, &byte, 1), ==, 1);
		g_string_append_c(all, byte);
	}
	return g_string_free(all, FALSE);
}

static void end_vm(pid_t pid, int output)
{
	g_assert_cmpint(tern(NULL, "stop --force web"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
}

/* The source's process ends by itself, with status 0, when its VM has moved. */
static void test_moves(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = START_VM(&output);
	char *text, *log;

	g_assert_cmpint(tern(&text, "migrate web unix:/x/moves"), ==, CLI_OK);
	g_assert_nonnull(strstr(text, "web: moved to unix:/x/moves: "));
	g_assert_nonnull(strstr(text,
				"2700 pages sent again, downtime 2.60 ms (pause 100 us, last "
				"harvest 200 us, last pages 1.10 ms, state 500 us, hand-over "
				"400 us, resume 300 us); the guest stood still for 2.50 ms; vCPUs "
				"waited 12 times for a full ring (5.20 ms in all, 800 us at "
				"most)\n"));
	g_free(text);
	g_assert_cmpint(finish(pid, output, &log), ==, CLI_OK);
	expect_has(log, "web lives elsewhere now");
	g_assert_cmpint(tern(NULL, "status web"), ==, CLI_INPUT);
}

static void test_json(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = START_VM(&output);
	g_auto(GStrv) lines = NULL;
	json_t *line = NULL;
	char *text;
	guint n;

	g_assert_cmpint(tern(&text, "migrate --json web unix:/x/moves"), ==, CLI_OK);
	lines = g_strsplit(text, "\n", -1);
	n = g_strv_length(lines) - 1; /* the last is empty */
	g_assert_cmpuint(n, >=, 1);   /* a busy host may see its end alone */
	for (guint i = 0; i < n; i++) {
		json_decref(line);
		line = json_loads(lines[i], 0, NULL);
		g_assert_true(json_is_object(line));
		g_assert_cmpstr(json_string_value(json_object_get(line, "event")), ==,
				i + 1 < n ? "progress" : "completed");
	}
	g_assert_cmpint(json_integer_value(json_object_get(
				json_object_get(json_object_get(line, "migration"), "x-tern"),
				"downtime-us")),
			==, 2600);
	json_decref(line);
	g_free(text);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_OK);
}

static void test_stays(struct fixture *f, gconstpointer data)
{
	int output, migrating;
	pid_t pid = START_VM(&output), migrate;
	char *text;

	g_assert_cmpint(tern(&text, "migrate web unix:/x/refused"), ==, CLI_FAILED);
	expect_has(text, "web: not moved: the target lacks AVX2 (CPUID 7:0 EBX bit 5): it runs on "
			 "here\n");
	g_assert_cmpint(tern(&text, "status web"), ==, CLI_OK);
	expect_has(text, "migration out, failed: the target lacks AVX2");
	g_assert_cmpint(tern(&text, "migrate web unix:/x/works --dry-run"), ==, CLI_OK);
	expect_has(text, "web: would work (seen in ");
	g_assert_cmpint(tern(&text, "migrate web unix:/x/refused --dry-run"), ==, CLI_FAILED);
	expect_has(text, "AVX2");
	/* Ctrl-C cancels. */
	migrate = start("migrate web unix:/x/stays", &migrating);
	wait_until("web", "migration out, rounds");
	kill(migrate, SIGINT);
	g_assert_cmpint(finish(migrate, migrating, &text), ==, CLI_QUIT);
	g_assert_nonnull(strstr(text, "web: cancelling\n"));
	expect_has(text, "web: cancelled: it runs on here\n");
	end_vm(pid, output);
}

static void test_doubt(struct fixture *f, gconstpointer data)
{
	int output, migrating;
	pid_t pid = START_VM(&output), migrate;
	char *text;

	g_assert_cmpint(tern(NULL, "resolve web --own"), ==, CLI_FAILED);
	migrate = start("migrate web unix:/x/doubt", &migrating);
	for (int i = 0; i < 1000 && tern(NULL, "resolve web --own"); i++)
		g_usleep(5000);
	g_assert_cmpint(finish(migrate, migrating, &text), ==, CLI_FAILED);
	expect_has(text, "not moved: connection lost: it runs on here");
	migrate = start("migrate web unix:/x/doubt", &migrating);
	for (int i = 0; i < 1000 && tern(NULL, "resolve web --drop"); i++)
		g_usleep(5000);
	g_assert_cmpint(finish(migrate, migrating, NULL), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_OK);
	g_assert_cmpint(tern(NULL, "resolve web"), ==, CLI_INPUT);
	g_assert_cmpint(tern(NULL, "resolve web --both"), ==, CLI_INPUT);
	g_assert_cmpint(tern(NULL, "resolve web --drop"), ==, CLI_INPUT);
}

/* A client that only asks now and then still learns that the VM has moved; one that stays does not hold it up for ever. */
static void test_lingers(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = START_VM(&output);
	g_autofree char *path = g_build_filename(f->directory, "tern", "web.sock", NULL);
	struct client client;
	json_t *info = NULL;

	g_assert_cmpint(client_open(&client, path, 5000), ==, 0);
	g_assert_cmpint(client_execute(&client, "migrate",
				       json_pack("{s:s}", "uri", "unix:/x/moves"), NULL),
			==, 0);
	do {
		json_decref(info);
		g_usleep(50000);
		g_assert_cmpint(client_execute(&client, "query-migrate", NULL, &info), ==, 0);
	} while (strcmp(json_string_value(json_object_get(info, "status")), "completed") != 0);
	json_decref(info);
	g_assert_cmpint(client_execute(&client, "query-status", NULL, &info), ==, 0);
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "postmigrate");
	json_decref(info);
	g_assert_cmpint(client_execute(&client, "quit", NULL, NULL), ==, 0);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_OK);
	client_close(&client);
}

static void test_bad_input(struct fixture *f, gconstpointer data)
{
	static const char *const bad[] = {
		"migrate",
		"migrate web",
		"migrate web x y",
		"migrate web exec:cat",
		"migrate web tcp:nohost",
		"migrate web tcp:127.0.0.1:x",
		"migrate web tcp:192.0.2.1:4444",
		"migrate web unix:/x/moves --max-downtime 30",
		"migrate web unix:/x/moves --max-downtime -1ms",
		"migrate web unix:/x/moves --max-downtime ms",
		"migrate web unix:/x/moves --deadline 200h",
		"migrate web unix:/x/moves --deadline 10us",
		"migrate web unix:/x/moves --channels 0",
		"migrate web unix:/x/moves --channels 17",
		"migrate web unix:/x/moves --bandwidth fast",
		"migrate web unix:/x/moves --bandwidth",
		"migrate web unix:/x/moves --tls /nonexistent",
		"migrate web unix:/x/moves --nonsense",
		"migrate nobody unix:/x/moves",
		"receive",
		"receive --listen",
		"receive --listen exec:cat",
		"receive --listen tcp:0.0.0.0:0",
		"receive --listen unix:/x/comes --map disk0",
		"receive --listen unix:/x/comes --map serial=tty",
		"receive --listen unix:/x/comes --serial tty",
		"receive --listen unix:/x/comes --name ../x",
		"receive --listen unix:/x/comes --sandbox maybe",
		"receive --listen unix:/x/comes --dirty-tracking ring=3",
		"receive --listen unix:/x/comes --nonsense 1",
		"receive --listen unix:/x/comes extra",
		"receive --listen unix:/x/taken",
		"receive --listen defer",
		"receive --listen defer --name web",
		"receive --listen defer --control /nonexistent/x.sock",
	};
	int output;
	pid_t pid = START_VM(&output);
	char *text;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		g_assert_cmpint(tern(&text, "%s", bad[i]), ==, CLI_INPUT);
		g_assert_nonnull(strchr(text, '\n'));
		if (!g_str_has_prefix(text, "usage:"))
			expect_line(text, "tern: ");
		g_free(text);
	}
	end_vm(pid, output);
}

/* ---- Receiving ---- */

static void test_receive(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = start("receive --listen unix:/x/comes --name here --sandbox log", &output);
	char *log;

	/* The machine has a status, and can be stopped, before it runs. */
	log = read_until(output, "here runs here");
	expect_has(log, "listening at unix:/x/comes");
	wait_until("here", "sandbox   log");
	g_assert_cmpint(tern(NULL, "stop --force here"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	/* By signal, before anything came. */
	pid = start("receive --listen unix:/x/waits", &output);
	g_free(read_until(output, "listening"));
	kill(pid, SIGTERM);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	g_assert_cmpint(tern(&log, "receive --listen unix:/x/over"), ==, CLI_FAILED);
	expect_has(log, "the mover died");
}

static void test_receive_again(struct fixture *f, gconstpointer data)
{
	char *log;
	int output;
	pid_t pid;

	/* The name is free after an attempt, and the next may take it. */
	pid = start("receive --listen unix:/x/twice", &output);
	log = read_until(output, "guest runs here");
	expect_has(log, "guest did not come: the source was lost");
	g_assert_cmpint(tern(NULL, "stop --force guest"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	g_assert_cmpint(tern(&log, "receive --once --listen unix:/x/dry"), ==, CLI_OK);
	expect_has(log, "guest could come");
	g_assert_cmpint(tern(&log, "receive --once --listen unix:/x/fails"), ==, CLI_FAILED);
	expect_has(log, "the source was lost");
	/* Loaded: the sandbox is closed, no other can be built. */
	g_assert_cmpint(tern(&log, "receive --listen unix:/x/sealed"), ==, CLI_FAILED);
	g_free(log);
	/* Means that are not there. */
	g_assert_cmpint(tern(&log, "receive --once --listen unix:/x/comes --map disk0=/x"), ==,
			CLI_INPUT);
	expect_has(log, "disk0: the VM has 0 disks");
}

/* Told where to listen by a client; its name stays its own between attempts. */
static void test_receive_defer(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = start("receive --listen defer --name here --serial off", &output);
	struct client client;
	char *log;

	wait_until("here", "status    inmigrate");
	g_assert_cmpint(tern(&log, "list"), ==, CLI_OK);
	expect_has(log, "inmigrate");
	g_assert_cmpint(client_open(&client, "here", CLIENT_REPLY_MS), ==, 0);
	g_assert_cmpint(client_execute(&client, "migrate-incoming",
				       json_pack("{s:s}", "uri", "unix:/x/mute"), NULL),
			==, -EREMOTEIO);
	g_assert_cmpint(client_execute(&client, "migrate-incoming",
				       json_pack("{s:s}", "uri", "unix:/x/twice"), NULL),
			==, 0);
	wait_until("here", "sandbox ");
	wait_until("here", "migration in, completed");
	/* The same connection still. */
	g_assert_cmpint(client_execute(&client, "query-status", NULL, NULL), ==, 0);
	client_close(&client);
	g_assert_cmpint(tern(NULL, "stop --force here"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, &log), ==, CLI_QUIT);
	g_assert_nonnull(strstr(log, "waiting for migrate-incoming at "));
	g_assert_nonnull(strstr(log, "cannot be listened at"));
	g_assert_nonnull(strstr(log, "here did not come: the source was lost"));
	expect_has(log, "here runs here");
	/* Nothing listens yet: a signal ends it, and nothing is left. */
	pid = start("receive --listen defer --name here", &output);
	wait_until("here", "status    inmigrate");
	kill(pid, SIGTERM);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
}

static void test_receive_doubt(struct fixture *f, gconstpointer data)
{
	int output;
	pid_t pid = start("receive --listen unix:/x/doubt", &output);
	char *log;

	for (int i = 0; i < 1000 && tern(NULL, "resolve guest --own"); i++)
		g_usleep(5000);
	g_assert_cmpint(tern(NULL, "stop --force guest"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, &log), ==, CLI_QUIT);
	g_assert_nonnull(strstr(log, "tern resolve guest --own or --drop"));
	expect_has(log, "guest runs here");
	/* The server that took the command goes with the machine, and not under it. */
	pid = start("receive --once --listen unix:/x/doubt", &output);
	for (int i = 0; i < 1000 && tern(NULL, "resolve guest --drop"); i++)
		g_usleep(5000);
	g_assert_cmpint(finish(pid, output, &log), ==, CLI_FAILED);
	expect_has(log, "the operator's word");
}

int main(int argc, char **argv)
{
#define ADD(name, fn) g_test_add("/migrate/" name, struct fixture, NULL, set_up, fn, tear_down)
	g_test_init(&argc, &argv, NULL);
	ADD("moves", test_moves);
	ADD("json", test_json);
	ADD("stays", test_stays);
	ADD("doubt", test_doubt);
	ADD("lingers", test_lingers);
	ADD("bad-input", test_bad_input);
	ADD("receive", test_receive);
	ADD("receive-again", test_receive_again);
	ADD("receive-defer", test_receive_defer);
	ADD("receive-doubt", test_receive_doubt);
	return g_test_run();
}
