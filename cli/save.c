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
	static const struct migrate_words words = {"save", set_flag, set_option};
	const char *path;
	int error = migrate_take_words(job, &words, argc, argv, &path);

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
