// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern run: from the command line to a running machine, and from the machine's end to an exit status.
 *
 * Order. Name and socket first (a name in use costs nothing), then the janitor (it must be forked before there are
 * threads), then the machine, which closes the sandbox: whatever needs a path is done before that. Everything here is
 * on the main thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "base/loop.h"
#include "cli/command.h"
#include "cli/control.h"
#include "cli/janitor.h"
#include "cli/qmp.h"
#include "cli/terminal.h"
#include "vmm/config_option.h"
#include "vmm/machine.h"

struct session {
	struct loop *loop;
	struct machine *machine;
	struct qmp_server *qmp;
	struct control control;
	struct janitor janitor;
	struct terminal_escape escape;
	struct loop_watch *input;
	enum { INPUT_NONE, INPUT_STREAM, INPUT_TERMINAL } input_kind;
	int signal_fd;
	uint32_t resets; /* that the guest asked for */
	uint32_t reset_limit;
	bool ended;
	enum cli_exit status;
};

/* The first reason to end counts. */
static void end_session(struct session *session, enum cli_exit status)
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
	qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(false, reason));
	end_session(session, CLI_QUIT);
}

static void on_reset(struct session *session, bool guest)
{
	qmp_server_event(session->qmp, "RESET", qmp_reset_data(guest));
	if (!guest || session->reset_limit == CONFIG_RESETS_UNLIMITED ||
	    session->resets++ < session->reset_limit)
		return;
	log_info("run: the guest asked for more than %u resets", session->reset_limit);
	qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(true, "guest-reset"));
	end_session(session, CLI_RESETS);
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
			end_session(session, CLI_FAILED);
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
		end_session(session, guest ? CLI_OK : CLI_FAILED);
		break;
	case MACHINE_EVENT_PANIC:
		qmp_server_event(session->qmp, "GUEST_PANICKED", qmp_panic_data());
		qmp_server_event(session->qmp, "SHUTDOWN", qmp_shutdown_data(true, "guest-panic"));
		end_session(session, CLI_PANIC);
		break;
	}
}

static void on_signal(void *opaque, int fd, uint32_t events)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info)) {
		log_info("run: ended by signal %u", info.ssi_signo);
		quit(opaque, "host-signal");
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
			log_warn("run: the power button did nothing");
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
	struct loop_watch *watch;
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
		sigaddset(&set, ending[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (session->signal_fd < 0)
		return fail(-errno, "run: signalfd: %s", strerror(errno));
	return loop_add_fd(session->loop, session->signal_fd, EPOLLIN, on_signal, session, &watch);
}

/*
 * What there is to read from, found out before the sandbox closes. Files and /dev/null are always ready and cannot be
 * waited for; the terminal of a shell's background job is not ours.
 */
static void look_at_stdin(struct session *session)
{
	pid_t group = tcgetpgrp(STDIN_FILENO);

	if (group >= 0 && group != getpgrp())
		log_warn("run: in the background: the serial console takes no input");
	else if (isatty(STDIN_FILENO))
		session->input_kind = INPUT_TERMINAL;
	else if (lseek(STDIN_FILENO, 0, SEEK_CUR) < 0 && errno == ESPIPE)
		session->input_kind = INPUT_STREAM;
}

static int attach_stdin(struct session *session)
{
	int error;

	if (session->input_kind == INPUT_NONE)
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

static int start_session(struct session *session, const struct config *config)
{
	struct machine_events events = {.opaque = session, .event = on_event};
	struct qmp_owner owner = {.opaque = session, .quit = quit};
	int error;

	if (config->serial == SERIAL_STDIO)
		look_at_stdin(session);
	error = control_open(&session->control, config->name, config->control_path);
	if (error)
		return error;
	error = janitor_start(&session->janitor, &session->control,
			      session->input_kind == INPUT_TERMINAL ? STDIN_FILENO : -1);
	if (!error)
		error = loop_new(&session->loop);
	if (!error)
		error = watch_signals(session);
	if (!error)
		error = machine_new(&session->machine, config, session->loop, &events);
	if (!error)
		error = qmp_server_new(&session->qmp, session->loop, session->machine,
				       session->control.listen_fd, &owner);
	if (!error)
		error = attach_stdin(session);
	if (!error && *machine_pty_path(session->machine))
		log_info("run: serial console at %s (tern console %s)",
			 machine_pty_path(session->machine), config->name);
	return error;
}

static int run_session(const struct config *config)
{
	struct session session = {
		.signal_fd = -1,
		.reset_limit = config->reset_limit,
		.control = {.lock_fd = -1, .listen_fd = -1},
		.janitor = {.fd = -1},
	};
	int error = start_session(&session, config);

	if (error)
		session.status = CLI_INPUT;
	else if (machine_start(session.machine))
		session.status = CLI_FAILED;
	else
		loop_run(session.loop);
	qmp_server_free(session.qmp);
	machine_free(session.machine);
	loop_free(session.loop);
	close_fd(&session.signal_fd);
	if (session.janitor.fd >= 0)
		janitor_finish(&session.janitor);
	else
		control_close(&session.control);
	return session.status;
}

/* One word "--key" or "--key=value" and, when the option wants one and has none, the word after it. */
static int take_option(struct config *config, int argc, char **argv, int *at)
{
	char key[32];
	const char *word = argv[*at] + 2, *equals = strchr(word, '='),
		   *value = equals ? equals + 1 : NULL;
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct config_option *option;

	if (len >= sizeof(key))
		return fail(-EINVAL, "run: %.80s: no such option (tern help run lists them)",
			    argv[*at]);
	memcpy(key, word, len);
	key[len] = '\0';
	if (!strcmp(key, "verbose") || !strcmp(key, "quiet")) {
		log_level = *key == 'v' ? LOG_DEBUG : LOG_ERROR;
		return 0;
	}
	option = config_option_find(key);
	if (!option && strcmp(key, "config") != 0)
		return fail(-EINVAL, "run: %.80s: no such option (tern help run lists them)",
			    argv[*at]);
	if (!value && (!option || option->kind != OPTION_FLAG)) {
		if (*at + 1 >= argc)
			return fail(-EINVAL, "run: --%s needs a value: %s", key,
				    option ? option->syntax : "FILE");
		value = argv[++*at];
	}
	/* The files were taken before everything else. */
	return option ? config_set(config, key, value) : 0;
}

/* --config FILE, wherever it stands: the rest of the command line is taken after it. */
static int take_files(struct config *config, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *path = NULL;
		const struct config_option *option = NULL;
		int error;

		if (!strncmp(argv[i], "--config=", 9))
			path = argv[i] + 9;
		else if (!strcmp(argv[i], "--config") && i + 1 < argc)
			path = argv[++i];
		else if (!strncmp(argv[i], "--", 2))
			option = config_option_find(argv[i] + 2);
		if (option && option->kind != OPTION_FLAG)
			i++; /* its value, which may look like an option */
		if (!path)
			continue;
		error = config_load_file(config, path);
		if (error)
			return error;
	}
	return 0;
}

static int take_command_line(struct config *config, int argc, char **argv)
{
	int error = take_files(config, argc, argv);

	for (int i = 1; i < argc && !error; i++) {
		if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
			return fail(-EINVAL, "run: \"%.80s\" is not an option (they begin with --)",
				    argv[i]);
		error = take_option(config, argc, argv, &i);
	}
	if (!error && !config->name && asprintf(&config->name, "vm%d", getpid()) < 0)
		error = -ENOMEM;
	return error ? error : config_check(config);
}

int command_run(int argc, char **argv)
{
	struct config config;
	int status = CLI_INPUT;

	/* JSON's hash seed comes from a file: read while files can still be opened. */
	json_object_seed(0);
	config_init(&config);
	if (!take_command_line(&config, argc, argv))
		status = run_session(&config);
	config_fini(&config);
	return status;
}
