// SPDX-License-Identifier: GPL-2.0-or-later
/* tern save: has a VM save itself to a file, and shows how it goes (migrate.c). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/migrate_job.h"

/* The VM's process has a working directory of its own. */
static int take_path(struct migrate_job *job, const char *path)
{
	char cwd[PATH_MAX] = "";
	int n;

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return fail(-errno, "save: working directory: %s", strerror(errno));
	n = snprintf(job->uri, sizeof(job->uri), "%s%s%s", cwd, *cwd ? "/" : "", path);
	if ((size_t)n >= sizeof(job->uri))
		return fail(-EINVAL, "save: %.80s...: too long", path);
	return 0;
}

static bool set_flag(struct migrate_job *job, const char *key)
{
	if (!strcmp(key, "json"))
		job->json = true;
	else if (!strcmp(key, "force"))
		json_object_set_new(job->arguments, "x-tern-force", json_true());
	else if (!strcmp(key, "pause") || !strcmp(key, "quit"))
		json_object_set_new(job->arguments, "then", json_string(key));
	else
		return false;
	return true;
}

static int set_option(struct migrate_job *job, const char *key, const char *value)
{
	if (strcmp(key, "max-downtime") != 0 && strcmp(key, "deadline") != 0 &&
	    strcmp(key, "bandwidth") != 0)
		return fail(-EINVAL, "save: --%.40s: no such option (tern help save lists them)",
			    key);
	return migrate_set_option(job, key, value);
}

/* -EDOM: the words are not a command. */
static int take_words(struct migrate_job *job, int argc, char **argv)
{
	const char *path = NULL;
	int error = 0;

	for (int i = 1; i < argc && !error; i++) {
		char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
		const char *key = argv[i] + 2;

		if (strncmp(argv[i], "--", 2) != 0) {
			if (argv[i][0] == '-' || path)
				return -EDOM;
			*(job->vm ? &path : &job->vm) = argv[i];
			continue;
		}
		if (!value && set_flag(job, key))
			continue;
		if (equals)
			*equals = '\0';
		else if (i + 1 < argc)
			value = argv[++i];
		if (!value)
			return fail(-EINVAL, "save: --%.40s needs a value, or is no option", key);
		error = set_option(job, key, value);
	}
	if (!error && !path)
		return -EDOM;
	return error ? error : take_path(job, path);
}

int command_save(int argc, char **argv)
{
	struct migrate_job job = {
		.execute = "x-tern-save", .done = "saved", .arguments = json_object()};
	int error = take_words(&job, argc, argv);
	int status = CLI_INPUT;

	if (error == -EDOM) {
		status = command_usage("save");
	} else if (!error) {
		json_object_set_new(job.arguments, "path", json_string(job.uri));
		status = migrate_follow(&job);
	}
	json_decref(job.arguments);
	return status;
}
