// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The broker process and the VMM's side of talking to it.
 *
 * Theory of operation. A SOCK_SEQPACKET pair keeps requests apart: one packet is one request, one packet is its answer
 * (an error number, and the descriptor as SCM_RIGHTS where there is one). The VMM waits for each answer, so there is never
 * more than one under way. When the VMM is gone, by whatever death, the broker reads end-of-file and exits.
 */
#include "vmm/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

#define SPAWN 100 /* beside enum broker_open */

struct request {
	uint32_t how;			/* enum broker_open, or SPAWN */
	uint32_t len;			/* SPAWN: of its bytes */
	char path[BROKER_PATH_MAX + 1]; /* SPAWN: its bytes */
};
#define ANSWER_FDS 2

static const int open_flags[] = {
	[BROKER_READ] = O_RDONLY,
	[BROKER_READ_WRITE] = O_RDWR,
	[BROKER_CREATE] = O_RDWR | O_CREAT | O_EXCL,
};

/* The broker's own side. */
struct server {
	int socket;
	const struct sandbox *sandbox;
	broker_child_fn *child;
};

/* Returns a descriptor or -errno. O_NONBLOCK: a named pipe must not hold the broker up. */
static int serve_open(const struct request *request)
{
	int fd;

	if (request->how >= ARRAY_SIZE(open_flags))
		return -EINVAL;
	fd = openat(AT_FDCWD, request->path,
		    open_flags[request->how] | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	return fd < 0 ? -errno : fd;
}

union fd_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(ANSWER_FDS * sizeof(int))];
};

/* One packet with an int32_t and n descriptors. */
static int send_answer(int socket, int32_t error, const int *fds, unsigned int n)
{
	struct iovec iov = {.iov_base = &error, .iov_len = sizeof(error)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_control control = {};

	if (n) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Standard error for logs stays, and what is named; everything else is somebody else's. */
static void close_all_but(int keep, int keep2)
{
	int low = keep < keep2 ? keep : keep2, high = keep < keep2 ? keep2 : keep;

	if (low > 3)
		syscall(SYS_close_range, 3, low - 1, 0);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0U, 0);
}

/* The numbers of standard input and output stay taken: a socket that got one would be closed as such in a child. */
static void let_go_of_terminal(void)
{
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
}

/* Forks a child whose ends stay there; the others go into fds. 0 or -errno. */
static int serve_spawn(const struct server *server, const struct request *request, int fds[2])
{
	int pairs[2][2] = {{-1, -1}, {-1, -1}};
	int error = 0;
	pid_t pid;

	if (!server->child || request->len > BROKER_REQUEST_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < 2 && !error; i++)
		error = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pairs[i]) ? -errno
											: 0;
	pid = error ? -1 : fork();
	if (pid < 0 && !error)
		error = -errno;
	if (pid == 0) {
		int ends[2] = {pairs[0][1], pairs[1][1]};

		close_all_but(ends[0], ends[1]);
		_exit(server->child(request->path, request->len, ends, server->sandbox));
	}
	for (unsigned int i = 0; i < 2; i++) {
		fds[i] = pairs[i][0];
		close_fd(&pairs[i][1]);
		if (error)
			close_fd(&fds[i]);
	}
	return error;
}

/* False at the end of the VMM. */
static bool serve_one(const struct server *server)
{
	struct request request = {};
	ssize_t got = recv(server->socket, &request, sizeof(request), 0);
	int fds[ANSWER_FDS] = {-1, -1}, error = -EINVAL;
	unsigned int n = 0;

	if (got < 0 && errno == EINTR)
		return true;
	if (got <= 0)
		return false;
	request.path[BROKER_PATH_MAX] = '\0';
	if ((size_t)got == sizeof(request) && request.how == SPAWN) {
		error = serve_spawn(server, &request, fds);
		n = error ? 0 : 2;
	} else if ((size_t)got == sizeof(request) && request.path[0]) {
		fds[0] = serve_open(&request);
		error = fds[0] < 0 ? fds[0] : 0;
		n = error ? 0 : 1;
	}
	error = send_answer(server->socket, error, fds, n);
	for (unsigned int i = 0; i < n; i++)
		close_fd(&fds[i]);
	return error == 0;
}

static _Noreturn void serve(const struct server *server)
{
	prctl(PR_SET_NAME, "tern-broker");
	/* The terminal's signals are the VMM's to answer; its end is what ends the broker. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* children are nobody's to wait for */
	if (sandbox_enter(server->sandbox, SANDBOX_BROKER) == 0) {
		while (serve_one(server))
			;
	}
	_exit(0);
}

int broker_start(struct broker *broker, const struct sandbox *sandbox, broker_child_fn *child)
{
	int pair[2];

	*broker = (struct broker){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(-errno, "broker: socketpair: %s", strerror(errno));
	broker->pid = fork();
	if (broker->pid < 0) {
		int error = fail(-errno, "broker: fork: %s", strerror(errno));

		close(pair[0]);
		close(pair[1]);
		return error;
	}
	if (broker->pid == 0) {
		struct server server = {.socket = pair[1], .sandbox = sandbox, .child = child};

		let_go_of_terminal();
		close_all_but(pair[1], pair[1]);
		serve(&server);
	}
	close(pair[1]);
	broker->fd = pair[0];
	return 0;
}

void broker_stop(struct broker *broker)
{
	if (broker->fd < 0)
		return;
	close_fd(&broker->fd);
	while (waitpid(broker->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int receive_answer(struct broker *broker, int fds[ANSWER_FDS])
{
	int32_t error = -EPIPE;
	struct iovec iov = {.iov_base = &error, .iov_len = sizeof(error)};
	union fd_control control = {};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	struct pollfd poll_fd = {.fd = broker->fd, .events = POLLIN};
	struct cmsghdr *header;

	for (unsigned int i = 0; i < ANSWER_FDS; i++)
		fds[i] = -1;
	switch (poll(&poll_fd, 1, BROKER_WAIT_MS)) {
	case 0:
		return -ETIMEDOUT;
	case -1:
		return -errno;
	}
	if (recvmsg(broker->fd, &message, MSG_CMSG_CLOEXEC) != sizeof(error))
		return -EPIPE;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
		size_t bytes = header->cmsg_len - CMSG_LEN(0);

		memcpy(fds, CMSG_DATA(header),
		       bytes < ANSWER_FDS * sizeof(int) ? bytes : ANSWER_FDS * sizeof(int));
	}
	return error;
}

/* what: for messages. */
static int ask(struct broker *broker, const struct request *request, const char *what,
	       int fds[ANSWER_FDS])
{
	int error;

	if (send(broker->fd, request, sizeof(*request), MSG_NOSIGNAL) < 0)
		return fail(-errno, "broker: %s: %s", what, strerror(errno));
	error = receive_answer(broker, fds);
	/* An answer that comes too late would be taken for the next one's. */
	if (error == -ETIMEDOUT || error == -EPIPE)
		shutdown(broker->fd, SHUT_RDWR);
	if (error)
		return fail(error, "broker: %s: %s", what, strerror(-error));
	return 0;
}

int broker_open(struct broker *broker, enum broker_open how, const char *path, int *fd)
{
	struct request request = {.how = how};
	size_t len = strlen(path);
	int fds[ANSWER_FDS] = {-1, -1}, error;

	*fd = -1;
	if (len == 0 || len > BROKER_PATH_MAX)
		return fail(-ENAMETOOLONG, "broker: path of %zu bytes", len);
	memcpy(request.path, path, len);
	error = ask(broker, &request, path, fds);
	if (error)
		return error;
	close_fd(&fds[1]);
	if (fds[0] < 0)
		return fail(-EPIPE, "broker: %s: no descriptor came back", path);
	*fd = fds[0];
	return 0;
}

int broker_spawn(struct broker *broker, const void *bytes, size_t len, int ends[2])
{
	struct request request = {.how = SPAWN, .len = (uint32_t)len};
	int error;

	ends[0] = ends[1] = -1;
	if (len > BROKER_REQUEST_MAX)
		return fail(-EINVAL, "broker: a request of %zu bytes", len);
	memcpy(request.path, bytes, len);
	error = ask(broker, &request, "a new process", ends);
	if (!error && (ends[0] < 0 || ends[1] < 0))
		error = fail(-EPIPE, "broker: a new process: no descriptors came back");
	if (error) {
		close_fd(&ends[0]);
		close_fd(&ends[1]);
	}
	return error;
}
