// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control connection.
 *
 * Theory of operation. Bytes are gathered in `in` as they come; a record is handed out when header, head and body are
 * there, so memory is used only for what has really arrived, within the bounds that the record's type has. `out` keeps
 * what the socket did not take. Nothing here waits.
 */
#include "migration/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define HEARTBEAT_US 1000000
#define HEARTBEATS   4 /* within the time in which a silent peer is lost */
/* A record that has begun comes to its end within the limit of silence and this for each byte: 100 KB/s. */
#define BYTE_US	   10
#define READ_BYTES (256 << 10)
/* Of reads at once: a peer that floods must not keep the thread from its other work. */
#define READS_AT_ONCE 64

uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void control_init(struct control *control, int fd, struct tls_session *tls, const char *peer,
		  uint64_t silence_us)
{
	*control = (struct control){.peer = peer, .silence_us = silence_us};
	transport_init(&control->transport, fd, tls, "control");
	buf_init(&control->in, WIRE_HEADER_BYTES + WIRE_HEAD_MAX + WIRE_STATE_MAX + READ_BYTES);
	buf_init(&control->out, 2 * (WIRE_HEADER_BYTES + WIRE_HEAD_MAX) + WIRE_STATE_MAX);
	control->heard_us = control->sent_us = now_us();
	control->beat_us = silence_us / HEARTBEATS < HEARTBEAT_US ? silence_us / HEARTBEATS
								  : HEARTBEAT_US;
}

void control_fini(struct control *control)
{
	transport_close(&control->transport);
	buf_fini(&control->in);
	buf_fini(&control->out);
}

static int lost(const struct control *control, int error)
{
	if (error == -ECONNRESET)
		return fail(error, "the %s closed the connection", control->peer);
	return fail(error, "connection to the %s: %s", control->peer, strerror(-error));
}

static int flush(struct control *control)
{
	while (control->out_sent < control->out.len) {
		int64_t n = transport_try_send(&control->transport,
					       control->out.bytes + control->out_sent,
					       control->out.len - control->out_sent);

		if (n < 0)
			return lost(control, (int)n);
		if (n == 0)
			return 0;
		control->out_sent += (size_t)n;
	}
	buf_clear(&control->out);
	control->out_sent = 0;
	return 0;
}

bool control_flushed(const struct control *control)
{
	return control->out_sent == control->out.len;
}

int control_send(struct control *control, enum wire_type type, const struct buf *head,
		 const void *body, uint64_t body_bytes)
{
	uint8_t header[WIRE_HEADER_BYTES] = {};
	size_t at = control->out.len;
	uint32_t head_bytes = head ? (uint32_t)head->len : 0;

	if (head && head->error)
		return fail(head->error, "%s record: %s", wire_type_name(type),
			    strerror(-head->error));
	buf_put(&control->out, header, sizeof(header));
	if (head_bytes)
		buf_put(&control->out, head->bytes, head_bytes);
	if (body_bytes)
		buf_put(&control->out, body, body_bytes);
	if (control->out.error)
		return fail(control->out.error, "the %s reads too slowly", control->peer);
	wire_seal(control->out.bytes + at, type, head_bytes, body_bytes, control->out_sequence++);
	control->sent_us = now_us();
	control->speaks = true;
	return flush(control);
}

static int fill(struct control *control)
{
	for (unsigned int i = 0; i < READS_AT_ONCE; i++) {
		int64_t n;

		if (buf_reserve(&control->in, READ_BYTES))
			return control->in.error;
		n = transport_try_receive(&control->transport, control->in.bytes + control->in.len,
					  READ_BYTES);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0;
		control->in.len += (size_t)n;
		control->heard_us = now_us();
	}
	return 0;
}

int control_work(struct control *control)
{
	uint64_t now = now_us();

	if (!control->broken)
		control->broken = fill(control);
	if (control->broken)
		return 0;
	if (now > control->heard_us + control->silence_us)
		return fail(-ETIMEDOUT, "the %s has been silent for %u ms", control->peer,
			    (unsigned int)((now - control->heard_us) / 1000));
	if (control->speaks && now >= control->sent_us + control->beat_us)
		return control_send(control, WIRE_HEARTBEAT, NULL, NULL, 0);
	return flush(control);
}

/*
 * A length that was damaged on its way would have its reader wait for bytes that nobody sends, while heartbeats keep the
 * connection alive: they are taken for these bytes.
 */
static int wait_for_rest(struct control *control, uint64_t whole)
{
	uint64_t now = now_us();

	if (!control->begun_us)
		control->begun_us = now;
	if (now <= control->begun_us + control->silence_us + whole * BYTE_US)
		return 0;
	return fail(-EBADMSG, "the %s began a record of %" PRIu64 " bytes and did not end it",
		    control->peer, whole);
}

static void forget(struct control *control)
{
	buf_consume(&control->in, control->consumed);
	control->consumed = 0;
}

/* One whole record: 1, 0 when it is not all there, -EBADMSG. */
static int take(struct control *control, struct control_message *message)
{
	struct wire_header header;
	uint64_t whole;
	int error;

	if (control->in.len < WIRE_HEADER_BYTES)
		return 0;
	error = wire_parse_header(control->in.bytes, control->in_sequence, control->peer, &header);
	if (error)
		return error;
	whole = WIRE_HEADER_BYTES + header.head_bytes + header.body_bytes;
	if (control->in.len < whole)
		return wait_for_rest(control, whole);
	control->begun_us = 0;
	error = wire_verify(control->in.bytes, &header, control->peer);
	if (error)
		return error;
	control->in_sequence++;
	control->consumed = whole;
	*message = (struct control_message){
		.type = header.type,
		.head = control->in.bytes + WIRE_HEADER_BYTES,
		.body = control->in.bytes + WIRE_HEADER_BYTES + header.head_bytes,
		.head_bytes = header.head_bytes,
		.body_bytes = header.body_bytes,
	};
	return 1;
}

int control_next(struct control *control, struct control_message *message)
{
	for (;;) {
		int got;

		forget(control);
		got = take(control, message);
		if (got == 0 && control->broken)
			return lost(control, control->broken);
		if (got <= 0)
			return got;
		if (wire_type_name(message->type) && message->type != WIRE_HEARTBEAT)
			return 1;
	}
}

short control_events(const struct control *control)
{
	return control_flushed(control) ? POLLIN : POLLIN | POLLOUT;
}

int control_timeout_ms(const struct control *control)
{
	uint64_t now = now_us(), beat = control->sent_us + control->beat_us,
		 silence = control->heard_us + control->silence_us;
	uint64_t due = control->speaks && beat < silence ? beat : silence;

	return due <= now ? 0 : (int)((due - now) / 1000) + 1;
}
