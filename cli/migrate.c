// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern migrate and tern resolve: clients of the VM's control socket. The migration is the VM's own work; if this
 * process is killed it goes on. How it is shown is migrate_show.c.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/migrate_job.h"
#include "cli/migrate_show.h"
#include "migration/address.h"
#include "migration/progress.h"
#include "vmm/config.h"

#define ASK_MS	     100 /* for news */
#define DURATION_MAX (7ULL * 24 * 3600 * 1000000)

static volatile sig_atomic_t interrupts;

static void on_interrupt(int signal)
{
	interrupts++;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Watching ---- */

static const char *phase_of(const json_t *info)
{
	const char *phase =
		json_string_value(json_object_get(json_object_get(info, "x-tern"), "phase"));

	return phase ? phase : "";
}

static bool is(const json_t *info, enum migration_phase phase)
{
	return !strcmp(phase_of(info), migration_phase_name(phase));
}

static bool is_over(const json_t *info)
{
	return is(info, PHASE_COMPLETED) || is(info, PHASE_FAILED) || is(info, PHASE_CANCELLED) ||
	       is(info, PHASE_WOULD_WORK);
}

/* Ctrl-C: once asks the VM to stop, and the end is waited for; twice, or in doubt, leaves. true: leave. */
static bool obey_interrupt(struct client *client, struct migrate_show *show, const json_t *info,
			   int *obeyed)
{
	if (*obeyed == interrupts)
		return false;
	*obeyed = interrupts;
	if (*obeyed > 1 || is(info, PHASE_DOUBT)) {
		migrate_show_note(show, "left; the migration is the VM's own (tern status %s)",
				  show->vm);
		return true;
	}
	migrate_show_note(show, "cancelling");
	if (client_execute(client, "migrate_cancel", NULL, NULL))
		migrate_show_note(show, "it goes on (Ctrl-C again leaves it to itself)");
	return false;
}

/* Until it is over: *info is its last word. -ECANCELED: the user left; others are client_execute()'s. */
static int watch(struct client *client, struct migrate_show *show, json_t **info)
{
	int obeyed = 0;

	for (;;) {
		json_t *event = NULL, *news = NULL;
		int error = client_execute(client, "query-migrate", NULL, &news);

		if (error)
			return error;
		json_decref(*info);
		*info = news;
		if (is_over(news))
			return 0;
		migrate_show(show, news, now_ms());
		if (obey_interrupt(client, show, news, &obeyed))
			return -ECANCELED;
		error = client_wait_event(client, ASK_MS, &event);
		json_decref(event);
		if (error && error != -ETIMEDOUT)
			return error;
	}
}

/* What the VM does now, for a last line about one that did not move. */
static const char *status_now(struct client *client, json_t **keep)
{
	const char *status = NULL;

	if (!client_execute(client, "query-status", NULL, keep))
		status = json_string_value(json_object_get(*keep, "status"));
	if (!status)
		return "its state is not known";
	if (!strcmp(status, "running"))
		return "it runs on here";
	if (!strcmp(status, "paused"))
		return "it stays here, paused";
	return status;
}

static int tell_end(const struct migrate_job *job, struct migrate_show *show, struct client *client,
		    const json_t *info)
{
	const json_t *tern = json_object_get(info, "x-tern");
	const char *why = json_string_value(json_object_get(tern, "text"));
	char words[MIGRATE_URI_BYTES + 100 + MIGRATE_DONE_BYTES], done[MIGRATE_DONE_BYTES];
	json_t *status = NULL;
	int exit = CLI_FAILED;

	if (is(info, PHASE_COMPLETED)) {
		migrate_text_done(done, sizeof(done), tern);
		snprintf(words, sizeof(words), "%s to %s: %s", job->done, show->uri, done);
		exit = CLI_OK;
	} else if (is(info, PHASE_WOULD_WORK)) {
		migrate_text_time(done, sizeof(done),
				  json_integer_value(json_object_get(tern, "elapsed-us")));
		snprintf(words, sizeof(words), "would work (seen in %s)%s%s", done,
			 why ? "; the target says: " : "", why ? why : "");
		exit = CLI_OK;
	} else if (is(info, PHASE_CANCELLED)) {
		snprintf(words, sizeof(words), "cancelled: %s", status_now(client, &status));
		exit = CLI_QUIT;
	} else {
		snprintf(words, sizeof(words), "not %s: %s: %s", job->done,
			 why ? why : "no reason given", status_now(client, &status));
	}
	migrate_show_end(show, phase_of(info), info, words);
	json_decref(status);
	return exit;
}

/* The VM's process is gone before it said how it went. */
static int tell_lost(struct migrate_show *show, int error, const json_t *info)
{
	const char *words = "its process is gone, and it did not say how it went";

	if (error == -ECANCELED)
		return CLI_FAILED;
	if (is(info, PHASE_HANDOVER) || is(info, PHASE_DOUBT))
		words = "its process is gone, in the middle of the hand-over: look at the target";
	migrate_show_end(show, "lost", info, words);
	return CLI_FAILED;
}

int migrate_follow(struct migrate_job *job)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	struct migrate_show show;
	struct client client;
	json_t *info = NULL;
	int status, error = client_open(&client, job->vm, CLIENT_REPLY_MS);

	if (error)
		return error == -ETIMEDOUT || error == -EPROTO ? CLI_FAILED : CLI_INPUT;
	migrate_show_init(&show, job->vm, job->uri, job->json);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	error = client_execute(&client, job->execute, json_incref(job->arguments), NULL);
	if (error) {
		client_close(&client);
		return CLI_FAILED;
	}
	error = watch(&client, &show, &info);
	status = error ? tell_lost(&show, error, info) : tell_end(job, &show, &client, info);
	json_decref(info);
	client_close(&client);
	return status;
}

/* ---- The command line ---- */

int migrate_parse_duration(const char *command, const char *key, const char *text, uint64_t *us)
{
	static const struct {
		const char *name;
		uint64_t us;
	} units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}};
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	for (size_t i = 0; isdigit((unsigned char)*text) && !errno && i < ARRAY_SIZE(units); i++) {
		if (!strcmp(end, units[i].name) && value <= DURATION_MAX / units[i].us) {
			*us = value * units[i].us;
			return 0;
		}
	}
	return fail(-EINVAL, "%s: --%s %.40s: a duration is as 500us, 30ms, 60s or 5m", command,
		    key, text);
}

static int set_integer(struct migrate_job *job, const char *member, uint64_t value)
{
	return json_object_set_new(job->arguments, member, json_integer((json_int_t)value))
		       ? fail(-ENOMEM, "migrate: no memory")
		       : 0;
}

static int set_duration(struct migrate_job *job, const char *key, const char *value)
{
	uint64_t us = 0;
	int error = migrate_parse_duration("migrate", key, value, &us);

	if (error)
		return error;
	if (!strcmp(key, "deadline")) {
		if (us && us < 1000)
			return fail(-EINVAL, "migrate: --deadline %.40s: at least 1ms", value);
		return set_integer(job, "x-tern-deadline", us / 1000);
	}
	if (!strcmp(key, "silence"))
		return set_integer(job, "x-tern-silence", us / 1000);
	return set_integer(job, "x-tern-downtime-us", us);
}

/* The VM has another working directory. */
static int set_tls(struct migrate_job *job, const char *directory)
{
	char path[PATH_MAX];

	if (!realpath(directory, path))
		return fail(-errno, "migrate: --tls %.160s: %s", directory, strerror(errno));
	job->tls = true;
	json_object_set_new(job->arguments, "x-tern-tls", json_string(path));
	return 0;
}

int migrate_set_option(struct migrate_job *job, const char *key, const char *value)
{
	uint64_t number;
	char *end;

	if (!strcmp(key, "max-downtime") || !strcmp(key, "deadline") || !strcmp(key, "silence"))
		return set_duration(job, key, value);
	if (!strcmp(key, "channels")) {
		number = strtoul(value, &end, 10);
		if (!isdigit((unsigned char)*value) || *end || number < 1 ||
		    number > MIGRATION_CHANNELS_MAX)
			return fail(-EINVAL, "migrate: --channels %.40s: 1 to %d", value,
				    MIGRATION_CHANNELS_MAX);
		return set_integer(job, "multifd-channels", number);
	}
	if (!strcmp(key, "bandwidth")) {
		if (!config_parse_size(value, &number) || number > INT64_MAX)
			return fail(-EINVAL,
				    "migrate: --bandwidth %.40s: bytes a second, as 500M or 1G",
				    value);
		return set_integer(job, "max-bandwidth", number);
	}
	if (!strcmp(key, "tls"))
		return set_tls(job, value);
	return fail(-EINVAL, "migrate: --%.40s: no such option (tern help migrate lists them)",
		    key);
}

static bool set_flag(struct migrate_job *job, const char *key)
{
	if (!strcmp(key, "json"))
		job->json = true;
	else if (!strcmp(key, "force"))
		json_object_set_new(job->arguments, "x-tern-force", json_true());
	else if (!strcmp(key, "verify-ram"))
		json_object_set_new(job->arguments, "x-tern-verify-ram", json_true());
	else if (!strcmp(key, "dry-run"))
		job->dry_run = true;
	else if (!strcmp(key, "insecure"))
		job->insecure = true;
	else
		return false;
	return true;
}

/* The VM resolves no names and has another working directory. */
static int resolve_name(const char *uri, char to[MIGRATE_URI_BYTES])
{
	const char *host = uri + 4, *colon = strrchr(uri, ':');
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	struct address address = {};
	char name[256];
	int why;

	if (colon <= host || (size_t)(colon - host) >= sizeof(name) || *host == '[')
		return -ENOENT;
	memcpy(name, host, (size_t)(colon - host));
	name[colon - host] = '\0';
	why = getaddrinfo(name, colon + 1, &hints, &found);
	if (why)
		return fail(-EINVAL, "migrate: %.100s: %s", uri, gai_strerror(why));
	memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
	address.len = found->ai_addrlen;
	freeaddrinfo(found);
	address_text(&address, to);
	return 0;
}

static int take_uri(struct migrate_job *job, const char *uri)
{
	char path[PATH_MAX];
	struct address address;
	int error, n;

	if (!strncmp(uri, "unix:", 5) && uri[5] && uri[5] != '/') {
		if (!getcwd(path, sizeof(path)))
			return fail(-errno, "migrate: working directory: %s", strerror(errno));
		n = snprintf(job->uri, sizeof(job->uri), "unix:%s/%s", path, uri + 5);
	} else if (!strncmp(uri, "tcp:", 4) && (error = resolve_name(uri, job->uri)) != -ENOENT) {
		if (error)
			return error;
		n = 0;
	} else {
		n = snprintf(job->uri, sizeof(job->uri), "%s", uri);
	}
	if ((size_t)n >= sizeof(job->uri))
		return fail(-EINVAL, "migrate: %.80s...: too long", uri);
	error = address_parse(job->uri, &address);
	if (!error && !job->insecure && !job->tls && !address_is_local(&address))
		error = fail(-EPERM,
			     "migrate: %.160s: the VM's memory would travel unencrypted (--tls "
			     "encrypts it, --insecure allows it)",
			     uri);
	return error;
}

int migrate_take_words(struct migrate_job *job, const struct migrate_words *words, int argc,
		       char **argv, const char **operand)
{
	int error = 0;

	*operand = NULL;
	for (int i = 1; i < argc && !error; i++) {
		char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
		const char *key = argv[i] + 2;

		if (strncmp(argv[i], "--", 2) != 0) {
			if (argv[i][0] == '-' || *operand)
				return -EDOM;
			*(job->vm ? operand : &job->vm) = argv[i];
			continue;
		}
		if (!value && words->set_flag(job, key))
			continue;
		if (equals)
			*equals = '\0';
		else if (i + 1 < argc)
			value = argv[++i];
		if (!value)
			return fail(-EINVAL, "%s: --%.40s needs a value, or is no option",
				    words->command, key);
		error = words->set_option(job, key, value);
	}
	return error;
}

static int take_words(struct migrate_job *job, int argc, char **argv)
{
	static const struct migrate_words words = {"migrate", set_flag, migrate_set_option};
	const char *uri;
	int error = migrate_take_words(job, &words, argc, argv, &uri);

	if (error)
		return error;
	if (!uri)
		return -EDOM;
	error = take_uri(job, uri);
	if (job->dry_run)
		json_object_set_new(job->arguments, "x-tern-dry-run", json_true());
	if (job->insecure)
		json_object_set_new(job->arguments, "x-tern-insecure", json_true());
	json_object_set_new(job->arguments, "uri", json_string(job->uri));
	return error;
}

int command_migrate(int argc, char **argv)
{
	struct migrate_job job = {
		.execute = "migrate", .done = "moved", .arguments = json_object()};
	int error = take_words(&job, argc, argv);
	int status = CLI_INPUT;

	if (error == -EDOM)
		status = command_usage("migrate");
	else if (!error)
		status = migrate_follow(&job);
	json_decref(job.arguments);
	return status;
}

int command_resolve(int argc, char **argv)
{
	const char *vm = NULL, *word = NULL;
	struct client client;
	int error;

	for (int i = 1; i < argc; i++)
		*(strncmp(argv[i], "--", 2) != 0 ? &vm : &word) = argv[i];
	if (argc != 3 || !vm || !word ||
	    (strcmp(word, "--own") != 0 && strcmp(word, "--drop") != 0))
		return command_usage("resolve");
	error = client_open(&client, vm, CLIENT_REPLY_MS);
	if (error)
		return error == -ETIMEDOUT || error == -EPROTO ? CLI_FAILED : CLI_INPUT;
	error = client_execute(&client, "x-tern-resolve",
			       json_pack("{s:b}", "own", !strcmp(word, "--own")), NULL);
	client_close(&client);
	return error ? CLI_FAILED : CLI_OK;
}
