/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An event loop over epoll: descriptors, timers, and calls handed over from other threads. One thread runs a loop;
 * unless said otherwise every function is called on that thread (or before it runs).
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"

struct loop;
struct loop_watch; /* one watched descriptor */
struct loop_timer;

/* Errors: -errno of epoll_create1, eventfd, or -ENOMEM. */
int loop_new(struct loop **out) must_check;
/* All watches and timers are freed too. Takes NULL. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);
/* Runs what is ready now, waiting at most timeout_ms (-1: for ever); for tests and nested waits. Returns events run. */
int loop_run_once(struct loop *loop, int timeout_ms);
/* Any thread, and async-signal-safe. loop_run() returns after the callback that runs now. */
void loop_stop(struct loop *loop);

/*
 * events: EPOLLIN, EPOLLOUT... The descriptor stays the caller's and must outlive the watch. A callback may free its
 * own watch or any other.
 */
typedef void loop_fd_fn(void *opaque, int fd, uint32_t events);
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *opaque,
		struct loop_watch **out) must_check;
/* Any thread, while the watch lives: an event that was already fetched may still be called back once. */
void loop_watch_set(struct loop_watch *watch,
		    uint32_t events);		/* 0: keep, but report only errors */
void loop_watch_free(struct loop_watch *watch); /* takes NULL */

/* A one-shot timer on CLOCK_MONOTONIC; arm it again in the callback for a period. */
typedef void loop_timer_fn(void *opaque);
int loop_timer_new(struct loop *loop, loop_timer_fn *fn, void *opaque,
		   struct loop_timer **out) must_check;
void loop_timer_arm(struct loop_timer *timer, uint64_t delay_us); /* again: replaces the old time */
void loop_timer_disarm(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer); /* takes NULL */

/*
 * Any thread: has fn(opaque) run on the loop's thread. loop_post returns at once (order kept); loop_call waits until fn
 * has returned (called on the loop's own thread, or while no thread runs the loop, it calls fn directly).
 * loop_post: -ENOMEM.
 */
typedef void loop_call_fn(void *opaque);
int loop_post(struct loop *loop, loop_call_fn *fn, void *opaque) must_check;
void loop_call(struct loop *loop, loop_call_fn *fn, void *opaque);

#endif
