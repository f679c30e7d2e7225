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

struct request {
	uint32_t how; /* enum broker_open */
	char path[BROKER_PATH_MAX + 1];
};

static const int open_flags[] = {
	[BROKER_READ] = O_RDONLY,
	[BROKER_READ_WRITE] = O_RDWR,
	[BROKER_CREATE] = O_RDWR | O_CREAT | O_EXCL,
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
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* One packet with an int32_t and, when fd >= 0, that descriptor. */
static int send_answer(int socket, int32_t error, int fd)
{
	struct iovec iov = {.iov_base = &error, .iov_len = sizeof(error)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	union fd_control control = {};

	if (fd >= 0) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* False at the end of the VMM. */
static bool serve_one(int socket)
{
	struct request request = {};
	ssize_t got = recv(socket, &request, sizeof(request), 0);
	AUTO_FD fd = -1;

	if (got < 0 && errno == EINTR)
		return true;
	if (got <= 0)
		return false;
	request.path[BROKER_PATH_MAX] = '\0';
	if ((size_t)got == sizeof(request) && request.path[0])
		fd = serve_open(&request);
	else
		fd = -EINVAL;
	return send_answer(socket, fd < 0 ? fd : 0, fd) == 0;
}

static _Noreturn void serve(int fd, const struct sandbox *sandbox)
{
	prctl(PR_SET_NAME, "tern-broker");
	/* The terminal's signals are the VMM's to answer; its end is what ends the broker. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	if (sandbox_enter(sandbox, SANDBOX_BROKER) == 0) {
		while (serve_one(fd))
			;
	}
	_exit(0);
}

/* Keeps standard error for logs and its own end of the pair; everything else is the VMM's. */
static void close_inherited(int keep)
{
	if (keep > 3)
		syscall(SYS_close_range, 3, keep - 1, 0);
	syscall(SYS_close_range, keep + 1, ~0U, 0);
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
}

int broker_start(struct broker *broker, const struct sandbox *sandbox)
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
		close_inherited(pair[1]);
		serve(pair[1], sandbox);
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

static int receive_answer(struct broker *broker, int *fd)
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

	*fd = -1;
	switch (poll(&poll_fd, 1, BROKER_WAIT_MS)) {
	case 0:
		return -ETIMEDOUT;
	case -1:
		return -errno;
	}
	if (recvmsg(broker->fd, &message, MSG_CMSG_CLOEXEC) != sizeof(error))
		return -EPIPE;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	return error;
}

int broker_open(struct broker *broker, enum broker_open how, const char *path, int *fd)
{
	struct request request = {.how = how};
	size_t len = strlen(path);
	int error;

	*fd = -1;
	if (len == 0 || len > BROKER_PATH_MAX)
		return fail(-ENAMETOOLONG, "broker: path of %zu bytes", len);
	memcpy(request.path, path, len);
	if (send(broker->fd, &request, sizeof(request), MSG_NOSIGNAL) < 0)
		return fail(-errno, "broker: %s: %s", path, strerror(errno));
	error = receive_answer(broker, fd);
	/* An answer that comes too late would be taken for the next one's. */
	if (error == -ETIMEDOUT || error == -EPIPE)
		shutdown(broker->fd, SHUT_RDWR);
	if (error)
		return fail(error, "broker: %s: %s", path, strerror(-error));
	if (*fd < 0)
		return fail(-EPIPE, "broker: %s: no descriptor came back", path);
	return 0;
}
