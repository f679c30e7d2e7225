// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cli/control and cli/janitor: a name belongs to one, a stale socket is taken over, what is not a socket is left alone,
 * and what a killed owner leaves is removed by its janitor before the name is free.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "cli/janitor.h"
#include "cli/terminal.h"

struct fixture {
	char *directory;
};

static void set_up(struct fixture *f, gconstpointer data)
{
	f->directory = g_dir_make_tmp("tern-test-XXXXXX", NULL);
	g_setenv("XDG_RUNTIME_DIR", f->directory, TRUE);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	g_autofree char *runtime = g_build_filename(f->directory, "tern", NULL);

	/* Both are empty: nothing is ever left behind. */
	g_assert_true(g_rmdir(runtime) == 0 || errno == ENOENT);
	g_assert_cmpint(g_rmdir(f->directory), ==, 0);
	g_free(f->directory);
}

static bool there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void test_one_owner(struct fixture *f, gconstpointer data)
{
	struct control_socket control, second;
	struct stat st;

	g_assert_cmpint(control_open(&control, "web", NULL), ==, 0);
	g_assert_true(g_str_has_suffix(control.path, "/tern/web.sock"));
	g_assert_cmpint(stat(control.path, &st), ==, 0);
	g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
	g_assert_cmpint(control_open(&second, "web", NULL), ==, -EADDRINUSE);
	g_assert_cmpint(control_owner(control.path), ==, getpid());
	g_assert_cmpint(control_open(&second, "web2", NULL), ==, 0);
	control_close(&second);
	control_close(&control);
	g_assert_false(there(control.path));
	g_assert_false(there(control.lock));
	g_assert_cmpint(control_owner(control.path), ==, 0);
	g_assert_cmpint(control_open(&control, "web", NULL), ==, 0);
	control_close(&control);
}

static void test_stale(struct fixture *f, gconstpointer data)
{
	struct control_socket control, second;

	g_assert_cmpint(control_open(&control, "web", NULL), ==, 0);
	/* As a killed owner leaves them: files there, nobody holding them. */
	close(control.listen_fd);
	close(control.lock_fd);
	g_assert_true(there(control.path));
	g_assert_true(there(control.lock));
	g_assert_cmpint(control_open(&second, "web", NULL), ==, 0);
	control_close(&second);
}

static void test_not_a_socket(struct fixture *f, gconstpointer data)
{
	g_autofree char *path = g_build_filename(f->directory, "file", NULL);
	struct control_socket control;

	g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
	g_assert_cmpint(control_open(&control, "web", path), ==, -EEXIST);
	g_assert_true(there(path));
	g_assert_false(there(control.lock));
	g_unlink(path);
}

static void test_bad_paths(struct fixture *f, gconstpointer data)
{
	struct control_socket control;
	char path[CONTROL_PATH_BYTES], longest[200];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	g_assert_cmpint(control_open(&control, "web", longest), ==, -EINVAL);
	g_assert_cmpint(control_open(&control, "web", "/nonexistent/web.sock"), ==, -ENOENT);
	g_assert_cmpint(control_path(path, "../web"), ==, -EINVAL);
	g_assert_cmpint(control_path(path, ""), ==, -EINVAL);
	longest[63] = '\0';
	g_assert_cmpint(control_path(path, longest), ==, 0);
	g_setenv("XDG_RUNTIME_DIR", "/0123456789/0123456789/0123456789/0123456789/0123456789",
		 TRUE);
	g_assert_cmpint(control_path(path, longest), ==, -EINVAL);
}

static void wait_until_free(const char *path)
{
	for (int i = 0; i < 500 && control_owner(path); i++)
		g_usleep(10000);
	g_assert_cmpint(control_owner(path), ==, 0);
}

/* The owner is killed with its janitor watching over a terminal. */
static void test_janitor(struct fixture *f, gconstpointer data)
{
	struct control_socket control, second;
	struct termios before, after;
	int master, tty, ready[2];
	pid_t pid;
	char byte;

	g_assert_cmpint(openpty(&master, &tty, NULL, NULL, NULL), ==, 0);
	g_assert_cmpint(tcgetattr(tty, &before), ==, 0);
	g_assert_true(before.c_lflag & ICANON);
	g_assert_cmpint(pipe(ready), ==, 0);
	pid = fork();
	if (pid == 0) {
		struct janitor janitor;

		if (control_open(&control, "web", NULL) || janitor_start(&janitor, &control, tty) ||
		    janitor_make_raw(&janitor) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
	g_assert_cmpint(tcgetattr(tty, &after), ==, 0);
	g_assert_false(after.c_lflag & ICANON);
	g_assert_true(after.c_oflag & OPOST);
	g_assert_cmpint(control_open(&second, "web", NULL), ==, -EADDRINUSE);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	g_assert_cmpint(control_path(control.path, "web"), ==, 0);
	wait_until_free(control.path);
	g_assert_false(there(control.path));
	g_assert_cmpint(tcgetattr(tty, &after), ==, 0);
	g_assert_true(after.c_lflag & ICANON);
	g_assert_cmpint(control_open(&second, "web", NULL), ==, 0);
	control_close(&second);
	close(master);
	close(tty);
	close(ready[0]);
	close(ready[1]);
}

/* An orderly end: all is put back by the time that janitor_finish() returns. */
static void test_janitor_finish(struct fixture *f, gconstpointer data)
{
	struct control_socket control;
	struct janitor janitor;
	struct termios after;
	int master, tty;

	g_assert_cmpint(openpty(&master, &tty, NULL, NULL, NULL), ==, 0);
	g_assert_cmpint(control_open(&control, "web", NULL), ==, 0);
	g_assert_cmpint(janitor_start(&janitor, &control, tty), ==, 0);
	g_assert_cmpint(janitor_make_raw(&janitor), ==, 0);
	janitor_finish(&janitor);
	g_assert_false(there(control.path));
	g_assert_false(there(control.lock));
	g_assert_cmpint(tcgetattr(tty, &after), ==, 0);
	g_assert_true(after.c_lflag & ICANON);
	close(control.listen_fd);
	close(control.lock_fd);
	close(master);
	close(tty);
	wait(NULL);
}

static void expect_filter(const char *typed, const char *sent, enum terminal_key key,
			  size_t used_wanted)
{
	struct terminal_escape escape = {};
	char bytes[32];
	size_t len = strlen(typed), used;

	memcpy(bytes, typed, len);
	g_assert_cmpint(terminal_filter(&escape, bytes, &len, &used), ==, key);
	g_assert_cmpmem(bytes, len, sent, strlen(sent));
	g_assert_cmpuint(used, ==, used_wanted);
}

static void test_escape(struct fixture *f, gconstpointer data)
{
	struct terminal_escape escape = {};
	char bytes[] = "\x01";
	size_t len = 1, used;

	expect_filter("hello\r", "hello\r", KEY_NONE, 6);
	expect_filter("a\x01xb", "a", KEY_EXIT, 3);
	expect_filter("\x01h", "", KEY_HELP, 2);
	expect_filter("\x01p", "", KEY_POWERDOWN, 2);
	expect_filter("\x01\x01z", "\x01z", KEY_NONE, 3);
	expect_filter("\x01"
		      "a",
		      "\x01", KEY_NONE, 2);
	expect_filter("\x01"
		      "qz",
		      "z", KEY_NONE, 3);
	/* Across two reads. */
	g_assert_cmpint(terminal_filter(&escape, bytes, &len, &used), ==, KEY_NONE);
	g_assert_cmpuint(len, ==, 0);
	bytes[0] = 'x';
	len = 1;
	g_assert_cmpint(terminal_filter(&escape, bytes, &len, &used), ==, KEY_EXIT);
}

int main(int argc, char **argv)
{
#define ADD(name, fn) g_test_add("/control/" name, struct fixture, NULL, set_up, fn, tear_down)
	g_test_init(&argc, &argv, NULL);
	ADD("one-owner", test_one_owner);
	ADD("stale", test_stale);
	ADD("not-a-socket", test_not_a_socket);
	ADD("bad-paths", test_bad_paths);
	ADD("janitor", test_janitor);
	ADD("janitor-finish", test_janitor_finish);
	ADD("escape", test_escape);
	return g_test_run();
}
