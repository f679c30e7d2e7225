/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMM's half of receiving a VM: a mover process (mover.h) listens and talks to the source; this builds the machine
 * that the source describes, loads its state and starts it. Main thread.
 *
 * The machine is the owner's from `built` on; it is freed by the owner, after incoming_free().
 */
#ifndef MIGRATION_INCOMING_H
#define MIGRATION_INCOMING_H

#include "base/loop.h"
#include "migration/progress.h"
#include "vmm/broker.h"
#include "vmm/machine.h"

struct incoming;

struct incoming_owner {
	void *opaque;
	/* Listening; address as bound ("tcp:127.0.0.1:4444"). */
	void (*listening)(void *opaque, const char *address);
	/*
	 * The phase has changed (progress is current): CONNECT when it listens, and for each VM that comes; FAILED and
	 * WOULD_WORK are followed by CONNECT if another one comes. COMPLETED is what `taken` says.
	 */
	void (*phase)(void *opaque, enum migration_phase phase);
	/*
	 * The source's configuration, checked and bounded: the owner maps its host resources (config_map.h), takes the
	 * name, and builds the machine with machine_new_incoming(). Errors: fail_text() goes to the source. dry_run: the
	 * machine is freed again after the checks, by `drop`.
	 */
	int (*build)(void *opaque, struct config *config, struct machine **machine);
	/* The machine that build() made is not needed: free it. text: why, "" after a dry run. */
	void (*drop)(void *opaque, const char *text);
	/* It runs here. */
	void (*taken)(void *opaque);
	/* Nobody can be received any more; a machine that build() made is not needed. Text: why. */
	void (*over)(void *opaque, const char *text);
	/* READY, but the source is lost: the VM waits, paused, for incoming_resolve(). */
	void (*doubt)(void *opaque, const char *text);
};

/*
 * Starts a mover that listens at uri, with the keys in the directory tls ("": unencrypted). It serves one source at a
 * time; after a failed attempt it listens again. Errors are logged.
 */
int incoming_new(struct incoming **out, const char *uri, const char *tls,
		 const struct migration_params *params, struct loop *loop, struct broker *broker,
		 const struct incoming_owner *owner) must_check;
/*
 * incoming_new() for who has to know at once: waits, a few seconds at most, until it listens. `listening` and `phase` are
 * called from within and find *out set. Errors: why it does not listen, logged; *out is NULL.
 */
int incoming_listen(struct incoming **out, const char *uri, const char *tls,
		    const struct migration_params *params, struct loop *loop, struct broker *broker,
		    const struct incoming_owner *owner) must_check;
void incoming_free(struct incoming *incoming); /* takes NULL */
int incoming_resolve(struct incoming *incoming, bool own) must_check;
const struct migration_progress *incoming_progress(const struct incoming *incoming);
/* Where it listens, as address_text() has it; "": not yet. */
const char *incoming_address(const struct incoming *incoming);

#endif
