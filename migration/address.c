// SPDX-License-Identifier: GPL-2.0-or-later
/* Addresses of targets as text and as sockets, and the options that connections have. */
#include "migration/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define BACKLOG 64

static int parse_port(const char *text, const char *whole, uint16_t *port)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || value > 65535)
		return fail(-EINVAL, "%.100s: \"%.20s\" is not a port", whole, text);
	*port = (uint16_t)value;
	return 0;
}

static int parse_tcp(const char *text, const char *whole, struct address *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&out->storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->storage;
	const char *colon = strrchr(text, ':');
	char host[64];
	uint16_t port = 0;
	size_t len;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return fail(-EINVAL, "%.100s: not tcp:HOST:PORT", whole);
	if (parse_port(colon + 1, whole, &port))
		return -EINVAL;
	len = (size_t)(colon - text);
	memcpy(host, text, len);
	host[len] = '\0';
	if (!strcmp(host, "localhost"))
		strcpy(host, "127.0.0.1");
	if (host[0] == '[' && len > 2 && host[len - 1] == ']') {
		host[len - 1] = '\0';
		*in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
		out->len = sizeof(*in6);
		if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1)
			return 0;
	} else {
		*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
		out->len = sizeof(*in);
		if (inet_pton(AF_INET, host, &in->sin_addr) == 1)
			return 0;
	}
	return fail(-EINVAL, "%.100s: \"%.60s\" is not a numeric address", whole, host);
}

int address_parse(const char *text, struct address *out)
{
	memset(out, 0, sizeof(*out));
	if (!strncmp(text, "tcp:", 4))
		return parse_tcp(text + 4, text, out);
	if (!strncmp(text, "unix:", 5)) {
		size_t len = strlen(text + 5);

		if (!len || len >= sizeof(out->un.sun_path))
			return fail(-EINVAL, "%.100s: a path of 1 to %zu bytes is needed", text,
				    sizeof(out->un.sun_path) - 1);
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, text + 5, len + 1);
		out->len = sizeof(out->un);
		return 0;
	}
	return fail(-EINVAL, "%.100s: neither tcp:HOST:PORT nor unix:PATH", text);
}

void address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES])
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;
	char host[INET6_ADDRSTRLEN] = "?";

	switch (address->any.sa_family) {
	case AF_UNIX:
		snprintf(text, ADDRESS_TEXT_BYTES, "unix:%s", address->un.sun_path);
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_BYTES, "tcp:[%s]:%u", host, ntohs(in6->sin6_port));
		break;
	default:
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT_BYTES, "tcp:%s:%u", host, ntohs(in->sin_port));
		break;
	}
}

bool address_is_local(const struct address *address)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->storage;

	if (address->any.sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	if (address->any.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
	return true;
}

void address_set_options(int fd, unsigned int silence_ms)
{
	int one = 1;

	/* On a UNIX socket these fail, and are not needed. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
}

int address_connect(const struct address *address, int timeout_ms, int *out)
{
	AUTO_FD fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);

	if (fd < 0)
		return -errno;
	if (connect(fd, &address->any, address->len) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		if (poll(&wait, 1, timeout_ms) <= 0)
			return -ETIMEDOUT;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
			return -errno;
		if (error)
			return -error;
	}
	fcntl(fd, F_SETFL, 0);
	*out = take_fd(&fd);
	return 0;
}

int address_listen(struct address *address, int *out)
{
	char text[ADDRESS_TEXT_BYTES];
	int one = 1, probe = -1, answer;
	AUTO_FD fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	address_text(address, text);
	if (fd < 0)
		return fail(-errno, "%s: %s", text, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* A UNIX socket that nobody answers at is a dead target's. */
	answer = address->any.sa_family == AF_UNIX ? address_connect(address, 100, &probe) : 1;
	if (answer == 0)
		close(probe);
	else if (answer == -ECONNREFUSED)
		unlink(address->un.sun_path);
	if (bind(fd, &address->any, address->len) < 0 || listen(fd, BACKLOG) < 0)
		return fail(-errno, "%s: %s", text, strerror(errno));
	if (address->any.sa_family != AF_UNIX) {
		address->len = sizeof(address->storage);
		if (getsockname(fd, &address->any, &address->len) < 0)
			return fail(-errno, "%s: %s", text, strerror(errno));
	}
	*out = take_fd(&fd);
	return 0;
}
