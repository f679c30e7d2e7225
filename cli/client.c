// SPDX-License-Identifier: GPL-2.0-or-later
/* The client's side of the control socket. The commands that use it are in client_commands.c and console.c. */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "cli/qmp.h"

#define INPUT_MAX_BYTES (1 << 20)

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* More input: -ETIMEDOUT, -EPIPE. */
static int receive(struct client *client, int64_t deadline_ms)
{
	struct pollfd polled = {.fd = client->fd, .events = POLLIN};
	int64_t left = deadline_ms - now_ms();
	char bytes[4096];
	ssize_t n;

	if (left < 0 || poll(&polled, 1, (int)left) == 0)
		return -ETIMEDOUT;
	n = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -EPIPE;
	return buf_put(&client->in, bytes, (size_t)n) ? -EPROTO : 0;
}

/* The next message. -ETIMEDOUT, -EPIPE, -EPROTO; none logged. */
static int next_message(struct client *client, int64_t deadline_ms, json_t **message)
{
	for (;;) {
		const char *bytes = (const char *)client->in.bytes, *why;
		size_t skip, len = 0;
		enum qmp_cut cut =
			qmp_frame_cut(&client->frame, bytes, client->in.len, &skip, &len, &why);
		int error;

		if (cut == QMP_CUT_MESSAGE)
			*message = json_loadb(bytes + skip, len, 0, NULL);
		buf_consume(&client->in, skip + len);
		if (cut == QMP_CUT_MESSAGE)
			return json_is_object(*message) ? 0 : -EPROTO;
		if (cut == QMP_CUT_GARBAGE)
			return -EPROTO;
		error = receive(client, deadline_ms);
		if (error)
			return error;
	}
}

static int tell(const struct client *client, int error)
{
	switch (error) {
	case -ETIMEDOUT:
		return fail(error, "%s: does not answer", client->vm);
	case -EPIPE:
		return fail(error, "%s: went away", client->vm);
	default:
		return fail(error, "%s: does not speak QMP", client->vm);
	}
}

static int negotiate(struct client *client)
{
	json_t *greeting = NULL;
	int error = next_message(client, now_ms() + client->timeout_ms, &greeting);

	if (!error && !json_is_object(json_object_get(greeting, "QMP"))) {
		const char *desc = json_string_value(
			json_object_get(json_object_get(greeting, "error"), "desc"));

		if (desc)
			error = fail(-EBUSY, "%s: %s", client->vm, desc);
		else
			error = tell(client, -EPROTO);
	} else if (error) {
		tell(client, error);
	}
	json_decref(greeting);
	return error ? error : client_execute(client, "qmp_capabilities", NULL, NULL);
}

int client_open(struct client *client, const char *vm, int timeout_ms)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int error;

	*client = (struct client){.vm = vm, .fd = -1, .timeout_ms = timeout_ms};
	buf_init(&client->in, INPUT_MAX_BYTES);
	if (!strchr(vm, '/')) {
		error = control_path(client->path, vm);
		if (error)
			return error;
	} else if (strlen(vm) < sizeof(client->path)) {
		stpcpy(client->path, vm);
	} else {
		return fail(-EINVAL, "%.60s...: too long a path for a socket", vm);
	}
	memcpy(address.sun_path, client->path, sizeof(address.sun_path));
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return fail(-errno, "%s: socket: %s", vm, strerror(errno));
	if (connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		error = -errno;
		if (error == -ENOENT || error == -ECONNREFUSED)
			fail(error, "%s: no such VM runs (%s)", vm, client->path);
		else
			fail(error, "%s: %s: %s", vm, client->path, strerror(-error));
		client_close(client);
		return error;
	}
	error = negotiate(client);
	if (error)
		client_close(client);
	return error;
}

void client_close(struct client *client)
{
	close_fd(&client->fd);
	buf_fini(&client->in);
}

static int send_all(struct client *client, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = send(client->fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -EPIPE;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* What a message means for who waits for a reply: 1: not a reply. */
static int take_reply(struct client *client, json_t *message, json_t **result)
{
	json_t *value = json_object_get(message, "return"),
	       *error = json_object_get(message, "error");
	const char *desc;

	if (value) {
		if (result)
			*result = json_incref(value);
		return 0;
	}
	if (!error)
		return 1;
	desc = json_string_value(json_object_get(error, "desc"));
	return fail(-EREMOTEIO, "%s: %s", client->vm, desc ? desc : "refused without a reason");
}

int client_execute(struct client *client, const char *command, json_t *arguments, json_t **result)
{
	json_t *message = json_pack("{s:s, s:o*}", "execute", command, "arguments", arguments);
	int64_t deadline = now_ms() + client->timeout_ms;
	AUTO_FREE char *text = json_dumps(message, JSON_COMPACT);
	int error;

	json_decref(message);
	if (!text)
		return fail(-ENOMEM, "%s: no memory", client->vm);
	error = send_all(client, text);
	while (!error) {
		int taken;

		error = next_message(client, deadline, &message);
		if (error)
			break;
		taken = take_reply(client, message, result);
		json_decref(message);
		if (taken <= 0)
			return taken;
	}
	return tell(client, error);
}

int client_wait_event(struct client *client, int timeout_ms, json_t **event)
{
	int64_t deadline = now_ms() + timeout_ms;

	for (;;) {
		json_t *message;
		int error = next_message(client, deadline, &message);

		if (error)
			return error == -EPROTO ? -EPIPE : error;
		if (json_is_string(json_object_get(message, "event"))) {
			*event = message;
			return 0;
		}
		json_decref(message);
	}
}
