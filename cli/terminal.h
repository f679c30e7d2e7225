/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The user's terminal as a guest's console: raw mode, and the escape key that stays tern's. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#include "base/auto.h"

struct terminal_modes {
	bool saved;
	struct termios modes;
};

/* Raw input; output processing stays on, so that log lines begin at the left. Keeps the old modes. -errno, not logged. */
int terminal_make_raw(int fd, struct terminal_modes *saved) must_check;
/* Puts back what was saved; does nothing when nothing was, or fd is -1. */
void terminal_restore(int fd, struct terminal_modes *saved);

enum terminal_key { KEY_NONE, KEY_EXIT, KEY_HELP, KEY_POWERDOWN };

/* Ctrl-A, then a key: x, h, p; Ctrl-A or a for a Ctrl-A of the guest's. Other keys after Ctrl-A are dropped. */
struct terminal_escape {
	bool armed;
};
/*
 * Filters typed bytes: *len bytes at `bytes` become those for the guest, in place, and the new *len. Stops at the
 * first key of tern's and returns it; *used: how many input bytes were consumed. Call again with the rest.
 */
enum terminal_key terminal_filter(struct terminal_escape *escape, char *bytes, size_t *len,
				  size_t *used);
/* The words that Ctrl-A h prints; exit: what x does ("ends the VM", "leaves the console"). */
void terminal_print_help(const char *exit_does, bool powerdown);

#endif
