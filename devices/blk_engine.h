/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What blk_io.c asks of an engine: run transfers (one system call's worth each) and say when some are complete.
 * Only the blk_*.c files include this.
 */
#ifndef DEVICES_BLK_ENGINE_H
#define DEVICES_BLK_ENGINE_H

#include "devices/blk.h"

struct blk_engine;

struct blk_engine_ops {
	const char *name;
	/* Takes a transfer; it stays valid until reap() gives it back. */
	void (*queue)(struct blk_engine *engine, struct blk_transfer *transfer);
	void (*commit)(struct blk_engine *engine);
	/* All that has completed so far, linked by next, result set; NULL when nothing has. Clears event_fd first. */
	struct blk_transfer *(*reap)(struct blk_engine *engine);
	void (*free)(struct blk_engine *engine); /* nothing in flight */
};

/* Embedded first. */
struct blk_engine {
	const struct blk_engine_ops *ops;
	int event_fd; /* an eventfd, readable when reap() has something */
};

/* -errno, not logged (ENOSYS, EPERM: io_uring is not there or forbidden), why: a word on what failed. */
int blk_uring_new(struct blk_engine **out, const struct blk_image *image, unsigned int depth,
		  const char **why) must_check;
/* nthreads workers; does every operation. -errno, logged. */
int blk_threads_new(struct blk_engine **out, const struct blk_image *image, unsigned int nthreads,
		    const struct blk_io_options *options) must_check;

#endif
