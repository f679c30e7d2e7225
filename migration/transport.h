/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection to the other host: bytes in and out. Addresses are address.h's, records control.h's and pages_*.c's.
 *
 * A blocking transport (data connections) waits for ever: what ends a wait is the control thread, which notices that the
 * peer is gone and cuts (transport_cut) from its own thread. A non-blocking one returns -EAGAIN.
 */
#ifndef MIGRATION_TRANSPORT_H
#define MIGRATION_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/auto.h"
#include "migration/tls.h"

struct transport {
	int fd;			 /* -1: none */
	struct tls_session *tls; /* NULL: plain */
	const char *name;	 /* for messages: "control", "data 3" */
};

/* Takes the descriptor over, and the session (NULL: plain), whose handshake is done. */
void transport_init(struct transport *transport, int fd, struct tls_session *tls, const char *name);
void transport_close(struct transport *transport);
/* Any thread: reads and writes that wait, and all later ones, end with -ECONNRESET. */
void transport_cut(const struct transport *transport);

/* All of it, blocking; iov is used up. -errno, not logged: -ECONNRESET when the peer closed or was cut. */
int transport_send_all(struct transport *transport, struct iovec *iov,
		       unsigned int niov) must_check;
int transport_receive_all(struct transport *transport, struct iovec *iov,
			  unsigned int niov) must_check;
/* What goes at once, without waiting: bytes, 0 when nothing can, -errno. */
int64_t transport_try_send(struct transport *transport, const void *bytes, size_t len) must_check;
int64_t transport_try_receive(struct transport *transport, void *bytes, size_t len) must_check;

#endif
