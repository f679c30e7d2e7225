// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM's configuration as a value: defaults, copies, one option at a time, and the checks that need no host. What the
 * options are and mean is config_options.c; the file is config_json.c.
 */
#include "vmm/config.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vmm/config_option.h"

#define MEMORY_DEFAULT_BYTES (512ULL << 20)
#define MEMORY_MIN_BYTES     (2ULL << 20)

void config_init(struct config *config)
{
	memset(config, 0, sizeof(*config));
	config->cpus = 1;
	config->memory_bytes = MEMORY_DEFAULT_BYTES;
	config->serial = SERIAL_STDIO;
	config->sandbox = SANDBOX_ON;
	config->dirty.mode = DIRTY_AUTO;
	/* Without memory for these few bytes nothing that follows works either, and says so. */
	config->cmdline = strdup("");
	config->cpu = strdup("host");
	config->reset_limit = CONFIG_RESETS_UNLIMITED;
}

void config_fini(struct config *config)
{
	free(config->name);
	free(config->kernel);
	free(config->initrd);
	free(config->cmdline);
	free(config->serial_path);
	free(config->control_path);
	free(config->cpu);
	for (unsigned int i = 0; i < config->ndisks; i++)
		free(config->disk[i].path);
	for (unsigned int i = 0; i < config->nnets; i++)
		free(config->net[i].tap);
	memset(config, 0, sizeof(*config));
}

static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

int config_copy(struct config *to, const struct config *from)
{
	bool ok = true;

	*to = *from;
	ok &= copy_text(&to->name, from->name);
	ok &= copy_text(&to->kernel, from->kernel);
	ok &= copy_text(&to->initrd, from->initrd);
	ok &= copy_text(&to->cmdline, from->cmdline);
	ok &= copy_text(&to->serial_path, from->serial_path);
	ok &= copy_text(&to->control_path, from->control_path);
	ok &= copy_text(&to->cpu, from->cpu);
	for (unsigned int i = 0; i < from->ndisks; i++)
		ok &= copy_text(&to->disk[i].path, from->disk[i].path);
	for (unsigned int i = 0; i < from->nnets; i++)
		ok &= copy_text(&to->net[i].tap, from->net[i].tap);
	if (ok)
		return 0;
	config_fini(to);
	return fail(-ENOMEM, "config: no memory for a copy of the configuration");
}

bool config_name_ok(const char *text)
{
	size_t len = strnlen(text, CONFIG_NAME_MAX + 1);

	if (len == 0 || len > CONFIG_NAME_MAX || text[0] == '.' || text[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (!(isascii(c) && isalnum(c)) && c != '_' && c != '.' && c != '-')
			return false;
	}
	return true;
}

bool config_parse_size(const char *text, uint64_t *bytes)
{
	uint64_t value = 0;
	unsigned int shift = 0;

	if (!isdigit((unsigned char)*text))
		return false;
	for (; isdigit((unsigned char)*text); text++)
		if (__builtin_mul_overflow(value, 10U, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	if (*text) {
		static const char units[] = "KMGT";
		const char *unit = strchr(units, toupper((unsigned char)*text));

		if (!unit || text[1])
			return false;
		shift = 10 * (unsigned int)(unit - units + 1);
	}
	if (shift && value >> (64 - shift))
		return false;
	*bytes = value << shift;
	return true;
}

int config_refuse(struct config_why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return -EINVAL;
}

int config_parse_bool(const char *value, bool *out, struct config_why *why)
{
	if (!value || !strcmp(value, "on") || !strcmp(value, "true"))
		*out = true;
	else if (!strcmp(value, "off") || !strcmp(value, "false"))
		*out = false;
	else
		return config_refuse(why, "\"%.40s\" is neither on nor off", value);
	return 0;
}

int config_parse_number(const char *value, uint64_t min, uint64_t max, uint64_t *out,
			struct config_why *why)
{
	uint64_t number;

	/* A number is a size without a unit. */
	if (!value || !*value || !isdigit((unsigned char)value[strlen(value) - 1]) ||
	    !config_parse_size(value, &number))
		return config_refuse(why, "\"%.40s\" is not a number", value ? value : "");
	if (number < min || number > max)
		return config_refuse(why, "%llu is not in %llu..%llu", (unsigned long long)number,
				     (unsigned long long)min, (unsigned long long)max);
	*out = number;
	return 0;
}

int config_parse_text(const char *value, char **out, struct config_why *why)
{
	char *copy;

	if (!value || !*value)
		return config_refuse(why, "a value is missing");
	copy = strdup(value);
	if (!copy)
		return config_refuse(why, "no memory");
	free(*out);
	*out = copy;
	return 0;
}

char *config_next_part(char **cursor)
{
	char *part = *cursor, *to = part, *from = part;

	if (!part)
		return NULL;
	for (; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',')
				break;
			from++;
		}
		*to++ = *from;
	}
	*cursor = *from ? from + 1 : NULL;
	*to = '\0';
	return part;
}

static int set_parts(struct config *config, const struct config_option *option, const char *value,
		     struct config_why *why)
{
	char *copy = strdup(value), *cursor = copy, *part;
	int error = 0;

	if (!copy)
		return config_refuse(why, "no memory");
	if (option->begin)
		error = option->begin(config, why);
	for (bool first = true; !error && (part = config_next_part(&cursor)); first = false) {
		char *equals = strchr(part, '=');

		if (equals)
			*equals = '\0';
		if (!equals && first && option->first)
			error = option->set(config, option->first, part, why);
		else
			error = option->set(config, part, equals ? equals + 1 : NULL, why);
	}
	if (!error && option->end)
		error = option->end(config, why);
	free(copy);
	return error;
}

int config_apply(struct config *config, const struct config_option *option, const char *value,
		 struct config_why *why)
{
	if (!value && option->kind != OPTION_FLAG)
		return config_refuse(why, "needs a value: %s", option->syntax);
	if (option->kind == OPTION_PARTS || option->kind == OPTION_LIST)
		return set_parts(config, option, value, why);
	return option->set(config, NULL, value, why);
}

int config_set(struct config *config, const char *key, const char *value)
{
	const struct config_option *option = config_option_find(key);
	struct config_why why = {};

	if (!option)
		return fail(-EINVAL, "config: %.80s: no such option", key);
	if (config_apply(config, option, value, &why))
		return fail(-EINVAL, "config: %s%s%.120s: %s", key, value ? " " : "",
			    value ? value : "", why.text);
	return 0;
}

static int check_memory(const struct config *config)
{
	uint64_t unit = config->backing == RAM_HUGETLB_1G   ? 1ULL << 30
			: config->backing == RAM_HUGETLB_2M ? 2ULL << 20
							    : RAM_PAGE_BYTES;

	if (config->memory_bytes < MEMORY_MIN_BYTES)
		return fail(-EINVAL, "config: memory: %llu bytes are less than the least of 2M",
			    (unsigned long long)config->memory_bytes);
	if (config->memory_bytes > (uint64_t)LLONG_MAX)
		return fail(-EINVAL, "config: memory: %llu bytes are more than a file can hold",
			    (unsigned long long)config->memory_bytes);
	if (config->memory_bytes % unit)
		return fail(
			-EINVAL,
			"config: memory: %llu bytes are not a multiple of the page size of %llu",
			(unsigned long long)config->memory_bytes, (unsigned long long)unit);
	return 0;
}

/* The same path twice, unless both only read: the image lock would say "in use" and not by whom. */
static int check_disks(const struct config *config)
{
	for (unsigned int i = 0; i < config->ndisks; i++)
		for (unsigned int j = 0; j < i; j++)
			if (!strcmp(config->disk[i].path, config->disk[j].path) &&
			    !(config->disk[i].readonly && config->disk[j].readonly))
				return fail(-EINVAL,
					    "config: disk: %s is given twice and not read-only "
					    "both times",
					    config->disk[i].path);
	return 0;
}

static int check_nets(const struct config *config)
{
	static const uint8_t derived[6];

	for (unsigned int i = 0; i < config->nnets; i++) {
		const struct config_net *net = &config->net[i];

		if (net->kind == NET_PASST && net->npairs > 1)
			return fail(-EINVAL, "config: net: passt has one queue pair, not %u",
				    net->npairs);
		for (unsigned int j = 0; j < i; j++)
			if (memcmp(net->mac, derived, 6) != 0 &&
			    !memcmp(net->mac, config->net[j].mac, 6))
				return fail(-EINVAL,
					    "config: net: two interfaces have the same mac");
	}
	return 0;
}

int config_check(const struct config *config)
{
	int error;

	if (config->name && !config_name_ok(config->name))
		return fail(-EINVAL, "config: name: \"%.80s\" is not of [A-Za-z0-9_.-]{1,%d}",
			    config->name, CONFIG_NAME_MAX);
	if (config->cpus < 1 || config->cpus > CONFIG_CPUS_MAX)
		return fail(-EINVAL, "config: cpus: %u is not in 1..%d", config->cpus,
			    CONFIG_CPUS_MAX);
	if (!config->kernel)
		return fail(-EINVAL, "config: kernel: none given (--kernel FILE)");
	if (config->serial == SERIAL_FILE && !config->serial_path)
		return fail(-EINVAL, "config: serial: file without a path");
	error = check_memory(config);
	if (!error)
		error = check_disks(config);
	if (!error)
		error = check_nets(config);
	return error;
}
