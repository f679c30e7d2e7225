// SPDX-License-Identifier: GPL-2.0-or-later
/* Messages and descriptors over the pair between VMM and mover, and the memory that they share. */
#include "migration/link.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.h"

union control_bytes {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(LINK_FDS_MAX * sizeof(int))];
};

int link_send(int fd, const struct link_message *message, const int *fds, unsigned int nfds)
{
	struct iovec iov = {.iov_base = (void *)message, .iov_len = sizeof(*message)};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	union control_bytes control = {};

	if (nfds) {
		struct cmsghdr *rights;

		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, nfds * sizeof(int));
	}
	while (sendmsg(fd, &header, MSG_NOSIGNAL) < 0) {
		/* A side that has ended with something of ours unread makes the next call fail with ECONNRESET, once. */
		if (errno == ECONNRESET || errno == ECONNREFUSED)
			return -EPIPE;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int link_start(int fd, const struct link_message *start, const int *fds, unsigned int nfds)
{
	int error = link_send(fd, start, fds, nfds);

	if (!error || error == -EPIPE)
		return 0;
	return fail(error, "migration: the mover: %s", strerror(-error));
}

static void take_descriptors(struct msghdr *header, int fds[LINK_FDS_MAX])
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds && i < LINK_FDS_MAX)
				fds[i] = fd;
			else
				close(fd);
		}
	}
}

int link_receive(int fd, struct link_message *message, int fds[LINK_FDS_MAX], bool wait)
{
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(*message)};
	union control_bytes control;
	struct msghdr header = {.msg_iov = &iov,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	bool reset = false;
	ssize_t n;

	for (unsigned int i = 0; fds && i < LINK_FDS_MAX; i++)
		fds[i] = -1;
	/*
	 * A side that has ended with something of ours unread says ECONNRESET, once, and only then what it still had to
	 * say: its last word must not be lost.
	 */
	do {
		n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
		if (n < 0 && errno == ECONNRESET && !reset) {
			reset = true;
			errno = EINTR;
		}
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n >= 0)
		take_descriptors(&header, fds);
	if (n != sizeof(*message))
		return -EPIPE;
	message->text[sizeof(message->text) - 1] = '\0';
	if (message->op == LINK_PROGRESS || message->op == LINK_OVER)
		message->progress.text[sizeof(message->progress.text) - 1] = '\0';
	return 1;
}

int link_share(const char *name, size_t size, int *fd, void **mapping)
{
	AUTO_FD memory = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (memory < 0 || ftruncate(memory, (off_t)size) < 0 ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return fail(-errno, "migration: %zu KiB of shared memory: %s", size >> 10,
			    strerror(errno));
	*mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory, 0);
	if (*mapping == MAP_FAILED)
		return fail(-errno, "migration: map %zu KiB: %s", size >> 10, strerror(errno));
	*fd = take_fd(&memory);
	return 0;
}
