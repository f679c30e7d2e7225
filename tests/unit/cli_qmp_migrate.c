// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cli/qmp_migrate*.c over a fake migration: QEMU's commands, states and units, what is refused and in which words, and that
 * nothing changes a VM under its hand-over.
 */
#include <glib.h>
#include <string.h>

#include "cli/qmp_table.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/fake_outgoing.h"

struct fixture {
	struct loop *loop;
	struct machine machine;
	struct qmp_migration migration;
	struct qmp_owner owner;
	struct qmp_peer peer;
	char *phases; /* status after each phase */
	bool waits;   /* there is no machine yet */
	char tls[20]; /* as listen() had it */
};

static json_t *ask(struct fixture *f, const char *command, const char *arguments)
{
	g_autofree char *text =
		arguments ? g_strdup_printf("{\"execute\": \"%s\", \"arguments\": %s}", command,
					    arguments)
			  : g_strdup_printf("{\"execute\": \"%s\"}", command);
	struct machine *machine = f->waits ? NULL : &f->machine;
	json_t *reply = qmp_dispatch(machine, &f->owner, &f->peer, text, strlen(text));
	g_autofree char *shown = json_dumps(reply, JSON_COMPACT);

	g_test_message("%s -> %s", text, shown);
	return reply;
}

static json_t *get(struct fixture *f, const char *command)
{
	json_t *reply = ask(f, command, NULL);
	json_t *result = json_incref(json_object_get(reply, "return"));

	g_assert_nonnull(result);
	json_decref(reply);
	return result;
}

static void ok(struct fixture *f, const char *command, const char *arguments)
{
	json_t *reply = ask(f, command, arguments);

	g_assert_nonnull(json_object_get(reply, "return"));
	json_decref(reply);
}

static void refused(struct fixture *f, const char *command, const char *arguments,
		    const char *words)
{
	json_t *reply = ask(f, command, arguments), *error = json_object_get(reply, "error");

	g_assert_cmpstr(json_string_value(json_object_get(error, "class")), ==, "GenericError");
	g_assert_nonnull(
		g_strstr_len(json_string_value(json_object_get(error, "desc")), -1, words));
	json_decref(reply);
}

static const char *status(struct fixture *f)
{
	static char text[40];
	json_t *info = get(f, "query-migrate");

	g_strlcpy(text, json_string_value(json_object_get(info, "status")), sizeof(text));
	json_decref(info);
	return text;
}

static void on_phase(void *opaque, enum migration_phase phase)
{
	struct fixture *f = opaque;
	char *before = f->phases;

	qmp_migration_event(NULL, &f->migration);
	if (g_str_has_suffix(before, f->migration.told))
		return;
	f->phases = g_strconcat(before, " ", f->migration.told, NULL);
	g_free(before);
}

static void on_gone(void *opaque)
{
}

static void set_up(struct fixture *f, gconstpointer data)
{
	const struct outgoing_events events = {.opaque = f, .phase = on_phase, .gone = on_gone};

	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	fake_machine_init(&f->machine);
	migration_params_init(&f->migration.params);
	g_assert_cmpint(outgoing_new(&f->migration.outgoing, &f->machine, f->loop, NULL, &events),
			==, 0);
	f->owner = (struct qmp_owner){.opaque = f, .migration = &f->migration};
	f->peer.negotiated = true;
	f->phases = g_strdup("");
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	outgoing_free(f->migration.outgoing);
	incoming_free(f->migration.incoming);
	loop_free(f->loop);
	fake_machine_fini(&f->machine);
	g_free(f->phases);
}

static void until(struct fixture *f, enum migration_phase phase)
{
	while (f->migration.outgoing->progress.phase != phase)
		loop_run_once(f->loop, 1000);
}

static json_int_t integer(json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	g_test_message("%s", key);
	g_assert_true(json_is_integer(value));
	return json_integer_value(value);
}

static void test_moves(struct fixture *f, gconstpointer data)
{
	json_t *info, *ram, *tern;

	g_assert_cmpstr(status(f), ==, "none");
	ok(f, "migrate_cancel", NULL); /* nothing to cancel: no error, as in QEMU */
	ok(f, "migrate", "{\"uri\": \"unix:/x/moves\", \"detach\": true, \"blk\": false}");
	g_assert_cmpstr(status(f), ==, "setup");
	refused(f, "migrate", "{\"uri\": \"unix:/x/moves\"}",
		"There's a migration process in progress");
	until(f, PHASE_ROUNDS);
	info = get(f, "query-migrate");
	ram = json_object_get(info, "ram");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "active");
	g_assert_cmpint(integer(info, "total-time"), ==, 2469); /* ms, rounded */
	g_assert_cmpint(integer(info, "setup-time"), ==, 2469);
	g_assert_cmpint(integer(info, "expected-downtime"), ==, 3);
	g_assert_null(json_object_get(info, "downtime"));
	g_assert_cmpint(integer(ram, "total"), ==, 1000 * 4096);
	g_assert_cmpint(integer(ram, "remaining"), ==, 1000 * 4096);
	g_assert_cmpint(integer(ram, "transferred"), ==, 900 * 4096);
	g_assert_cmpint(integer(ram, "duplicate"), ==, 100);
	g_assert_cmpint(integer(ram, "normal"), ==, 900);
	g_assert_cmpint(integer(ram, "normal-bytes"), ==, 900 * 4096);
	g_assert_cmpint(integer(ram, "dirty-sync-count"), ==, 1);
	g_assert_cmpint(integer(ram, "page-size"), ==, 4096);
	g_assert_cmpint(integer(ram, "pages-per-second"), ==, 25600);
	g_assert_cmpint(integer(ram, "dirty-pages-rate"), ==, 1000);
	g_assert_cmpfloat_with_epsilon(json_real_value(json_object_get(ram, "mbps")), 838.8608,
				       1e-6);
	json_decref(info);
	until(f, PHASE_COMPLETED);
	info = get(f, "query-migrate");
	tern = json_object_get(info, "x-tern");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "completed");
	g_assert_cmpint(integer(info, "downtime"), ==, 3);
	g_assert_null(json_object_get(info, "expected-downtime"));
	g_assert_null(json_object_get(json_object_get(info, "ram"), "dirty-pages-rate"));
	g_assert_cmpstr(json_string_value(json_object_get(tern, "phase")), ==, "completed");
	g_assert_cmpint(integer(tern, "downtime-us"), ==, 2600);
	g_assert_cmpint(integer(tern, "pages-again"), ==, 2700);
	json_decref(info);
	g_assert_cmpstr(f->phases, ==, " setup active device completed");
	refused(f, "migrate", "{\"uri\": \"unix:/x/moves\"}", "due to previous migration");
}

static void test_fails(struct fixture *f, gconstpointer data)
{
	json_t *info;

	ok(f, "migrate", "{\"uri\": \"unix:/x/refused\"}");
	until(f, PHASE_FAILED);
	info = get(f, "query-migrate");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "failed");
	g_assert_nonnull(strstr(json_string_value(json_object_get(info, "error-desc")), "AVX2"));
	json_decref(info);
	/* And again. */
	ok(f, "migrate", "{\"uri\": \"unix:/x/refused\"}");
	g_assert_cmpuint(f->migration.outgoing->starts, ==, 2);
	until(f, PHASE_FAILED);
	g_assert_cmpstr(f->phases, ==, " setup failed setup failed");
	/* Bytes of a peer that are no text do not spoil the reply. */
	strcpy(f->migration.outgoing->progress.text, "\xff\xfe");
	g_assert_cmpstr(status(f), ==, "failed");
}

static void test_cancel(struct fixture *f, gconstpointer data)
{
	ok(f, "migrate", "{\"uri\": \"unix:/x/stays\"}");
	until(f, PHASE_ROUNDS);
	ok(f, "migrate_cancel", NULL);
	g_assert_cmpstr(status(f), ==, "cancelling");
	until(f, PHASE_CANCELLED);
	g_assert_cmpstr(status(f), ==, "cancelled");
	/* Too late: the other side may have it. */
	ok(f, "migrate", "{\"uri\": \"unix:/x/doubt\"}");
	until(f, PHASE_DOUBT);
	refused(f, "migrate_cancel", NULL, "Too late");
	g_assert_cmpstr(status(f), ==, "device");
}

static void test_dry_run(struct fixture *f, gconstpointer data)
{
	json_t *info;

	ok(f, "migrate", "{\"uri\": \"unix:/x/works\", \"x-tern-dry-run\": true}");
	g_assert_true(f->migration.outgoing->params.dry_run);
	until(f, PHASE_WOULD_WORK);
	/* Nothing has moved: no client may believe so. */
	info = get(f, "query-migrate");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "cancelled");
	g_assert_cmpstr(
		json_string_value(json_object_get(json_object_get(info, "x-tern"), "phase")), ==,
		"would-work");
	json_decref(info);
	/* The next is none. */
	ok(f, "migrate", "{\"uri\": \"unix:/x/moves\"}");
	g_assert_false(f->migration.outgoing->params.dry_run);
}

static void test_hand_over_is_left_alone(struct fixture *f, gconstpointer data)
{
	static const char *const commands[] = {"stop", "cont", "system_reset", "system_powerdown"};
	static const enum migration_phase held[] = {PHASE_SWITCH, PHASE_HANDOVER, PHASE_DOUBT};

	f->machine.status = MACHINE_PAUSED;
	for (size_t i = 0; i < G_N_ELEMENTS(held); i++) {
		f->migration.outgoing->progress.phase = held[i];
		for (size_t j = 0; j < G_N_ELEMENTS(commands); j++)
			refused(f, commands[j], NULL, "handed over");
	}
	g_assert_cmpint(f->machine.status, ==, MACHINE_PAUSED);
	g_assert_cmpuint(f->machine.resets + f->machine.powerdowns, ==, 0);
	/* Before and after it, they are the user's. */
	f->migration.outgoing->progress.phase = PHASE_ROUNDS;
	ok(f, "stop", NULL);
	f->migration.outgoing->progress.phase = PHASE_FAILED;
	ok(f, "cont", NULL);
}

static void test_resolve(struct fixture *f, gconstpointer data)
{
	json_t *info = get(f, "x-tern-status");

	g_assert_null(json_object_get(info, "migration"));
	json_decref(info);
	refused(f, "x-tern-resolve", "{\"own\": true}", "no doubt");
	ok(f, "migrate", "{\"uri\": \"unix:/x/doubt\"}");
	refused(f, "x-tern-resolve", "{\"own\": true}", "no doubt");
	until(f, PHASE_DOUBT);
	refused(f, "x-tern-resolve", "{}", "'own' is missing");
	/* Who looks at the VM is told. */
	info = get(f, "x-tern-status");
	g_assert_cmpstr(
		json_string_value(json_object_get(json_object_get(info, "migration"), "phase")), ==,
		"doubt");
	json_decref(info);
	ok(f, "x-tern-resolve", "{\"own\": true}");
	g_assert_cmpint(f->migration.outgoing->resolved, ==, 1);
	ok(f, "migrate", "{\"uri\": \"unix:/x/doubt\"}");
	until(f, PHASE_DOUBT);
	ok(f, "x-tern-resolve", "{\"own\": false}");
	g_assert_cmpint(f->migration.outgoing->resolved, ==, -1);
}

static void test_refusals(struct fixture *f, gconstpointer data)
{
	refused(f, "migrate", NULL, "'uri' is missing");
	refused(f, "migrate", "{\"uri\": \"exec:cat\"}", "exec:cat");
	refused(f, "migrate", "{\"uri\": \"unix:/x\", \"blk\": true}", "disks");
	refused(f, "migrate", "{\"uri\": \"unix:/x\", \"inc\": true}", "disks");
	refused(f, "migrate", "{\"uri\": \"unix:/x\", \"resume\": true}", "Cannot resume");
	refused(f, "migrate", "{\"uri\": \"unix:/x\", \"x-tern-force\": 1}", "expected: boolean");
	refused(f, "migrate", "{\"uri\": \"unix:/x\", \"multifd-channels\": 17}", "1 to 16");
	refused(f, "migrate", "{\"uri\": \"tcp:192.0.2.1:4444\"}", "unencrypted");
	refused(f, "migrate-incoming", "{\"uri\": \"tcp:0:4444\"}", "tern receive --listen defer");
	f->machine.status = MACHINE_INMIGRATE;
	refused(f, "migrate", "{\"uri\": \"unix:/x\"}", "waiting for an incoming migration");
	refused(f, "migrate-incoming", "{\"uri\": \"tcp:0:4444\"}", "tern receive --listen defer");
	refused(f, "migrate-incoming", NULL, "'uri' is missing");
	g_assert_cmpuint(f->migration.outgoing->starts, ==, 0);
	f->machine.status = MACHINE_RUNNING;
	/* By word: in the command, or for all. */
	ok(f, "migrate", "{\"uri\": \"tcp:192.0.2.1:4444\", \"x-tern-insecure\": true}");
	g_assert_cmpstr(f->migration.outgoing->uri, ==, "tcp:192.0.2.1:4444");
	until(f, PHASE_COMPLETED);
	f->machine.status = MACHINE_RUNNING;
	refused(f, "migrate", "{\"uri\": \"tcp:192.0.2.1:4444\"}", "unencrypted");
	ok(f, "migrate-set-parameters", "{\"x-tern-insecure\": true}");
	ok(f, "migrate", "{\"uri\": \"tcp:192.0.2.1:4444\"}");
	g_assert_cmpstr(f->migration.outgoing->tls, ==, "");
	until(f, PHASE_COMPLETED);
	f->machine.status = MACHINE_RUNNING;
	ok(f, "migrate-set-parameters", "{\"x-tern-insecure\": false}");
	ok(f, "migrate", "{\"uri\": \"tcp:192.0.2.1:4444\", \"x-tern-tls\": \"/keys\"}");
	g_assert_cmpstr(f->migration.outgoing->tls, ==, "/keys");
	/* A VM whose owner moves none. */
	f->owner.migration = NULL;
	g_assert_cmpstr(status(f), ==, "none");
	refused(f, "migrate", "{\"uri\": \"unix:/x\"}", "cannot be migrated");
	refused(f, "migrate-set-parameters", "{}", "cannot be migrated");
	ok(f, "stop", NULL);
}

static void test_parameters(struct fixture *f, gconstpointer data)
{
	json_t *now = get(f, "query-migrate-parameters");

	g_assert_cmpint(integer(now, "downtime-limit"), ==, 30);
	g_assert_cmpint(integer(now, "max-bandwidth"), ==, 0);
	g_assert_cmpint(integer(now, "multifd-channels"), ==, 1);
	g_assert_cmpint(integer(now, "x-tern-deadline"), ==, 0);
	g_assert_cmpint(integer(now, "x-tern-silence"), ==, 5000);
	g_assert_true(json_is_false(json_object_get(now, "x-tern-force")));
	g_assert_null(json_object_get(now, "x-tern-downtime-us"));
	json_decref(now);
	ok(f, "migrate-set-parameters",
	   "{\"downtime-limit\": 300, \"max-bandwidth\": 134217728, \"multifd-channels\": 2, "
	   "\"x-tern-deadline\": 60000, \"x-tern-force\": true, \"x-tern-silence\": 1000}");
	g_assert_cmpuint(f->migration.params.max_downtime_us, ==, 300000);
	g_assert_cmpuint(f->migration.params.bandwidth_bytes, ==, 134217728);
	g_assert_cmpuint(f->migration.params.channels, ==, 2);
	g_assert_cmpuint(f->migration.params.deadline_us, ==, 60000000);
	g_assert_cmpuint(f->migration.params.silence_us, ==, 1000000);
	g_assert_true(f->migration.params.force);
	/* Also for one that is under way. */
	g_assert_cmpuint(f->migration.outgoing->changed.max_downtime_us, ==, 300000);
	/* All or nothing; QEMU's others by name; the unknown. */
	refused(f, "migrate-set-parameters", "{\"downtime-limit\": 1, \"multifd-channels\": 0}",
		"1 to 16");
	refused(f, "migrate-set-parameters", "{\"downtime-limit\": 1, \"xbzrle-cache-size\": 1}",
		"'xbzrle-cache-size' sets nothing");
	refused(f, "migrate-set-parameters", "{\"downtime-limit\": -1}", "in the range");
	refused(f, "migrate-set-parameters", "{\"downtime-limit\": 2000001}", "in the range");
	refused(f, "migrate-set-parameters", "{\"nonsense\": 1}", "unexpected");
	g_assert_cmpuint(f->migration.params.max_downtime_us, ==, 300000);
	/* One migration's own, which do not stay. */
	ok(f, "migrate", "{\"uri\": \"unix:/x/moves\", \"x-tern-downtime-us\": 500}");
	g_assert_cmpuint(f->migration.outgoing->params.max_downtime_us, ==, 500);
	g_assert_cmpuint(f->migration.outgoing->params.channels, ==, 2);
	g_assert_cmpuint(f->migration.params.max_downtime_us, ==, 300000);
}

static void test_capabilities(struct fixture *f, gconstpointer data)
{
	json_t *list = get(f, "query-migrate-capabilities"), *row;
	size_t index;

	g_assert_cmpuint(json_array_size(list), ==, 21);
	/* What is told may be set again, the other way round not. */
	json_array_foreach(list, index, row)
	{
		json_t *state = json_object_get(row, "state");
		g_autofree char *same = json_dumps(row, 0);
		g_autofree char *good = g_strdup_printf("{\"capabilities\": [%s]}", same),
				*bad = NULL, *other = NULL;

		ok(f, "migrate-set-capabilities", good);
		json_object_set_new(row, "state", json_boolean(!json_is_true(state)));
		other = json_dumps(row, 0);
		bad = g_strdup_printf("{\"capabilities\": [%s]}", other);
		refused(f, "migrate-set-capabilities", bad,
			json_string_value(json_object_get(row, "capability")));
	}
	json_decref(list);
	refused(f, "migrate-set-capabilities",
		"{\"capabilities\": [{\"capability\": \"nonsense\", \"state\": true}]}",
		"does not accept value 'nonsense'");
	refused(f, "migrate-set-capabilities", "{\"capabilities\": [1]}", "Each of");
	refused(f, "migrate-set-capabilities", "{\"capabilities\": [{\"capability\": \"events\"}]}",
		"Each of");
	ok(f, "migrate-set-capabilities", "{\"capabilities\": []}");
}

/* ---- A target ---- */

static void on_listening(void *opaque, const char *address)
{
}

static int on_build(void *opaque, struct config *config, struct machine **machine)
{
	struct fixture *f = opaque;

	f->waits = false;
	*machine = &f->machine;
	return 0;
}

static void on_drop(void *opaque, const char *text)
{
	struct fixture *f = opaque;

	f->waits = true;
}

static void on_taken(void *opaque)
{
	on_phase(opaque, PHASE_COMPLETED);
}

static int on_listen(void *opaque, const char *uri, const char *tls)
{
	struct fixture *f = opaque;
	struct qmp_migration *migration = &f->migration;
	const struct incoming_owner owner = {.opaque = f,
					     .listening = on_listening,
					     .phase = on_phase,
					     .build = on_build,
					     .drop = on_drop,
					     .taken = on_taken};

	g_strlcpy(f->tls, tls, sizeof(f->tls));
	return incoming_listen(&migration->incoming, uri, tls, &migration->params, f->loop, NULL,
			       &owner);
}

static void wait_for_a_vm(struct fixture *f)
{
	outgoing_free(f->migration.outgoing);
	f->migration.outgoing = NULL;
	f->migration.listen = on_listen;
	f->migration.listen_opaque = f;
	f->owner.name = "here";
	f->waits = true;
}

static void expect_address(struct fixture *f, const char *type, const char *key, const char *value,
			   const char *port)
{
	json_t *info = get(f, "query-migrate"), *list = json_object_get(info, "socket-address"),
	       *row = json_array_get(list, 0);

	g_assert_cmpuint(json_array_size(list), ==, 1);
	g_assert_cmpstr(json_string_value(json_object_get(row, "type")), ==, type);
	g_assert_cmpstr(json_string_value(json_object_get(row, key)), ==, value);
	g_assert_cmpstr(json_string_value(json_object_get(row, "port")), ==, port);
	json_decref(info);
}

static void test_waits(struct fixture *f, gconstpointer data)
{
	static const char *const need_a_machine[] = {
		"stop",	      "cont",	     "system_reset",	"system_powerdown",
		"query-uuid", "query-block", "query-cpus-fast", "migrate_cancel",
		"migrate",    "x-tern-save", "x-tern-resolve",
	};
	json_t *info;

	wait_for_a_vm(f);
	info = get(f, "query-status");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "inmigrate");
	g_assert_true(json_is_false(json_object_get(info, "running")));
	json_decref(info);
	info = get(f, "x-tern-status");
	g_assert_cmpstr(json_string_value(json_object_get(info, "name")), ==, "here");
	g_assert_null(json_object_get(info, "migration"));
	json_decref(info);
	info = get(f, "query-name");
	g_assert_cmpstr(json_string_value(json_object_get(info, "name")), ==, "here");
	json_decref(info);
	g_assert_cmpstr(status(f), ==, "none");
	for (size_t i = 0; i < G_N_ELEMENTS(need_a_machine); i++)
		refused(f, need_a_machine[i], NULL, "waiting for an incoming migration");
	ok(f, "migrate-set-parameters", "{\"x-tern-silence\": 1000}");
	g_assert_cmpuint(f->migration.params.silence_us, ==, 1000000);
	ok(f, "migrate-set-capabilities",
	   "{\"capabilities\": [{\"capability\": \"events\", \"state\": true}]}");
	f->owner.name = NULL;
	ok(f, "query-name", NULL);
	ok(f, "x-tern-status", NULL);
}

/* Each refusal by its name; then it listens, once. */
static void test_incoming(struct fixture *f, gconstpointer data)
{
	const struct outgoing_events events = {.opaque = f, .phase = on_phase, .gone = on_gone};
	json_t *info;

	wait_for_a_vm(f);
	refused(f, "migrate-incoming", "{\"uri\": \"exec:cat\"}", "exec:cat");
	refused(f, "migrate-incoming", "{\"uri\": \"tcp:192.0.2.1:1\"}", "unencrypted");
	refused(f, "migrate-incoming", "{\"uri\": \"unix:/x/taken\"}", "in use");
	refused(f, "migrate-incoming", "{\"uri\": \"unix:/x/mute\"}", "cannot be listened at");
	g_assert_cmpstr(status(f), ==, "none");
	g_assert_cmpstr(f->phases, ==, "");
	ok(f, "migrate-incoming", "{\"uri\": \"unix:/x/comes\"}");
	g_assert_cmpstr(f->tls, ==, "");
	g_assert_cmpstr(status(f), ==, "setup");
	expect_address(f, "unix", "path", "/x/comes", NULL);
	refused(f, "migrate-incoming", "{\"uri\": \"unix:/x/comes\"}", "already been started");
	while (f->waits || strcmp(status(f), "completed") != 0)
		loop_run_once(f->loop, 1000);
	g_assert_cmpstr(f->phases, ==, " setup active completed");
	refused(f, "migrate-incoming", "{\"uri\": \"unix:/x/comes\"}", "already been started");
	ok(f, "stop", NULL);
	/* On its way out again it has no address. */
	g_assert_cmpint(outgoing_new(&f->migration.outgoing, &f->machine, f->loop, NULL, &events),
			==, 0);
	f->machine.status = MACHINE_RUNNING;
	ok(f, "migrate", "{\"uri\": \"unix:/x/moves\"}");
	info = get(f, "query-migrate");
	g_assert_cmpstr(json_string_value(json_object_get(info, "status")), ==, "setup");
	g_assert_null(json_object_get(info, "socket-address"));
	json_decref(info);
}

/* An attempt that fails is seen to its end, and so is the next. */
static void test_incoming_twice(struct fixture *f, gconstpointer data)
{
	wait_for_a_vm(f);
	ok(f, "migrate-incoming", "{\"uri\": \"unix:/x/twice\"}");
	while (strcmp(status(f), "failed") != 0)
		loop_run_once(f->loop, 1000);
	refused(f, "cont", NULL, "waiting for an incoming migration");
	while (strcmp(status(f), "completed") != 0)
		loop_run_once(f->loop, 1000);
	g_assert_cmpstr(f->phases, ==, " setup active failed setup active completed");
}

static void test_incoming_keys(struct fixture *f, gconstpointer data)
{
	wait_for_a_vm(f);
	ok(f, "migrate-incoming", "{\"uri\": \"tcp:[2001:db8::1]:4444\", \"x-tern-tls\": \"/k\"}");
	g_assert_cmpstr(f->tls, ==, "/k");
	expect_address(f, "inet", "host", "2001:db8::1", "4444");
	incoming_free(f->migration.incoming);
	f->migration.incoming = NULL;
	/* Those of the command line, where the command names none. */
	f->migration.listen_tls = "/keys";
	ok(f, "migrate-incoming", "{\"uri\": \"tcp:192.0.2.1:4444\"}");
	g_assert_cmpstr(f->tls, ==, "/keys");
	expect_address(f, "inet", "host", "192.0.2.1", "4444");
	incoming_free(f->migration.incoming);
	f->migration.incoming = NULL;
	f->migration.listen_tls = NULL;
	ok(f, "migrate-incoming", "{\"uri\": \"tcp:192.0.2.1:1\", \"x-tern-insecure\": true}");
}

int main(int argc, char **argv)
{
#define ADD(name, fn) g_test_add("/qmp-migrate/" name, struct fixture, NULL, set_up, fn, tear_down)
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	ADD("moves", test_moves);
	ADD("fails", test_fails);
	ADD("cancel", test_cancel);
	ADD("dry-run", test_dry_run);
	ADD("hand-over-is-left-alone", test_hand_over_is_left_alone);
	ADD("resolve", test_resolve);
	ADD("refusals", test_refusals);
	ADD("parameters", test_parameters);
	ADD("capabilities", test_capabilities);
	ADD("waits", test_waits);
	ADD("incoming", test_incoming);
	ADD("incoming-twice", test_incoming_twice);
	ADD("incoming-keys", test_incoming_keys);
	return g_test_run();
}
