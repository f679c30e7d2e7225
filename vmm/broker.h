/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The broker: a process of its own, started before the sandbox closes, that opens what the control socket names and
 * passes descriptors back, because no thread of the VMM can open a path any more. It ends when the VMM does. What has
 * to be put back then (terminal, socket, lock) is not its business: cli/janitor.h.
 *
 * It also forks the processes that move VMs (migration/mover.h), which need connections as it needs paths.
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
 * What broker_spawn() runs: in a process of its own, forked from the broker and in the broker's sandbox, which the
 * function may narrow. It has the request's bytes, its two ends and standard error, and returns an exit status.
 */
#define BROKER_REQUEST_MAX BROKER_PATH_MAX
typedef int broker_child_fn(const void *request, size_t len, const int ends[2],
			    const struct sandbox *sandbox);

/*
 * Forks the broker; before any other thread exists. sandbox: its class is entered in the child, and it must outlive the
 * call only. child may be NULL. -errno, logged.
 */
int broker_start(struct broker *broker, const struct sandbox *sandbox,
		 broker_child_fn *child) must_check;
/* Tells it to end and waits for that; takes one that never started (fd -1). */
void broker_stop(struct broker *broker);

/* Opens path; the caller owns *fd. Errors: the broker's -errno, logged with the path; -ETIMEDOUT, -EPIPE. */
int broker_open(struct broker *broker, enum broker_open how, const char *path, int *fd) must_check;
/*
 * Starts a child; ends: this side's descriptors of two SOCK_SEQPACKET pairs, the caller's. The child sees their end when
 * they are closed. Errors as above.
 */
int broker_spawn(struct broker *broker, const void *request, size_t len, int ends[2]) must_check;

#endif
