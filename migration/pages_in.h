/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The target's data connections: one thread each, which puts the pages of its channel into guest RAM and checks them. Of
 * the mover; all calls on its control thread.
 */
#ifndef MIGRATION_PAGES_IN_H
#define MIGRATION_PAGES_IN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "memory/ram.h"
#include "migration/transport.h"
#include "migration/wire.h"

struct pages_in;

struct pages_in_env {
	uint8_t *ram; /* page p at ram + p * 4096; all zero */
	int ram_fd;   /* of what file, at the same offset */
	page_t npages;
	int wake_fd; /* eventfd: written when a channel has ended a round, or failed */
};

/* connections (blocking) whose DATA_HELLO has been read, by channel; taken over. -ENOMEM, -errno, logged; they are closed. */
int pages_in_new(struct pages_in **out, const struct pages_in_env *env,
		 struct transport *connections, unsigned int n) must_check;
/* Cuts what is under way, ends the threads. Takes NULL. */
void pages_in_free(struct pages_in *in);
/* How many rounds every channel has ended and are in memory, or the first error, its words as fail_text(). */
int64_t pages_in_rounds(struct pages_in *in) must_check;
/* Pages whose last copy did not fit its checksum; true between rounds. */
uint64_t pages_in_damaged(const struct pages_in *in);
uint64_t pages_in_bytes(const struct pages_in *in);

#endif
