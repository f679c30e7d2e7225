/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a VM is found: the runtime directory, the control socket of a name, and the lock that makes a name somebody's.
 * The protocol on the socket is qmp.h's; the other end is client.h's.
 *
 * The directory is $XDG_RUNTIME_DIR/tern; without that variable /run/tern for root and /tmp/tern-UID for others. It is
 * made when missing, mode 0700, and refused when it belongs to somebody else (but for root).
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/auto.h"

#define CONTROL_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

/* A name taken: its lock is held as long as any process has lock_fd open. */
struct control_socket {
	char path[CONTROL_PATH_BYTES]; /* of the socket */
	char lock[CONTROL_PATH_BYTES +
		  8]; /* of the lock file, which holds the owner's process number */
	int lock_fd;
	int listen_fd; /* listening, non-blocking */
};

/* The runtime directory. create: make it. Errors: -EINVAL, logged. */
int control_directory(char path[CONTROL_PATH_BYTES], bool create) must_check;
/* The socket of a VM's name. -EINVAL: not a name, or the path is longer than a socket's may be. */
int control_path(char path[CONTROL_PATH_BYTES], const char *name) must_check;

/*
 * Takes the name (path: the socket's path when the user gave one, else NULL): lock, removal of a stale socket, listen.
 * -EADDRINUSE: somebody has it, named with process number; -EEXIST: something that is no socket is there; -errno.
 * All logged, and nothing is left behind.
 */
int control_open(struct control_socket *control, const char *name, const char *path) must_check;
/* Removes socket and lock file and closes both. */
void control_close(struct control_socket *control);
/* Only removes the two files, with the lock held by the caller. */
void control_unlink(const struct control_socket *control);
/* The process that holds the lock of this socket path; 0: nobody does. */
pid_t control_owner(const char *path);

#endif
