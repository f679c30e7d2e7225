/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How `tern migrate` shows a migration: one line that is written over on a terminal, plain lines elsewhere, or JSON, one
 * event a line. What is shown is what query-migrate returned, which is a VM's word: members may lack.
 */
#ifndef CLI_MIGRATE_SHOW_H
#define CLI_MIGRATE_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/auto.h"

struct migrate_show {
	const char *vm, *uri;
	FILE *to;
	enum { SHOW_LINES, SHOW_TERMINAL, SHOW_JSON } how;
	char phase[24]; /* of the last line */
	long long round;
	int64_t shown_ms;
	bool open_line; /* on a terminal: something stands that has no line end */
	char warned[256];
};

/* to: standard output; a terminal or not. */
void migrate_show_init(struct migrate_show *show, const char *vm, const char *uri, bool json);
/* Progress; often, it chooses what is worth a line. now_ms: any clock that does not jump. */
void migrate_show(struct migrate_show *show, const json_t *info, int64_t now_ms);
/* A line for people; nothing with JSON. */
void migrate_show_note(struct migrate_show *show, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The last line: what came of it. outcome: "completed", ...; words: the line, without the VM's name. */
void migrate_show_end(struct migrate_show *show, const char *outcome, const json_t *info,
		      const char *words);
/* "1.23 s", "512.0 MiB", for those lines. */
void migrate_text_time(char *text, size_t size, long long us);
void migrate_text_bytes(char *text, size_t size, double bytes);
/*
 * The summary of one that is done: time, bytes, rounds, how the downtime was spent, and what the guest felt.
 * MIGRATE_DONE_BYTES hold it.
 */
#define MIGRATE_DONE_BYTES 800
void migrate_text_done(char *text, size_t size, const json_t *tern);

/*
 * The value of the option --key of a command: a whole number and its unit, "30ms", "60s", in microseconds. -EINVAL,
 * logged. (migrate.c)
 */
int migrate_parse_duration(const char *command, const char *key, const char *text,
			   uint64_t *us) must_check;

#endif
