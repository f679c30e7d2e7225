// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The tern command as a user calls it, each call a process of its own, over a fake machine: exit statuses of run, what
 * the client commands print and return, and that nothing is left behind.
 */
#include "tests/unit/fake_machine.h"
#include "tests/unit/fake_outgoing.h"
#include "tests/unit/tern_process.h"

static void test_help(struct fixture *f, gconstpointer data)
{
	char *text;

	g_assert_cmpint(tern(&text, "help"), ==, CLI_OK);
	for (const struct command *command = command_table(); command->name; command++) {
		g_autofree char *help = NULL;

		g_assert_nonnull(strstr(text, command->name));
		g_assert_cmpint(tern(&help, "help %s", command->name), ==, CLI_OK);
		g_assert_nonnull(strstr(help, command->summary));
		g_free(help);
		g_assert_cmpint(tern(&help, "%s --help", command->name), ==, CLI_OK);
	}
	g_free(text);
	g_assert_cmpint(tern(&text, "version"), ==, CLI_OK);
	g_assert_cmpstr(text, ==, "tern " TERN_VERSION "\n");
	g_free(text);
	g_assert_cmpint(tern(NULL, "nonsense"), ==, CLI_INPUT);
	g_assert_cmpint(tern(NULL, "help nonsense"), ==, CLI_INPUT);
	g_assert_cmpint(tern(NULL, "version 2"), ==, CLI_INPUT);
	for (const struct command *command = command_table(); command->name; command++)
		g_assert_cmpint(tern(NULL, "%s --nonsense x y z", command->name), ==, CLI_INPUT);
}

static void test_run_statuses(struct fixture *f, gconstpointer data)
{
	static const struct {
		const char *words;
		int status;
	} runs[] = {
		{"--kernel poweroff", CLI_OK},
		{"--kernel=poweroff --rng --name=x --verbose", CLI_OK},
		{"--kernel panic", CLI_PANIC},
		{"--kernel error", CLI_FAILED},
		{"--kernel no-start", CLI_FAILED},
		{"--kernel resets --reset-limit 2", CLI_RESETS},
		{"--kernel resets --reset-limit 0", CLI_RESETS},
		{"--kernel no-machine", CLI_INPUT},
		{"", CLI_INPUT},
		{"--kernel", CLI_INPUT},
		{"--kernel poweroff --cpus 65", CLI_INPUT},
		{"--kernel poweroff extra", CLI_INPUT},
		{"--kernel poweroff --", CLI_INPUT},
		{"--kernel poweroff -x", CLI_INPUT},
		{"--config", CLI_INPUT},
		{"--config /nonexistent", CLI_INPUT},
		{"--kernel poweroff --name a/b", CLI_INPUT},
		{"--kernel poweroff --control /nonexistent/x.sock", CLI_INPUT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
		g_assert_cmpint(tern(NULL, "run --serial off %s", runs[i].words), ==,
				runs[i].status);
}

static void test_config_order(struct fixture *f, gconstpointer data)
{
	g_autofree char *file = g_build_filename(f->directory, "vm.json", NULL), *line = NULL,
			*text = NULL;
	int output;
	pid_t pid;

	g_file_set_contents(
		file,
		"{\"name\": \"file\", \"cpus\": 3, \"kernel\": \"stay\", \"serial\": \"off\"}", -1,
		NULL);
	/* The command line wins, also when it stands first; a value that looks like --config is a value. */
	line = g_strdup_printf("run --cpus 2 --cmdline --config --config %s --memory 1G", file);
	pid = start_vm(line, "file", &output);
	g_assert_cmpint(tern(&text, "status --json file"), ==, CLI_OK);
	g_assert_nonnull(strstr(text, "\"cpus\": 2"));
	g_assert_nonnull(strstr(text, "\"size-bytes\": 1073741824"));
	g_assert_cmpint(tern(NULL, "stop --force file"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	g_unlink(file);
}

static void test_client_commands(struct fixture *f, gconstpointer data)
{
	char *text;
	int output;
	pid_t pid =
		start_vm("run --name web --kernel off-on-powerdown --serial off", "web", &output);

	g_assert_cmpint(tern(&text, "run --name web --kernel stay --serial off"), ==, CLI_INPUT);
	expect_line(text, "web is in use");
	g_free(text);
	g_assert_cmpint(tern(&text, "list"), ==, CLI_OK);
	g_assert_nonnull(strstr(text, "web"));
	g_assert_nonnull(strstr(text, "running"));
	g_free(text);
	g_assert_cmpint(tern(NULL, "pause web"), ==, CLI_OK);
	g_assert_cmpint(tern(&text, "status web"), ==, CLI_OK);
	g_assert_nonnull(strstr(text, "status    paused"));
	g_free(text);
	g_assert_cmpint(tern(&text, "list --json"), ==, CLI_OK);
	g_assert_nonnull(strstr(text, "\"status\": \"paused\""));
	g_free(text);
	g_assert_cmpint(tern(NULL, "resume web"), ==, CLI_OK);
	g_assert_cmpint(tern(NULL, "reset web"), ==, CLI_OK);
	g_assert_cmpint(tern(&text, "console web"), ==, CLI_INPUT);
	expect_line(text, "its serial console is off");
	g_free(text);
	/* By path, too. */
	g_assert_cmpint(tern(NULL, "status %s/tern/web.sock", f->directory), ==, CLI_OK);
	/* Waits until the name is free: taking it again at once works. */
	g_assert_cmpint(tern(NULL, "stop web"), ==, CLI_OK);
	g_assert_cmpint(tern(NULL, "run --name web --kernel poweroff --serial off"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_OK);
	g_assert_cmpint(tern(&text, "status web"), ==, CLI_INPUT);
	expect_line(text, "no such VM");
	g_free(text);
	g_assert_cmpint(tern(&text, "list"), ==, CLI_OK);
	g_assert_cmpstr(text, ==, "");
	g_free(text);
	g_assert_cmpint(tern(NULL, "pause ../web"), ==, CLI_INPUT);
}

static void test_stop(struct fixture *f, gconstpointer data)
{
	char *text;
	int output;
	pid_t pid = start_vm("run --name web --kernel deaf --serial off", "web", &output);

	g_assert_cmpint(tern(&text, "stop --timeout 1 web"), ==, CLI_FAILED);
	expect_line(text, "--force");
	g_free(text);
	g_assert_cmpint(tern(NULL, "stop --timeout 0 web"), ==, CLI_INPUT);
	g_assert_cmpint(tern(NULL, "stop --force web"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	/* A paused guest is let run, for only then can it end. */
	pid = start_vm("run --name web --kernel off-on-powerdown --serial off", "web", &output);
	g_assert_cmpint(tern(NULL, "pause web"), ==, CLI_OK);
	g_assert_cmpint(tern(NULL, "stop --timeout 20 web"), ==, CLI_OK);
	g_assert_cmpint(finish(pid, output, NULL), ==, CLI_OK);
}

static void test_signals(struct fixture *f, gconstpointer data)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	int output;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		pid_t pid = start_vm("run --name web --kernel stay --serial off", "web", &output);

		kill(pid, signals[i]);
		g_assert_cmpint(finish(pid, output, NULL), ==, CLI_QUIT);
	}
}

int main(int argc, char **argv)
{
#define ADD(name, fn) g_test_add("/commands/" name, struct fixture, NULL, set_up, fn, tear_down)
	g_test_init(&argc, &argv, NULL);
	ADD("help", test_help);
	ADD("run-statuses", test_run_statuses);
	ADD("config-order", test_config_order);
	ADD("client-commands", test_client_commands);
	ADD("stop", test_stop);
	ADD("signals", test_signals);
	return g_test_run();
}
