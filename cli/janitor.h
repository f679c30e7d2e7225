/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The janitor: a small process beside the VMM that puts things back when the VMM is gone, however it went (killed and
 * stopped by its own system call filter included): the terminal's modes, the control socket and the name's lock. It is
 * also who changes the terminal, so that the VMM's filter need not allow that.
 */
#ifndef CLI_JANITOR_H
#define CLI_JANITOR_H

#include "base/auto.h"
#include "cli/control.h"

struct janitor {
	int fd; /* to the janitor; -1: none */
	pid_t pid;
};

/*
 * Starts it; before any thread exists. It keeps the control's lock open, so the name stays taken until its remains are
 * removed. tty: descriptor of the terminal to look after, -1: none. -errno, logged.
 */
int janitor_start(struct janitor *janitor, const struct control_socket *control,
		  int tty) must_check;
/* Has the terminal made raw (output processing stays on, so that log lines look right). -EIO when it could not. */
int janitor_make_raw(struct janitor *janitor) must_check;
/* Has everything put back, and waits until it is. Takes one that was never started. */
void janitor_finish(struct janitor *janitor);

#endif
