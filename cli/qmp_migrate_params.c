// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What can be set about migrations: QEMU's parameters and capabilities by name. Tern has few of them; what it always or
 * never does is told, and refused to be changed, by name, so that nobody takes silence for consent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/qmp_table.h"

/* ---- Parameters ---- */

struct parameter {
	const char *name;
	size_t offset; /* in struct migration_params */
	json_int_t min, max;
	enum { PARAM_MS, PARAM_US, PARAM_BYTES, PARAM_COUNT, PARAM_MS_32, PARAM_BOOL } kind;
	bool hidden; /* another unit of one that is shown */
};

#define PARAM(what, member) .kind = what, .offset = offsetof(struct migration_params, member)
#define RANGE(low, high)    .min = low, .max = high
#define MS_MAX		    (2000LL * 1000) /* QEMU's bound for downtime-limit */
#define DAY_MS		    (24LL * 3600 * 1000)

/* clang-format off */
static const struct parameter parameters[] = {
	{"downtime-limit",	PARAM(PARAM_MS, max_downtime_us), RANGE(0, MS_MAX)},
	{"max-bandwidth",	PARAM(PARAM_BYTES, bandwidth_bytes), RANGE(0, INT64_MAX)},
	{"multifd-channels",	PARAM(PARAM_COUNT, channels), RANGE(1, MIGRATION_CHANNELS_MAX)},
	{"x-tern-downtime-us",	PARAM(PARAM_US, max_downtime_us), RANGE(0, MS_MAX * 1000), .hidden = true},
	{"x-tern-deadline",	PARAM(PARAM_MS, deadline_us), RANGE(0, 7 * DAY_MS)},
	{"x-tern-force",	PARAM(PARAM_BOOL, force)},
	{"x-tern-silence",	PARAM(PARAM_MS_32, silence_us), RANGE(100, 3600 * 1000)},
	{"x-tern-verify-ram",	PARAM(PARAM_BOOL, verify_ram)},
	{},
};

/* QEMU 7.2's others. */
static const char *const foreign[] = {
	"announce-initial", "announce-max", "announce-rounds", "announce-step", "compress-level", "compress-threads",
	"compress-wait-thread", "decompress-threads", "throttle-trigger-threshold", "cpu-throttle-initial",
	"cpu-throttle-increment", "cpu-throttle-tailslow", "tls-creds", "tls-hostname", "tls-authz",
	"x-checkpoint-delay", "block-incremental", "xbzrle-cache-size", "max-postcopy-bandwidth", "max-cpu-throttle",
	"multifd-compression", "multifd-zlib-level", "multifd-zstd-level", "block-bitmap-mapping",
};
/* clang-format on */

static uint64_t get(const struct parameter *row, const struct migration_params *params)
{
	const void *at = (const uint8_t *)params + row->offset;

	switch (row->kind) {
	case PARAM_MS:
		return (*(const uint64_t *)at + 500) / 1000;
	case PARAM_MS_32:
		return *(const uint32_t *)at / 1000;
	case PARAM_COUNT:
		return *(const uint32_t *)at;
	case PARAM_BOOL:
		return *(const bool *)at;
	default:
		return *(const uint64_t *)at;
	}
}

static int set(struct qmp_call *call, const struct parameter *row, const json_t *value,
	       struct migration_params *params)
{
	void *at = (uint8_t *)params + row->offset;
	json_int_t number = json_integer_value(value);

	if (row->kind == PARAM_BOOL) {
		*(bool *)at = json_is_true(value);
		return 0;
	}
	if (number < row->min || number > row->max)
		return qmp_error(call, QMP_GENERIC,
				 "Parameter '%s' expects an integer in the range of "
				 "%" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT,
				 row->name, row->min, row->max);
	switch (row->kind) {
	case PARAM_MS:
		*(uint64_t *)at = (uint64_t)number * 1000;
		break;
	case PARAM_MS_32:
		*(uint32_t *)at = (uint32_t)number * 1000;
		break;
	case PARAM_COUNT:
		*(uint32_t *)at = (uint32_t)number;
		break;
	default:
		*(uint64_t *)at = (uint64_t)number;
		break;
	}
	return 0;
}

int qmp_take_params(struct qmp_call *call, struct migration_params *params)
{
	int error = 0;

	for (const struct parameter *row = parameters; row->name && !error; row++) {
		const json_t *value = json_object_get(call->arguments, row->name);

		if (value)
			error = set(call, row, value, params);
	}
	return error;
}

static int run_set_parameters(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	struct migration_params params;
	int error;

	if (!migration)
		return qmp_error(call, QMP_GENERIC, "This VM cannot be migrated");
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		if (json_object_get(call->arguments, foreign[i]))
			return qmp_error(call, QMP_GENERIC,
					 "Parameter '%s' sets nothing that Tern has", foreign[i]);
	/* All or nothing. */
	params = migration->params;
	error = qmp_take_params(call, &params);
	if (error)
		return error;
	migration->params = params;
	migration->insecure = qmp_boolean(call, "x-tern-insecure", migration->insecure);
	if (migration->outgoing)
		outgoing_set_params(migration->outgoing, &params);
	return 0;
}

static int run_query_parameters(struct qmp_call *call)
{
	const struct qmp_migration *migration = call->owner->migration;
	struct migration_params defaults;
	const struct migration_params *params = &defaults;

	migration_params_init(&defaults);
	if (migration)
		params = &migration->params;
	call->result =
		json_pack("{s:b}", "x-tern-insecure", migration ? migration->insecure : false);
	for (const struct parameter *row = parameters; row->name; row++) {
		json_int_t value = (json_int_t)get(row, params);

		if (row->hidden)
			continue;
		json_object_set_new(call->result, row->name,
				    row->kind == PARAM_BOOL ? json_boolean(value)
							    : json_integer(value));
	}
	return 0;
}

/* ---- Capabilities ---- */

/* QEMU 7.2's, and what Tern always (true) or never does. */
static const struct {
	const char *name;
	bool always;
} capabilities[] = {
	{"xbzrle", false},
	{"rdma-pin-all", false},
	{"auto-converge", false},
	{"zero-blocks", false},
	{"compress", false},
	{"events", true},
	{"postcopy-ram", false},
	{"x-colo", false},
	{"release-ram", false},
	{"block", false},
	{"return-path", true},
	{"pause-before-switchover", false},
	{"multifd", true},
	{"dirty-bitmaps", false},
	{"postcopy-blocktime", false},
	{"late-block-activate", true},
	{"x-ignore-shared", false},
	{"validate-uuid", false},
	{"background-snapshot", false},
	{"zero-copy-send", false},
	{"postcopy-preempt", false},
};

static int check_capability(struct qmp_call *call, const json_t *row)
{
	const char *name = json_string_value(json_object_get(row, "capability"));
	const json_t *state = json_object_get(row, "state");

	if (!name || !json_is_boolean(state) || json_object_size(row) != 2)
		return qmp_error(call, QMP_GENERIC,
				 "Each of 'capabilities' is {\"capability\": name, \"state\": "
				 "true or false}");
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (strcmp(name, capabilities[i].name) != 0)
			continue;
		if (capabilities[i].always == json_is_true(state))
			return 0;
		return qmp_error(call, QMP_GENERIC, "Capability '%s' is always %s in Tern", name,
				 capabilities[i].always ? "on" : "off");
	}
	return qmp_error(call, QMP_GENERIC, "Parameter 'capability' does not accept value '%.60s'",
			 name);
}

static int run_set_capabilities(struct qmp_call *call)
{
	const json_t *list = json_object_get(call->arguments, "capabilities"), *row;
	size_t index;
	int error = 0;

	json_array_foreach(list, index, row)
	{
		error = check_capability(call, row);
		if (error)
			break;
	}
	return error;
}

static int run_query_capabilities(struct qmp_call *call)
{
	call->result = json_array();
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		json_array_append_new(call->result,
				      json_pack("{s:s, s:b}", "capability", capabilities[i].name,
						"state", capabilities[i].always));
	return 0;
}

/* clang-format off */
static const struct qmp_argument parameters_arguments[] = {
	{"downtime-limit", QMP_INTEGER, true}, {"max-bandwidth", QMP_INTEGER, true},
	{"multifd-channels", QMP_INTEGER, true}, {"x-tern-downtime-us", QMP_INTEGER, true},
	{"x-tern-deadline", QMP_INTEGER, true}, {"x-tern-force", QMP_BOOLEAN, true},
	{"x-tern-silence", QMP_INTEGER, true}, {"x-tern-verify-ram", QMP_BOOLEAN, true},
	{"x-tern-insecure", QMP_BOOLEAN, true},
	{"announce-initial", QMP_ANY, true}, {"announce-max", QMP_ANY, true}, {"announce-rounds", QMP_ANY, true},
	{"announce-step", QMP_ANY, true}, {"compress-level", QMP_ANY, true}, {"compress-threads", QMP_ANY, true},
	{"compress-wait-thread", QMP_ANY, true}, {"decompress-threads", QMP_ANY, true},
	{"throttle-trigger-threshold", QMP_ANY, true}, {"cpu-throttle-initial", QMP_ANY, true},
	{"cpu-throttle-increment", QMP_ANY, true}, {"cpu-throttle-tailslow", QMP_ANY, true},
	{"tls-creds", QMP_ANY, true}, {"tls-hostname", QMP_ANY, true}, {"tls-authz", QMP_ANY, true},
	{"x-checkpoint-delay", QMP_ANY, true}, {"block-incremental", QMP_ANY, true},
	{"xbzrle-cache-size", QMP_ANY, true}, {"max-postcopy-bandwidth", QMP_ANY, true},
	{"max-cpu-throttle", QMP_ANY, true}, {"multifd-compression", QMP_ANY, true},
	{"multifd-zlib-level", QMP_ANY, true}, {"multifd-zstd-level", QMP_ANY, true},
	{"block-bitmap-mapping", QMP_ANY, true},
	{},
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(parameters_arguments) ==
		       ARRAY_SIZE(parameters) - 1 + ARRAY_SIZE(foreign) + 1 + 1,
	       "every parameter is an argument, and x-tern-insecure");

static const struct qmp_argument capabilities_arguments[] = {{"capabilities", QMP_ARRAY, false},
							     {}};

const struct qmp_command qmp_migrate_params_commands[] = {
	{"migrate-set-parameters", run_set_parameters, parameters_arguments, .waiting = true},
	{"query-migrate-parameters", run_query_parameters, .waiting = true},
	{"migrate-set-capabilities", run_set_capabilities, capabilities_arguments, .waiting = true},
	{"query-migrate-capabilities", run_query_capabilities, .waiting = true},
	{},
};
