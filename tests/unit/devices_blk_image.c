// SPDX-License-Identifier: GPL-2.0-or-later
/* Disk images: what may be opened, with which blocks, and the lock. */
#include "devices/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

struct fixture {
	char dir[64], path[96];
};

static void set_up(struct fixture *f, gconstpointer data)
{
	g_strlcpy(f->dir, "/var/tmp/tern-blk-XXXXXX", sizeof(f->dir));
	g_assert_nonnull(mkdtemp(f->dir));
	g_snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	(void)g_unlink(f->path);
	(void)g_rmdir(f->dir);
}

static void make_image(const char *path, uint64_t size_bytes)
{
	AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)size_bytes), ==, 0);
}

static int open_image(struct fixture *f, struct blk_image **image, bool readonly)
{
	struct blk_image_options options = {.path = f->path, .fd = -1, .readonly = readonly};

	return blk_image_open(image, &options);
}

static void size_is_whole_sectors(struct fixture *f, gconstpointer data)
{
	struct blk_image *image;

	make_image(f->path, 1024 * 1024 + 513);
	g_assert_cmpint(open_image(f, &image, false), ==, 0);
	g_assert_cmpuint(image->size_bytes % image->block_bytes, ==, 0);
	g_assert_cmpuint(image->size_bytes, ==, 1024 * 1024 + 512);
	blk_image_free(image);
}

static void a_writer_excludes_everybody(struct fixture *f, gconstpointer data)
{
	struct blk_image *a, *b;

	make_image(f->path, 1 << 20);
	g_assert_cmpint(open_image(f, &a, false), ==, 0);
	g_assert_cmpint(open_image(f, &b, false), ==, -EBUSY);
	g_assert_nonnull(strstr(fail_text(), "in use"));
	g_assert_null(b);
	g_assert_cmpint(open_image(f, &b, true), ==, -EBUSY);
	blk_image_free(a);
	g_assert_cmpint(open_image(f, &b, false), ==, 0);
	blk_image_free(b);
}

static void readers_share(struct fixture *f, gconstpointer data)
{
	struct blk_image *a, *b, *c;

	make_image(f->path, 1 << 20);
	g_assert_cmpint(open_image(f, &a, true), ==, 0);
	g_assert_cmpint(open_image(f, &b, true), ==, 0);
	g_assert_cmpint(open_image(f, &c, false), ==, -EBUSY);
	blk_image_free(a);
	blk_image_free(b);
}

static void lock_changes_hands(struct fixture *f, gconstpointer data)
{
	struct blk_image_options later = {.path = f->path, .fd = -1, .defer_lock = true};
	struct blk_image *source, *target;

	make_image(f->path, 1 << 20);
	g_assert_cmpint(open_image(f, &source, false), ==, 0);
	g_assert_cmpint(blk_image_open(&target, &later), ==, 0);
	g_assert_false(target->locked);
	g_assert_cmpint(blk_image_lock(target), ==, -EBUSY);
	blk_image_unlock(source);
	g_assert_cmpint(blk_image_lock(target), ==, 0);
	g_assert_cmpint(blk_image_lock(target), ==, 0);
	g_assert_cmpint(blk_image_lock(source), ==, -EBUSY);
	blk_image_unlock(target);
	g_assert_cmpint(blk_image_lock(source), ==, 0);
	blk_image_free(target);
	blk_image_free(source);
}

static void refresh_sees_a_new_size(struct fixture *f, gconstpointer data)
{
	struct blk_image *image;

	make_image(f->path, 1 << 20);
	g_assert_cmpint(open_image(f, &image, false), ==, 0);
	g_assert_cmpint(truncate(f->path, 2 << 20), ==, 0);
	g_assert_cmpint(blk_image_refresh(image, 1 << 20), ==, 0);
	g_assert_cmpuint(image->size_bytes, ==, 2 << 20);
	g_assert_cmpint(truncate(f->path, 1 << 19), ==, 0);
	g_assert_cmpint(blk_image_refresh(image, 1 << 20), ==, -EINVAL);
	g_assert_cmpuint(image->size_bytes, ==, 2 << 20);
	blk_image_free(image);
}

static void what_is_no_image_is_refused(struct fixture *f, gconstpointer data)
{
	struct blk_image_options options = {.path = f->path, .fd = -1};
	struct blk_image *image;

	g_assert_cmpint(blk_image_open(&image, &options), ==, -ENOENT);
	make_image(f->path, 511);
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	make_image(f->path, 4096 + 512);
	options.block_bytes = 1024;
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	options.block_bytes = 4096;
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	options = (struct blk_image_options){.path = f->dir, .fd = -1, .readonly = true};
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	(void)g_unlink(f->path);
	g_assert_cmpint(mkfifo(f->path, 0600), ==, 0);
	options.path = f->path;
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	options.path = "/dev/null";
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
}

static void a_given_descriptor_must_fit(struct fixture *f, gconstpointer data)
{
	struct blk_image_options options = {.path = "given"};
	struct blk_image *image;

	make_image(f->path, 1 << 20);
	options.fd = open(f->path, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(blk_image_open(&image, &options), ==, -EINVAL);
	g_assert_cmpint(fcntl(options.fd, F_GETFD), ==, -1); /* taken over even so */
	options.fd = open(f->path, O_RDONLY | O_CLOEXEC);
	options.readonly = true;
	g_assert_cmpint(blk_image_open(&image, &options), ==, 0);
	blk_image_free(image);
}

static void tmpfs_falls_back_or_aligns(void)
{
	char path[] = "/dev/shm/tern-blk-XXXXXX";
	struct blk_image_options options = {.path = path, .fd = -1};
	struct blk_image *image;
	int fd = mkstemp(path);

	if (fd < 0) {
		g_test_skip("no /dev/shm");
		return;
	}
	g_assert_cmpint(ftruncate(fd, 1 << 20), ==, 0);
	close(fd);
	g_assert_cmpint(blk_image_open(&image, &options), ==, 0);
	g_assert_true(!image->direct || image->block_bytes >= 512);
	g_assert_cmpint(!!(fcntl(image->fd, F_GETFL) & O_DIRECT), ==, image->direct);
	blk_image_free(image);
	(void)g_unlink(path);
}

#define TEST(name) g_test_add("/blk-image/" #name, struct fixture, NULL, set_up, name, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST(size_is_whole_sectors);
	TEST(a_writer_excludes_everybody);
	TEST(readers_share);
	TEST(lock_changes_hands);
	TEST(refresh_sees_a_new_size);
	TEST(what_is_no_image_is_refused);
	TEST(a_given_descriptor_must_fit);
	g_test_add_func("/blk-image/tmpfs_falls_back_or_aligns", tmpfs_falls_back_or_aligns);
	return g_test_run();
}
