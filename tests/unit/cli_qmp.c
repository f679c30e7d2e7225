// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cli/qmp_*: the protocol over real sockets with a fake machine: negotiation, commands, errors and their classes, ids,
 * events; several clients; clients that flood, stall, send garbage or vanish.
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>

#include "cli/qmp_table.h"
#include "tests/unit/fake_machine.h"
#include "tests/unit/fake_outgoing.h"

struct fixture {
	struct loop *loop;
	struct machine machine;
	struct qmp_server *server;
	struct sockaddr_un address;
	int listen_fd;
	char *quit_reason;
};

static void on_quit(void *opaque, const char *reason)
{
	struct fixture *f = opaque;

	g_free(f->quit_reason);
	f->quit_reason = g_strdup(reason);
}

static void on_event(void *opaque, enum machine_event event, bool guest)
{
	struct fixture *f = opaque;

	if (event == MACHINE_EVENT_STOP)
		qmp_server_event(f->server, "STOP", NULL);
	if (event == MACHINE_EVENT_RESUME)
		qmp_server_event(f->server, "RESUME", NULL);
	if (event == MACHINE_EVENT_RESET)
		qmp_server_event(f->server, "RESET", qmp_reset_data(guest));
}

static void set_up(struct fixture *f, gconstpointer data)
{
	struct qmp_owner owner = {.opaque = f, .quit = on_quit};
	socklen_t len = sizeof(f->address);

	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	fake_machine_init(&f->machine);
	f->machine.events = (struct machine_events){.opaque = f, .event = on_event};
	/* An abstract address that the kernel chooses. */
	f->address.sun_family = AF_UNIX;
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	g_assert_cmpint(bind(f->listen_fd, (struct sockaddr *)&f->address, sizeof(sa_family_t)), ==,
			0);
	g_assert_cmpint(listen(f->listen_fd, 64), ==, 0);
	g_assert_cmpint(getsockname(f->listen_fd, (struct sockaddr *)&f->address, &len), ==, 0);
	g_assert_cmpint(qmp_server_new(&f->server, f->loop, &f->machine, f->listen_fd, &owner), ==,
			0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	qmp_server_free(f->server);
	loop_free(f->loop);
	fake_machine_fini(&f->machine);
	close(f->listen_fd);
	g_free(f->quit_reason);
}

static void spin(struct fixture *f)
{
	while (loop_run_once(f->loop, 0) > 0)
		;
}

static int connect_to(struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len =
		offsetof(struct sockaddr_un, sun_path) + 6; /* abstract: a NUL and five digits */

	g_assert_cmpint(connect(fd, (struct sockaddr *)&f->address, len), ==, 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	spin(f);
	return fd;
}

/* All that waits to be read; NULL: the other end has closed. */
static char *receive(struct fixture *f, int fd)
{
	GString *out = g_string_new(NULL);

	for (;;) {
		char bytes[4096];
		ssize_t n;

		spin(f);
		n = read(fd, bytes, sizeof(bytes));
		if (n > 0) {
			g_string_append_len(out, bytes, n);
			continue;
		}
		if (n == 0 && !out->len) {
			g_string_free(out, TRUE);
			return NULL;
		}
		return g_string_free(out, FALSE);
	}
}

static void push(int fd, const char *text)
{
	g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (ssize_t)strlen(text));
}

static char *ask(struct fixture *f, int fd, const char *text)
{
	push(fd, text);
	return receive(f, fd);
}

static void expect(struct fixture *f, int fd, const char *text, const char *reply)
{
	g_autofree char *got = ask(f, fd, text);
	g_autofree char *wanted = g_strconcat(reply, "\r\n", NULL);

	g_assert_cmpstr(got, ==, wanted);
}

static void expect_has(struct fixture *f, int fd, const char *text, const char *part)
{
	g_autofree char *got = ask(f, fd, text);

	g_test_message("%s -> %s", text, got);
	g_assert_nonnull(strstr(got, part));
}

static int negotiated(struct fixture *f)
{
	int fd = connect_to(f);

	g_free(receive(f, fd)); /* the greeting */
	expect(f, fd, "{\"execute\": \"qmp_capabilities\"}", "{\"return\":{}}");
	return fd;
}

static void test_negotiation(struct fixture *f, gconstpointer data)
{
	int fd = connect_to(f);
	g_autofree char *greeting = receive(f, fd);
	json_t *root = json_loads(greeting, 0, NULL), *qmp = json_object_get(root, "QMP");

	g_assert_true(json_is_array(json_object_get(qmp, "capabilities")));
	g_assert_true(json_is_integer(json_object_get(
		json_object_get(json_object_get(qmp, "version"), "qemu"), "major")));
	json_decref(root);
	expect_has(f, fd, "{\"execute\": \"query-status\", \"id\": 1}", "CommandNotFound");
	expect_has(f, fd, "{\"execute\": \"nonsense\"}", "CommandNotFound");
	expect_has(f, fd,
		   "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}",
		   "GenericError");
	expect(f, fd,
	       "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": []}, \"id\": "
	       "\"x\"}",
	       "{\"return\":{},\"id\":\"x\"}");
	expect_has(f, fd, "{\"execute\": \"qmp_capabilities\"}", "CommandNotFound");
	close(fd);
}

static void test_queries(struct fixture *f, gconstpointer data)
{
	int fd = negotiated(f);

	g_assert_cmpint(config_set(&f->machine.config, "disk", "a.img,readonly=on"), ==, 0);
	g_assert_cmpint(config_set(&f->machine.config, "net", "tap=tap0"), ==, 0);
	expect(f, fd, "{\"execute\": \"query-status\"}",
	       "{\"return\":{\"status\":\"running\",\"running\":true}}");
	expect(f, fd, "{\"execute\": \"query-name\", \"id\": {\"deep\": [1]}}",
	       "{\"return\":{\"name\":\"fake\"},\"id\":{\"deep\":[1]}}");
	expect_has(f, fd, "{\"execute\": \"query-version\"}",
		   "\"package\":\"tern " TERN_VERSION "\"");
	expect_has(f, fd, "{\"execute\": \"query-commands\"}", "{\"name\":\"query-block\"}");
	expect_has(f, fd, "{\"execute\": \"query-cpus-fast\"}", "\"thread-id\":1001");
	expect_has(f, fd, "{\"execute\": \"query-block\"}", "\"ro\":true");
	expect_has(f, fd, "{\"execute\": \"query-kvm\"}", "\"enabled\":true");
	expect_has(f, fd, "{\"execute\": \"query-uuid\"}", "00000000-0000-0000-0000-000000000000");
	expect_has(f, fd, "{\"execute\": \"x-tern-status\"}", "\"reason\":\"the host offers it\"");
	close(fd);
}

static void test_errors(struct fixture *f, gconstpointer data)
{
	static const char *const generic[] = {
		"[]",
		"{}",
		"{\"execute\": 1}",
		"{\"execute\": \"stop\", \"arguments\": []}",
		"{\"execute\": \"stop\", \"arguments\": {\"x\": 1}}",
		"{\"execute\": \"stop\", \"other\": 1}",
		"{\"execute\": \"stop\", \"execute\": \"cont\"}",
		"{\"execute\": \"stop\\u0000\"}",
		"{\"execute\": \"\xc3\x28\"}",
		"{,}",
		"hello\n",
		"{\"a\n",
	};
	int fd = negotiated(f);

	for (size_t i = 0; i < ARRAY_SIZE(generic); i++)
		expect_has(f, fd, generic[i], "\"class\":\"GenericError\"");
	expect_has(f, fd, "{\"execute\": \"nonsense\", \"id\": 7}", "CommandNotFound");
	expect_has(f, fd, "{\"execute\": \"nonsense\", \"id\": 7}", "\"id\":7");
	g_assert_cmpint(f->machine.status, ==, MACHINE_RUNNING);
	f->machine.pause_error = -EBUSY;
	expect(f, fd, "{\"execute\": \"stop\"}",
	       "{\"error\":{\"class\":\"GenericError\",\"desc\":\"fake: disk0 did not drain\"}}");
	expect(f, fd, "{\"execute\": \"query-status\"}",
	       "{\"return\":{\"status\":\"running\",\"running\":true}}");
	close(fd);
}

static void test_lifecycle_and_events(struct fixture *f, gconstpointer data)
{
	int fd = negotiated(f), other = negotiated(f), mute = connect_to(f);
	g_autofree char *events = NULL, *nothing = NULL;
	json_t *root, *stamp;
	json_error_t why;

	g_free(receive(f, mute));
	expect_has(f, fd, "{\"execute\": \"stop\"}", "\"event\":\"STOP\"");
	events = receive(f, other);
	root = json_loads(events, JSON_DISABLE_EOF_CHECK, &why);
	stamp = json_object_get(root, "timestamp");
	g_assert_cmpstr(json_string_value(json_object_get(root, "event")), ==, "STOP");
	g_assert_cmpint(json_integer_value(json_object_get(stamp, "seconds")), >, 1700000000);
	g_assert_cmpint(json_integer_value(json_object_get(stamp, "microseconds")), <, 1000000);
	json_decref(root);
	expect(f, fd, "{\"execute\": \"query-status\"}",
	       "{\"return\":{\"status\":\"paused\",\"running\":false}}");
	expect(f, fd, "{\"execute\": \"stop\"}",
	       "{\"return\":{}}"); /* paused already: no second event */
	expect_has(f, fd, "{\"execute\": \"cont\"}", "RESUME");
	expect_has(f, fd, "{\"execute\": \"system_reset\"}", "\"data\":{\"guest\":false");
	expect(f, fd, "{\"execute\": \"system_powerdown\"}", "{\"return\":{}}");
	g_assert_cmpuint(f->machine.resets, ==, 1);
	g_assert_cmpuint(f->machine.powerdowns, ==, 1);
	expect(f, fd, "{\"execute\": \"quit\"}", "{\"return\":{}}");
	g_assert_cmpstr(f->quit_reason, ==, "host-qmp-quit");
	nothing = receive(f, mute); /* events are for those who negotiated */
	g_assert_cmpstr(nothing, ==, "");
	close(fd);
	close(other);
	close(mute);
}

static void test_split_and_joined(struct fixture *f, gconstpointer data)
{
	static const char two[] =
		"{\"execute\": \"query-name\", \"id\": 1}{\"execute\": \"query-name\", \"id\": 2}";
	static const char replies[] = "{\"return\":{\"name\":\"fake\"},\"id\":1}\r\n"
				      "{\"return\":{\"name\":\"fake\"},\"id\":2}\r\n";
	int fd = negotiated(f);
	g_autofree char *joined = ask(f, fd, two), *split = NULL;
	GString *all = g_string_new(NULL);

	g_assert_cmpstr(joined, ==, replies);
	for (size_t i = 0; i < strlen(two); i++) {
		char byte[2] = {two[i], '\0'};
		g_autofree char *part = ask(f, fd, byte);

		g_string_append(all, part);
	}
	split = g_string_free(all, FALSE);
	g_assert_cmpstr(split, ==, replies);
	close(fd);
}

/* Floods with commands and reads nothing: the server stops taking them, and others are served. */
static void test_flood(struct fixture *f, gconstpointer data)
{
	static const char command[] = "{\"execute\": \"query-commands\"}\n";
	int flood = negotiated(f), fd = negotiated(f);
	size_t sent = 0, replies = 0;
	ssize_t n;
	char *text;

	for (int i = 0; i < 100000; i++) {
		spin(f);
		n = send(flood, command, sizeof(command) - 1, MSG_NOSIGNAL);
		if (n < 0)
			break;
		g_assert_cmpint(n, ==, sizeof(command) - 1); /* or the next one is garbage */
		sent++;
	}
	g_assert_cmpint(n, <, 0);
	g_assert_cmpint(errno, ==, EAGAIN); /* back pressure, not a disconnection */
	expect(f, fd, "{\"execute\": \"query-name\"}", "{\"return\":{\"name\":\"fake\"}}");
	/* When it reads at last, each command has its answer. */
	text = receive(f, flood);
	for (const char *at = text; (at = strstr(at, "{\"return\"")); at++)
		replies++;
	g_free(text);
	g_assert_cmpuint(replies, ==, sent);
	close(flood);
	close(fd);
}

/* Reads nothing while events come: disconnected when the bound is reached, and not before. */
static void test_stall(struct fixture *f, gconstpointer data)
{
	int stall = negotiated(f), fd = negotiated(f);
	char *text = NULL;

	for (int i = 0; i < 40000; i++) {
		qmp_server_event(f->server, "RESET", qmp_reset_data(true));
		if (i % 100 == 0) {
			spin(f);
			g_free(receive(f, fd));
		}
	}
	g_free(receive(f, fd));
	expect(f, fd, "{\"execute\": \"query-name\"}", "{\"return\":{\"name\":\"fake\"}}");
	/* What was in the socket is there, then the end. */
	g_free(receive(f, stall));
	text = receive(f, stall);
	g_assert_null(text);
	close(stall);
	close(fd);
}

static void test_garbage(struct fixture *f, gconstpointer data)
{
	int fd = negotiated(f);
	GRand *random = g_rand_new_with_seed(1);
	g_autofree char *last = NULL;

	for (int i = 0; i < 200; i++) {
		char bytes[1000];

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = (char)g_rand_int(random);
		if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) < 0)
			break;
		g_free(receive(f, fd));
	}
	g_rand_free(random);
	/* A line end and 0xff bring any state back to the start. */
	g_free(ask(f, fd, "\n\xff\n"));
	expect(f, fd, "{\"execute\": \"query-name\"}", "{\"return\":{\"name\":\"fake\"}}");
	/* Too long for a message: told, and the next line counts. */
	push(fd, "{\"");
	for (int i = 0; i < QMP_MESSAGE_BYTES / 1000 + 10; i++) {
		char bytes[1000];

		memset(bytes, 'x', sizeof(bytes));
		g_assert_cmpint(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), ==, sizeof(bytes));
		spin(f);
	}
	last = ask(f, fd, "\n{\"execute\": \"query-name\"}");
	g_assert_nonnull(strstr(last, "too long"));
	g_assert_nonnull(strstr(last, "{\"return\":{\"name\":\"fake\"}}"));
	close(fd);
}

static void test_many_clients(struct fixture *f, gconstpointer data)
{
	int fd[QMP_CLIENTS_MAX], one_more;
	g_autofree char *full = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = negotiated(f);
	one_more = connect_to(f);
	full = receive(f, one_more);
	g_assert_nonnull(strstr(full, "too many clients"));
	g_assert_null(receive(f, one_more));
	close(one_more);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		expect(f, fd[i], "{\"execute\": \"query-name\"}",
		       "{\"return\":{\"name\":\"fake\"}}");
	close(fd[3]);
	spin(f);
	fd[3] = negotiated(f); /* a place became free */
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);
}

static void test_vanishing(struct fixture *f, gconstpointer data)
{
	int fd = negotiated(f), gone = negotiated(f);

	push(gone, "{\"execute\": \"query-commands\"}{\"execute\": ");
	close(gone); /* with a reply unread and a command half sent */
	expect_has(f, fd, "{\"execute\": \"stop\"}", "STOP");
	close(fd);
	spin(f);
	qmp_server_event(f->server, "RESUME", NULL);
}

static void send_fds(int socket_fd, const char *text, const int *fds, size_t n)
{
	char control[CMSG_SPACE(sizeof(int) * 32)] = {};
	struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	g_assert_cmpint(sendmsg(socket_fd, &message, 0), ==, (ssize_t)strlen(text));
}

static unsigned int open_fds(void)
{
	GDir *directory = g_dir_open("/proc/self/fd", 0, NULL);
	unsigned int n = 0;

	while (g_dir_read_name(directory))
		n++;
	g_dir_close(directory);
	return n;
}

/* Descriptors that no command wants are closed once their command is answered. */
static void test_unwanted_fds(struct fixture *f, gconstpointer data)
{
	int fd = negotiated(f), sent[20];
	unsigned int before = open_fds();

	for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
		sent[i] = fd;
	send_fds(fd, "{\"execute\": ", sent, ARRAY_SIZE(sent));
	spin(f);
	g_assert_cmpuint(open_fds(), ==, before + QMP_FDS_MAX);
	g_free(ask(f, fd, "\"query-name\"}"));
	g_assert_cmpuint(open_fds(), ==, before);
	close(fd);
	spin(f);
	g_assert_cmpuint(open_fds(), ==, before - 2);
}

/* getfd keeps a descriptor for its client, under a name, bounded; closefd and the client's end close it. */
static void test_named_fds(struct fixture *f, gconstpointer data)
{
	static const char getfd[] = "{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"%s\"}}";
	int fd = negotiated(f), other = negotiated(f), null = open("/dev/null", O_RDONLY);
	unsigned int before = open_fds();
	g_autofree char *a = g_strdup_printf(getfd, "a"), *digit = g_strdup_printf(getfd, "1a");

	expect_has(f, fd, a, "GenericError"); /* none came with it */
	send_fds(fd, digit, &null, 1);
	g_free(receive(f, fd)); /* a name begins with no digit */
	g_assert_cmpuint(open_fds(), ==, before);
	for (int i = 0; i < 3; i++) { /* the same name again: the older one is closed */
		g_autofree char *reply = NULL;

		send_fds(fd, a, &null, 1);
		reply = receive(f, fd);
		g_assert_cmpstr(reply, ==, "{\"return\":{}}\r\n");
		g_assert_cmpuint(open_fds(), ==, before + 1);
	}
	expect_has(f, other, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"a\"}}",
		   "GenericError");
	expect(f, fd, "{\"execute\": \"closefd\", \"arguments\": {\"fdname\": \"a\"}}",
	       "{\"return\":{}}");
	g_assert_cmpuint(open_fds(), ==, before);
	for (int i = 0; i < QMP_FDS_MAX + 5; i++) {
		g_autofree char *name = g_strdup_printf("n%d", i),
				*command = g_strdup_printf(getfd, name);
		g_autofree char *reply = NULL;

		send_fds(fd, command, &null, 1);
		reply = receive(f, fd);
		g_assert_true(!!strstr(reply, "return") == (i < QMP_FDS_MAX));
	}
	g_assert_cmpuint(open_fds(), ==, before + QMP_FDS_MAX);
	close(fd);
	spin(f);
	g_assert_cmpuint(open_fds(), ==, before - 2);
	close(other);
	close(null);
}

/* Clients that hold all places and do nothing (one way never to be seen closing: sending one's own socket) make room. */
static void test_room(struct fixture *f, gconstpointer data)
{
	int fd[QMP_CLIENTS_MAX], late;

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = i % 2 ? connect_to(f) : negotiated(f);
		if (i % 2 == 0) {
			send_fds(fd[i], "{", &fd[i], 1);
			spin(f);
			close(fd[i]);
		}
	}
	spin(f);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		late = negotiated(f);
		expect(f, late, "{\"execute\": \"query-name\"}",
		       "{\"return\":{\"name\":\"fake\"}}");
		close(late);
		spin(f);
	}
	for (size_t i = 1; i < ARRAY_SIZE(fd); i += 2)
		close(fd[i]);
}

int main(int argc, char **argv)
{
#define ADD(name, fn) g_test_add("/qmp/" name, struct fixture, NULL, set_up, fn, tear_down)
	g_test_init(&argc, &argv, NULL);
	json_object_seed(1);
	ADD("negotiation", test_negotiation);
	ADD("queries", test_queries);
	ADD("errors", test_errors);
	ADD("lifecycle-and-events", test_lifecycle_and_events);
	ADD("split-and-joined", test_split_and_joined);
	ADD("flood", test_flood);
	ADD("stall", test_stall);
	ADD("garbage", test_garbage);
	ADD("many-clients", test_many_clients);
	ADD("vanishing", test_vanishing);
	ADD("unwanted-fds", test_unwanted_fds);
	ADD("room", test_room);
	ADD("named-fds", test_named_fds);
	return g_test_run();
}
