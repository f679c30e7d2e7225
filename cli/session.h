/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VM's process from its name to its exit status: what `tern run` and `tern receive` share. How the machine comes to be is
 * theirs; what its events mean, who may end it, and what is put back is here. Main thread.
 *
 *	session_open -> session_take_name -> (machine) -> session_serve -> session_attach -> loop_run -> session_close
 *
 * open and take_name in either order, both before the machine (that is, before any thread exists).
 *
 * A target that is told later where to listen says session_wait() before there is a machine: its name is taken and its
 * clients are served from then on, whatever machines come and go.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "base/loop.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/janitor.h"
#include "cli/qmp.h"
#include "cli/terminal.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "vmm/broker.h"
#include "vmm/machine.h"

struct session {
	const char *command; /* "run", "receive": for logs */
	struct loop *loop;
	struct broker broker;
	struct control_socket control;
	struct janitor janitor;
	struct machine *machine;
	struct qmp_server *qmp;
	struct qmp_migration migration; /* outgoing and incoming are freed by session_close() */
	struct terminal_escape escape;
	struct loop_watch *input;
	enum { INPUT_NONE, INPUT_STREAM, INPUT_TERMINAL } input_kind;
	struct loop_watch *signals;
	int signal_fd;
	bool waits;	 /* session_wait(): the server is there without a machine */
	uint32_t resets; /* that the guest asked for */
	bool ended;
	bool gone; /* to another host: clients may still ask how it went */
	struct loop_timer *linger;
	unsigned int lingered;
	enum cli_exit status;
};

void session_init(struct session *session, const char *command);
/* Loop, signals that end the VM, broker. sandbox: of the broker. Errors: -errno, logged. */
int session_open(struct session *session, enum config_sandbox sandbox) must_check;
/* Control socket and janitor. -EADDRINUSE and others, logged; nothing is left behind. */
int session_take_name(struct session *session, const struct config *config) must_check;
/*
 * Clients are served before there is a machine; after session_take_name() and _open(). name: of the VM to be, NULL: not
 * known; it must live as long as the session. Errors logged.
 */
int session_wait(struct session *session, const char *name) must_check;
/* The machine's events go here. */
struct machine_events session_events(struct session *session);
/* session->machine is there: it can be moved away, and clients are served. Errors logged. */
int session_serve(struct session *session) must_check;
/* The user's terminal becomes the guest's console, where it is to be; and the log says where the console is. */
int session_attach(struct session *session) must_check;
/*
 * What session_take_name() and session_serve() did, undone, and the machine freed: there is no VM any more. After
 * session_wait(), name and server stay.
 */
void session_drop(struct session *session);

/* The first reason to end counts; the loop stops. */
void session_end(struct session *session, enum cli_exit status);
/* Everything; returns the exit status. Takes one that was only session_init()ed. */
enum cli_exit session_close(struct session *session);

#endif
