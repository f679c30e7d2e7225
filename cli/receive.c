// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern receive: waits for a VM to come, and is then the process that it runs in, as one of tern run is.
 *
 * The machine is built from what the source says and what the user maps, before any of its memory comes. Until a state is
 * loaded the attempt may fail as often as it likes: the machine is freed, the name let go, and the next source is
 * waited for. Loading closes the sandbox for good; a VM that is dropped after that ends the process.
 *
 * With --listen defer the order is another one: the control socket first, with no machine behind it, and no mover until a
 * client says migrate-incoming. The name is this process's own then, and stays while machines come and go.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/migrate_show.h"
#include "cli/session.h"
#include "migration/address.h"
#include "vmm/config_map.h"

/* For the mover to tell the source why, before it ends with this process. */
#define LAST_WORDS_US 300000

/* As x-tern-silence. */
#define SILENCE_MIN_US 100000
#define SILENCE_MAX_US 3600000000

struct receive {
	struct session session;
	struct config_map map;
	struct migration_params params;
	const char *listen;
	const char *tls; /* directory, NULL: plain */
	bool defer;	 /* migrate-incoming says where */
	bool once, insecure;
	bool taken, dropping, spent; /* spent: sandbox closed, no other VM can be built */
	struct loop_timer *end;
	enum cli_exit end_status;
};

/* ---- What the migration asks for ---- */

static void on_listening(void *opaque, const char *address)
{
	log_info("receive: listening at %s", address);
}

static void on_phase(void *opaque, enum migration_phase phase)
{
	struct receive *receive = opaque;

	qmp_migration_event(receive->session.qmp, &receive->session.migration);
}

static void drop_now(void *opaque)
{
	struct receive *receive = opaque;

	if (receive->dropping)
		session_drop(&receive->session);
	receive->dropping = false;
}

static void on_end(void *opaque)
{
	struct receive *receive = opaque;

	session_end(&receive->session, receive->end_status);
}

/* An attempt came to nothing: with --once that was all, else the next may come. */
static void end_attempt(struct receive *receive, enum cli_exit status)
{
	if (!receive->once && !receive->spent)
		return;
	receive->end_status = status;
	loop_timer_arm(receive->end, LAST_WORDS_US);
}

static int build_machine(struct receive *receive, struct config *config)
{
	struct session *session = &receive->session;
	const struct machine_events events = session_events(session);
	int error = config_map_apply(&receive->map, config);

	if (!error && !receive->defer)
		error = session_take_name(session, config);
	if (!error)
		error = machine_new_incoming(&session->machine, config, session->loop, &events);
	return error ? error : session_serve(session);
}

static int on_build(void *opaque, struct config *config, struct machine **machine)
{
	struct receive *receive = opaque;
	int error;

	drop_now(receive);
	if (receive->spent)
		return fail(-EBUSY, "receive: a VM was lost here after it was loaded: this "
				    "process ends");
	error = build_machine(receive, config);
	if (error) {
		session_drop(&receive->session);
		end_attempt(receive, CLI_INPUT);
		return error;
	}
	log_info("receive: %s comes", machine_config(receive->session.machine)->name);
	*machine = receive->session.machine;
	return 0;
}

/* May come from within a command of a control client, whose server goes too: later. */
static void on_drop(void *opaque, const char *text)
{
	struct receive *receive = opaque;
	struct session *session = &receive->session;

	if (*text)
		log_warn("receive: %s did not come: %s", machine_config(session->machine)->name,
			 text);
	else
		log_info("receive: %s could come (a dry run)",
			 machine_config(session->machine)->name);
	receive->spent |= machine_is_sealed(session->machine);
	receive->dropping = true;
	if (loop_post(session->loop, drop_now, receive))
		session_end(session, CLI_FAILED);
	end_attempt(receive, *text ? CLI_FAILED : CLI_OK);
}

static void on_taken(void *opaque)
{
	struct receive *receive = opaque;
	struct session *session = &receive->session;

	log_info("receive: %s runs here", machine_config(session->machine)->name);
	receive->taken = true;
	/* As QEMU's target says it. */
	if (machine_get_status(session->machine) == MACHINE_RUNNING)
		qmp_server_event(session->qmp, "RESUME", NULL);
	qmp_migration_event(session->qmp, &session->migration);
	if (session_attach(session))
		log_warn("receive: %s runs without its console",
			 machine_config(session->machine)->name);
}

/* A VM that runs here needs no mover any more. */
static void on_over(void *opaque, const char *text)
{
	struct receive *receive = opaque;

	if (receive->taken)
		return;
	log_error("receive: %s", text);
	session_end(&receive->session, CLI_FAILED);
}

static void on_doubt(void *opaque, const char *text)
{
	struct receive *receive = opaque;
	struct session *session = &receive->session;
	const char *name = machine_config(session->machine)->name;

	log_warn("receive: %s: %s; it waits, paused, for: tern resolve %s --own or --drop", name,
		 text, name);
	qmp_migration_event(session->qmp, &session->migration);
}

/* ---- The process ---- */

static struct incoming_owner incoming_owner(struct receive *receive)
{
	return (struct incoming_owner){
		.opaque = receive,
		.listening = on_listening,
		.phase = on_phase,
		.build = on_build,
		.drop = on_drop,
		.taken = on_taken,
		.over = on_over,
		.doubt = on_doubt,
	};
}

/* migrate-incoming. What does not come to listen leaves no trace, and may be said again. */
static int on_listen(void *opaque, const char *uri, const char *tls)
{
	struct receive *receive = opaque;
	struct session *session = &receive->session;
	const struct incoming_owner owner = incoming_owner(receive);

	return incoming_listen(&session->migration.incoming, uri, tls, &session->migration.params,
			       session->loop, &session->broker, &owner);
}

/* Whose console the terminal will be is not known yet; a map that has another one is. */
static enum config_serial own_serial(const struct receive *receive)
{
	for (unsigned int i = 0; i < receive->map.n; i++)
		if (!strncmp(receive->map.entry[i], "serial=", 7) &&
		    strcmp(receive->map.entry[i], "serial=stdio") != 0)
			return SERIAL_OFF;
	return SERIAL_STDIO;
}

static int wait_to_be_told(struct receive *receive)
{
	struct session *session = &receive->session;
	const struct config_map *map = &receive->map;
	/* As much of a configuration as a name needs. */
	const struct config config = {.name = map->name ? map->name : map->control_path,
				      .control_path = map->control_path,
				      .serial = own_serial(receive)};
	int error = session_take_name(session, &config);

	if (error)
		return error;
	session->migration.params = receive->params;
	session->migration.insecure = receive->insecure;
	session->migration.listen = on_listen;
	session->migration.listen_opaque = receive;
	session->migration.listen_tls = receive->tls;
	error = session_wait(session, map->name);
	if (!error)
		log_info("receive: waiting for migrate-incoming at %s", session->control.path);
	return error;
}

static int start(struct receive *receive)
{
	struct session *session = &receive->session;
	const struct incoming_owner owner = incoming_owner(receive);
	int error = session_open(session, receive->map.sandbox);

	if (!error)
		error = loop_timer_new(session->loop, on_end, receive, &receive->end);
	if (!error && receive->defer)
		return wait_to_be_told(receive);
	return error ? error
		     : incoming_new(&session->migration.incoming, receive->listen,
				    receive->tls ? receive->tls : "", &receive->params,
				    session->loop, &session->broker, &owner);
}

static enum cli_exit receive_session(struct receive *receive)
{
	enum cli_exit status;

	session_init(&receive->session, "receive");
	if (start(receive))
		receive->session.status = CLI_INPUT;
	else
		loop_run(receive->session.loop);
	loop_timer_free(receive->end);
	status = session_close(&receive->session);
	return status;
}

/* ---- The command line ---- */

static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : fail(-ENOMEM, "receive: no memory");
}

/* Options of tern run that mean the same here. */
static int set_run_option(struct receive *receive, const char *key, const char *value)
{
	struct config config;
	int error;

	config_init(&config);
	error = config_set(&config, key, value);
	if (!error && !strcmp(key, "sandbox"))
		receive->map.sandbox = config.sandbox;
	if (!error && !strcmp(key, "dirty-tracking"))
		receive->map.dirty = config.dirty;
	config_fini(&config);
	return error;
}

static int set_silence(struct receive *receive, const char *value)
{
	uint64_t us;
	int error = migrate_parse_duration("receive", "silence", value, &us);

	if (!error && (us < SILENCE_MIN_US || us > SILENCE_MAX_US))
		error = fail(-EINVAL, "receive: --silence %.40s: 100ms to 1h", value);
	if (!error)
		receive->params.silence_us = (uint32_t)us;
	return error;
}

static int set_option(struct receive *receive, const char *key, const char *value)
{
	char entry[4200];

	if (!strcmp(key, "listen")) {
		receive->listen = value;
		receive->defer = !strcmp(value, "defer");
		return 0;
	}
	if (!strcmp(key, "map"))
		return config_map_add(&receive->map, value);
	if (!strcmp(key, "serial")) {
		if ((size_t)snprintf(entry, sizeof(entry), "serial=%s", value) >= sizeof(entry))
			return fail(-EINVAL, "receive: --serial: too long");
		return config_map_add(&receive->map, entry);
	}
	if (!strcmp(key, "name")) {
		if (!config_name_ok(value))
			return fail(-EINVAL, "receive: --name %.80s: not a name", value);
		return set_text(&receive->map.name, value);
	}
	if (!strcmp(key, "control"))
		return set_text(&receive->map.control_path, value);
	if (!strcmp(key, "silence"))
		return set_silence(receive, value);
	if (!strcmp(key, "sandbox") || !strcmp(key, "dirty-tracking"))
		return set_run_option(receive, key, value);
	if (!strcmp(key, "tls")) {
		receive->tls = value;
		return 0;
	}
	return fail(-EINVAL, "receive: --%.40s: no such option (tern help receive lists them)",
		    key);
}

static bool set_flag(struct receive *receive, const char *key)
{
	if (!strcmp(key, "once"))
		receive->once = true;
	else if (!strcmp(key, "only-mapped"))
		receive->map.only = true;
	else if (!strcmp(key, "insecure"))
		receive->insecure = true;
	else if (!strcmp(key, "verbose") || !strcmp(key, "quiet"))
		log_level = *key == 'v' ? LOG_DEBUG : LOG_ERROR;
	else
		return false;
	return true;
}

static int take_words(struct receive *receive, int argc, char **argv)
{
	int error = 0;

	for (int i = 1; i < argc && !error; i++) {
		char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
		const char *key = argv[i] + 2;

		if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
			return fail(-EINVAL,
				    "receive: \"%.80s\" is not an option (they begin with --)",
				    argv[i]);
		if (!value && set_flag(receive, key))
			continue;
		if (equals)
			*equals = '\0';
		else if (i + 1 < argc)
			value = argv[++i];
		if (!value)
			return fail(-EINVAL, "receive: --%.40s needs a value, or is no option",
				    key);
		error = set_option(receive, key, value);
	}
	return error;
}

/* Guest memory is not taken from a network in the clear unless somebody has said so. */
static int check_listen(const struct receive *receive)
{
	struct address address;
	int error;

	if (!receive->listen)
		return fail(-EINVAL,
			    "receive: where? --listen tcp:ADDRESS:PORT, --listen unix:PATH or "
			    "--listen defer");
	if (receive->defer)
		return receive->map.name || receive->map.control_path
			       ? 0
			       : fail(-EINVAL, "receive: --listen defer: who is to be told? --name "
					       "NAME or --control PATH");
	error = address_parse(receive->listen, &address);
	if (!error && !receive->insecure && !receive->tls && !address_is_local(&address))
		error = fail(-EPERM,
			     "receive: %.160s: a VM's memory would travel unencrypted, and anybody "
			     "could send one (--tls keeps them out, --insecure allows it)",
			     receive->listen);
	return error;
}

int command_receive(int argc, char **argv)
{
	struct receive receive = {};
	int status = CLI_INPUT;

	/* JSON's hash seed comes from a file: read while files can still be opened. */
	json_object_seed(0);
	config_map_init(&receive.map);
	migration_params_init(&receive.params);
	if (!take_words(&receive, argc, argv) && !check_listen(&receive))
		status = receive_session(&receive);
	config_map_fini(&receive.map);
	return status;
}
