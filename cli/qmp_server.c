// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket's clients.
 *
 * Theory of operation. Each client has two bounded buffers. Input: at most READ_BYTES are read per wake-up, so clients
 * take turns, and commands are cut from the front. Output: as long as more than QMP_OUTPUT_PAUSE is unread nothing is
 * read from that client and no more of its commands run, so that one who floods without reading waits for itself. Only
 * events come unasked; whoever lets QMP_OUTPUT_BYTES of them pile up is disconnected. A client is freed between
 * callbacks, never under one: a command may send events, and those may find clients to be dead.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "cli/qmp_frame.h"
#include "cli/qmp_table.h"

#define READ_BYTES     4096
#define ACCEPT_REST_US 100000

struct qmp_client {
	struct qmp_client *next;
	struct qmp_server *server;
	struct loop_watch *watch;
	int fd;
	bool dead;
	struct qmp_frame frame;
	struct buf in, out;
	struct qmp_peer peer;
};

struct qmp_server {
	struct loop *loop;
	struct machine *machine;
	struct qmp_owner owner;
	struct loop_watch *watch;
	struct loop_timer *rest; /* while no connection is taken */
	struct qmp_client *clients;
	unsigned int nclients;
	unsigned int busy; /* callbacks under way: no client is freed */
	struct log_limit limit;
};

static void close_fds(struct qmp_fds *fds)
{
	while (fds->n)
		close(fds->fd[--fds->n]);
}

static void client_free(struct qmp_client *client)
{
	loop_watch_free(client->watch);
	close_fd(&client->fd);
	close_fds(&client->peer.fds);
	qmp_close_named_fds(&client->peer);
	buf_fini(&client->in);
	buf_fini(&client->out);
	free(client);
}

static void enter(struct qmp_server *server)
{
	server->busy++;
}

static void leave(struct qmp_server *server)
{
	if (--server->busy)
		return;
	for (struct qmp_client **link = &server->clients; *link;) {
		struct qmp_client *client = *link;

		if (!client->dead) {
			link = &client->next;
			continue;
		}
		*link = client->next;
		server->nclients--;
		client_free(client);
	}
}

static void drop(struct qmp_client *client, const char *why)
{
	if (client->dead)
		return;
	client->dead = true;
	if (why && log_limit_ok(&client->server->limit, 5))
		log_warn("control: a client is disconnected: %s", why);
}

static void flush(struct qmp_client *client)
{
	while (client->out.len && !client->dead) {
		ssize_t n = send(client->fd, client->out.bytes, client->out.len,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			buf_consume(&client->out, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			drop(client, NULL); /* it went away: its right */
		break;
	}
}

static int put_json(const char *bytes, size_t len, void *opaque)
{
	return buf_put(opaque, bytes, len) ? -1 : 0;
}

/* Takes message. */
static void send_json(struct qmp_client *client, json_t *message)
{
	if (client->dead) {
		json_decref(message);
		return;
	}
	if (!message || json_dump_callback(message, put_json, &client->out, JSON_COMPACT) ||
	    buf_put(&client->out, "\r\n", 2))
		drop(client, client->out.error == -ENOSPC ? "it does not read what it is sent"
							  : "no memory");
	json_decref(message);
}

static void run_input(struct qmp_client *client)
{
	size_t taken = 0;

	while (!client->dead && client->out.len <= QMP_OUTPUT_PAUSE) {
		const char *at = (const char *)client->in.bytes + taken, *why;
		size_t skip, len = 0;
		enum qmp_cut cut = qmp_frame_cut(&client->frame, at, client->in.len - taken, &skip,
						 &len, &why);

		taken += skip + len;
		if (cut == QMP_CUT_MORE)
			break;
		if (cut == QMP_CUT_GARBAGE)
			send_json(client, qmp_input_error(why));
		else
			send_json(client,
				  qmp_dispatch(client->server->machine, &client->server->owner,
					       &client->peer, at + skip, len));
		if (client->out.len > QMP_OUTPUT_PAUSE)
			flush(client);
	}
	buf_consume(&client->in, taken);
	/* Every command that came has been answered: what they did not take is nobody's. */
	if (!client->in.len)
		close_fds(&client->peer.fds);
}

static void keep_fds(struct qmp_client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		struct qmp_fds *fds = &client->peer.fds;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds->n < QMP_FDS_MAX)
				fds->fd[fds->n++] = fd;
			else
				close(fd);
		}
	}
}

static void read_input(struct qmp_client *client)
{
	char bytes[READ_BYTES];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(QMP_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(client, NULL);
		return;
	}
	keep_fds(client, &message);
	/* Room is sure: a message that fills it is garbage and was taken out. */
	if (buf_put(&client->in, bytes, (size_t)n))
		drop(client, "no memory");
}

/* What to wait for next. */
static void rearm(struct qmp_client *client)
{
	uint32_t events = 0;

	if (client->dead)
		return;
	if (client->out.len)
		events |= EPOLLOUT;
	if (client->out.len <= QMP_OUTPUT_PAUSE)
		events |= EPOLLIN;
	loop_watch_set(client->watch, events);
}

static void on_client(void *opaque, int fd, uint32_t events)
{
	struct qmp_client *client = opaque;
	struct qmp_server *server = client->server;
	bool reading = client->out.len <= QMP_OUTPUT_PAUSE;

	enter(server);
	if (events & EPOLLOUT)
		flush(client);
	if (reading && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_input(client);
	else if (events & (EPOLLHUP | EPOLLERR))
		drop(client, NULL); /* reset, and it will never read what waits */
	if (!client->dead)
		run_input(client);
	flush(client);
	rearm(client);
	leave(server);
}

static int client_add(struct qmp_server *server, int fd)
{
	struct qmp_client *client = calloc(1, sizeof(*client));
	int error;

	if (!client) {
		close(fd);
		return fail(-ENOMEM, "control: no memory for a client");
	}
	client->server = server;
	client->fd = fd;
	buf_init(&client->in, QMP_MESSAGE_BYTES + READ_BYTES);
	buf_init(&client->out, QMP_OUTPUT_BYTES);
	error = loop_add_fd(server->loop, fd, EPOLLIN, on_client, client, &client->watch);
	if (error) {
		client_free(client);
		return error;
	}
	client->next = server->clients;
	server->clients = client;
	server->nclients++;
	enter(server);
	send_json(client, qmp_greeting());
	flush(client);
	rearm(client);
	leave(server);
	return 0;
}

/*
 * When all places are taken, a client that never negotiated makes room, or one that left descriptors here (its own
 * socket may be among them, and then nobody would ever see it close).
 */
static void make_room(struct qmp_server *server)
{
	enter(server);
	for (struct qmp_client *client = server->clients; client; client = client->next) {
		if (!client->peer.negotiated || client->peer.fds.n || client->peer.named.n) {
			drop(client, "its place is needed and it does nothing with it");
			break;
		}
	}
	leave(server);
}

/* false: nobody else waits. */
static bool accept_one(struct qmp_server *server, int listen_fd)
{
	static const char full[] =
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients\"}}\r\n";
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
			return false;
		/* Out of descriptors: the listener stays ready, and must not keep the loop busy. */
		if (log_limit_ok(&server->limit, 1))
			log_warn("control: accept: %s", strerror(errno));
		loop_watch_set(server->watch, 0);
		loop_timer_arm(server->rest, ACCEPT_REST_US);
		return false;
	}
	if (server->nclients >= QMP_CLIENTS_MAX)
		make_room(server);
	if (server->nclients >= QMP_CLIENTS_MAX) {
		ssize_t sent = send(fd, full, sizeof(full) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);

		(void)sent;
		close(fd);
		return true;
	}
	if (client_add(server, fd))
		log_warn("control: a client was not served");
	return true;
}

static void on_connection(void *opaque, int listen_fd, uint32_t events)
{
	for (int i = 0; i < QMP_CLIENTS_MAX && accept_one(opaque, listen_fd); i++)
		;
}

static void on_rested(void *opaque)
{
	struct qmp_server *server = opaque;

	loop_watch_set(server->watch, EPOLLIN);
}

int qmp_server_new(struct qmp_server **out, struct loop *loop, struct machine *machine,
		   int listen_fd, const struct qmp_owner *owner)
{
	struct qmp_server *server = calloc(1, sizeof(*server));
	int error;

	if (!server)
		return fail(-ENOMEM, "control: no memory");
	server->loop = loop;
	server->machine = machine;
	server->owner = *owner;
	error = loop_timer_new(loop, on_rested, server, &server->rest);
	if (!error)
		error = loop_add_fd(loop, listen_fd, EPOLLIN, on_connection, server,
				    &server->watch);
	if (error) {
		loop_timer_free(server->rest);
		free(server);
		return error;
	}
	*out = server;
	return 0;
}

void qmp_server_set_machine(struct qmp_server *server, struct machine *machine)
{
	if (server)
		server->machine = machine;
}

void qmp_server_free(struct qmp_server *server)
{
	if (!server)
		return;
	loop_watch_free(server->watch);
	loop_timer_free(server->rest);
	while (server->clients) {
		struct qmp_client *client = server->clients;

		server->clients = client->next;
		flush(client);
		client_free(client);
	}
	free(server);
}

unsigned int qmp_server_clients(const struct qmp_server *server)
{
	unsigned int n = 0;

	for (const struct qmp_client *client = server ? server->clients : NULL; client;
	     client = client->next)
		n += client->peer.negotiated && !client->dead;
	return n;
}

void qmp_server_event(struct qmp_server *server, const char *event, json_t *data)
{
	struct timespec now;
	json_t *message;

	if (!server) {
		json_decref(data);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	message = json_pack("{s:s, s:{s:I, s:I}}", "event", event, "timestamp", "seconds",
			    (json_int_t)now.tv_sec, "microseconds",
			    (json_int_t)(now.tv_nsec / 1000));
	if (data)
		json_object_set_new(message, "data", data);
	enter(server);
	for (struct qmp_client *client = server->clients; client; client = client->next) {
		if (!client->peer.negotiated)
			continue;
		send_json(client, json_incref(message));
		flush(client);
		rearm(client);
	}
	leave(server);
	json_decref(message);
}

json_t *qmp_shutdown_data(bool guest, const char *reason)
{
	return json_pack("{s:b, s:s}", "guest", guest, "reason", reason);
}

json_t *qmp_reset_data(bool guest)
{
	return json_pack("{s:b, s:s}", "guest", guest, "reason",
			 guest ? "guest-reset" : "host-qmp-system-reset");
}

json_t *qmp_panic_data(void)
{
	return json_pack("{s:s}", "action", "poweroff");
}
