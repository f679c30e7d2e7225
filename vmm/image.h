/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel and initrd files: opened once, before the sandbox closes, and read again at each reset. They are hostile: every
 * read is bounded by the size that the file really has, and what cannot be read is one line and -EINVAL.
 * Not here: what the bytes mean (x86_bzimage.c, x86_pvh.c, ...). Main thread.
 */
#ifndef VMM_IMAGE_H
#define VMM_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "memory/ram.h"

struct image {
	int fd;		  /* -1: none */
	const char *what; /* "kernel", "initrd": for messages */
	char *path;
	uint64_t size_bytes; /* as of the last image_refresh() */
};

/* path NULL: an image without a file, fd -1. Errors: -errno of open, -EINVAL not a regular file, or empty. */
int image_open(struct image *image, const char *what, const char *path) must_check;
/* Takes over a descriptor (tests, fuzzers, descriptors that a client handed over). */
int image_take(struct image *image, const char *what, const char *path, int fd) must_check;
void image_close(struct image *image);
/* Reads the size again: the file may have been replaced in place since. */
int image_refresh(struct image *image) must_check;

/* Exactly len bytes from offset; -EINVAL "truncated" when the file has fewer. */
int image_read(const struct image *image, uint64_t offset, void *to, size_t len) must_check;
/* The same straight into guest RAM; -EINVAL also when [gpa, gpa+len) is not RAM. Marks the pages dirty. */
int image_load(const struct image *image, uint64_t offset, uint64_t len, struct ram *ram,
	       gpa_t gpa) must_check;
/* Logs "what: path: ..." and returns -EINVAL. */
int image_bad(const struct image *image, const char *format, ...) must_check
	__attribute__((format(printf, 2, 3)));

#endif
