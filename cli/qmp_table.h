/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a QMP command is written: a row in a table, with its arguments, and a function. The dispatcher (qmp_dispatch.c)
 * has checked names, presence and types of the arguments before the function runs. A new group of commands is a file
 * with a table, and a line in qmp_tables[].
 */
#ifndef CLI_QMP_TABLE_H
#define CLI_QMP_TABLE_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/qmp.h"

#define QMP_GENERIC	      "GenericError"
#define QMP_COMMAND_NOT_FOUND "CommandNotFound"

enum qmp_type { QMP_STRING, QMP_INTEGER, QMP_NUMBER, QMP_BOOLEAN, QMP_OBJECT, QMP_ARRAY, QMP_ANY };

struct qmp_argument {
	const char *name; /* NULL ends a list */
	enum qmp_type type;
	bool optional;
};

/* The fds that came with a client's messages and that no command has used yet, oldest first. */
struct qmp_fds {
	unsigned int n;
	int fd[QMP_FDS_MAX];
};

/* Those that getfd has given a name: they wait for the command that uses them, and go with their client. */
#define QMP_FD_NAME_BYTES 64
struct qmp_named_fds {
	unsigned int n;
	struct {
		char name[QMP_FD_NAME_BYTES];
		int fd;
	} row[QMP_FDS_MAX];
};

/* What a client is to the dispatcher. */
struct qmp_peer {
	bool negotiated; /* qmp_capabilities has been run: commands and events flow */
	struct qmp_fds fds;
	struct qmp_named_fds named;
};

/* One command being run. */
struct qmp_call {
	struct machine *machine; /* NULL: none yet, and the command says that it can do without */
	const struct qmp_owner *owner;
	struct qmp_peer *peer;
	json_t *arguments; /* an object, borrowed */
	json_t *result;	   /* the function's; NULL stands for {} */
	const char *error_class;
	char error[512];
};

struct qmp_command {
	const char *name; /* NULL ends a table */
	/* 0, or -errno: then the error is what qmp_error() said or, without that, the words of the last fail(). */
	int (*run)(struct qmp_call *call);
	const struct qmp_argument *arguments; /* NULL: takes none */
	bool negotiating;		      /* allowed before negotiation, and only there */
	bool waiting;			      /* also while there is no machine yet */
};

/* All tables; NULL ends the list. */
extern const struct qmp_command *const qmp_tables[];
extern const struct qmp_command qmp_base_commands[];	/* qmp_dispatch.c: the protocol's own */
extern const struct qmp_command qmp_vm_commands[];	/* qmp_vm.c */
extern const struct qmp_command qmp_fd_commands[];	/* qmp_fd.c */
extern const struct qmp_command qmp_migrate_commands[]; /* qmp_migrate.c */
extern const struct qmp_command qmp_migrate_params_commands[]; /* qmp_migrate_params.c */

int qmp_error(struct qmp_call *call, const char *class, const char *format, ...)
	__attribute__((format(printf, 3, 4))); /* returns -EINVAL */
/* An optional argument's value; the default when it is absent. */
const char *qmp_string(const struct qmp_call *call, const char *name, const char *otherwise);
bool qmp_boolean(const struct qmp_call *call, const char *name, bool otherwise);
/* The oldest unused descriptor that came with the client's messages; the caller owns it. -1: none. */
int qmp_take_fd(struct qmp_call *call);

/* Takes out what getfd named so; the caller owns it. -1: nothing has that name. */
int qmp_take_named_fd(struct qmp_peer *peer, const char *name);
void qmp_close_named_fds(struct qmp_peer *peer);

/*
 * One message (a framed piece of input) to one reply, which the caller owns. Never NULL but for lack of memory.
 * Nothing is called for a message that is not a well-formed command.
 */
json_t *qmp_dispatch(struct machine *machine, const struct qmp_owner *owner, struct qmp_peer *peer,
		     const char *bytes, size_t len);
/* A reply that says that the input was no message. */
json_t *qmp_input_error(const char *why);
json_t *qmp_greeting(void);

/* Refuses what would change a VM while it is paused for its hand-over, or in doubt (qmp_migrate.c). */
int qmp_check_not_moving(struct qmp_call *call) must_check;
/* Lays the members of `arguments` that `rows` knows over *params (qmp_migrate_params.c). */
int qmp_take_params(struct qmp_call *call, struct migration_params *params);

/* What x-tern-status returns, but for its member "migration" (qmp_status.c); of a VM that is not there yet: little. */
json_t *qmp_status(struct machine *machine);
json_t *qmp_status_waiting(const struct qmp_owner *owner);
/* That member: phase and words of the last migration; NULL: there was none (qmp_migrate.c). Takes NULL. */
json_t *qmp_migration_status(const struct qmp_migration *migration);

#endif
