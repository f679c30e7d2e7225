/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP client for tern's own commands: one connection, one command at a time, every wait bounded. What is sent back is
 * a VM's word, and checked before use.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <jansson.h>

#include "base/auto.h"
#include "base/buf.h"
#include "cli/control.h"
#include "cli/qmp_frame.h"

struct client {
	char path[CONTROL_PATH_BYTES];
	const char *vm; /* as the user called it; not owned */
	int fd;
	struct buf in;
	struct qmp_frame frame;
	int timeout_ms; /* for each reply */
};

/*
 * Connects to a VM by name, or by the path of its socket (what holds a slash), and negotiates. timeout_ms is for each
 * reply. -ENOENT, -ECONNREFUSED: there is no such VM; -EINVAL: not a name; -ETIMEDOUT; -EPROTO: what answers does not
 * speak QMP; all logged.
 */
int client_open(struct client *client, const char *vm, int timeout_ms) must_check;
#define CLIENT_REPLY_MS 30000 /* patience with a VM: a pause alone may take 5 s */
void client_close(struct client *client);
/*
 * Runs a command (takes arguments, may be NULL). 0: *result (may be NULL) is what it returned, the caller's.
 * -EREMOTEIO: the VM refused, and its reason is logged; the others as above, -EPIPE when the VM went away.
 */
int client_execute(struct client *client, const char *command, json_t *arguments,
		   json_t **result) must_check;
/* The next event, the caller's. -ETIMEDOUT (not logged), -EPIPE (not logged): the VM is gone. */
int client_wait_event(struct client *client, int timeout_ms, json_t **event) must_check;

#endif
