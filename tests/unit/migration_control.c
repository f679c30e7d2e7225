// SPDX-License-Identifier: GPL-2.0-or-later
/* migration/control: records whole and in pieces, heartbeats, silence, ends, damage, and a peer that floods. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/control.h"

#define SILENCE_US 5000000

static void connect_two(struct control *one, struct control *other)
{
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
	control_init(one, ends[0], NULL, "target", SILENCE_US);
	control_init(other, ends[1], NULL, "source", SILENCE_US);
}

static void connect_raw(struct control *control, int *fd)
{
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
	control_init(control, ends[0], NULL, "source", SILENCE_US);
	*fd = ends[1];
}

static void send_text(struct control *control, enum wire_type type, const char *text)
{
	struct buf head;

	buf_init(&head, 4096);
	wire_put_text(&head, text);
	g_assert_cmpint(control_send(control, type, &head, NULL, 0), ==, 0);
	buf_fini(&head);
}

static void test_records(void)
{
	struct control one, other;
	struct control_message message;
	char text[WIRE_TEXT_MAX + 1];

	connect_two(&one, &other);
	send_text(&one, WIRE_REFUSE, "first");
	send_text(&one, WIRE_REFUSE, "second\n\x1b");
	g_assert_cmpint(control_work(&other), ==, 0);
	g_assert_cmpint(control_next(&other, &message), ==, 1);
	g_assert_cmpint(wire_get_text(message.head, message.head_bytes, text), ==, 0);
	g_assert_cmpstr(text, ==, "first");
	g_assert_cmpint(control_next(&other, &message), ==, 1);
	g_assert_cmpint(wire_get_text(message.head, message.head_bytes, text), ==, 0);
	g_assert_cmpstr(text, ==, "second??"); /* nothing for a terminal to obey */
	g_assert_cmpint(control_next(&other, &message), ==, 0);
	control_fini(&one);
	control_fini(&other);
}

/* A body larger than any socket buffer goes through in pieces, without either side waiting. */
static void test_body(void)
{
	const size_t len = 8 << 20;
	g_autofree uint8_t *body = g_malloc(len);
	struct control one, other;
	struct control_message message;
	struct wire_state state = {.round = 3};
	struct buf head;
	int got = 0;

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(i * 31 >> 3);
	connect_two(&one, &other);
	buf_init(&head, 64);
	state.hash = hash_bytes(body, len);
	wire_put_state(&head, &state);
	g_assert_cmpint(control_send(&one, WIRE_STATE, &head, body, len), ==, 0);
	g_assert_false(control_flushed(&one));
	for (unsigned int i = 0; i < 100000 && !got; i++) {
		g_assert_cmpint(control_work(&other), ==, 0);
		g_assert_cmpint(control_work(&one), ==, 0);
		got = control_next(&other, &message);
	}
	g_assert_cmpint(got, ==, 1);
	g_assert_cmpmem(message.body, message.body_bytes, body, len);
	g_assert_true(control_flushed(&one));
	buf_fini(&head);
	control_fini(&one);
	control_fini(&other);
}

static void test_byte_by_byte(void)
{
	uint8_t bytes[WIRE_HEADER_BYTES + WIRE_SESSION_BYTES] = {};
	struct control control;
	struct control_message message;
	int fd;

	connect_raw(&control, &fd);
	wire_seal(bytes, WIRE_OWN, WIRE_SESSION_BYTES, 0, 0);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		g_assert_cmpint(control_next(&control, &message), ==, 0);
		g_assert_cmpint(send(fd, bytes + i, 1, 0), ==, 1);
		g_assert_cmpint(control_work(&control), ==, 0);
	}
	g_assert_cmpint(control_next(&control, &message), ==, 1);
	g_assert_cmpuint(message.type, ==, WIRE_OWN);
	close(fd);
	control_fini(&control);
}

static void test_heartbeat(void)
{
	struct control one, other;
	struct control_message message;

	connect_two(&one, &other);
	/* None before the first record of one's own: a target may not speak before HELLO. */
	one.sent_us -= 2000000;
	g_assert_cmpint(control_work(&one), ==, 0);
	g_assert_cmpuint(one.out_sequence, ==, 0);
	send_text(&one, WIRE_REFUSE, "");
	one.sent_us -= 1500000;
	g_assert_cmpint(control_timeout_ms(&one), ==, 0);
	g_assert_cmpint(control_work(&one), ==, 0);
	g_assert_cmpuint(one.out_sequence, ==, 2);
	g_assert_cmpint(control_work(&other), ==, 0);
	g_assert_cmpint(control_next(&other, &message), ==, 1);
	g_assert_cmpuint(message.type, ==, WIRE_REFUSE);
	g_assert_cmpint(control_next(&other, &message), ==, 0); /* passed over */
	control_fini(&one);
	control_fini(&other);
}

static void test_silence(void)
{
	struct control one, other;

	connect_two(&one, &other);
	one.heard_us -= SILENCE_US + 1000000;
	g_assert_cmpint(control_work(&one), ==, -ETIMEDOUT);
	g_assert_nonnull(strstr(fail_text(), "silent"));
	control_fini(&one);
	control_fini(&other);
}

/* What was said before the end is still heard. */
static void test_end(void)
{
	struct control one, other;
	struct control_message message;

	connect_two(&one, &other);
	send_text(&one, WIRE_CANCEL, "bye");
	control_fini(&one);
	g_assert_cmpint(control_work(&other), ==, 0);
	g_assert_cmpint(control_next(&other, &message), ==, 1);
	g_assert_cmpuint(message.type, ==, WIRE_CANCEL);
	g_assert_cmpint(control_next(&other, &message), ==, -ECONNRESET);
	control_fini(&other);
}

static int next_after(const uint8_t *bytes, size_t len)
{
	struct control control;
	struct control_message message;
	int fd, got;

	connect_raw(&control, &fd);
	g_assert_cmpint(send(fd, bytes, len, 0), ==, (ssize_t)len);
	g_assert_cmpint(control_work(&control), ==, 0);
	got = control_next(&control, &message);
	close(fd);
	control_fini(&control);
	return got;
}

static void test_damage(void)
{
	uint8_t bytes[WIRE_HEADER_BYTES + WIRE_SESSION_BYTES] = {};

	wire_seal(bytes, WIRE_OWN, WIRE_SESSION_BYTES, 0, 0);
	g_assert_cmpint(next_after(bytes, sizeof(bytes)), ==, 1);
	/* Any one bit: refused, or (a longer head or body) waited for; never taken for a record. */
	for (size_t bit = 0; bit < 8 * sizeof(bytes); bit++) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		g_assert_cmpint(next_after(bytes, sizeof(bytes)), !=, 1);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	wire_seal(bytes, WIRE_OWN, WIRE_SESSION_BYTES, 0, 1); /* out of sequence */
	g_assert_cmpint(next_after(bytes, sizeof(bytes)), ==, -EBADMSG);
	wire_seal(bytes, 50, WIRE_SESSION_BYTES, 0, 0); /* unknown, mandatory */
	g_assert_cmpint(next_after(bytes, sizeof(bytes)), ==, -EBADMSG);
	wire_seal(bytes, WIRE_OPTIONAL | 50, WIRE_SESSION_BYTES, 0, 0);
	g_assert_cmpint(next_after(bytes, sizeof(bytes)), ==, 0);
	put_le32(bytes + 4, 1 << 30); /* more than a head may be: refused before it has come */
	g_assert_cmpint(next_after(bytes, sizeof(bytes)), ==, -EBADMSG);
}

/* A length that was damaged on its way takes heartbeats for what is missing; it has its time, and a silent peer has less. */
static void test_unfinished(void)
{
	uint8_t bytes[WIRE_HEADER_BYTES + 100] = {}, beat[WIRE_HEADER_BYTES] = {};
	struct control control;
	struct control_message message;
	int fd;

	connect_raw(&control, &fd);
	wire_seal(bytes, WIRE_CANCEL, 100, 0, 0);
	put_le32(bytes + 4, 1000);
	wire_seal(beat, WIRE_HEARTBEAT, 0, 0, 1);
	g_assert_cmpint(send(fd, bytes, sizeof(bytes), 0), ==, sizeof(bytes));
	g_assert_cmpint(control_work(&control), ==, 0);
	g_assert_cmpint(control_next(&control, &message), ==, 0);
	g_assert_cmpuint(control.begun_us, !=, 0);
	g_assert_cmpint(send(fd, beat, sizeof(beat), 0), ==, sizeof(beat));
	g_assert_cmpint(control_work(&control), ==, 0);
	g_assert_cmpint(control_next(&control, &message), ==, 0);
	control.begun_us -= SILENCE_US + 1000 * 20;
	g_assert_cmpint(control_next(&control, &message), ==, -EBADMSG);
	close(fd);
	control_fini(&control);
	/* One that comes to its end leaves nothing behind. */
	connect_raw(&control, &fd);
	wire_seal(bytes, WIRE_CANCEL, 100, 0, 0);
	g_assert_cmpint(send(fd, bytes, 50, 0), ==, 50);
	g_assert_cmpint(control_work(&control), ==, 0);
	g_assert_cmpint(control_next(&control, &message), ==, 0);
	g_assert_cmpint(send(fd, bytes + 50, sizeof(bytes) - 50, 0), ==, sizeof(bytes) - 50);
	g_assert_cmpint(control_work(&control), ==, 0);
	g_assert_cmpint(control_next(&control, &message), ==, 1);
	g_assert_cmpuint(control.begun_us, ==, 0);
	close(fd);
	control_fini(&control);
}

/* Whoever sets a short limit for the peer speaks often enough for one who does the same. */
static void test_beats_follow_silence(void)
{
	struct control control;
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
	control_init(&control, ends[0], NULL, "source", 400000);
	send_text(&control, WIRE_REFUSE, "");
	g_assert_cmpint(control_timeout_ms(&control), <=, 101);
	control_fini(&control);
	close(ends[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	g_test_add_func("/migration/control/records", test_records);
	g_test_add_func("/migration/control/body", test_body);
	g_test_add_func("/migration/control/byte-by-byte", test_byte_by_byte);
	g_test_add_func("/migration/control/heartbeat", test_heartbeat);
	g_test_add_func("/migration/control/silence", test_silence);
	g_test_add_func("/migration/control/end", test_end);
	g_test_add_func("/migration/control/damage", test_damage);
	g_test_add_func("/migration/control/unfinished", test_unfinished);
	g_test_add_func("/migration/control/beats-follow-silence", test_beats_follow_silence);
	return g_test_run();
}
