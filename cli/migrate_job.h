/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tern migrate and tern save share: both begin something that the VM does, show it, and say how it ended. */
#ifndef CLI_MIGRATE_JOB_H
#define CLI_MIGRATE_JOB_H

#include <jansson.h>
#include <stdbool.h>

#include "base/auto.h"
#include "migration/mover.h"

#define MIGRATE_URI_BYTES (MOVER_PATH_MAX + 1)

struct migrate_job {
	const char *vm;
	const char *execute;	     /* the QMP command */
	const char *done;	     /* "moved", "saved" */
	char uri[MIGRATE_URI_BYTES]; /* where to, as it is shown */
	json_t *arguments;
	bool json, insecure, tls, dry_run;
};

/* What one of the two commands takes. */
struct migrate_words {
	const char *command;					    /* for messages */
	bool (*set_flag)(struct migrate_job *job, const char *key); /* false: it is none */
	int (*set_option)(struct migrate_job *job, const char *key, const char *value);
};
/*
 * The words of the command line: VM, *operand (where to; NULL: not given), flags and options. -EDOM: they are no command;
 * -EINVAL, logged.
 */
int migrate_take_words(struct migrate_job *job, const struct migrate_words *words, int argc,
		       char **argv, const char **operand) must_check;

/* Begins, follows until the end; an exit status. */
int migrate_follow(struct migrate_job *job);
/* max-downtime, deadline, channels, bandwidth: into the arguments. -EINVAL, logged. */
int migrate_set_option(struct migrate_job *job, const char *key, const char *value) must_check;

#endif
