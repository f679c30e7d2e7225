// SPDX-License-Identifier: GPL-2.0-or-later
/* base/loop: watches that free each other, timers, and calls from other threads, none of them lost at the end. */
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"

struct pair {
	struct loop_watch *watch[2];
	int fired;
};

static void free_both(void *opaque, int fd, uint32_t events)
{
	struct pair *pair = opaque;

	pair->fired++;
	loop_watch_free(pair->watch[0]);
	loop_watch_free(pair->watch[1]);
}

/* Both are ready in one batch; the first to run frees both; the other must not run. */
static void test_free_in_batch(void)
{
	struct pair pair = {};
	struct loop *loop;
	int a[2], b[2];

	g_assert_cmpint(loop_new(&loop), ==, 0);
	g_assert_cmpint(pipe(a) | pipe(b), ==, 0);
	g_assert_cmpint(loop_add_fd(loop, a[0], EPOLLIN, free_both, &pair, &pair.watch[0]), ==, 0);
	g_assert_cmpint(loop_add_fd(loop, b[0], EPOLLIN, free_both, &pair, &pair.watch[1]), ==, 0);
	g_assert_cmpint(write(a[1], "x", 1) + write(b[1], "x", 1), ==, 2);
	loop_run_once(loop, 0);
	loop_run_once(loop, 0);
	g_assert_cmpint(pair.fired, ==, 1);
	loop_free(loop);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static void stop(void *opaque)
{
	loop_stop(opaque);
}

static void test_timer(void)
{
	struct loop_timer *timer;
	struct loop *loop;
	gint64 begin;

	g_assert_cmpint(loop_new(&loop), ==, 0);
	g_assert_cmpint(loop_timer_new(loop, stop, loop, &timer), ==, 0);
	loop_timer_arm(timer, 60 * 1000 * 1000);
	loop_timer_arm(timer, 20 * 1000); /* replaces the minute */
	begin = g_get_monotonic_time();
	loop_run(loop);
	g_assert_cmpint(g_get_monotonic_time() - begin, >=, 20 * 1000);
	loop_timer_arm(timer, 0);
	loop_run(loop);
	loop_timer_free(timer);
	loop_free(loop);
}

static void *run(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static void count(void *opaque)
{
	++*(int *)opaque;
}

static void test_calls(void)
{
	pthread_t thread;
	struct loop *loop;
	int direct = 0, counted = 0;

	g_assert_cmpint(loop_new(&loop), ==, 0);
	loop_call(loop, count, &direct); /* nobody runs it: at once, here */
	g_assert_cmpint(direct, ==, 1);
	pthread_create(&thread, NULL, run, loop);
	for (int i = 0; i < 1000; i++)
		g_assert_cmpint(loop_post(loop, count, &counted), ==, 0);
	loop_call(loop, stop, loop);
	pthread_join(thread, NULL);
	g_assert_cmpint(counted, ==, 1000);
	loop_call(loop, count, &direct);
	g_assert_cmpint(direct, ==, 2);
	loop_free(loop);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/loop/free-in-batch", test_free_in_batch);
	g_test_add_func("/base/loop/timer", test_timer);
	g_test_add_func("/base/loop/calls", test_calls);
	return g_test_run();
}
