// SPDX-License-Identifier: GPL-2.0-or-later
/* Kernel and initrd files: opening, and bounded reads into memory or guest RAM. */
#include "vmm/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

int image_bad(const struct image *image, const char *format, ...)
{
	char why[160];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return fail(-EINVAL, "%s: %s: %s", image->what, image->path, why);
}

int image_refresh(struct image *image)
{
	struct stat st;

	if (fstat(image->fd, &st) < 0)
		return fail(-errno, "%s: %s: %s", image->what, image->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return image_bad(image, "not a regular file");
	if (st.st_size <= 0)
		return image_bad(image, "the file is empty");
	image->size_bytes = st.st_size;
	return 0;
}

int image_take(struct image *image, const char *what, const char *path, int fd)
{
	int error;

	*image = (struct image){.fd = fd, .what = what, .path = strdup(path)};
	error = image->path ? image_refresh(image) : fail(-ENOMEM, "%s: no memory", what);
	if (error)
		image_close(image);
	return error;
}

int image_open(struct image *image, const char *what, const char *path)
{
	int fd;

	*image = (struct image){.fd = -1, .what = what};
	if (!path)
		return 0;
	/* O_NONBLOCK: a FIFO must not hold us up; it is refused below. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail(-errno, "%s: %s: %s", what, path, strerror(errno));
	return image_take(image, what, path, fd);
}

void image_close(struct image *image)
{
	close_fd(&image->fd);
	free(image->path);
	image->path = NULL;
}

int image_read(const struct image *image, uint64_t offset, void *to, size_t len)
{
	uint8_t *at = to;

	if (offset > image->size_bytes || len > image->size_bytes - offset)
		return image_bad(image, "truncated: %zu bytes at %#llx, the file has %llu", len,
				 (unsigned long long)offset, (unsigned long long)image->size_bytes);
	while (len) {
		ssize_t got = pread(image->fd, at, len, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(-errno, "%s: %s: read: %s", image->what, image->path,
				    strerror(errno));
		if (got == 0)
			return image_bad(image, "shrank while it was read");
		at += got;
		offset += got;
		len -= got;
	}
	return 0;
}

int image_load(const struct image *image, uint64_t offset, uint64_t len, struct ram *ram, gpa_t gpa)
{
	void *to = ram_ptr(ram, gpa, len);
	int error;

	if (!to)
		return image_bad(image, "%llu bytes do not fit into RAM at %#llx",
				 (unsigned long long)len, (unsigned long long)gpa);
	error = image_read(image, offset, to, len);
	ram_mark_dirty(ram, gpa, len);
	return error;
}
