// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disk images: opening a raw file or block device, what alignment it wants, its size and its lock.
 * Requests on it are blk_io.c's.
 */
#include "devices/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"

#define SECTOR_BYTES 512U

static int image_read_size(const struct blk_image *image, uint64_t *size_bytes)
{
	struct stat st;

	if (image->block_device) {
		if (ioctl(image->fd, BLKGETSIZE64, size_bytes) < 0)
			return fail(-errno, "blk: %s: size of the block device: %s", image->path,
				    strerror(errno));
	} else {
		if (fstat(image->fd, &st) < 0)
			return fail(-errno, "blk: %s: %s", image->path, strerror(errno));
		*size_bytes = (uint64_t)st.st_size;
	}
	*size_bytes -= *size_bytes % SECTOR_BYTES;
	return 0;
}

/* True when an O_DIRECT read in units of `bytes` at offset 0 is taken; an empty read at the end counts. */
static bool image_direct_read_works(const struct blk_image *image, uint32_t bytes)
{
	AUTO_FREE void *probe = NULL;

	if (posix_memalign(&probe, 4096, 4096))
		return false;
	return pread(image->fd, probe, bytes, 0) >= 0;
}

/* What O_DIRECT wants of offsets (returned, 0: not possible) and of memory. Linux 6.1 says; before, we try. */
static uint32_t image_direct_align(const struct blk_image *image, uint32_t *memory_align)
{
	struct statx stx;
	int sector = 0;

	*memory_align = SECTOR_BYTES;
	if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN)) {
		if (stx.stx_dio_mem_align)
			*memory_align = stx.stx_dio_mem_align;
		return stx.stx_dio_offset_align;
	}
	if (image->block_device && ioctl(image->fd, BLKSSZGET, &sector) == 0 && sector > 0) {
		*memory_align = (uint32_t)sector;
		return (uint32_t)sector;
	}
	for (uint32_t bytes = SECTOR_BYTES; bytes <= 4096; bytes *= 8) {
		*memory_align = bytes;
		if (image_direct_read_works(image, bytes))
			return bytes;
	}
	return 0;
}

static int image_set_direct(struct blk_image *image, bool on)
{
	int flags = fcntl(image->fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_DIRECT : flags & ~O_DIRECT;
	return fcntl(image->fd, F_SETFL, flags) < 0 ? -errno : 0;
}

static void image_use_cache(struct blk_image *image, const char *why)
{
	log_info("blk: %s: %s: going through the page cache", image->path, why);
	(void)image_set_direct(image, false);
	image->direct = false;
}

/* Decides O_DIRECT and the block size together: neither may break the other. */
static int image_choose_blocks(struct blk_image *image, const struct blk_image_options *options)
{
	uint32_t align = SECTOR_BYTES;
	int error;

	image->direct = !options->cached;
	image->memory_align = 1;
	error = image_set_direct(image, image->direct);
	if (error && image->direct)
		image_use_cache(image, "no O_DIRECT here");
	if (image->direct) {
		align = image_direct_align(image, &image->memory_align);
		if (align == 0)
			image_use_cache(image, "no O_DIRECT here");
		else if (align > 4096)
			image_use_cache(image, "O_DIRECT wants more than 4096-byte blocks");
		else if (options->block_bytes && align > options->block_bytes)
			image_use_cache(image,
					"O_DIRECT wants larger blocks than the guest was told of");
		else if (!options->block_bytes && image->size_bytes % align)
			image_use_cache(image, "O_DIRECT wants a size in whole blocks");
	}
	if (!image->direct) {
		align = SECTOR_BYTES;
		image->memory_align = 1;
	}
	if (align < SECTOR_BYTES)
		align = SECTOR_BYTES;
	image->block_bytes = options->block_bytes ? options->block_bytes : align;
	if (image->size_bytes % image->block_bytes)
		return fail(-EINVAL,
			    "blk: %s: its %llu bytes are not a multiple of its %u-byte blocks",
			    image->path, (unsigned long long)image->size_bytes, image->block_bytes);
	return 0;
}

static int image_check_kind(struct blk_image *image, const struct blk_image_options *options)
{
	struct stat st;
	int flags = fcntl(image->fd, F_GETFL), readonly = 0;

	if (fstat(image->fd, &st) < 0 || flags < 0)
		return fail(-errno, "blk: %s: %s", image->path, strerror(errno));
	image->block_device = S_ISBLK(st.st_mode);
	if (!image->block_device && !S_ISREG(st.st_mode))
		return fail(-EINVAL, "blk: %s: neither a file nor a block device", image->path);
	if ((flags & O_ACCMODE) == O_WRONLY ||
	    (!options->readonly && (flags & O_ACCMODE) != O_RDWR))
		return fail(-EINVAL, "blk: %s: the descriptor was not opened for %s", image->path,
			    options->readonly ? "reading" : "reading and writing");
	if (image->block_device && !image->readonly && ioctl(image->fd, BLKROGET, &readonly) == 0 &&
	    readonly)
		return fail(-EROFS, "blk: %s: the block device is read-only", image->path);
	return 0;
}

/* O_NONBLOCK: a FIFO given by mistake must not hang us; files and block devices do not care. */
static int image_open_path(const struct blk_image *image)
{
	return open(image->path,
		    (image->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* -EBUSY in use, other -errno: no locks here; not logged. */
static int image_try_lock(struct blk_image *image)
{
	struct flock lock = {
		.l_type = image->readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(image->fd, F_OFD_SETLK, &lock) == 0) {
		image->locked = true;
		return 0;
	}
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int blk_image_lock(struct blk_image *image)
{
	int error = image->locked ? 0 : image_try_lock(image);

	if (!error)
		return 0;
	if (error == -EBUSY)
		return fail(-EBUSY, "blk: %s: image in use by another process", image->path);
	if (!image->readonly)
		return fail(error, "blk: %s: image lock: %s", image->path, strerror(-error));
	/* Without locks a reader harms nobody, though a writer may surprise it. */
	log_warn("blk: %s: the file system takes no locks (%s): writers elsewhere are not noticed",
		 image->path, strerror(-error));
	image->locked = true;
	return 0;
}

/* A process that has just died may still have its lock, for as long as the kernel tears its ring down. */
static int image_lock_patiently(struct blk_image *image)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	for (int tries = 0; tries < 20 && image_try_lock(image) == -EBUSY; tries++)
		nanosleep(&pause, NULL);
	return blk_image_lock(image);
}

int blk_image_open(struct blk_image **out, const struct blk_image_options *options)
{
	struct blk_image *image = calloc(1, sizeof(*image));
	int error = -ENOMEM;

	*out = NULL;
	if (!image) {
		if (options->fd >= 0)
			close(options->fd);
		return fail(-ENOMEM, "blk: %s: out of memory", options->path);
	}
	image->fd = options->fd;
	image->readonly = options->readonly;
	image->path = strdup(options->path);
	if (!image->path)
		goto failed;
	error = -EINVAL;
	if (options->block_bytes && options->block_bytes != 512 && options->block_bytes != 4096) {
		fail(error, "blk: %s: block size %u: not 512 or 4096", image->path,
		     options->block_bytes);
		goto failed;
	}
	if (image->fd < 0)
		image->fd = image_open_path(image);
	if (image->fd < 0) {
		error = fail(-errno, "blk: %s: %s", image->path, strerror(errno));
		goto failed;
	}
	error = image_check_kind(image, options);
	if (!error && !options->defer_lock)
		error = image_lock_patiently(image);
	if (!error)
		error = image_read_size(image, &image->size_bytes);
	if (!error && image->size_bytes == 0)
		error = fail(-EINVAL, "blk: %s: smaller than one sector", image->path);
	if (!error)
		error = image_choose_blocks(image, options);
	if (error)
		goto failed;
	*out = image;
	return 0;
failed:
	blk_image_free(image);
	return error;
}

void blk_image_free(struct blk_image *image)
{
	if (!image)
		return;
	/* A ring that is being torn down still holds the file, and with it the lock, for some time. */
	if (image->fd >= 0)
		blk_image_unlock(image);
	close_fd(&image->fd);
	free(image->path);
	free(image);
}

void blk_image_unlock(struct blk_image *image)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (!image->locked)
		return;
	if (fcntl(image->fd, F_OFD_SETLK, &lock) < 0)
		log_warn("blk: %s: unlocking: %s", image->path, strerror(errno));
	image->locked = false;
}

int blk_image_refresh(struct blk_image *image, uint64_t at_least)
{
	uint64_t size_bytes = 0;
	int error = image_read_size(image, &size_bytes);

	if (error)
		return error;
	if (size_bytes < at_least)
		return fail(-EINVAL, "blk: %s: has %llu bytes, the guest was given %llu",
			    image->path, (unsigned long long)size_bytes,
			    (unsigned long long)at_least);
	image->size_bytes = size_bytes;
	/* Best effort: clean pages only, and BLKFLSBUF wants privileges; O_DIRECT does not depend on either. */
	(void)posix_fadvise(image->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (image->block_device)
		(void)ioctl(image->fd, BLKFLSBUF, 0);
	return 0;
}

int blk_image_identify(const struct blk_image *image, struct blk_identity *out)
{
	struct stat stat;

	if (fstat(image->fd, &stat) < 0)
		return fail(-errno, "blk: %s: %s", image->path, strerror(errno));
	*out = (struct blk_identity){.block_device = image->block_device,
				     .size_bytes = image->size_bytes};
	if (image->block_device) {
		out->block_number = stat.st_rdev;
		return 0;
	}
	out->size_bytes = stat.st_size;
	out->changed_ns = stat.st_mtim.tv_sec * 1000000000ULL + stat.st_mtim.tv_nsec;
	out->device = stat.st_dev;
	out->inode = stat.st_ino;
	return 0;
}

int blk_image_sync(struct blk_image *image)
{
	if (image->readonly || fdatasync(image->fd) == 0)
		return 0;
	return fail(-errno, "blk: %s: fdatasync: %s", image->path, strerror(errno));
}
