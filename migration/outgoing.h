/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMM's half of moving a VM away: it serves a mover process (mover.h), which drives the migration, with what only
 * the VMM can do: harvest, pause, save, give up disks, go on. Main thread.
 *
 * One migration at a time. Whatever fails before the hand-over ends in a running VM (or a paused one, if it was paused
 * before); docs/lifecycle.md has the rest.
 */
#ifndef MIGRATION_OUTGOING_H
#define MIGRATION_OUTGOING_H

#include "base/loop.h"
#include "migration/progress.h"
#include "vmm/broker.h"
#include "vmm/machine.h"

struct outgoing;

struct outgoing_events {
	void *opaque;
	/* The phase has changed (progress is current). May be called from within outgoing_start() and _cancel(). */
	void (*phase)(void *opaque, enum migration_phase phase);
	/* The VM lives elsewhere now (machine is in status postmigrate): the process may end. */
	void (*gone)(void *opaque);
};

/* One for each machine, for its life; machine, loop and broker must outlive it. */
int outgoing_new(struct outgoing **out, struct machine *machine, struct loop *loop,
		 struct broker *broker, const struct outgoing_events *events) must_check;
/* A migration under way is cancelled first, if it can be. Takes NULL. */
void outgoing_free(struct outgoing *outgoing);

/*
 * Begins to move the VM to uri ("tcp:HOST:PORT", "unix:PATH"), encrypted with the keys in the directory tls ("": plain). Returns at once; the rest comes as events. -EBUSY: one is
 * under way, or the VM's status does not allow it; -EINVAL: uri or params; logged.
 */
int outgoing_start(struct outgoing *outgoing, const char *uri, const char *tls,
		   const struct migration_params *params) must_check;
/*
 * Begins to save the VM to a new file (docs/snapshot.md), under the VMM's working directory where path is relative. As
 * outgoing_start() in everything else: events, progress, cancelling; params that are about connections mean nothing. In
 * the end the phase is COMPLETED and the file whole, or there is none. With SAVE_QUIT `gone` follows.
 */
int outgoing_save(struct outgoing *outgoing, const char *path, enum save_after after,
		  const struct migration_params *params) must_check;
/* Takes effect soon (event), and not any more once OWN may have been sent: -EBUSY. 0 also when nothing is under way. */
int outgoing_cancel(struct outgoing *outgoing) must_check;
/* In doubt: the operator's word. own: this VM runs on here; else it is given up. -EBUSY when there is no doubt. */
int outgoing_resolve(struct outgoing *outgoing, bool own) must_check;
/* The current or last attempt was outgoing_save()'s. */
bool outgoing_is_save(const struct outgoing *outgoing);
/* Of the current or last migration. */
const struct migration_progress *outgoing_progress(const struct outgoing *outgoing);
/* From now on, and for a migration that is under way where that is possible (bandwidth, downtime, deadline). */
void outgoing_set_params(struct outgoing *outgoing, const struct migration_params *params);

#endif
