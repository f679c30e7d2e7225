/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mover that saves the VM to a file (docs/snapshot.md). Of the mover; the VMM's half is outgoing.h's. */
#ifndef MIGRATION_SAVER_H
#define MIGRATION_SAVER_H

#include "migration/mover.h"

struct saver_file {
	int fd, parent_fd;
};

/* Creates the file, which must not be there. Before the sandbox closes. -errno, logged. */
int saver_open_file(const char *path, struct saver_file *file) must_check;
/* paused: the VM is now, and stays so. Takes the file over. Returns an exit status. */
int saver_run(struct mover *mover, const struct saver_file *file, enum save_after after,
	      bool paused);

#endif
