/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mover: the process that drives a migration (docs/migration.md). It is forked by the broker, connects or listens,
 * closes its sandbox, and runs a source's (source.c) or a target's (target.c) stages; or it saves the VM to a file (saver.c). This file: how it comes to be, and
 * the one place where its control thread waits.
 */
#ifndef MIGRATION_MOVER_H
#define MIGRATION_MOVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "migration/address.h"
#include "migration/control.h"
#include "migration/greeting.h"
#include "migration/link.h"
#include "migration/progress.h"
#include "vmm/sandbox.h"

#define MOVER_TLS_BYTES 1024

enum mover_role { MOVER_SOURCE, MOVER_TARGET, MOVER_SAVER };
#define MOVER_PATH_MAX 2047

/* What the VMM sends the broker. */
struct mover_request {
	uint32_t role;
	char uri[ADDRESS_TEXT_BYTES];
	struct migration_params params;
	/* SAVER */
	char path[MOVER_PATH_MAX + 1];
	uint32_t after;	 /* enum save_after */
	uint32_t paused; /* the VM is */
	/* SOURCE, TARGET */
	char tls[MOVER_TLS_BYTES]; /* the directory of keys, see tls.h; "": plain */
};

/* A broker_child_fn. */
int mover_main(const void *request, size_t len, const int ends[2], const struct sandbox *sandbox);

/* ---- Inside ---- */

#define MOVER_ACCEPT_MAX (1 + GREETINGS_MAX)

struct mover {
	struct migration_params params;
	struct address address;
	const char *path; /* saver */
	struct tls *tls;  /* NULL: plain */
	int listen_fd;	  /* target */
	int link_fd, rearm_fd, wake_fd;
	uint8_t *mailbox;
	uint8_t *ram;
	int ram_fd;
	page_t npages;
	uint64_t *map; /* of dirty pages, shared with the VMM; source */

	struct control control;
	bool connected; /* control is in use */
	/* Asked in mover_wait() for each record; errors end the wait. */
	int (*on_record)(struct mover *mover, const struct control_message *message);
	/* Called when one of accept_fd may be read; it keeps that list. Target. */
	int (*on_accept)(struct mover *mover);
	unsigned int naccept;
	int accept_fd[MOVER_ACCEPT_MAX];
	void *side; /* struct source or struct target */

	bool cancelled; /* the VMM asked for it */
	bool deaf;	/* ... and it is too late: OWN may have been sent */
	int resolved;	/* the operator's word: 0 none, 1 own, -1 drop */
	uint64_t questions;
	struct link_message answer; /* the last one */
	int answer_fds[LINK_FDS_MAX];
	struct migration_progress progress;
	uint64_t begin_us, told_us; /* progress was told last */
};

/*
 * Waits until done(mover) is true, serving everything meanwhile. timeout_us 0: no limit. 0, -ETIMEDOUT (logged with
 * `what`, unless that is NULL), -ECANCELED, -EPIPE (the VMM is gone), or the error of a connection.
 */
int mover_wait(struct mover *mover, bool (*done)(struct mover *mover), uint64_t timeout_us,
	       const char *what) must_check;
/* Waits so long, serving everything: -ETIMEDOUT (not logged) when nothing came in the way, else as mover_wait(). */
int mover_pause(struct mover *mover, uint64_t us) must_check;
/* Until the kernel has all that was sent on the control connection, a second at most; errors as mover_wait(). */
int mover_drain(struct mover *mover) must_check;
/* A question to the VMM. Its error, with its words as fail_text(); or one of mover_wait(). */
int mover_ask(struct mover *mover, enum link_op op, uint64_t value, const char *text) must_check;
void mover_disconnect(struct mover *mover); /* takes one that is not connected */
int mover_note(struct mover *mover, const struct link_message *note) must_check;
/* Progress as it is now, at most ten times a second unless forced. */
void mover_tell(struct mover *mover, bool force);
/* The guest runs again, its rest was too much: what it felt of that. */
void mover_note_early_stop(struct mover *mover, const struct link_switched *switched);
/* For pages_out_env: asks for re-arming on the second pair; data threads, one at a time. */
int mover_rearm(void *opaque, page_t first, uint64_t npages);
/* Maps guest RAM; takes the descriptor over. */
int mover_map_ram(struct mover *mover, int fd, page_t npages) must_check;
void mover_unmap_ram(struct mover *mover);

int source_run(struct mover *mover);
int target_run(struct mover *mover);

#endif
