/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mover that saves the VM to a file (docs/snapshot.md). Of the mover; the VMM's half is outgoing.h's. */
#ifndef MIGRATION_SAVER_H
#define MIGRATION_SAVER_H

#include "migration/mover.h"

/* Creates the file, which must not be there. Before the sandbox closes. -errno, logged. */
int saver_open_file(const char *path, int *fd) must_check;
/* paused: the VM is now, and stays so. Takes fd over. Returns an exit status. */
int saver_run(struct mover *mover, int fd, enum save_after after, bool paused);

#endif
