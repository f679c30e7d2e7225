// SPDX-License-Identifier: GPL-2.0-or-later
/* New connections of a target, up to their first record. */
#include "migration/greeting.h"

#include <sys/socket.h>

#include "base/log.h"
#include "migration/address.h"
#include "migration/control.h"

#define GREETING_US	5000000
#define GREETING_MIN_US 200000

void greetings_init(struct greetings *greetings, int listen_fd, struct tls *tls,
		    uint32_t silence_us)
{
	*greetings =
		(struct greetings){.listen_fd = listen_fd, .tls = tls, .silence_us = silence_us};
	for (unsigned int i = 0; i < GREETINGS_MAX; i++)
		greetings->greeting[i].transport.fd = -1;
}

static void end(struct greeting *greeting)
{
	transport_close(&greeting->transport);
	*greeting = (struct greeting){.transport = {.fd = -1}};
}

void greetings_fini(struct greetings *greetings)
{
	for (unsigned int i = 0; i < GREETINGS_MAX; i++)
		end(&greetings->greeting[i]);
}

/* False: nobody waits. */
static bool begin(struct greetings *greetings, struct greeting *greeting)
{
	struct tls_session *session = NULL;
	int fd = accept4(greetings->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return false;
	address_set_options(fd, greetings->silence_us / 1000);
	if (greetings->tls && tls_session_new(&session, greetings->tls, fd)) {
		close(fd);
		return true;
	}
	transport_init(&greeting->transport, fd, session, "connection");
	greeting->secured = !session;
	greeting->since_us = now_us();
	return true;
}

/* Reads what has come, up to `want` bytes in all. False: the connection has ended. */
static bool read_until(struct greeting *greeting, size_t want)
{
	while (greeting->have < want) {
		int64_t n = transport_try_receive(&greeting->transport,
						  greeting->bytes + greeting->have,
						  want - greeting->have);

		if (n < 0)
			return false;
		if (n == 0)
			return true;
		greeting->have += (size_t)n;
	}
	return true;
}

/* False: it is over, one way or the other. */
static bool work(struct greetings *greetings, struct greeting *greeting)
{
	uint32_t type;
	int shaken = greeting->secured ? 1 : tls_handshake(greeting->transport.tls);

	if (shaken < 0)
		return false;
	greeting->secured = shaken;
	if (!shaken || !read_until(greeting, WIRE_HEADER_BYTES))
		return !shaken;
	if (greeting->have < WIRE_HEADER_BYTES)
		return true;
	type = get_le32(greeting->bytes);
	if (type == WIRE_DATA_HELLO) {
		if (!read_until(greeting, DATA_HELLO_BYTES))
			return false;
		if (greeting->have < DATA_HELLO_BYTES)
			return true;
	} else if (type != WIRE_HELLO && type != WIRE_ASK) {
		return false;
	}
	greetings->arrived(greetings->opaque, greeting, type);
	return false;
}

/* Full of connections that say nothing: the oldest goes, so that a real one has its turn; but each has some time. */
static void make_room(struct greetings *greetings)
{
	struct greeting *oldest = &greetings->greeting[0];

	for (unsigned int i = 1; i < GREETINGS_MAX; i++)
		if (greetings->greeting[i].since_us < oldest->since_us)
			oldest = &greetings->greeting[i];
	if (now_us() > oldest->since_us + GREETING_MIN_US)
		end(oldest);
}

void greetings_work(struct greetings *greetings)
{
	bool room = false, waiting = true;

	for (unsigned int i = 0; i < GREETINGS_MAX; i++) {
		struct greeting *greeting = &greetings->greeting[i];

		if (greeting->transport.fd < 0 && waiting)
			waiting = begin(greetings, greeting);
		if (greeting->transport.fd >= 0 &&
		    (!work(greetings, greeting) || now_us() > greeting->since_us + GREETING_US))
			end(greeting);
		room |= greeting->transport.fd < 0;
	}
	if (!room)
		make_room(greetings);
}

unsigned int greetings_fds(const struct greetings *greetings, int *fds)
{
	unsigned int n = 0;

	fds[n++] = greetings->listen_fd;
	for (unsigned int i = 0; i < GREETINGS_MAX; i++)
		if (greetings->greeting[i].transport.fd >= 0)
			fds[n++] = greetings->greeting[i].transport.fd;
	return n;
}
