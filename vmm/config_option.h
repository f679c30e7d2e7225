/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One row of the option table: how the command line, the configuration file and the help text see an option. Private
 * to vmm/config*.c and to whoever prints help; everybody else uses config_set().
 */
#ifndef VMM_CONFIG_OPTION_H
#define VMM_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/auto.h"
#include "vmm/config.h"

enum config_option_kind {
	OPTION_TEXT, /* one value, taken as it is */
	OPTION_FLAG, /* the same; none given means "on" */
	OPTION_PARTS, /* parts "key=value" or "word", split at commas; a comma in a value is doubled */
	OPTION_LIST, /* parts, and each use adds an element */
};

/* Why a value is refused: the words after the key and the value. */
struct config_why {
	char text[160];
};
int config_refuse(struct config_why *why, const char *format, ...)
	__attribute__((format(printf, 2, 3))); /* returns -EINVAL */

struct config_option {
	const char *key;
	enum config_option_kind kind;
	const char *syntax; /* of its value, for help */
	const char *help;   /* lines split by \n, no trailing one */
	const char *
		first; /* the key of a first part that is a bare word; NULL: the word is itself a key */
	/* Before the parts of one value (OPTION_LIST: adds the element); may be NULL. */
	int (*begin)(struct config *config, struct config_why *why);
	/* part: NULL with OPTION_TEXT and _FLAG; value: NULL for a bare word. */
	int (*set)(struct config *config, const char *part, const char *value,
		   struct config_why *why);
	/* After the parts; may be NULL. */
	int (*end)(struct config *config, struct config_why *why);
};

const struct config_option *config_option_find(const char *key);

/* One value of the option, as on the command line (NULL: none given). */
int config_apply(struct config *config, const struct config_option *option, const char *value,
		 struct config_why *why) must_check;

/* Splits "a=1,b,,c=2" at single commas into NUL-terminated parts in place: the next part, NULL at the end. */
char *config_next_part(char **cursor);

/* Values. All refuse with a reason. */
int config_parse_bool(const char *value, bool *out, struct config_why *why) must_check;
int config_parse_number(const char *value, uint64_t min, uint64_t max, uint64_t *out,
			struct config_why *why) must_check;
int config_parse_text(const char *value, char **out, struct config_why *why) must_check;

#endif
