/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tern command as a user calls it, each call a process of its own, in a runtime directory of the test's own that must be
 * empty in the end. Include after the fakes that stand below cli/.
 */
#ifndef TESTS_TERN_PROCESS_H
#define TESTS_TERN_PROCESS_H

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"

struct fixture {
	char *directory;
};

static inline void set_up(struct fixture *f, gconstpointer data)
{
	f->directory = g_dir_make_tmp("tern-test-XXXXXX", NULL);
	g_setenv("XDG_RUNTIME_DIR", f->directory, TRUE);
}

static inline void tear_down(struct fixture *f, gconstpointer data)
{
	g_autofree char *runtime = g_build_filename(f->directory, "tern", NULL);

	g_assert_true(g_rmdir(runtime) == 0 || errno == ENOENT);
	g_assert_cmpint(g_rmdir(f->directory), ==, 0);
	g_free(f->directory);
}

/* Starts `tern words...`; *output: where its standard output and error can be read. */
static inline pid_t start(const char *line, int *output)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	int pipes[2], argc = (int)g_strv_length(words);
	pid_t pid;

	g_assert_cmpint(pipe(pipes), ==, 0);
	fcntl(pipes[0], F_SETFD, FD_CLOEXEC);
	pid = fork();
	if (pid == 0) {
		g_autofree char **argv = g_new0(char *, argc + 2);
		int status;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no VM */
		argv[0] = (char *)"tern";
		memcpy(argv + 1, words, (size_t)argc * sizeof(char *));
		dup2(pipes[1], STDOUT_FILENO);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		close(STDIN_FILENO);
		g_assert_cmpint(open("/dev/null", O_RDONLY), ==, STDIN_FILENO);
		status = command_main(argc + 1, argv);
		fflush(stdout);
		_exit(status);
	}
	close(pipes[1]);
	*output = pipes[0];
	return pid;
}

static inline int finish(pid_t pid, int output, char **text)
{
	GString *all = g_string_new(NULL);
	char bytes[1024];
	ssize_t n;
	int status;

	while ((n = read(output, bytes, sizeof(bytes))) > 0)
		g_string_append_len(all, bytes, n);
	close(output);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	g_test_message("status %d: %s", WEXITSTATUS(status), all->str);
	if (text)
		*text = g_string_free(all, FALSE);
	else
		g_string_free(all, TRUE);
	return WEXITSTATUS(status);
}

static inline int tern(char **text, const char *format, ...) G_GNUC_PRINTF(2, 3);
static inline int tern(char **text, const char *format, ...)
{
	g_autofree char *line = NULL;
	va_list args;
	int output;
	pid_t pid;

	va_start(args, format);
	line = g_strdup_vprintf(format, args);
	va_end(args);
	pid = start(line, &output);
	return finish(pid, output, text);
}

/* A VM that is up: its name answers. */
static inline pid_t start_vm(const char *line, const char *name, int *output)
{
	pid_t pid = start(line, output);

	for (int i = 0; i < 1000; i++) {
		if (tern(NULL, "status %s", name) == CLI_OK)
			return pid;
		g_usleep(5000);
	}
	g_assert_not_reached();
}

/* One line, that has these words. */
static inline void expect_line(const char *text, const char *words)
{
	const char *end = strchr(text, '\n');

	g_assert_nonnull(strstr(text, words));
	g_assert_nonnull(end);
	g_assert_cmpstr(end, ==, "\n");
}

#endif
