// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that clients bring: getfd names the one that came with it, and a later command of the same client takes it
 * by that name. How they arrive is qmp_server.c's matter.
 */
#include <string.h>

#include "cli/qmp_table.h"

static int find(const struct qmp_named_fds *named, const char *name)
{
	for (unsigned int i = 0; i < named->n; i++)
		if (!strcmp(named->row[i].name, name))
			return (int)i;
	return -1;
}

int qmp_take_named_fd(struct qmp_peer *peer, const char *name)
{
	struct qmp_named_fds *named = &peer->named;
	int at = find(named, name), fd;

	if (at < 0)
		return -1;
	fd = named->row[at].fd;
	named->row[at] = named->row[--named->n];
	return fd;
}

void qmp_close_named_fds(struct qmp_peer *peer)
{
	while (peer->named.n)
		close(peer->named.row[--peer->named.n].fd);
}

static int run_getfd(struct qmp_call *call)
{
	const char *name = qmp_string(call, "fdname", "");
	struct qmp_named_fds *named = &call->peer->named;
	AUTO_FD fd = qmp_take_fd(call);
	int older;

	if (fd < 0)
		return qmp_error(call, QMP_GENERIC, "No file descriptor came with the command");
	if (!*name || strlen(name) >= QMP_FD_NAME_BYTES || (*name >= '0' && *name <= '9'))
		return qmp_error(call, QMP_GENERIC,
				 "Parameter 'fdname' is a name that begins with no digit");
	older = qmp_take_named_fd(call->peer, name);
	close_fd(&older);
	if (named->n == QMP_FDS_MAX)
		return qmp_error(call, QMP_GENERIC, "At most %d descriptors have names",
				 QMP_FDS_MAX);
	stpcpy(named->row[named->n].name, name);
	named->row[named->n++].fd = take_fd(&fd);
	return 0;
}

static int run_closefd(struct qmp_call *call)
{
	const char *name = qmp_string(call, "fdname", "");
	AUTO_FD fd = qmp_take_named_fd(call->peer, name);

	if (fd < 0)
		return qmp_error(call, QMP_GENERIC, "File descriptor named '%.60s' not found",
				 name);
	return 0;
}

static const struct qmp_argument fd_arguments[] = {{"fdname", QMP_STRING, false}, {}};

const struct qmp_command qmp_fd_commands[] = {
	{"getfd", run_getfd, fd_arguments, .waiting = true},
	{"closefd", run_closefd, fd_arguments, .waiting = true},
	{},
};
