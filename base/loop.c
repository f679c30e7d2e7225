// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The event loop.
 *
 * Theory of operation. One epoll descriptor holds the watches, the timers (each a timerfd behind a watch) and an
 * eventfd that other threads write to wake the loop. A callback may free any watch, also one whose event was returned
 * by the same epoll_wait: so freed watches are only unlinked and marked, and their memory goes when the batch is done.
 * Calls from other threads queue under a mutex, which guards that queue and nothing else; they run in order.
 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"

#define BATCH 32

struct loop_watch {
	struct loop *loop;
	struct loop_watch *next, **link;
	int fd;
	bool dead;
	loop_fd_fn *fn;
	void *opaque;
};

struct loop_timer {
	int fd;
	struct loop_watch *watch;
	loop_timer_fn *fn;
	void *opaque;
	struct loop_timer *next, **link;
};

struct call {
	struct call *next;
	loop_call_fn *fn;
	void *opaque;
	struct wait *wait;
};

struct wait {
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	bool done;
};

struct loop {
	int epoll_fd;
	int wake_fd;
	atomic_bool stop;
	bool running; /* by `thread`; changes under `lock`, so that a call is never queued behind the last one */
	pthread_t thread;
	struct loop_watch *watches;
	struct loop_watch *graves; /* freed during a batch */
	struct loop_timer *timers;
	bool in_batch;
	pthread_mutex_t lock; /* running, thread, calls, calls_tail */
	struct call *calls, **calls_tail;
};

static void wake_ready(void *opaque, int fd, uint32_t events);

int loop_new(struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	struct loop_watch *watch;
	int error;

	if (!loop)
		return fail(-ENOMEM, "loop: no memory");
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->calls_tail = &loop->calls;
	pthread_mutex_init(&loop->lock, NULL);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0) {
		error = fail(-errno, "loop: epoll or eventfd: %s", strerror(errno));
		loop_free(loop);
		return error;
	}
	error = loop_add_fd(loop, loop->wake_fd, EPOLLIN, wake_ready, loop, &watch);
	if (error) {
		loop_free(loop);
		return error;
	}
	*out = loop;
	return 0;
}

static void bury(struct loop *loop)
{
	while (loop->graves) {
		struct loop_watch *dead = loop->graves;

		loop->graves = dead->next;
		free(dead);
	}
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	/* Freeing unlinks, so each turn sees another head; the analyzer does not follow the link. */
	while (loop->timers)
		loop_timer_free(loop->timers); /* NOLINT(clang-analyzer-unix.Malloc) */
	while (loop->watches)
		loop_watch_free(loop->watches); /* NOLINT(clang-analyzer-unix.Malloc) */
	bury(loop);
	while (loop->calls) {
		struct call *call = loop->calls;

		loop->calls = call->next;
		free(call);
	}
	close_fd(&loop->epoll_fd);
	close_fd(&loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *opaque,
		struct loop_watch **out)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = {.events = events};

	if (!watch)
		return fail(-ENOMEM, "loop: no memory for a watch");
	*watch = (struct loop_watch){.loop = loop, .fd = fd, .fn = fn, .opaque = opaque};
	event.data.ptr = watch;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int error = fail(-errno, "loop: watch descriptor %d: %s", fd, strerror(errno));

		free(watch);
		return error;
	}
	watch->next = loop->watches;
	watch->link = &loop->watches;
	if (watch->next)
		watch->next->link = &watch->next;
	loop->watches = watch;
	*out = watch;
	return 0;
}

void loop_watch_set(struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	/* Cannot fail for a descriptor that is watched. */
	epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_watch_free(struct loop_watch *watch)
{
	struct loop *loop;

	if (!watch)
		return;
	loop = watch->loop;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	*watch->link = watch->next;
	if (watch->next)
		watch->next->link = watch->link;
	if (!loop->in_batch) {
		free(watch);
		return;
	}
	watch->dead = true;
	watch->next = loop->graves;
	loop->graves = watch;
}

static void timer_ready(void *opaque, int fd, uint32_t events)
{
	struct loop_timer *timer = opaque;
	uint64_t ticks;

	/* Armed again or disarmed since the event was fetched: nothing to read, nothing due. */
	if (read(fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	timer->fn(timer->opaque);
}

int loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *opaque, struct loop_timer **out)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));
	int error;

	if (!timer)
		return fail(-ENOMEM, "loop: no memory for a timer");
	*timer = (struct loop_timer){.fn = fn, .opaque = opaque};
	timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (timer->fd < 0) {
		error = fail(-errno, "loop: timerfd_create: %s", strerror(errno));
		free(timer);
		return error;
	}
	error = loop_add_fd(loop, timer->fd, EPOLLIN, timer_ready, timer, &timer->watch);
	if (error) {
		close(timer->fd);
		free(timer);
		return error;
	}
	timer->next = loop->timers;
	timer->link = &loop->timers;
	if (timer->next)
		timer->next->link = &timer->next;
	loop->timers = timer;
	*out = timer;
	return 0;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_us)
{
	struct itimerspec when = {};

	if (delay_us == 0)
		when.it_value.tv_nsec = 1; /* zero would disarm */
	else
		when.it_value = (struct timespec){.tv_sec = delay_us / 1000000,
						  .tv_nsec = (long)(delay_us % 1000000) * 1000};
	timerfd_settime(timer->fd, 0, &when, NULL);
}

void loop_timer_disarm(struct loop_timer *timer)
{
	struct itimerspec never = {};

	timerfd_settime(timer->fd, 0, &never, NULL);
}

void loop_timer_free(struct loop_timer *timer)
{
	if (!timer)
		return;
	*timer->link = timer->next;
	if (timer->next)
		timer->next->link = timer->link;
	loop_watch_free(timer->watch);
	close(timer->fd);
	free(timer);
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	/* A full counter means that the wake-up is pending anyway. */
	ssize_t written = write(loop->wake_fd, &one, sizeof(one));

	(void)written;
}

static void finish_call(struct wait *wait)
{
	pthread_mutex_lock(&wait->lock);
	wait->done = true;
	pthread_cond_signal(&wait->done_cond);
	pthread_mutex_unlock(&wait->lock);
}

/* Runs what is queued, in order; calls queued by these calls run too. */
static void run_calls(struct loop *loop)
{
	for (;;) {
		struct call *call;

		pthread_mutex_lock(&loop->lock);
		call = loop->calls;
		if (call) {
			loop->calls = call->next;
			if (!loop->calls)
				loop->calls_tail = &loop->calls;
		}
		pthread_mutex_unlock(&loop->lock);
		if (!call)
			return;
		call->fn(call->opaque);
		if (call->wait)
			finish_call(call->wait);
		free(call);
	}
}

static void wake_ready(void *opaque, int fd, uint32_t events)
{
	uint64_t count;
	ssize_t got = read(fd, &count, sizeof(count));

	(void)got;
	run_calls(opaque);
}

static struct call *call_new(loop_call_fn *fn, void *opaque, struct wait *wait)
{
	struct call *call = calloc(1, sizeof(*call));

	if (call)
		*call = (struct call){.fn = fn, .opaque = opaque, .wait = wait};
	return call;
}

/* With the lock held. */
static void enqueue(struct loop *loop, struct call *call)
{
	*loop->calls_tail = call;
	loop->calls_tail = &call->next;
}

int loop_post(struct loop *loop, loop_call_fn *fn, void *opaque)
{
	struct call *call = call_new(fn, opaque, NULL);

	if (!call)
		return fail(-ENOMEM, "loop: no memory for a call");
	pthread_mutex_lock(&loop->lock);
	enqueue(loop, call);
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	return 0;
}

void loop_call(struct loop *loop, loop_call_fn *fn, void *opaque)
{
	struct wait wait = {.lock = PTHREAD_MUTEX_INITIALIZER,
			    .done_cond = PTHREAD_COND_INITIALIZER};
	struct call *call;
	bool direct;

	/* Memory for a few words is short only for a while: wait rather than lose the call. */
	while (!(call = call_new(fn, opaque, &wait)))
		usleep(1000);
	pthread_mutex_lock(&loop->lock);
	direct = !loop->running || pthread_equal(loop->thread, pthread_self());
	if (!direct)
		enqueue(loop, call);
	pthread_mutex_unlock(&loop->lock);
	if (direct) {
		free(call);
		fn(opaque);
		return;
	}
	wake(loop);
	pthread_mutex_lock(&wait.lock);
	while (!wait.done)
		pthread_cond_wait(&wait.done_cond, &wait.lock);
	pthread_mutex_unlock(&wait.lock);
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
	struct epoll_event events[BATCH];
	bool outer = !loop->in_batch;
	int n = epoll_wait(loop->epoll_fd, events, BATCH, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : fail(-errno, "loop: epoll_wait: %s", strerror(errno));
	loop->in_batch = true;
	for (int i = 0; i < n; i++) {
		struct loop_watch *watch = events[i].data.ptr;

		if (!watch->dead)
			watch->fn(watch->opaque, watch->fd, events[i].events);
	}
	if (outer) {
		loop->in_batch = false;
		bury(loop);
	}
	return n;
}

void loop_run(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->thread = pthread_self();
	loop->running = true;
	pthread_mutex_unlock(&loop->lock);
	while (!atomic_exchange(&loop->stop, false)) {
		if (loop_run_once(loop, -1) < 0)
			break;
	}
	pthread_mutex_lock(&loop->lock);
	loop->running = false;
	pthread_mutex_unlock(&loop->lock);
	/* Whoever waits in loop_call() must not wait for ever. */
	run_calls(loop);
}

void loop_stop(struct loop *loop)
{
	atomic_store(&loop->stop, true);
	wake(loop);
}
