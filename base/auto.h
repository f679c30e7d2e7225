/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scope-bound resources: a local that closes or frees itself on every way out of its scope.
 * Objects that outlive a function have x_free() instead, and are not in here.
 */
#ifndef BASE_AUTO_H
#define BASE_AUTO_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void auto_free(void *pointer)
{
	free(*(void **)pointer);
}

/* AUTO_FD fd = open(...);	closed at the end of the scope if it is >= 0 */
#define AUTO_FD __attribute__((cleanup(auto_close))) int
/* AUTO_FREE char *text = ...;	freed at the end of the scope */
#define AUTO_FREE __attribute__((cleanup(auto_free)))

/* Moves a descriptor out of an AUTO_FD local; the caller owns what comes back. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes a descriptor held in an object and marks it closed; takes one that is closed already. */
static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

#define must_check __attribute__((warn_unused_result))

#define ARRAY_SIZE(a)		      (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

#endif
