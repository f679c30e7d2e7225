/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control connection: records in and out without waiting, heartbeats, and the notice of silence (docs/wire.md). The
 * thread that owns it polls its descriptor for control_events() and calls control_work().
 */
#ifndef MIGRATION_CONTROL_H
#define MIGRATION_CONTROL_H

#include <stdbool.h>

#include "base/buf.h"
#include "migration/transport.h"
#include "migration/wire.h"

struct control {
	struct transport transport;
	const char *peer; /* "source" or "target", for messages */
	struct buf in, out;
	size_t out_sent; /* of out */
	uint64_t in_sequence, out_sequence;
	uint64_t heard_us, sent_us; /* on the monotonic clock */
	uint64_t silence_us;	    /* of the peer, at most */
	uint64_t beat_us;	    /* between our own heartbeats */
	uint64_t
		begun_us; /* the record that is not all there yet was seen first; 0: there is none */
	size_t consumed;  /* of in: the message that was handed out last */
	int broken;	  /* reading has ended with this; what came before it is still handed out */
	bool speaks;	  /* heartbeats have begun: after the first record of our own */
};

/* A record whose checksum fitted; head and body point into the connection until the next control_next(). */
struct control_message {
	uint32_t type;
	const uint8_t *head, *body;
	uint32_t head_bytes;
	uint64_t body_bytes;
};

/* Takes descriptor and session (NULL: plain) over; with a session the descriptor must be non-blocking. */
void control_init(struct control *control, int fd, struct tls_session *tls, const char *peer,
		  uint64_t silence_us);
void control_fini(struct control *control);
/* Queues a record and sends what goes at once. body may be NULL. -ENOMEM, -errno of the connection; logged. */
int control_send(struct control *control, enum wire_type type, const struct buf *head,
		 const void *body, uint64_t body_bytes) must_check;
/* Reads, writes and heartbeats, whatever is due; control_next() comes after it. -ETIMEDOUT silence, -errno; logged. */
int control_work(struct control *control) must_check;
/*
 * The next whole record, heartbeats and unknown optional ones passed over: 1, 0 when there is none, -EBADMSG,
 * -ECONNRESET and -errno when reading has ended before it; logged.
 */
int control_next(struct control *control, struct control_message *message) must_check;
/* For poll(2): events, and after how many milliseconds control_work() is due anyhow. */
short control_events(const struct control *control);
int control_timeout_ms(const struct control *control);
/* Everything queued has been given to the kernel. */
bool control_flushed(const struct control *control);

uint64_t now_us(void); /* CLOCK_MONOTONIC */

#endif
