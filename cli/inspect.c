// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern inspect: what a file holds, field by field. inspect_snapshot.c: a saved VM; inspect_stream.c: a recorded connection;
 * inspect_sections.c: what both carry.
 */
#include "cli/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/log.h"
#include "cli/command.h"

static int inspect(const char *path, bool verify)
{
	char magic[8] = "";
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, magic, sizeof(magic), 0) < 0) {
		log_error("inspect: %s: %s", path, strerror(errno));
		return CLI_INPUT;
	}
	/* A record begins with its type, a small number. */
	if (!memcmp(magic, "TERN", 4) || verify)
		return inspect_snapshot(fd, path, verify);
	return inspect_stream(fd, path);
}

int command_inspect(int argc, char **argv)
{
	const char *path = NULL;
	bool verify = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verify"))
			verify = true;
		else if (argv[i][0] == '-' || path)
			return command_usage("inspect");
		else
			path = argv[i];
	}
	return path ? inspect(path, verify) : command_usage("inspect");
}
