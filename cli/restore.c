// SPDX-License-Identifier: GPL-2.0-or-later
/* tern restore: a VM from its file, and then the process that it runs in, as one of tern run is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/session.h"
#include "migration/restoring.h"
#include "vmm/config_map.h"

struct restore {
	struct session session;
	struct config_map map;
	const char *path;
	bool disks_as_they_are, paused;
};

static int build(struct restore *restore, struct restoring *restoring, struct config *config)
{
	struct session *session = &restore->session;
	const struct machine_events events = session_events(session);
	int error = config_map_apply(&restore->map, config);

	if (!error)
		error = session_open(session, restore->map.sandbox);
	if (!error)
		error = session_take_name(session, config);
	if (!error)
		error = machine_new_incoming(&session->machine, config, session->loop, &events);
	if (!error)
		error = restoring_fill(restoring, session->machine, restore->disks_as_they_are);
	if (!error)
		error = session_serve(session);
	return error ? error : session_attach(session);
}

static enum cli_exit restore_session(struct restore *restore)
{
	struct session *session = &restore->session;
	struct restoring *restoring;
	struct config config;
	int error;

	if (restoring_open(&restoring, restore->path, &config))
		return CLI_INPUT;
	session_init(session, "restore");
	error = build(restore, restoring, &config);
	/* Nothing of the file is needed any more; a large VM's hashes are large. */
	restoring_free(restoring);
	config_fini(&config);
	if (error)
		session->status = CLI_INPUT;
	else if (restore->paused ? machine_adopt(session->machine)
				 : machine_start(session->machine))
		session->status = CLI_FAILED;
	else
		loop_run(session->loop);
	return session_close(session);
}

/* ---- The command line ---- */

static int set_text(char **to, const char *value)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : fail(-ENOMEM, "restore: no memory");
}

/* Options of tern run that mean the same here. */
static int set_run_option(struct restore *restore, const char *key, const char *value)
{
	struct config config;
	int error;

	config_init(&config);
	error = config_set(&config, key, value);
	if (!error && !strcmp(key, "sandbox"))
		restore->map.sandbox = config.sandbox;
	if (!error && !strcmp(key, "dirty-tracking"))
		restore->map.dirty = config.dirty;
	config_fini(&config);
	return error;
}

static int set_option(struct restore *restore, const char *key, const char *value)
{
	char entry[4200];

	if (!strcmp(key, "map"))
		return config_map_add(&restore->map, value);
	if (!strcmp(key, "serial")) {
		if ((size_t)snprintf(entry, sizeof(entry), "serial=%s", value) >= sizeof(entry))
			return fail(-EINVAL, "restore: --serial: too long");
		return config_map_add(&restore->map, entry);
	}
	if (!strcmp(key, "name")) {
		if (!config_name_ok(value))
			return fail(-EINVAL, "restore: --name %.80s: not a name", value);
		return set_text(&restore->map.name, value);
	}
	if (!strcmp(key, "control"))
		return set_text(&restore->map.control_path, value);
	if (!strcmp(key, "sandbox") || !strcmp(key, "dirty-tracking"))
		return set_run_option(restore, key, value);
	return fail(-EINVAL, "restore: --%.40s: no such option (tern help restore lists them)",
		    key);
}

static bool set_flag(struct restore *restore, const char *key)
{
	if (!strcmp(key, "disks-as-they-are"))
		restore->disks_as_they_are = true;
	else if (!strcmp(key, "paused"))
		restore->paused = true;
	else if (!strcmp(key, "verbose") || !strcmp(key, "quiet"))
		log_level = *key == 'v' ? LOG_DEBUG : LOG_ERROR;
	else
		return false;
	return true;
}

static int take_words(struct restore *restore, int argc, char **argv)
{
	int error = 0;

	for (int i = 1; i < argc && !error; i++) {
		char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
		const char *key = argv[i] + 2;

		if (strncmp(argv[i], "--", 2) != 0) {
			if (argv[i][0] == '-' || restore->path)
				return -EDOM;
			restore->path = argv[i];
			continue;
		}
		if (!value && set_flag(restore, key))
			continue;
		if (equals)
			*equals = '\0';
		else if (i + 1 < argc)
			value = argv[++i];
		if (!value)
			return fail(-EINVAL, "restore: --%.40s needs a value, or is no option",
				    key);
		error = set_option(restore, key, value);
	}
	if (error)
		return error;
	return restore->path ? 0 : -EDOM;
}

int command_restore(int argc, char **argv)
{
	struct restore restore = {};
	int status = CLI_INPUT, error;

	/* JSON's hash seed comes from a file: read while files can still be opened. */
	json_object_seed(0);
	config_map_init(&restore.map);
	error = take_words(&restore, argc, argv);
	if (error == -EDOM)
		status = command_usage("restore");
	else if (!error)
		status = restore_session(&restore);
	config_map_fini(&restore.map);
	return status;
}
