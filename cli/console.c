// SPDX-License-Identifier: GPL-2.0-or-later
/* tern console: the terminal and a VM's serial pty, until Ctrl-A x, the end of input, or the end of the VM. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/terminal.h"

#define CHUNK	   512
#define PATH_BYTES 64 /* of a pty */

/* The path of the VM's pty. */
static int find_pty(const char *vm, char path[PATH_BYTES])
{
	json_t *status = NULL, *serial;
	struct client client;
	const char *pty, *kind;
	int error = client_open(&client, vm, CLIENT_REPLY_MS);

	if (!error)
		error = client_execute(&client, "x-tern-status", NULL, &status);
	client_close(&client);
	if (error)
		return error;
	serial = json_object_get(status, "serial");
	pty = json_string_value(json_object_get(serial, "pty"));
	kind = json_string_value(json_object_get(serial, "kind"));
	if (pty && *pty && strlen(pty) < PATH_BYTES)
		stpcpy(path, pty);
	else
		error = fail(-EINVAL,
			     "%s: its serial console is %s; only --serial pty can be attached to",
			     vm, kind ? kind : "unknown");
	json_decref(status);
	return error;
}

static int open_pty(const char *vm, const char *path)
{
	struct termios raw;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return fail(-errno, "%s: %s: %s", vm, path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !isatty(fd)) {
		int error = isatty(fd) ? fail(-EBUSY, "%s: somebody else is at the console", vm)
				       : fail(-EINVAL, "%s: %s is not a terminal", vm, path);

		close(fd);
		return error;
	}
	if (tcgetattr(fd, &raw) == 0) {
		cfmakeraw(&raw);
		tcsetattr(fd, TCSANOW, &raw);
	}
	return fd;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* From the keyboard to the guest; false: leave. */
static bool copy_typed(struct terminal_escape *escape, int pty)
{
	char typed[CHUNK], *next = typed;
	ssize_t n = read(STDIN_FILENO, typed, sizeof(typed));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	while (n > 0) {
		size_t len = (size_t)n, used;
		enum terminal_key key = terminal_filter(escape, next, &len, &used);

		if (write_all(pty, next, len) || key == KEY_EXIT)
			return false;
		if (key == KEY_HELP)
			terminal_print_help("leaves the console", false);
		next += used;
		n -= (ssize_t)used;
	}
	return true;
}

static bool copy_output(int pty)
{
	char bytes[CHUNK * 8];
	ssize_t n = read(pty, bytes, sizeof(bytes));

	if (n < 0 && errno == EINTR)
		return true;
	return n > 0 && write_all(STDOUT_FILENO, bytes, (size_t)n) == 0;
}

static void attend(int pty, int signals)
{
	struct pollfd polled[] = {{.fd = STDIN_FILENO, .events = POLLIN},
				  {.fd = pty, .events = POLLIN},
				  {.fd = signals, .events = POLLIN}};
	struct terminal_escape escape = {};

	for (;;) {
		if (poll(polled, ARRAY_SIZE(polled), -1) < 0 && errno != EINTR)
			return;
		if (polled[2].revents)
			return;
		if (polled[1].revents && !copy_output(pty))
			return;
		if (polled[0].revents && !copy_typed(&escape, pty))
			return;
	}
}

int command_console(int argc, char **argv)
{
	struct terminal_modes saved = {};
	char path[PATH_BYTES];
	AUTO_FD pty = -1;
	AUTO_FD signals = -1;
	sigset_t ending;

	if (argc != 2)
		return command_usage(argv[0]);
	if (find_pty(argv[1], path))
		return CLI_INPUT;
	pty = open_pty(argv[1], path);
	if (pty < 0)
		return pty == -EBUSY ? CLI_FAILED : CLI_INPUT;
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGHUP);
	sigprocmask(SIG_BLOCK, &ending, NULL);
	signals = signalfd(-1, &ending, SFD_CLOEXEC);
	if (isatty(STDIN_FILENO)) {
		if (terminal_make_raw(STDIN_FILENO, &saved))
			log_warn("console: the terminal cannot be made raw");
		fprintf(stderr, "tern: at the console of %s; Ctrl-A x leaves\n", argv[1]);
	}
	attend(pty, signals);
	terminal_restore(STDIN_FILENO, &saved);
	if (saved.modes.c_lflag)
		fputc('\n', stderr);
	return CLI_OK;
}
