/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine made of a saved VM's file (docs/snapshot.md). Main thread.
 *
 *	restoring_open -> (the caller lays its map over the configuration, machine_new_incoming) -> restoring_fill
 *		-> machine_start or machine_adopt
 */
#ifndef MIGRATION_RESTORING_H
#define MIGRATION_RESTORING_H

#include "vmm/config.h"
#include "vmm/machine.h"

struct restoring;

/*
 * Opens path and reads all but the memory. config gets the VM's configuration; it needs no config_init(), and is the
 * caller's. -EBADMSG: not a whole file of a saved VM; -ENOTSUP: of another architecture or newer; -errno; logged.
 */
int restoring_open(struct restoring **out, const char *path, struct config *config) must_check;
void restoring_free(struct restoring *restoring); /* takes NULL */
/*
 * Memory and state into a machine_new_incoming() of that configuration; takes its disks and compares them with what they
 * were (machine_check_disks()). Threads are made for reading: before the sandbox closes, which the state's load does.
 * After an error the machine is good only for machine_free(). Logged.
 */
int restoring_fill(struct restoring *restoring, struct machine *machine,
		   bool disks_as_they_are) must_check;

#endif
