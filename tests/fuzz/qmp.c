// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the control socket as a client sees it: bytes go through a real socket into the server, over a fake machine.
 * The first byte chooses how they are cut into packets, and by its highest bit a target that waits, without a machine; a byte
 * 0xfe in between makes the machine send an event.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/qmp_table.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/fake_outgoing.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void on_quit(void *opaque, const char *reason)
{
}

static void on_phase(void *opaque, enum migration_phase phase)
{
}

static void on_gone(void *opaque)
{
}

/* ---- A target that waits ---- */

struct target {
	struct qmp_migration migration;
	struct loop *loop;
};

static void on_listening(void *opaque, const char *address)
{
}

static int on_build(void *opaque, struct config *config, struct machine **machine)
{
	return -EINVAL;
}

static void on_over(void *opaque, const char *text)
{
}

static int on_listen(void *opaque, const char *uri, const char *tls)
{
	struct target *target = opaque;
	struct qmp_migration *migration = &target->migration;
	const struct incoming_owner owner = {
		.listening = on_listening, .phase = on_phase, .build = on_build, .over = on_over};

	return incoming_listen(&migration->incoming, uri, tls, &migration->params, target->loop,
			       NULL, &owner);
}

static void spin(struct loop *loop)
{
	while (loop_run_once(loop, 0) > 0)
		;
}

/* Reads what was answered and checks that each line is a JSON object. */
static void check_replies(int fd)
{
	static char text[4 << 20];
	size_t len = 0;
	char *line = text, *end;
	ssize_t n;

	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	for (; (end = strstr(line, "\r\n")); line = end + 2) {
		json_t *root = json_loadb(line, (size_t)(end - line), 0, NULL);

		if (!json_is_object(root))
			abort();
		json_decref(root);
	}
	if (*line)
		abort(); /* half a line: replies are whole or not there */
}

static void feed(struct loop *loop, struct qmp_server *server, int fd, const uint8_t *bytes,
		 size_t n)
{
	size_t chunk = n ? (size_t)(bytes[0] & 0x7f) * 16 + 1 : 1;

	for (size_t i = 1; i < n; i += chunk) {
		size_t more = chunk < n - i ? chunk : n - i;

		if (memchr(bytes + i, 0xfe, more))
			qmp_server_event(server, "RESET", qmp_reset_data(true));
		if (send(fd, bytes + i, more, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return;
		spin(loop);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(address);
	const struct outgoing_events events = {.phase = on_phase, .gone = on_gone};
	struct target target = {};
	struct qmp_migration *migration = &target.migration;
	struct qmp_owner owner = {.quit = on_quit, .migration = migration};
	struct qmp_server *server;
	struct machine machine;
	bool waits = n && bytes[0] & 0x80;
	struct loop *loop;
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	log_level = LOG_ERROR;
	json_object_seed(1);
	fake_machine_init(&machine);
	migration_params_init(&migration->params);
	if (loop_new(&loop) || outgoing_new(&migration->outgoing, &machine, loop, NULL, &events) ||
	    bind(listen_fd, (struct sockaddr *)&address, sizeof(sa_family_t)) ||
	    listen(listen_fd, 4) || getsockname(listen_fd, (struct sockaddr *)&address, &len) ||
	    qmp_server_new(&server, loop, waits ? NULL : &machine, listen_fd, &owner) ||
	    connect(fd, (struct sockaddr *)&address, len))
		abort();
	target.loop = loop;
	if (waits) {
		outgoing_free(migration->outgoing);
		migration->outgoing = NULL;
		migration->listen = on_listen;
		migration->listen_opaque = &target;
	}
	spin(loop);
	feed(loop, server, fd, bytes, n);
	check_replies(fd);
	close(fd);
	spin(loop);
	qmp_server_free(server);
	if (migration->params.channels < 1 || migration->params.channels > MIGRATION_CHANNELS_MAX)
		abort();
	outgoing_free(migration->outgoing);
	incoming_free(migration->incoming);
	loop_free(loop);
	fake_machine_fini(&machine);
	close(listen_fd);
	return 0;
}
