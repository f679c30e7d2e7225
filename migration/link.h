/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link between a VMM and its mover: messages over a SOCK_SEQPACKET pair, each whole or not at all, and a mailbox in
 * shared memory for what is larger. The mover asks, one question at a time, and the VMM answers with the same op; notes
 * go either way and are not answered. docs/migration.md has the walk.
 *
 * The mover reads a peer's bytes and may have been taken over by it: the VMM copies out of the mailbox, then checks.
 */
#ifndef MIGRATION_LINK_H
#define MIGRATION_LINK_H

#include "migration/progress.h"
#include "migration/wire.h"

enum link_op {
	/* Questions of a source's mover. */
	LINK_DESCRIBE = 1, /* -> mailbox: the head of CONFIG; value: its length */
	LINK_TRACK,	   /* dirty tracking on -> value: 1 when pages are re-armed by LINK_REARM */
	LINK_HARVEST,	   /* the map has been sent: emptied, then filled -> value: pages in it */
	LINK_SWITCH, /* pause, save, last harvest on top of the map -> link_switched; mailbox: state */
	LINK_RUN_ON,  /* the rest is too much: the VM runs, rounds go on */
	LINK_RELEASE, /* disks are synced and given up: OWN is sent next */
	LINK_GONE,    /* TAKEN */
	LINK_KEPT,    /* REFUSED_OWN or UNKNOWN: the VM takes its disks back and runs on */
	/* Of a saver's, after LINK_SWITCH. */
	LINK_DISKS, /* value 1: synced first -> mailbox: what they are; value: its length */
	LINK_SAVED, /* the file has all of the VM; value: enum save_after but SAVE_QUIT */
	/* Of a target's. */
	LINK_BUILD, /* mailbox: head of CONFIG, value: its length -> descriptor of RAM; value: pages */
	LINK_LOAD, /* mailbox: state, value: its length -> value: us */
	LINK_TAKE, /* OWN; value 1: stays paused -> value: us */
	LINK_DROP, /* the machine is not needed; text: why. value 1: a dry run is over */
	/* On the second pair, from the data threads. */
	LINK_REARM, /* value: first page, value2: pages */
	/* Notes of the mover. */
	LINK_PROGRESS,
	LINK_LISTENING, /* text: address */
	LINK_OVER,	/* source: the end; progress says which. The mover exits */
	LINK_LOST,	/* target: READY was said and the source is lost; text: why */
	/* Notes of the VMM. */
	LINK_START, /* descriptors: mailbox [RAM, map]; value: pages; params */
	LINK_CANCEL,
	LINK_PARAMS,
	LINK_RESOLVE, /* in doubt: value 1: own, 0: drop */
};

struct link_switched {
	uint64_t state_bytes, pages; /* in the map */
	uint64_t pause_us, save_us, harvest_us;
	uint64_t paused;     /* 1: it was paused before, and stays so */
	uint64_t stopped_us; /* now_us() when vCPUs began to be stopped */
};

#define LINK_FDS_MAX 3
struct link_message {
	uint32_t op;
	int32_t error; /* of an answer: 0 or -errno, with text */
	uint64_t
		number; /* of a question, and of its answer: one that is no longer waited for is passed over */
	uint64_t value, value2;
	char text[MIGRATION_TEXT_BYTES];
	union {
		struct migration_progress progress;
		struct migration_params params;
		struct link_switched switched;
	};
};

#define LINK_MAILBOX_BYTES ((size_t)WIRE_STATE_MAX)

/* The descriptors stay the caller's. -EPIPE: the other side has ended; -errno. Not logged. */
int link_send(int fd, const struct link_message *message, const int *fds,
	      unsigned int nfds) must_check;
/*
 * link_send() of the first message to a mover. One that could not begin has said why and is gone, maybe before this: that is
 * no error, for its words wait on the link. -errno, logged.
 */
int link_start(int fd, const struct link_message *start, const int *fds,
	       unsigned int nfds) must_check;
/*
 * The next message without waiting (wait: with): 1, 0 when there is none, -EPIPE at the end of the other side. Fills in
 * fds (the caller's from now on), -1 where there is none; NULL: descriptors are closed. Text always ends.
 */
int link_receive(int fd, struct link_message *message, int fds[LINK_FDS_MAX], bool wait) must_check;

/* A memfd of so many bytes, which cannot shrink or grow, mapped. */
int link_share(const char *name, size_t size, int *fd, void **mapping) must_check;

#endif
