// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The configuration file: a JSON object whose keys are the options of the command line. A value is what the command
 * line takes, as a string; or a number; or true and false for on and off; or an object of an option's parts; and for
 * options that may be repeated a list of those. What options mean is config_options.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vmm/config_option.h"

#define FILE_MAX_BYTES (1 << 20)

/* The text of a scalar as config_set() takes it; NULL when it is none. number: room for one that has to be written. */
static const char *scalar_text(const json_t *value, char number[32])
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "on" : "off";
	if (json_is_integer(value)) {
		snprintf(number, 32, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return number;
	}
	return NULL;
}

static int set_object(struct config *config, const struct config_option *option, json_t *object,
		      struct config_why *why)
{
	const char *part;
	json_t *value;
	int error = 0;

	if (option->begin)
		error = option->begin(config, why);
	json_object_foreach(object, part, value)
	{
		char number[32];
		const char *text = scalar_text(value, number);

		if (error)
			break;
		if (!text)
			return config_refuse(why, "%.40s: neither text, number, true nor false",
					     part);
		/* {"passt": true} and {"pty": true} are the words passt and pty. */
		if (json_is_true(value))
			text = NULL;
		error = option->set(config, part, text, why);
	}
	if (!error && option->end)
		error = option->end(config, why);
	return error;
}

static int set_value(struct config *config, const char *path, const struct config_option *option,
		     json_t *value)
{
	bool parts = option->kind == OPTION_PARTS || option->kind == OPTION_LIST;
	struct config_why why = {};
	char number[32];
	const char *text = scalar_text(value, number);

	if (text) {
		if (config_apply(config, option, text, &why))
			return fail(-EINVAL, "config: %s: %s %.120s: %s", path, option->key, text,
				    why.text);
		return 0;
	}
	if (!json_is_object(value) || !parts)
		return fail(-EINVAL, "config: %s: %s: the value is to be %s%s", path, option->key,
			    option->syntax, parts ? ", as text or as an object of its parts" : "");
	if (set_object(config, option, value, &why))
		return fail(-EINVAL, "config: %s: %s: %s", path, option->key, why.text);
	return 0;
}

static int set_all(struct config *config, const char *path, json_t *root)
{
	const char *key;
	json_t *value;

	json_object_foreach(root, key, value)
	{
		const struct config_option *option = config_option_find(key);
		int error = 0;

		if (!option)
			return fail(-EINVAL, "config: %s: %.80s: no such option", path, key);
		if (option->kind == OPTION_LIST && json_is_array(value)) {
			size_t index;
			json_t *element;

			json_array_foreach(value, index, element)
			{
				error = set_value(config, path, option, element);
				if (error)
					return error;
			}
			continue;
		}
		error = set_value(config, path, option, value);
		if (error)
			return error;
	}
	return 0;
}

/* A config file is a regular file or a pipe of a bounded size: /dev/zero must not eat the memory. */
static int read_file(const char *path, char **out, size_t *len)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	size_t have = 0;

	if (fd < 0)
		return fail(-EINVAL, "config: %s: %s", path, strerror(errno));
	text = malloc(FILE_MAX_BYTES);
	if (!text)
		return fail(-ENOMEM, "config: %s: no memory", path);
	for (;;) {
		ssize_t n = read(fd, text + have, FILE_MAX_BYTES - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(-EINVAL, "config: %s: %s", path, strerror(errno));
		if (n == 0)
			break;
		have += (size_t)n;
		if (have == FILE_MAX_BYTES)
			return fail(-EINVAL, "config: %s: larger than %d bytes", path,
				    FILE_MAX_BYTES - 1);
	}
	*len = have;
	*out = text;
	text = NULL;
	return 0;
}

int config_load_file(struct config *config, const char *path)
{
	AUTO_FREE char *text = NULL;
	json_error_t why;
	size_t len = 0;
	json_t *root;
	int error;

	error = read_file(path, &text, &len);
	if (error)
		return error;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return fail(-EINVAL, "config: %s: line %d: %s", path, why.line, why.text);
	if (json_is_object(root))
		error = set_all(config, path, root);
	else
		error = fail(-EINVAL, "config: %s: not a JSON object", path);
	json_decref(root);
	return error;
}
