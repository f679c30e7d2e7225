// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern run: from the command line to a running machine. What happens to it from then on is session.c's.
 *
 * Order. Name and socket first (a name in use costs nothing), then janitor and broker (they must be forked before there
 * are threads), then the machine, which closes the sandbox: whatever needs a path is done before that.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/session.h"
#include "vmm/config_option.h"

static int start_session(struct session *session, const struct config *config)
{
	const struct machine_events events = session_events(session);
	int error = session_take_name(session, config);

	if (!error)
		error = session_open(session, config->sandbox);
	if (!error)
		error = machine_new(&session->machine, config, session->loop, &events);
	if (!error)
		error = session_serve(session);
	return error ? error : session_attach(session);
}

static enum cli_exit run_session(const struct config *config)
{
	struct session session;

	session_init(&session, "run");
	if (start_session(&session, config))
		session.status = CLI_INPUT;
	else if (machine_start(session.machine))
		session.status = CLI_FAILED;
	else
		loop_run(session.loop);
	return session_close(&session);
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
