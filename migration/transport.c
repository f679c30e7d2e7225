// SPDX-License-Identifier: GPL-2.0-or-later
/* Connections: whole vectors in blocking mode, what goes at once in the other. */
#include "migration/transport.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

/* More at once than a socket buffer holds gains nothing. */
#define IOV_AT_ONCE 512

void transport_init(struct transport *transport, int fd, struct tls_session *tls, const char *name)
{
	*transport = (struct transport){.fd = fd, .tls = tls, .name = name};
}

void transport_close(struct transport *transport)
{
	tls_session_free(transport->tls);
	transport->tls = NULL;
	close_fd(&transport->fd);
}

void transport_cut(const struct transport *transport)
{
	if (transport->fd >= 0)
		shutdown(transport->fd, SHUT_RDWR);
}

static int broken(ssize_t result)
{
	if (result == 0 || errno == EPIPE)
		return -ECONNRESET;
	return -errno;
}

/* Forgets the first `done` bytes. */
static void advance(struct iovec **iov, unsigned int *niov, size_t done)
{
	while (*niov && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*niov)--;
	}
	if (done) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

/* TLS copies as it encrypts, and makes records of at most 16 KiB: element by element. */
static int move_all_encrypted(struct transport *transport, struct iovec *iov, unsigned int niov,
			      bool out)
{
	while (niov) {
		int64_t n = out ? tls_send(transport->tls, iov->iov_base, iov->iov_len)
				: tls_receive(transport->tls, iov->iov_base, iov->iov_len);

		if (n < 0)
			return (int)n;
		advance(&iov, &niov, (size_t)n);
	}
	return 0;
}

static int move_all(struct transport *transport, struct iovec *iov, unsigned int niov, bool out)
{
	advance(&iov, &niov, 0); /* empty elements */
	if (transport->tls)
		return move_all_encrypted(transport, iov, niov, out);
	while (niov) {
		struct msghdr message = {.msg_iov = iov,
					 .msg_iovlen = niov < IOV_AT_ONCE ? niov : IOV_AT_ONCE};
		ssize_t n = out ? sendmsg(transport->fd, &message, MSG_NOSIGNAL)
				: recvmsg(transport->fd, &message, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return broken(n);
		advance(&iov, &niov, (size_t)n);
	}
	return 0;
}

int transport_send_all(struct transport *transport, struct iovec *iov, unsigned int niov)
{
	return move_all(transport, iov, niov, true);
}

int transport_receive_all(struct transport *transport, struct iovec *iov, unsigned int niov)
{
	return move_all(transport, iov, niov, false);
}

static int64_t tried(ssize_t n, bool end_is_error)
{
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	return n == 0 && !end_is_error ? 0 : broken(n);
}

int64_t transport_try_send(struct transport *transport, const void *bytes, size_t len)
{
	if (transport->tls)
		return tls_send(transport->tls, bytes, len);
	return tried(send(transport->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT), false);
}

int64_t transport_try_receive(struct transport *transport, void *bytes, size_t len)
{
	if (transport->tls)
		return tls_receive(transport->tls, bytes, len);
	return tried(recv(transport->fd, bytes, len, MSG_DONTWAIT), true);
}
