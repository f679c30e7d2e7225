// SPDX-License-Identifier: GPL-2.0-or-later
/* The commands that talk to running VMs: list, status, pause, resume, powerdown, reset, stop. Console is console.c. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/client.h"
#include "cli/command.h"

#define LIST_MS		 2000  /* for a VM to answer `tern list` */
#define GONE_MS		 10000 /* from the VM's end to the name being free */
#define STOP_SECONDS	 60
#define STOP_SECONDS_MAX 86400

/* An exit status for what a client function returned. */
static int status_of(int error)
{
	switch (error) {
	case 0:
		return CLI_OK;
	case -EINVAL:
	case -ENOENT:
	case -ECONNREFUSED:
	case -EACCES:
		return CLI_INPUT;
	default:
		return CLI_FAILED;
	}
}

static int execute(const char *vm, const char *command)
{
	struct client client;
	int error = client_open(&client, vm, CLIENT_REPLY_MS);

	if (!error)
		error = client_execute(&client, command, NULL, NULL);
	client_close(&client);
	return status_of(error);
}

int command_simple(int argc, char **argv)
{
	static const struct {
		const char *name, *qmp;
	} commands[] = {
		{"pause", "stop"},
		{"resume", "cont"},
		{"powerdown", "system_powerdown"},
		{"reset", "system_reset"},
	};

	if (argc != 2)
		return command_usage(argv[0]);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[0], commands[i].name))
			return execute(argv[1], commands[i].qmp);
	return command_usage(argv[0]);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

static long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* "512 MiB": the largest unit that loses nothing. */
static const char *size_text(long long bytes, char text[32])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	while (bytes && bytes % 1024 == 0 && unit + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, 32, "%lld %s", bytes, units[unit]);
	return text;
}

static void print_memory(const json_t *memory)
{
	char size[32], huge_page[32], page[32];
	long long huge_page_bytes = number_of(memory, "huge-page-bytes");

	printf("memory    %s", size_text(number_of(memory, "size-bytes"), size));
	if (json_object_get(memory, "resident-bytes")) {
		printf(", %lld MiB resident", number_of(memory, "resident-bytes") >> 20);
		if (huge_page_bytes)
			printf(", of it %lld MiB in pages of %s",
			       number_of(memory, "huge-bytes") >> 20,
			       size_text(huge_page_bytes, huge_page));
		else
			printf(", in pages of %s", size_text(sysconf(_SC_PAGESIZE), page));
	}
	putchar('\n');
}

static void print_disks(const json_t *disks)
{
	const json_t *disk;
	size_t index;

	json_array_foreach(disks, index, disk)
	{
		printf("disk%zu     %s%s%s, %lld queue(s)\n", index, text_of(disk, "path"),
		       is_true(disk, "readonly") ? ", read-only" : "",
		       is_true(disk, "direct") ? ", direct" : ", through the page cache",
		       number_of(disk, "queues"));
	}
}

static void print_nets(const json_t *nets)
{
	const json_t *net;
	size_t index;

	json_array_foreach(nets, index, net)
	{
		const char *note = json_string_value(json_object_get(net, "note"));

		printf("net%zu      %s", index, text_of(net, "backend"));
		if (json_object_get(net, "tap"))
			printf(" %s%s", text_of(net, "tap"),
			       is_true(net, "vhost") ? " (vhost)" : "");
		printf(", mac %s%s%s\n", text_of(net, "mac"), note ? "; " : "", note ? note : "");
	}
}

static void print_migration(const json_t *migration)
{
	const char *text = json_string_value(json_object_get(migration, "text"));

	if (migration)
		printf("migration %s, %s%s%s\n", text_of(migration, "direction"),
		       text_of(migration, "phase"), text ? ": " : "", text ? text : "");
}

static void print_status(const json_t *status)
{
	const json_t *migration = json_object_get(status, "migration");
	const json_t *dirty = json_object_get(status, "dirty-tracking");
	const json_t *serial = json_object_get(status, "serial");

	printf("name      %s\n", text_of(status, "name"));
	printf("status    %s\n", text_of(status, "status"));
	printf("process   %lld\n", number_of(status, "pid"));
	if (!json_object_get(status, "memory")) {
		print_migration(migration); /* no VM yet: it comes from elsewhere */
		return;
	}
	printf("cpus      %lld, %s\n", number_of(status, "cpus"), text_of(status, "cpu"));
	print_memory(json_object_get(status, "memory"));
	printf("dirty     %s", text_of(dirty, "mode"));
	if (number_of(dirty, "ring-entries"))
		printf(" of %lld entries a CPU", number_of(dirty, "ring-entries"));
	printf("%s: %s\n", is_true(dirty, "ring-with-bitmap") ? " with bitmap" : "",
	       text_of(dirty, "reason"));
	print_disks(json_object_get(status, "disks"));
	print_nets(json_object_get(status, "nets"));
	printf("serial    %s", text_of(serial, "kind"));
	if (json_object_get(serial, "pty"))
		printf(" %s", text_of(serial, "pty"));
	if (json_object_get(serial, "path"))
		printf(" %s", text_of(serial, "path"));
	printf("\nsandbox   %s\n", text_of(status, "sandbox"));
	print_migration(migration);
}

static void print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* Takes "--json" out of the words; what is left is *argc. */
static bool take_flag(int *argc, char **argv, const char *flag)
{
	bool found = false;
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (!strcmp(argv[i], flag))
			found = true;
		else
			argv[kept++] = argv[i];
	}
	*argc = kept;
	return found;
}

static int fetch_status(struct client *client, const char *vm, int timeout_ms, json_t **status)
{
	int error = client_open(client, vm, timeout_ms);

	if (!error)
		error = client_execute(client, "x-tern-status", NULL, status);
	client_close(client);
	return error;
}

int command_status(int argc, char **argv)
{
	bool as_json = take_flag(&argc, argv, "--json");
	struct client client;
	json_t *status;
	int error;

	if (argc != 2)
		return command_usage(argv[0]);
	error = fetch_status(&client, argv[1], CLIENT_REPLY_MS, &status);
	if (error)
		return status_of(error);
	if (as_json)
		print_json(status);
	else
		print_status(status);
	json_decref(status);
	return CLI_OK;
}

/* One VM for the list: what it says, or that it does not. A name that nobody holds is stale and not listed. */
static json_t *list_row(const char *directory, const char *file)
{
	size_t len = strlen(file), suffix = strlen(".sock");
	char path[CONTROL_PATH_BYTES];
	struct client client;
	json_t *status;
	pid_t owner;

	if (len <= suffix || strcmp(file + len - suffix, ".sock") != 0 ||
	    snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int)sizeof(path))
		return NULL;
	owner = control_owner(path);
	if (!owner)
		return NULL;
	if (fetch_status(&client, path, LIST_MS, &status))
		return json_pack("{s:s%, s:s, s:i}", "name", file, len - suffix, "status",
				 "not answering", "pid", (int)owner);
	return status;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static json_t *list_all(const char *directory)
{
	json_t *list = json_array();
	struct dirent **entries;
	int n = scandir(directory, &entries, NULL, by_name);

	for (int i = 0; i < n; i++) {
		json_t *row = list_row(directory, entries[i]->d_name);

		if (row)
			json_array_append_new(list, row);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return list;
}

int command_list(int argc, char **argv)
{
	bool as_json = take_flag(&argc, argv, "--json");
	char directory[CONTROL_PATH_BYTES], size[32];
	json_t *list, *vm;
	size_t index;

	if (argc != 1)
		return command_usage(argv[0]);
	if (control_directory(directory, false))
		return CLI_INPUT;
	list = list_all(directory);
	if (as_json)
		print_json(list);
	else if (json_array_size(list))
		printf("%-20s %-15s %8s %5s %10s\n", "NAME", "STATUS", "PROCESS", "CPUS", "MEMORY");
	for (index = 0; !as_json && index < json_array_size(list); index++) {
		vm = json_array_get(list, index);
		printf("%-20s %-15s %8lld %5lld %10s\n", text_of(vm, "name"), text_of(vm, "status"),
		       number_of(vm, "pid"), number_of(vm, "cpus"),
		       size_text(number_of(json_object_get(vm, "memory"), "size-bytes"), size));
	}
	json_decref(list);
	return CLI_OK;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the VM has closed its socket: -ETIMEDOUT. */
static int wait_for_end(struct client *client, int timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;

	for (;;) {
		int64_t left = deadline - now_ms();
		json_t *event;
		int error = client_wait_event(client, left > 0 ? (int)left : 0, &event);

		if (error)
			return error == -EPIPE ? 0 : error;
		json_decref(event);
	}
}

/* The next `tern run` of that name must find it free. */
static int wait_for_name(const char *path)
{
	int64_t deadline = now_ms() + GONE_MS;
	struct timespec pause = {.tv_nsec = 5000000};

	while (control_owner(path)) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* Presses the power button; a guest that is paused must run to notice. */
static int ask_to_end(struct client *client)
{
	json_t *status = NULL;
	int error = client_execute(client, "query-status", NULL, &status);
	bool paused = !strcmp(text_of(status, "status"), "paused");

	json_decref(status);
	if (!error)
		error = client_execute(client, "system_powerdown", NULL, NULL);
	if (!error && paused)
		error = client_execute(client, "cont", NULL, NULL);
	return error;
}

static int stop_vm(const char *vm, bool force, int timeout_s)
{
	struct client client;
	int error = client_open(&client, vm, CLIENT_REPLY_MS);

	if (!error)
		error = force ? client_execute(&client, "quit", NULL, NULL) : ask_to_end(&client);
	if (error)
		goto out;
	error = wait_for_end(&client, timeout_s * 1000);
	if (!error)
		error = wait_for_name(client.path);
	if (error)
		log_error("%s: still there after %d s%s", vm, timeout_s,
			  force ? "" : " (tern stop --force does not ask the guest)");
out:
	client_close(&client);
	return status_of(error);
}

int command_stop(int argc, char **argv)
{
	bool force = take_flag(&argc, argv, "--force");
	long seconds = STOP_SECONDS;

	if (argc == 4 && !strcmp(argv[1], "--timeout")) {
		char *end;

		seconds = strtol(argv[2], &end, 10);
		if (*end || end == argv[2] || seconds < 1 || seconds > STOP_SECONDS_MAX) {
			log_error("stop: --timeout is a number of seconds, 1 to %d",
				  STOP_SECONDS_MAX);
			return CLI_INPUT;
		}
		argv += 2;
		argc -= 2;
	}
	if (argc != 2 || argv[1][0] == '-')
		return command_usage("stop");
	return stop_vm(argv[1], force, (int)seconds);
}
