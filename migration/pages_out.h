/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The source's data connections: one thread each, which sends the pages of a round that belong to its channel. Of the
 * mover; all calls on its control thread.
 */
#ifndef MIGRATION_PAGES_OUT_H
#define MIGRATION_PAGES_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "memory/ram.h"
#include "migration/transport.h"
#include "migration/wire.h"

struct pages_out;

struct pages_out_env {
	const uint8_t *ram; /* page p at ram + p * 4096 */
	page_t npages;
	int wake_fd; /* eventfd: written when a round is done, or a channel has failed */
	/*
	 * Makes writes to these pages count again, just before they are read; NULL: they do already. Called on data
	 * threads, one at a time.
	 */
	int (*rearm)(void *opaque, page_t first, uint64_t npages);
	void *opaque;
};

/* Takes the connections (blocking) over and says DATA_HELLO on each. Errors: -ENOMEM, -errno, logged; they are closed. */
int pages_out_new(struct pages_out **out, const struct pages_out_env *env,
		  struct transport *connections, unsigned int n,
		  const uint8_t session[WIRE_SESSION_BYTES]) must_check;
/* Cuts what is under way, ends the threads. Takes NULL. */
void pages_out_free(struct pages_out *out);

/* A second, over all channels; 0: no limit. */
void pages_out_set_bandwidth(struct pages_out *out, uint64_t bytes_a_second);
/*
 * Begins a round: the pages of map (npages bits), NULL for all of them. present (may be NULL): pages whose bit is not
 * set have never been touched and are sent as zero without being looked at. Both must stay until it is done.
 */
void pages_out_begin(struct pages_out *out, uint32_t round, const uint64_t *map,
		     const uint64_t *present);
/*
 * The round is to end soon: what has not been read yet is left out of it. A first round names those pages all the same, as
 * discarded, for each must be named. Any time between begin and the end.
 */
void pages_out_cut(struct pages_out *out);
/* After the end of a round: which of its pages were left out, and returns how many. left (npages bits) may be its map. */
uint64_t pages_out_left(const struct pages_out *out, uint64_t *left) must_check;
/* 1 when all channels have given everything to the kernel, 0 not yet, or the first error, its words as fail_text(). */
int pages_out_status(struct pages_out *out) must_check;

struct pages_out_stats {
	uint64_t data, zero;  /* pages, since the beginning */
	uint64_t bytes;	      /* written, since the beginning */
	uint64_t round_pages; /* dealt with in this round */
	uint64_t queued;      /* of bytes: the kernel has them, the other host does not */
};
void pages_out_get_stats(const struct pages_out *out, struct pages_out_stats *stats);

#endif
