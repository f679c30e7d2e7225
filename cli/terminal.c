// SPDX-License-Identifier: GPL-2.0-or-later
/* The user's terminal. Who restores it when tern run dies is janitor.c's matter. */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define CTRL_A '\x01'

int terminal_make_raw(int fd, struct terminal_modes *saved)
{
	struct termios raw;

	if (tcgetattr(fd, &raw) < 0)
		return -errno;
	if (!saved->saved)
		saved->modes = raw;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST | ONLCR;
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return -errno;
	saved->saved = true;
	return 0;
}

void terminal_restore(int fd, struct terminal_modes *saved)
{
	if (fd < 0 || !saved->saved)
		return;
	/* A background process that changes the terminal is stopped unless it blocks this. */
	sigset_t ttou, old;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	sigprocmask(SIG_BLOCK, &ttou, &old);
	tcsetattr(fd, TCSANOW, &saved->modes);
	sigprocmask(SIG_SETMASK, &old, NULL);
	saved->saved = false;
}

enum terminal_key terminal_filter(struct terminal_escape *escape, char *bytes, size_t *len,
				  size_t *used)
{
	size_t kept = 0;
	enum terminal_key key = KEY_NONE;
	size_t i = 0;

	while (i < *len && key == KEY_NONE) {
		char c = bytes[i++];

		if (!escape->armed && c == CTRL_A) {
			escape->armed = true;
			continue;
		}
		if (!escape->armed) {
			bytes[kept++] = c;
			continue;
		}
		escape->armed = false;
		switch (c) {
		case 'x':
			key = KEY_EXIT;
			break;
		case 'h':
		case '?':
			key = KEY_HELP;
			break;
		case 'p':
			key = KEY_POWERDOWN;
			break;
		case 'a':
		case CTRL_A:
			bytes[kept++] = CTRL_A;
			break;
		default:
			break;
		}
	}
	*used = i;
	*len = kept;
	return key;
}

void terminal_print_help(const char *exit_does, bool powerdown)
{
	fprintf(stderr, "\ntern: Ctrl-A x  %s\n", exit_does);
	if (powerdown)
		fputs("tern: Ctrl-A p  presses the power button\n", stderr);
	fputs("tern: Ctrl-A a  sends a Ctrl-A to the guest\n"
	      "tern: Ctrl-A h  shows this\n",
	      stderr);
}
