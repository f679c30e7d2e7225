// SPDX-License-Identifier: GPL-2.0-or-later
/* migration/link: messages are whole, descriptors arrive, and the last word of a side that ends is heard. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "migration/link.h"

static void new_pair(int pair[2])
{
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
}

static void test_message(void)
{
	struct link_message sent = {.op = LINK_HARVEST, .number = 7, .value = 9}, got;
	int pair[2], fds[LINK_FDS_MAX];

	new_pair(pair);
	g_assert_cmpint(link_receive(pair[1], &got, fds, false), ==, 0);
	memset(sent.text, 'x', sizeof(sent.text)); /* no end */
	g_assert_cmpint(link_send(pair[0], &sent, pair, 1), ==, 0);
	g_assert_cmpint(link_receive(pair[1], &got, fds, false), ==, 1);
	g_assert_cmpuint(got.op, ==, LINK_HARVEST);
	g_assert_cmpuint(got.number, ==, 7);
	g_assert_cmpuint(strlen(got.text), ==, sizeof(got.text) - 1);
	g_assert_cmpint(fds[0], >=, 0);
	g_assert_cmpint(fds[1], ==, -1);
	close(fds[0]);
	/* A descriptor that nobody wants is closed. */
	g_assert_cmpint(link_send(pair[0], &sent, pair, 2), ==, 0);
	g_assert_cmpint(link_receive(pair[1], &got, NULL, false), ==, 1);
	close(pair[0]);
	g_assert_cmpint(link_receive(pair[1], &got, fds, true), ==, -EPIPE);
	close(pair[1]);
}

static void test_cut_message(void)
{
	struct link_message got;
	int pair[2];

	new_pair(pair);
	g_assert_cmpint(send(pair[0], "short", 5, 0), ==, 5);
	g_assert_cmpint(link_receive(pair[1], &got, NULL, false), ==, -EPIPE);
	close(pair[0]);
	close(pair[1]);
}

/* It ends with a message of ours unread: the kernel reports that before it gives out what the other had said. */
static void test_last_word(void)
{
	struct link_message over = {.op = LINK_OVER}, start = {.op = LINK_START}, got;
	int pair[2];

	new_pair(pair);
	g_assert_cmpint(link_send(pair[0], &start, NULL, 0), ==, 0);
	g_assert_cmpint(link_send(pair[1], &over, NULL, 0), ==, 0);
	close(pair[1]);
	g_assert_cmpint(link_receive(pair[0], &got, NULL, false), ==, 1);
	g_assert_cmpuint(got.op, ==, LINK_OVER);
	g_assert_cmpint(link_receive(pair[0], &got, NULL, false), ==, -EPIPE);
	close(pair[0]);
}

/* A mover that cannot begin is gone before it is told to start, at times with a note of ours unread. */
static void test_start(void)
{
	struct link_message over = {.op = LINK_OVER}, start = {.op = LINK_START}, got;

	for (int noted = 0; noted < 2; noted++) {
		int pair[2];

		new_pair(pair);
		if (noted)
			g_assert_cmpint(link_send(pair[0], &start, NULL, 0), ==, 0);
		g_assert_cmpint(link_send(pair[1], &over, NULL, 0), ==, 0);
		close(pair[1]);
		g_assert_cmpint(link_start(pair[0], &start, pair, 1), ==, 0);
		g_assert_cmpint(link_receive(pair[0], &got, NULL, false), ==, 1);
		g_assert_cmpuint(got.op, ==, LINK_OVER);
		g_assert_cmpint(link_send(pair[0], &start, NULL, 0), ==, -EPIPE);
		close(pair[0]);
	}
	g_assert_cmpint(link_start(-1, &over, NULL, 0), ==, -EBADF);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	g_test_add_func("/link/message", test_message);
	g_test_add_func("/link/cut-message", test_cut_message);
	g_test_add_func("/link/last-word", test_last_word);
	g_test_add_func("/link/start", test_start);
	return g_test_run();
}
