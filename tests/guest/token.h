/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token: a number that grows by one every `token_ms=` and is written wherever `token=` says (serial, disk), so that
 * a watcher outside can tell whether this VM runs once, twice or not at all. First vCPU only.
 */
#ifndef GUEST_TOKEN_H
#define GUEST_TOKEN_H

#include "guest.h"

struct token {
	uint64_t next; /* clock at which the next one is due; UINT64_MAX: no tokens */
};

extern struct token token;

void token_start(void);
void token_emit(uint64_t now);
/* Waits for the last one; returns how many the disk refused. */
uint64_t token_finish(void);

static inline void token_poll(uint64_t now)
{
	if (now >= token.next)
		token_emit(now);
}

#endif
