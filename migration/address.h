/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a target listens: "tcp:HOST:PORT" (HOST a number, [IPv6 number], or localhost: names are resolved by who asks
 * the user) or "unix:PATH". Parsed anywhere; connect and listen are a mover's.
 */
#ifndef MIGRATION_ADDRESS_H
#define MIGRATION_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/auto.h"

#define ADDRESS_TEXT_BYTES 160

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_storage storage;
		struct sockaddr_un un;
	};
	socklen_t len;
};

/* -EINVAL, logged, naming the text and why. Port 0 is allowed: a target listens at any. */
int address_parse(const char *text, struct address *out) must_check;
/* As address_parse() takes it. */
void address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES]);
/* Whether bytes to it stay on this host: loopback, or a UNIX socket. */
bool address_is_local(const struct address *address);

/* A blocking stream with Tern's options; -errno, not logged. Waits for connect(2), at most timeout_ms. */
int address_connect(const struct address *address, int timeout_ms, int *fd) must_check;
/* A listening socket, non-blocking; *address becomes the one bound. A stale UNIX socket is replaced. -errno, logged. */
int address_listen(struct address *address, int *fd) must_check;
/* The options that every connection has, an accepted one too. */
void address_set_options(int fd, unsigned int silence_ms);

#endif
