/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket's server: QMP, as docs/control.md says. It serves a listening socket that it is given, on the
 * loop's thread, many clients at once; what a client does to itself (floods, stalls, sends garbage, goes away) harms
 * neither the VM nor other clients. Commands are rows of tables (qmp_table.h).
 */
#ifndef CLI_QMP_H
#define CLI_QMP_H

#include <jansson.h>
#include <stdbool.h>

#include "base/auto.h"
#include "base/loop.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "vmm/machine.h"

/* Bounds, per client but for the first. */
#define QMP_CLIENTS_MAX	  16	     /* one more is told so and disconnected */
#define QMP_MESSAGE_BYTES (64 << 10) /* one command */
#define QMP_DEPTH_MAX	  64	     /* nesting of one command */
#define QMP_OUTPUT_PAUSE  (64 << 10) /* unread output at which no more commands are taken */
#define QMP_OUTPUT_BYTES  (1 << 20)  /* unread output at which the client is disconnected */
#define QMP_FDS_MAX	  16	     /* descriptors sent and not yet used by a command */

struct qmp_server;

/* The migrations of one VM, as commands see them; its owner's. */
struct qmp_migration {
	struct outgoing *outgoing;
	struct incoming *incoming;	/* NULL: the VM was started here */
	struct migration_params params; /* of the next one; changed by commands */
	bool insecure;			/* unencrypted to other hosts is allowed; same */
	bool cancelling;		/* migrate_cancel was taken, and the end is not there yet */
	uint64_t setup_us;		/* until rounds began */
	const char *told;		/* status in the last MIGRATION event; NULL: none */
	/*
	 * migrate-incoming: listens at uri, with the keys in the directory tls ("": unencrypted), and has set `incoming` when
	 * it returns 0. NULL: this process does not wait to be told where.
	 */
	int (*listen)(void *opaque, const char *uri, const char *tls);
	void *listen_opaque;
	const char *listen_tls; /* keys, where the command names none; NULL: none */
};

/* Who answers for what a server cannot do itself. */
struct qmp_owner {
	void *opaque;
	/* Ends the VM without asking the guest; reason as in QMP's ShutdownCause. May be called during a command. */
	void (*quit)(void *opaque, const char *reason);
	const char *name;		 /* of a VM that is not there yet; NULL: not known */
	struct qmp_migration *migration; /* NULL: this VM cannot be moved */
};

/*
 * listen_fd, machine and loop stay the caller's and must outlive the server. machine NULL: it comes later, if at all, and
 * until then only some commands are taken. -ENOMEM, -errno, logged.
 */
int qmp_server_new(struct qmp_server **out, struct loop *loop, struct machine *machine,
		   int listen_fd, const struct qmp_owner *owner) must_check;
/* The machine has come, or (NULL) is about to be freed. Not from within a command. Takes a NULL server. */
void qmp_server_set_machine(struct qmp_server *server, struct machine *machine);
/* Sends what can be sent at once, closes all clients. Takes NULL. */
void qmp_server_free(struct qmp_server *server);

/* Clients that have negotiated. Takes a NULL server. */
unsigned int qmp_server_clients(const struct qmp_server *server);

/* Sends an event to every client that has negotiated; takes data (may be NULL). Takes a NULL server. */
void qmp_server_event(struct qmp_server *server, const char *event, json_t *data);
json_t *qmp_shutdown_data(bool guest, const char *reason);
json_t *qmp_reset_data(bool guest);
json_t *qmp_panic_data(void);
/* The migration's phase may have changed: MIGRATION, if its status has (qmp_migrate.c). */
void qmp_migration_event(struct qmp_server *server, struct qmp_migration *migration);

#endif
