// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * passt: network access without privileges, by a child process that turns frames into sockets of its user.
 *
 * The wire (passt(1), qemu's stream socket): each frame is preceded by its length, 32 bits, big-endian. No virtio header
 * travels: what we receive gets an empty one, what we send has lost its own. passt is a peer: a length that no frame can
 * have ends the connection.
 *
 * A stream may take or give part of a frame. Received bytes gather in a buffer that holds several frames at least; the
 * rest of a half-sent frame waits in another, and until it is out no further frame is taken.
 */
#include "devices/net.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define LENGTH_BYTES  4U
#define ETHERNET_MIN  14U
#define FRAME_MAX     (NET_FRAME_MAX - NET_HEADER_BYTES)
#define RECEIVE_BYTES (256U * 1024)
#define CHILD_FD      3
#define END_WAIT_MS   1000

extern char **environ;

struct passt {
	struct net_backend backend;
	int stream;
	pid_t child; /* 0: none */
	size_t in_begin, in_end;
	size_t out_len;
	uint8_t in[RECEIVE_BYTES];
	uint8_t out[LENGTH_BYTES + FRAME_MAX];
};

static struct passt *passt_of(struct net_backend *backend)
{
	return CONTAINER_OF(backend, struct passt, backend);
}

/* Copies into iov from byte `at` of it on; what does not fit is lost. */
static void iov_put(const struct iovec *iov, unsigned int niov, size_t at, const void *from,
		    size_t len)
{
	const uint8_t *bytes = from;

	for (unsigned int i = 0; i < niov && len > 0; i++) {
		size_t n;

		if (at >= iov[i].iov_len) {
			at -= iov[i].iov_len;
			continue;
		}
		n = iov[i].iov_len - at < len ? iov[i].iov_len - at : len;
		memcpy((uint8_t *)iov[i].iov_base + at, bytes, n);
		bytes += n;
		len -= n;
		at = 0;
	}
}

/* The length of the frame that the buffer begins with, complete or not; 0: too little to say; -EPROTO. */
static ssize_t frame_length(const struct passt *passt)
{
	uint32_t len;

	if (passt->in_end - passt->in_begin < LENGTH_BYTES)
		return 0;
	memcpy(&len, passt->in + passt->in_begin, sizeof(len));
	len = __builtin_bswap32(len);
	if (len < ETHERNET_MIN || len > FRAME_MAX)
		return fail(-EPROTO, "passt: a frame of %u bytes: not between %u and %u", len,
			    ETHERNET_MIN, FRAME_MAX);
	return (ssize_t)len;
}

/* Reads what is there; 0, -EAGAIN, or why the stream is over. */
static int fill(struct passt *passt)
{
	ssize_t n;

	if (passt->in_begin > 0) {
		memmove(passt->in, passt->in + passt->in_begin, passt->in_end - passt->in_begin);
		passt->in_end -= passt->in_begin;
		passt->in_begin = 0;
	}
	do {
		n = recv(passt->stream, passt->in + passt->in_end,
			 sizeof(passt->in) - passt->in_end, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	passt->in_end += (size_t)n;
	return n == 0 ? -EPIPE : 0;
}

static ssize_t passt_receive(struct net_backend *backend, unsigned int pair,
			     const struct iovec *iov, unsigned int niov)
{
	static const uint8_t header[NET_HEADER_BYTES];
	struct passt *passt = passt_of(backend);
	ssize_t len;

	for (;;) {
		int error;

		len = frame_length(passt);
		if (len < 0)
			return len;
		if (len > 0 && passt->in_end - passt->in_begin >= LENGTH_BYTES + (size_t)len)
			break;
		error = fill(passt);
		if (error)
			return error;
	}
	iov_put(iov, niov, 0, header, sizeof(header));
	iov_put(iov, niov, sizeof(header), passt->in + passt->in_begin + LENGTH_BYTES, (size_t)len);
	passt->in_begin += LENGTH_BYTES + (size_t)len;
	return (ssize_t)NET_HEADER_BYTES + len;
}

/* Sends the rest of a frame; 0 when nothing is left. */
static int send_rest(struct passt *passt)
{
	while (passt->out_len > 0) {
		ssize_t n = send(passt->stream, passt->out, passt->out_len,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		passt->out_len -= (size_t)n;
		memmove(passt->out, passt->out + n, passt->out_len);
	}
	passt->backend.pending_send = false;
	return 0;
}

/* Keeps what follows the first `sent` bytes of length and frame. */
static void keep_rest(struct passt *passt, const struct iovec *iov, unsigned int niov, size_t sent)
{
	passt->out_len = 0;
	for (unsigned int i = 0; i < niov; i++) {
		if (sent >= iov[i].iov_len) {
			sent -= iov[i].iov_len;
			continue;
		}
		memcpy(passt->out + passt->out_len, (uint8_t *)iov[i].iov_base + sent,
		       iov[i].iov_len - sent);
		passt->out_len += iov[i].iov_len - sent;
		sent = 0;
	}
	passt->backend.pending_send = true;
}

/* The frame without its virtio header, behind room for the length; the number of elements. */
static unsigned int strip_header(struct iovec *to, const struct iovec *iov, unsigned int niov,
				 size_t *len)
{
	size_t skip = NET_HEADER_BYTES;
	unsigned int n = 1;

	*len = 0;
	for (unsigned int i = 0; i < niov; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		to[n].iov_base = (uint8_t *)iov[i].iov_base + skip;
		to[n].iov_len = iov[i].iov_len - skip;
		*len += to[n].iov_len;
		skip = 0;
		n++;
	}
	return n;
}

static int passt_send(struct net_backend *backend, unsigned int pair, const struct iovec *iov,
		      unsigned int niov)
{
	struct passt *passt = passt_of(backend);
	struct iovec frame[1 + NET_SEGMENTS_MAX];
	struct msghdr message = {.msg_iov = frame};
	uint32_t length;
	size_t len;
	ssize_t n;
	int error = send_rest(passt);

	assert(niov <= NET_SEGMENTS_MAX);
	if (error || niov == 0)
		return error;
	message.msg_iovlen = strip_header(frame, iov, niov, &len);
	if (len < ETHERNET_MIN || len > FRAME_MAX) {
		backend->dropped++;
		return 0;
	}
	length = __builtin_bswap32((uint32_t)len);
	frame[0] = (struct iovec){&length, sizeof(length)};
	do {
		n = sendmsg(passt->stream, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if ((size_t)n < LENGTH_BYTES + len)
		keep_rest(passt, frame, (unsigned int)message.msg_iovlen, (size_t)n);
	return 0;
}

static int passt_poll_fd(const struct net_backend *backend, unsigned int pair)
{
	return ((const struct passt *)(const void *)backend)->stream;
}

/* It ends by itself when its client is gone; if not, it is made to. */
static void end_child(pid_t child)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	for (int waited_ms = 0; waited_ms < END_WAIT_MS; waited_ms += 10) {
		if (waitpid(child, NULL, WNOHANG) != 0)
			return;
		nanosleep(&pause, NULL);
	}
	log_warn("passt: process %d did not end by itself", (int)child);
	kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
}

static void passt_free(struct net_backend *backend)
{
	struct passt *passt = passt_of(backend);

	close_fd(&passt->stream);
	if (passt->child > 0)
		end_child(passt->child);
	free(passt);
}

static const struct net_backend_ops passt_ops = {
	.kind = "passt",
	.receive = passt_receive,
	.send = passt_send,
	.poll_fd = passt_poll_fd,
	.free = passt_free,
};

/* Its own session: what is typed at our terminal is not for it. All our descriptors but its socket close on exec. */
static int spawn_child(struct passt *passt, int theirs)
{
	static const char *const arguments[] = {"passt", "--foreground", "--quiet", "--fd", "3",
						NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_adddup2(&actions, theirs, CHILD_FD);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
	error = posix_spawnp(&passt->child, arguments[0], &actions, &attributes,
			     (char *const *)arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (!error)
		return 0;
	passt->child = 0;
	if (error == ENOENT)
		return fail(-ENOENT, "passt: not installed");
	return fail(-error, "passt: starting it: %s", strerror(error));
}

static int start_child(struct passt *passt)
{
	int pair[2], error;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(-errno, "passt: socketpair: %s", strerror(errno));
	passt->stream = pair[0];
	error = spawn_child(passt, pair[1]);
	close(pair[1]);
	return error;
}

int passt_open(struct net_backend **out, int stream)
{
	struct passt *passt = calloc(1, sizeof(*passt));
	int error = 0;

	*out = NULL;
	if (!passt) {
		close_fd(&stream);
		return fail(-ENOMEM, "passt: out of memory");
	}
	passt->backend = (struct net_backend){
		.ops = &passt_ops,
		.npairs = 1,
		.connections_end = true,
	};
	passt->stream = stream;
	if (stream < 0)
		error = start_child(passt);
	if (error) {
		passt_free(&passt->backend);
		return error;
	}
	*out = &passt->backend;
	return 0;
}
