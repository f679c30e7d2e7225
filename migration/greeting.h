/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New connections of a target. What one is, its first record says; until that has come it is a greeting: accepted, encrypted
 * where it is to be, read just that far and without waiting, so that one who stalls holds nobody up.
 */
#ifndef MIGRATION_GREETING_H
#define MIGRATION_GREETING_H

#include <stddef.h>
#include <stdint.h>

#include "migration/transport.h"
#include "migration/wire.h"

#define GREETINGS_MAX	 32
#define DATA_HELLO_BYTES (WIRE_HEADER_BYTES + 8 + WIRE_SESSION_BYTES + 4)

struct greeting {
	struct transport transport; /* fd -1: free */
	bool secured;		    /* the handshake is done, or there is none */
	uint64_t since_us;
	size_t have;
	uint8_t bytes[DATA_HELLO_BYTES];
};

struct greetings {
	int listen_fd;	 /* not owned */
	struct tls *tls; /* NULL: plain; not owned */
	uint32_t silence_us;
	struct greeting greeting[GREETINGS_MAX];
	/*
	 * Told of a connection: type WIRE_DATA_HELLO with all of it in bytes, or WIRE_HELLO or WIRE_ASK with its header. Who
	 * wants it takes its transport (which is non-blocking) away; else it is closed.
	 */
	void *opaque;
	void (*arrived)(void *opaque, struct greeting *greeting, uint32_t type);
};

void greetings_init(struct greetings *greetings, int listen_fd, struct tls *tls,
		    uint32_t silence_us);
void greetings_fini(struct greetings *greetings);
/* Accepts, reads, tells, gives up those that have said nothing for long. Often; never waits. */
void greetings_work(struct greetings *greetings);
/* The descriptors on which work may come, the listening one first: how many. fds: 1 + GREETINGS_MAX. */
unsigned int greetings_fds(const struct greetings *greetings, int *fds);

#endif
