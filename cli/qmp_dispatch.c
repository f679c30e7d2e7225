// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From one message to one reply: what is checked before a command runs, how its outcome is told, and the commands of
 * the protocol itself. Knows no sockets.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/qmp_table.h"

const struct qmp_command *const qmp_tables[] = {
	qmp_base_commands,
	qmp_vm_commands,
	qmp_fd_commands,
	qmp_migrate_commands,
	qmp_migrate_params_commands,
	NULL,
};

int qmp_error(struct qmp_call *call, const char *class, const char *format, ...)
{
	va_list args;

	call->error_class = class;
	va_start(args, format);
	vsnprintf(call->error, sizeof(call->error), format, args);
	va_end(args);
	return -EINVAL;
}

const char *qmp_string(const struct qmp_call *call, const char *name, const char *otherwise)
{
	json_t *value = json_object_get(call->arguments, name);

	return value ? json_string_value(value) : otherwise;
}

bool qmp_boolean(const struct qmp_call *call, const char *name, bool otherwise)
{
	json_t *value = json_object_get(call->arguments, name);

	return value ? json_is_true(value) : otherwise;
}

int qmp_take_fd(struct qmp_call *call)
{
	struct qmp_fds *fds = &call->peer->fds;
	int fd = -1;

	if (fds->n) {
		fd = fds->fd[0];
		memmove(fds->fd, fds->fd + 1, --fds->n * sizeof(int));
	}
	return fd;
}

static const struct qmp_command *find(const char *name)
{
	for (size_t t = 0; qmp_tables[t]; t++)
		for (const struct qmp_command *command = qmp_tables[t]; command->name; command++)
			if (!strcmp(command->name, name))
				return command;
	return NULL;
}

static bool has_type(const json_t *value, enum qmp_type type)
{
	switch (type) {
	case QMP_STRING:
		return json_is_string(value);
	case QMP_INTEGER:
		return json_is_integer(value);
	case QMP_NUMBER:
		return json_is_number(value);
	case QMP_BOOLEAN:
		return json_is_boolean(value);
	case QMP_OBJECT:
		return json_is_object(value);
	case QMP_ARRAY:
		return json_is_array(value);
	case QMP_ANY:
		return true;
	}
	return false;
}

static const char *type_name(enum qmp_type type)
{
	static const char *const names[] = {
		[QMP_STRING] = "string",   [QMP_INTEGER] = "integer", [QMP_NUMBER] = "number",
		[QMP_BOOLEAN] = "boolean", [QMP_OBJECT] = "object",   [QMP_ARRAY] = "array",
		[QMP_ANY] = "any",
	};
	return names[type];
}

static int check_arguments(struct qmp_call *call, const struct qmp_argument *wanted)
{
	static const struct qmp_argument none[] = {{}};
	const char *key;
	json_t *value;

	if (!wanted)
		wanted = none;
	for (const struct qmp_argument *argument = wanted; argument->name; argument++) {
		value = json_object_get(call->arguments, argument->name);
		if (!value && !argument->optional)
			return qmp_error(call, QMP_GENERIC, "Parameter '%s' is missing",
					 argument->name);
		if (value && !has_type(value, argument->type))
			return qmp_error(call, QMP_GENERIC,
					 "Invalid parameter type for '%s', expected: %s",
					 argument->name, type_name(argument->type));
	}
	json_object_foreach(call->arguments, key, value)
	{
		const struct qmp_argument *argument = wanted;

		while (argument->name && strcmp(argument->name, key) != 0)
			argument++;
		if (!argument->name)
			return qmp_error(call, QMP_GENERIC, "Parameter '%.80s' is unexpected", key);
	}
	return 0;
}

/* The shape of a command: {"execute": name, "arguments": {...}, "id": anything}. */
static const char *check_shape(struct qmp_call *call, json_t *root)
{
	json_t *execute = json_object_get(root, "execute"), *arguments;
	const char *key;
	json_t *value;

	if (!json_is_object(root)) {
		qmp_error(call, QMP_GENERIC, "QMP input must be a JSON object");
		return NULL;
	}
	json_object_foreach(root, key, value)
	{
		if (strcmp(key, "execute") != 0 && strcmp(key, "arguments") != 0 &&
		    strcmp(key, "id") != 0) {
			qmp_error(call, QMP_GENERIC, "QMP input member '%.80s' is unexpected", key);
			return NULL;
		}
	}
	if (!json_is_string(execute)) {
		qmp_error(call, QMP_GENERIC,
			  execute ? "QMP input member 'execute' must be a string"
				  : "QMP input lacks member 'execute'");
		return NULL;
	}
	arguments = json_object_get(root, "arguments");
	if (arguments && !json_is_object(arguments)) {
		qmp_error(call, QMP_GENERIC, "QMP input member 'arguments' must be an object");
		return NULL;
	}
	return json_string_value(execute);
}

static int run(struct qmp_call *call, const char *name)
{
	const struct qmp_command *command = find(name);
	int error;

	if (!call->peer->negotiated && (!command || !command->negotiating))
		return qmp_error(call, QMP_COMMAND_NOT_FOUND,
				 "Expecting capabilities negotiation with 'qmp_capabilities'");
	if (!command)
		return qmp_error(call, QMP_COMMAND_NOT_FOUND,
				 "The command %.80s has not been found", name);
	if (call->peer->negotiated && command->negotiating)
		return qmp_error(call, QMP_COMMAND_NOT_FOUND,
				 "Capabilities negotiation is already complete, command ignored");
	if (!call->machine && !command->negotiating && !command->waiting)
		return qmp_error(call, QMP_GENERIC,
				 "Guest is waiting for an incoming migration: there is no machine "
				 "yet");
	error = check_arguments(call, command->arguments);
	if (error)
		return error;
	fail_clear();
	error = command->run(call);
	if (error && !call->error_class) {
		const char *words = fail_text();

		qmp_error(call, QMP_GENERIC, "%s", *words ? words : strerror(-error));
	}
	return error;
}

static json_t *error_reply(const struct qmp_call *call)
{
	/* A description may quote what a guest or client sent; json_pack wants UTF-8. */
	json_t *reply = json_pack("{s:{s:s, s:s}}", "error", "class", call->error_class, "desc",
				  call->error);

	if (!reply)
		reply = json_pack("{s:{s:s, s:s}}", "error", "class", call->error_class, "desc",
				  "the reason is not text");
	return reply;
}

json_t *qmp_input_error(const char *why)
{
	struct qmp_call call = {};

	qmp_error(&call, QMP_GENERIC, "JSON parse error, %s", why);
	return error_reply(&call);
}

json_t *qmp_dispatch(struct machine *machine, const struct qmp_owner *owner, struct qmp_peer *peer,
		     const char *bytes, size_t len)
{
	struct qmp_call call = {.machine = machine, .owner = owner, .peer = peer};
	json_error_t why;
	json_t *root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &why), *reply, *id,
	       *none = NULL;
	const char *name;

	if (!root)
		return qmp_input_error(why.text);
	name = check_shape(&call, root);
	if (name) {
		call.arguments = json_object_get(root, "arguments");
		if (!call.arguments)
			call.arguments = none = json_object();
		if (run(&call, name)) {
			json_decref(call.result);
			call.result = NULL;
		}
	}
	if (call.error_class)
		reply = error_reply(&call);
	else
		reply = json_pack("{s:o}", "return", call.result ? call.result : json_object());
	id = json_object_get(root, "id");
	if (reply && id)
		json_object_set(reply, "id", id);
	json_decref(none);
	json_decref(root);
	return reply;
}

/* Tern's own version stands where QEMU's would: clients only want three numbers there. */
static json_t *version(void)
{
	unsigned int major = 0, minor = 0, micro = 0;

	// NOLINTNEXTLINE(cert-err34-c): our own constant
	sscanf(TERN_VERSION, "%u.%u.%u", &major, &minor, &micro);
	return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", (int)major, "minor",
			 (int)minor, "micro", (int)micro, "package", "tern " TERN_VERSION);
}

json_t *qmp_greeting(void)
{
	return json_pack("{s:{s:o, s:[]}}", "QMP", "version", version(), "capabilities");
}

static int run_capabilities(struct qmp_call *call)
{
	json_t *enable = json_object_get(call->arguments, "enable"), *capability;
	size_t index;

	json_array_foreach(enable, index, capability)
	{
		return qmp_error(call, QMP_GENERIC, "QMP capability %.40s not available",
				 json_is_string(capability) ? json_string_value(capability) : "?");
	}
	call->peer->negotiated = true;
	return 0;
}

static int run_query_version(struct qmp_call *call)
{
	call->result = version();
	return 0;
}

static int run_query_commands(struct qmp_call *call)
{
	call->result = json_array();
	for (size_t t = 0; qmp_tables[t]; t++)
		for (const struct qmp_command *command = qmp_tables[t]; command->name; command++)
			json_array_append_new(call->result,
					      json_pack("{s:s}", "name", command->name));
	return 0;
}

static const struct qmp_argument capabilities_arguments[] = {{"enable", QMP_ARRAY, true}, {}};

const struct qmp_command qmp_base_commands[] = {
	{"qmp_capabilities", run_capabilities, capabilities_arguments, .negotiating = true},
	{"query-version", run_query_version, .waiting = true},
	{"query-commands", run_query_commands, .waiting = true},
	{},
};
