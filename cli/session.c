// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One VM's process: what the machine's events and the user's keys and signals mean for it, and for its exit status.
 *
 * A VM that has moved away leaves its process for a moment: a client that asks from time to time, and does not listen to
 * events, would otherwise find a closed socket and not know whether the VM moved or died.
 */
#include "cli/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "migration/mover.h"
#include "vmm/sandbox.h"

#define LINGER_US    20000
#define LINGER_TIMES 250 /* 5 s */

/* ---- The end ---- */

void session_end(struct session *session, enum cli_exit status)
{
	if (!session->ended)
		session->status = status;
	session->ended = true;
	loop_stop(session->loop);
}

/* Somebody who may do so ends the VM without asking the guest. */
static void quit(void *opaque, const char *reason)
{
	struct session *session = opaque;

	if (session->ended)
		return;
	if (!session->gone)
		qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(false, reason));
	session_end(session, session->gone ? CLI_OK : CLI_QUIT);
}

static void on_reset(struct session *session, bool guest)
{
	uint32_t limit = machine_config(session->machine)->reset_limit;

	qmp_server_event(session->qmp, "RESET", qmp_reset_data(guest));
	if (!guest || limit == CONFIG_RESETS_UNLIMITED || session->resets++ < limit)
		return;
	log_info("%s: the guest asked for more than %u resets", session->command, limit);
	qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(true, "guest-reset"));
	session_end(session, CLI_RESETS);
}

static void on_event(void *opaque, enum machine_event event, bool guest)
{
	struct session *session = opaque;

	if (session->ended)
		return;
	switch (event) {
	case MACHINE_EVENT_STOP:
		qmp_server_event(session->qmp, "STOP", NULL);
		if (machine_get_status(session->machine) == MACHINE_INTERNAL_ERROR) {
			qmp_server_event(session->qmp, "SHUTDOWN",
					 qmp_shutdown_data(false, "host-error"));
			session_end(session, CLI_FAILED);
		}
		break;
	case MACHINE_EVENT_RESUME:
		qmp_server_event(session->qmp, "RESUME", NULL);
		break;
	case MACHINE_EVENT_RESET:
		on_reset(session, guest);
		break;
	case MACHINE_EVENT_POWERDOWN:
		qmp_server_event(session->qmp, "POWERDOWN", NULL);
		break;
	case MACHINE_EVENT_SHUTDOWN:
		qmp_server_event(session->qmp, "SHUTDOWN",
				 qmp_shutdown_data(guest, guest ? "guest-shutdown" : "host-error"));
		session_end(session, guest ? CLI_OK : CLI_FAILED);
		break;
	case MACHINE_EVENT_PANIC:
		qmp_server_event(session->qmp, "GUEST_PANICKED", qmp_panic_data());
		qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(true, "guest-panic"));
		session_end(session, CLI_PANIC);
		break;
	}
}

struct machine_events session_events(struct session *session)
{
	return (struct machine_events){.opaque = session, .event = on_event};
}

/* ---- Moving away ---- */

static void on_phase(void *opaque, enum migration_phase phase)
{
	struct session *session = opaque;

	qmp_migration_event(session->qmp, &session->migration);
}

static void on_linger(void *opaque)
{
	struct session *session = opaque;

	if (++session->lingered > LINGER_TIMES || !qmp_server_clients(session->qmp))
		session_end(session, CLI_OK);
	else
		loop_timer_arm(session->linger, LINGER_US);
}

static void on_gone(void *opaque)
{
	struct session *session = opaque;

	log_info("%s: %s %s", session->command, machine_config(session->machine)->name,
		 outgoing_is_save(session->migration.outgoing) ? "is saved, and ends here"
							       : "lives elsewhere now");
	session->gone = true;
	on_linger(session);
}

/* ---- Signals, keys, standard input ---- */

static void on_signal(void *opaque, int fd, uint32_t events)
{
	struct session *session = opaque;
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info)) {
		log_info("%s: ended by signal %u", session->command, info.ssi_signo);
		quit(session, "host-signal");
	}
}

static void obey_key(struct session *session, enum terminal_key key)
{
	switch (key) {
	case KEY_EXIT:
		quit(session, "host-ui");
		break;
	case KEY_HELP:
		terminal_print_help("ends the VM at once", true);
		break;
	case KEY_POWERDOWN:
		/* The reason is logged where it is known, and the user sees it there. */
		if (machine_powerdown(session->machine))
			log_warn("%s: the power button did nothing", session->command);
		break;
	case KEY_NONE:
		break;
	}
}

static void on_input(void *opaque, int fd, uint32_t events)
{
	struct session *session = opaque;
	char typed[256];
	ssize_t n = read(fd, typed, sizeof(typed));
	char *next = typed;

	if (n <= 0) {
		if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
			loop_watch_free(session->input); /* the end of a pipe: the VM runs on */
			session->input = NULL;
		}
		return;
	}
	while (n > 0 && !session->ended) {
		size_t len = (size_t)n, used;
		enum terminal_key key = terminal_filter(&session->escape, next, &len, &used);

		if (len)
			machine_serial_input(session->machine, next, len);
		obey_key(session, key);
		next += used;
		n -= (ssize_t)used;
	}
}

/* Signals that end the VM come through the loop; vCPU threads, created later, inherit the block. */
static int watch_signals(struct session *session)
{
	static const int ending[] = {SIGTERM, SIGINT, SIGHUP};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
		sigaddset(&set, ending[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (session->signal_fd < 0)
		return fail(-errno, "%s: signalfd: %s", session->command, strerror(errno));
	return loop_add_fd(session->loop, session->signal_fd, EPOLLIN, on_signal, session,
			   &session->signals);
}

/*
 * What there is to read from, found out before the sandbox closes. Files and /dev/null are always ready and cannot be
 * waited for; the terminal of a shell's background job is not ours.
 */
static void look_at_stdin(struct session *session)
{
	pid_t group = tcgetpgrp(STDIN_FILENO);

	session->input_kind = INPUT_NONE;
	if (group >= 0 && group != getpgrp())
		log_warn("%s: in the background: the serial console takes no input",
			 session->command);
	else if (isatty(STDIN_FILENO))
		session->input_kind = INPUT_TERMINAL;
	else if (lseek(STDIN_FILENO, 0, SEEK_CUR) < 0 && errno == ESPIPE)
		session->input_kind = INPUT_STREAM;
}

static int attach_stdin(struct session *session)
{
	int error;

	if (session->input_kind == INPUT_NONE ||
	    machine_config(session->machine)->serial != SERIAL_STDIO)
		return 0;
	if (session->input_kind == INPUT_TERMINAL) {
		error = janitor_make_raw(&session->janitor);
		if (error)
			return error;
		fputs("tern: Ctrl-A h for help\n", stderr);
	}
	return loop_add_fd(session->loop, STDIN_FILENO, EPOLLIN, on_input, session,
			   &session->input);
}

/* ---- Its steps ---- */

void session_init(struct session *session, const char *command)
{
	*session = (struct session){
		.command = command,
		.signal_fd = -1,
		.broker = {.fd = -1},
		.control = {.lock_fd = -1, .listen_fd = -1},
		.janitor = {.fd = -1},
	};
	migration_params_init(&session->migration.params);
}

static int start_broker(struct session *session, enum config_sandbox mode)
{
	struct sandbox *sandbox;
	int error = sandbox_new(&sandbox, mode);

	if (error)
		return error;
	error = broker_start(&session->broker, sandbox, mover_main);
	sandbox_free(sandbox);
	return error;
}

int session_open(struct session *session, enum config_sandbox sandbox)
{
	int error = start_broker(session, sandbox);

	if (!error)
		error = loop_new(&session->loop);
	if (!error)
		error = loop_timer_new(session->loop, on_linger, session, &session->linger);
	return error ? error : watch_signals(session);
}

int session_take_name(struct session *session, const struct config *config)
{
	int error;

	if (config->serial == SERIAL_STDIO)
		look_at_stdin(session);
	error = control_open(&session->control, config->name, config->control_path);
	if (error)
		return error;
	error = janitor_start(&session->janitor, &session->control,
			      session->input_kind == INPUT_TERMINAL ? STDIN_FILENO : -1);
	if (error)
		control_close(&session->control);
	return error;
}

static int start_server(struct session *session, const char *name)
{
	const struct qmp_owner owner = {
		.opaque = session, .quit = quit, .name = name, .migration = &session->migration};

	return qmp_server_new(&session->qmp, session->loop, session->machine,
			      session->control.listen_fd, &owner);
}

int session_wait(struct session *session, const char *name)
{
	session->waits = true;
	return start_server(session, name);
}

int session_serve(struct session *session)
{
	const struct outgoing_events events = {
		.opaque = session, .phase = on_phase, .gone = on_gone};
	int error = outgoing_new(&session->migration.outgoing, session->machine, session->loop,
				 &session->broker, &events);

	if (error || !session->qmp)
		return error ? error : start_server(session, NULL);
	qmp_server_set_machine(session->qmp, session->machine);
	return 0;
}

int session_attach(struct session *session)
{
	int error = attach_stdin(session);

	if (!error && *machine_pty_path(session->machine))
		log_info("%s: serial console at %s (tern console %s)", session->command,
			 machine_pty_path(session->machine),
			 machine_config(session->machine)->name);
	return error;
}

void session_drop(struct session *session)
{
	loop_watch_free(session->input);
	session->input = NULL;
	outgoing_free(session->migration.outgoing);
	session->migration.outgoing = NULL;
	if (session->waits) {
		qmp_server_set_machine(session->qmp, NULL);
	} else {
		qmp_server_free(session->qmp);
		session->qmp = NULL;
	}
	machine_free(session->machine);
	session->machine = NULL;
	session->resets = 0;
	if (session->waits)
		return;
	if (session->janitor.fd >= 0) {
		janitor_finish(&session->janitor);
		close_fd(&session->control.listen_fd);
		close_fd(&session->control.lock_fd);
	} else if (session->control.lock_fd >= 0) {
		control_close(&session->control);
	}
}

enum cli_exit session_close(struct session *session)
{
	/* Before the machine, which is its owner's and not its own. */
	incoming_free(session->migration.incoming);
	session->migration.incoming = NULL;
	session->waits = false;
	session_drop(session);
	loop_timer_free(session->linger);
	loop_free(session->loop);
	close_fd(&session->signal_fd);
	broker_stop(&session->broker);
	return session->status;
}
