/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker: a process of its own, started before the sandbox closes, that opens what the control socket names and
 * passes descriptors back, because no thread of the VMM can open a path any more. It ends when the VMM does. What has
 * to be put back then (terminal, socket, lock) is not its business: cli/janitor.h.
 *
 * It trusts the VMM's bytes no more than a peer's: a request is one fixed-size header and one path, and what it opens
 * is limited to the kinds below. Calls on the main thread; each waits for the answer, at most BROKER_WAIT_MS.
 */
#ifndef VMM_BROKER_H
#define VMM_BROKER_H

#include <sys/types.h>

#include "base/auto.h"
#include "vmm/sandbox.h"

#define BROKER_WAIT_MS	5000
#define BROKER_PATH_MAX 4095

struct broker {
	int fd; /* the VMM's end of a seqpacket pair */
	pid_t pid;
};

enum broker_open {
	BROKER_READ,	   /* an existing file, read only */
	BROKER_READ_WRITE, /* an existing file */
	BROKER_CREATE,	   /* a new file, 0600, refused when it exists */
};

/*
 * Forks the broker; before any other thread exists. sandbox: its class is entered in the child. -errno, logged.
 */
int broker_start(struct broker *broker, const struct sandbox *sandbox) must_check;
/* Tells it to end and waits for that; takes one that never started (fd -1). */
void broker_stop(struct broker *broker);

/* Opens path; the caller owns *fd. Errors: the broker's -errno, logged with the path; -ETIMEDOUT, -EPIPE. */
int broker_open(struct broker *broker, enum broker_open how, const char *path, int *fd) must_check;

#endif
