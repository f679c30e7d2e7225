// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The QMP commands that move a VM and say how it goes, with QEMU's names, units and words where the meaning is the same;
 * docs/control.md has the differences. What may be set before is qmp_migrate_params.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/qmp_table.h"
#include "memory/ram.h"
#include "migration/address.h"

/* ---- Where a migration stands ---- */

static const struct migration_progress *outgoing_or_none(const struct qmp_migration *migration)
{
	return migration->outgoing ? outgoing_progress(migration->outgoing) : NULL;
}

/* Of the VM's way out if it was ever begun, else of its way in; NULL: neither. */
static const struct migration_progress *progress_of(const struct qmp_migration *migration)
{
	const struct migration_progress *progress = outgoing_or_none(migration);

	if ((!progress || progress->phase == PHASE_NONE) && migration->incoming)
		progress = incoming_progress(migration->incoming);
	return progress && progress->phase != PHASE_NONE ? progress : NULL;
}

static bool is_over(const struct migration_progress *progress)
{
	return progress->phase >= PHASE_COMPLETED;
}

/* QEMU's MigrationStatus. A dry run ends as one that was cancelled: nothing has moved. */
static const char *status_of(const struct qmp_migration *migration,
			     const struct migration_progress *progress)
{
	static const char *const names[] = {
		[PHASE_NONE] = "none",		 [PHASE_CONNECT] = "setup",
		[PHASE_ROUNDS] = "active",	 [PHASE_SWITCH] = "device",
		[PHASE_HANDOVER] = "device",	 [PHASE_DOUBT] = "device",
		[PHASE_COMPLETED] = "completed", [PHASE_FAILED] = "failed",
		[PHASE_CANCELLED] = "cancelled", [PHASE_WOULD_WORK] = "cancelled",
	};
	_Static_assert(ARRAY_SIZE(names) == PHASE_WOULD_WORK + 1, "every phase has a status");

	if (migration->cancelling && progress->phase < PHASE_HANDOVER)
		return "cancelling";
	return names[progress->phase];
}

void qmp_migration_event(struct qmp_server *server, struct qmp_migration *migration)
{
	const struct migration_progress *progress = progress_of(migration);
	const char *status;

	if (!progress)
		return;
	if (is_over(progress))
		migration->cancelling = false;
	if (progress->phase == PHASE_CONNECT)
		migration->setup_us = 0;
	if (progress->phase == PHASE_ROUNDS && !migration->setup_us)
		migration->setup_us = progress->elapsed_us;
	status = status_of(migration, progress);
	if (migration->told && !strcmp(migration->told, status))
		return;
	migration->told = status;
	qmp_server_event(server, "MIGRATION", json_pack("{s:s}", "status", status));
}

int qmp_check_not_moving(struct qmp_call *call)
{
	const struct qmp_migration *migration = call->owner->migration;
	const struct migration_progress *progress = migration ? progress_of(migration) : NULL;

	if (!progress || progress->phase < PHASE_SWITCH || is_over(progress))
		return 0;
	return qmp_error(call, QMP_GENERIC, "The VM is being handed over to another host (%s)",
			 migration_phase_name(progress->phase));
}

/* ---- query-migrate ---- */

static void put(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *ram_info(const struct migration_progress *progress)
{
	json_t *ram = json_object();

	put(ram, "transferred", progress->bytes);
	put(ram, "remaining", progress->pages_left * RAM_PAGE_BYTES);
	put(ram, "total", progress->pages_total * RAM_PAGE_BYTES);
	put(ram, "duplicate", progress->pages_zero);
	put(ram, "skipped", 0); /* QEMU's is always 0 too */
	put(ram, "normal", progress->pages_data);
	put(ram, "normal-bytes", progress->pages_data * RAM_PAGE_BYTES);
	json_object_set_new(ram, "mbps", json_real((double)progress->send_rate * 8 / 1e6));
	put(ram, "dirty-sync-count", progress->round + 1ULL);
	put(ram, "page-size", RAM_PAGE_BYTES);
	put(ram, "multifd-bytes", progress->bytes);
	put(ram, "pages-per-second", progress->send_rate / RAM_PAGE_BYTES);
	put(ram, "precopy-bytes", progress->bytes);
	put(ram, "postcopy-requests", 0);
	if (!is_over(progress))
		put(ram, "dirty-pages-rate", progress->dirty_rate);
	return ram;
}

/* Words may quote a peer: what is no text is left out. */
static void put_text(json_t *object, const struct migration_progress *progress)
{
	if (*progress->text && json_object_set_new(object, "text", json_string(progress->text)))
		json_object_set_new(object, "text", json_string("the reason is not text"));
}

json_t *qmp_migration_status(const struct qmp_migration *migration)
{
	const struct migration_progress *progress = migration ? progress_of(migration) : NULL;
	json_t *status;

	if (!progress)
		return NULL;
	status = json_pack("{s:s, s:s}", "phase", migration_phase_name(progress->phase),
			   "direction", progress == outgoing_or_none(migration) ? "out" : "in");
	put_text(status, progress);
	return status;
}

/* What the guest felt: members that say nothing here are left out. */
static void put_felt(json_t *tern, const struct migration_progress *progress)
{
	const struct ring_full *ring = &progress->ring_full;

	if (progress->standstill_us)
		put(tern, "standstill-us", progress->standstill_us);
	put(tern, "early-stops", progress->early_stops);
	put(tern, "early-stops-us", progress->early_stops_us);
	if (!ring->in_use)
		return;
	put(tern, "ring-waits", ring->waits);
	put(tern, "ring-wait-us", ring->wait_us);
	put(tern, "ring-wait-longest-us", ring->longest_us);
}

static json_t *tern_info(const struct migration_progress *progress)
{
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
		{"round", progress->round},
		{"pages-total", progress->pages_total},
		{"pages-left", progress->pages_left},
		{"pages-data", progress->pages_data},
		{"pages-zero", progress->pages_zero},
		{"pages-again", progress->pages_again},
		{"bytes", progress->bytes},
		{"send-rate", progress->send_rate},
		{"dirty-rate", progress->dirty_rate},
		{"elapsed-us", progress->elapsed_us},
		{"downtime-us", progress->downtime_us},
		{"pause-us", progress->pause_us},
		{"harvest-us", progress->harvest_us},
		{"pages-us", progress->pages_us},
		{"state-us", progress->state_us},
		{"handover-us", progress->handover_us},
		{"resume-us", progress->resume_us},
	};
	json_t *tern = json_pack("{s:s}", "phase", migration_phase_name(progress->phase));

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		put(tern, rows[i].key, rows[i].value);
	if (progress->expected_downtime_us != UINT64_MAX)
		put(tern, "expected-downtime-us", progress->expected_downtime_us);
	put_felt(tern, progress);
	put_text(tern, progress);
	return tern;
}

/* Where a target really listens, as QEMU says it: the port is of interest when any was wanted. */
static void put_address(json_t *info, const char *address)
{
	const char *colon = strrchr(address, ':');
	json_t *row = NULL;

	if (!strncmp(address, "unix:", 5))
		row = json_pack("{s:s, s:s}", "type", "unix", "path", address + 5);
	else if (!strncmp(address, "tcp:[", 5) && colon > address + 6)
		row = json_pack("{s:s, s:s%, s:s}", "type", "inet", "host", address + 5,
				(size_t)(colon - address - 6), "port", colon + 1);
	else if (!strncmp(address, "tcp:", 4) && colon > address + 4)
		row = json_pack("{s:s, s:s%, s:s}", "type", "inet", "host", address + 4,
				(size_t)(colon - address - 4), "port", colon + 1);
	if (row)
		json_object_set_new(info, "socket-address", json_pack("[o]", row));
}

static uint64_t to_ms(uint64_t us)
{
	return us / 1000 + (us % 1000 >= 500);
}

static int run_query_migrate(struct qmp_call *call)
{
	const struct qmp_migration *migration = call->owner->migration;
	const struct migration_progress *progress = migration ? progress_of(migration) : NULL;

	call->result =
		json_pack("{s:s}", "status", progress ? status_of(migration, progress) : "none");
	if (!progress)
		return 0;
	put(call->result, "total-time", to_ms(progress->elapsed_us));
	if (progress->phase == PHASE_COMPLETED)
		put(call->result, "downtime", to_ms(progress->downtime_us));
	else if (!is_over(progress) && progress->expected_downtime_us != UINT64_MAX)
		put(call->result, "expected-downtime", to_ms(progress->expected_downtime_us));
	if (migration->setup_us)
		put(call->result, "setup-time", to_ms(migration->setup_us));
	if (progress->pages_total)
		json_object_set_new(call->result, "ram", ram_info(progress));
	if (progress != outgoing_or_none(migration))
		put_address(call->result, incoming_address(migration->incoming));
	json_object_set_new(call->result, "x-tern", tern_info(progress));
	if (progress->phase == PHASE_FAILED)
		json_object_set(call->result, "error-desc",
				json_object_get(json_object_get(call->result, "x-tern"), "text"));
	return 0;
}

/* ---- Moving ---- */

static int cannot_move(struct qmp_call *call)
{
	return qmp_error(call, QMP_GENERIC, "This VM cannot be migrated");
}

static int check_state(struct qmp_call *call)
{
	const struct migration_progress *progress =
		outgoing_progress(call->owner->migration->outgoing);

	if (progress->phase != PHASE_NONE && !is_over(progress))
		return qmp_error(call, QMP_GENERIC, "There's a migration process in progress");
	switch (machine_get_status(call->machine)) {
	case MACHINE_INMIGRATE:
		return qmp_error(call, QMP_GENERIC, "Guest is waiting for an incoming migration");
	case MACHINE_POSTMIGRATE:
		return qmp_error(call, QMP_GENERIC,
				 "Can't migrate the vm that was paused due to previous migration");
	default:
		return 0;
	}
}

/* QEMU's switches for what Tern does not do. */
static int check_switches(struct qmp_call *call)
{
	if (qmp_boolean(call, "blk", false) || qmp_boolean(call, "inc", false))
		return qmp_error(call, QMP_GENERIC,
				 "Tern does not copy disks: both hosts must see the same images");
	if (qmp_boolean(call, "resume", false))
		return qmp_error(call, QMP_GENERIC,
				 "Cannot resume if there is no paused migration");
	return 0;
}

/* Guest memory does not go over a network in the clear unless somebody has said so. */
static int check_address(struct qmp_call *call, const char *uri, const char *tls)
{
	struct address address;
	int error = address_parse(uri, &address);

	if (error || address_is_local(&address) || call->owner->migration->insecure ||
	    qmp_boolean(call, "x-tern-insecure", false) || *tls)
		return error;
	return qmp_error(
		call, QMP_GENERIC,
		"%.160s: the VM's memory would travel unencrypted: x-tern-tls encrypts it, "
		"x-tern-insecure allows it",
		uri);
}

static int run_migrate(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	const char *uri = qmp_string(call, "uri", ""), *tls = qmp_string(call, "x-tern-tls", "");
	struct migration_params params;
	int error;

	if (!migration || !migration->outgoing)
		return cannot_move(call);
	params = migration->params;
	error = check_state(call);
	if (!error)
		error = check_switches(call);
	if (!error)
		error = qmp_take_params(call, &params);
	if (!error)
		error = check_address(call, uri, tls);
	if (error)
		return error;
	params.dry_run = qmp_boolean(call, "x-tern-dry-run", false);
	migration->cancelling = false;
	migration->told = NULL;
	migration->setup_us = 0;
	return outgoing_start(migration->outgoing, uri, tls, &params);
}

static const struct {
	const char *name;
	enum save_after after;
} save_afters[] = {{"run-on", SAVE_RUN_ON}, {"pause", SAVE_PAUSE}, {"quit", SAVE_QUIT}};

static int run_save(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	const char *then = qmp_string(call, "then", "run-on");
	struct migration_params params;
	size_t i = 0;
	int error;

	if (!migration || !migration->outgoing)
		return cannot_move(call);
	while (i < ARRAY_SIZE(save_afters) && strcmp(save_afters[i].name, then) != 0)
		i++;
	if (i == ARRAY_SIZE(save_afters))
		return qmp_error(call, QMP_GENERIC,
				 "Parameter 'then' is one of run-on, pause and quit");
	params = migration->params;
	error = check_state(call);
	if (!error)
		error = qmp_take_params(call, &params);
	if (error)
		return error;
	migration->cancelling = false;
	migration->told = NULL;
	migration->setup_us = 0;
	return outgoing_save(migration->outgoing, qmp_string(call, "path", ""),
			     save_afters[i].after, &params);
}

static int run_migrate_cancel(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	const struct migration_progress *progress;
	int error;

	if (!migration || !migration->outgoing)
		return cannot_move(call);
	progress = outgoing_progress(migration->outgoing);
	if (progress->phase == PHASE_NONE || is_over(progress))
		return 0;
	migration->cancelling = true;
	error = outgoing_cancel(migration->outgoing);
	if (error || is_over(progress))
		migration->cancelling = false;
	if (error == -EBUSY)
		return qmp_error(call, QMP_GENERIC,
				 "Too late: the other host may own the VM already");
	return error;
}

static int run_migrate_incoming(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	const char *uri = qmp_string(call, "uri", ""), *tls;
	int error;

	if (migration && migration->incoming)
		return qmp_error(call, QMP_GENERIC,
				 "The incoming migration has already been started");
	if (!migration || !migration->listen)
		return qmp_error(call, QMP_GENERIC,
				 "This VM does not wait for a migration: tern receive --listen "
				 "defer makes one that does");
	tls = qmp_string(call, "x-tern-tls", migration->listen_tls ? migration->listen_tls : "");
	error = check_address(call, uri, tls);
	return error ? error : migration->listen(migration->listen_opaque, uri, tls);
}

static int run_resolve(struct qmp_call *call)
{
	struct qmp_migration *migration = call->owner->migration;
	bool own = qmp_boolean(call, "own", false);
	int error = -EBUSY;

	if (migration && migration->outgoing &&
	    outgoing_progress(migration->outgoing)->phase == PHASE_DOUBT)
		error = outgoing_resolve(migration->outgoing, own);
	else if (migration && migration->incoming)
		error = incoming_resolve(migration->incoming, own);
	if (error == -EBUSY)
		return qmp_error(call, QMP_GENERIC,
				 "There is no doubt about who owns this VM: nothing to resolve");
	return error;
}

static const struct qmp_argument migrate_arguments[] = {{"uri", QMP_STRING, false},
							{"blk", QMP_BOOLEAN, true},
							{"inc", QMP_BOOLEAN, true},
							{"detach", QMP_BOOLEAN, true},
							{"resume", QMP_BOOLEAN, true},
							{"downtime-limit", QMP_INTEGER, true},
							{"max-bandwidth", QMP_INTEGER, true},
							{"multifd-channels", QMP_INTEGER, true},
							{"x-tern-downtime-us", QMP_INTEGER, true},
							{"x-tern-deadline", QMP_INTEGER, true},
							{"x-tern-force", QMP_BOOLEAN, true},
							{"x-tern-silence", QMP_INTEGER, true},
							{"x-tern-verify-ram", QMP_BOOLEAN, true},
							{"x-tern-dry-run", QMP_BOOLEAN, true},
							{"x-tern-insecure", QMP_BOOLEAN, true},
							{"x-tern-tls", QMP_STRING, true},
							{}};

static const struct qmp_argument save_arguments[] = {{"path", QMP_STRING, false},
						     {"then", QMP_STRING, true},
						     {"downtime-limit", QMP_INTEGER, true},
						     {"max-bandwidth", QMP_INTEGER, true},
						     {"x-tern-downtime-us", QMP_INTEGER, true},
						     {"x-tern-deadline", QMP_INTEGER, true},
						     {"x-tern-force", QMP_BOOLEAN, true},
						     {}};

static const struct qmp_argument incoming_arguments[] = {{"uri", QMP_STRING, false},
							 {"x-tern-insecure", QMP_BOOLEAN, true},
							 {"x-tern-tls", QMP_STRING, true},
							 {}};
static const struct qmp_argument resolve_arguments[] = {{"own", QMP_BOOLEAN, false}, {}};

const struct qmp_command qmp_migrate_commands[] = {
	{"migrate", run_migrate, migrate_arguments},
	{"x-tern-save", run_save, save_arguments},
	{"migrate_cancel", run_migrate_cancel},
	{"query-migrate", run_query_migrate, .waiting = true},
	{"migrate-incoming", run_migrate_incoming, incoming_arguments, .waiting = true},
	{"x-tern-resolve", run_resolve, resolve_arguments},
	{},
};
