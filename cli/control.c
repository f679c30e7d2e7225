// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names of VMs as files.
 *
 * Theory of operation. A name belongs to whoever holds the OFD lock on NAME.sock.lock. The lock dies with its last
 * holder, and asking for its owner does not take it. So a socket that lies there with its lock free is stale, whatever
 * killed its owner, and the next owner removes it under the lock. The lock file is removed by its owner, under the lock
 * too; whoever opened it before that finds, after it got the lock, that the path is no longer this file, and starts
 * again.
 */
#include "cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vmm/config.h"

#define LOCK_TRIES 100
#define BACKLOG	   128 /* a client that does not wait is refused when it is full */

int control_directory(char path[CONTROL_PATH_BYTES], bool create)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int len;

	if (runtime && *runtime == '/')
		len = snprintf(path, CONTROL_PATH_BYTES, "%s/tern", runtime);
	else if (geteuid() == 0)
		len = snprintf(path, CONTROL_PATH_BYTES, "/run/tern");
	else
		len = snprintf(path, CONTROL_PATH_BYTES, "/tmp/tern-%u", geteuid());
	if (len >= (int)CONTROL_PATH_BYTES)
		return fail(-EINVAL, "control: XDG_RUNTIME_DIR is too long a path for a socket");
	if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
		return fail(-EINVAL, "control: %s: %s", path, strerror(errno));
	if (lstat(path, &st) < 0)
		return create ? fail(-EINVAL, "control: %s: %s", path, strerror(errno)) : 0;
	/* Under /tmp anybody can make a directory of that name first. Root may look after others' VMs. */
	if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && geteuid() != 0))
		return fail(-EINVAL, "control: %s is not a directory of this user", path);
	return 0;
}

int control_path(char path[CONTROL_PATH_BYTES], const char *name)
{
	char directory[CONTROL_PATH_BYTES];
	int error;

	if (!config_name_ok(name))
		return fail(-EINVAL, "control: \"%.80s\" is not a name of [A-Za-z0-9_.-]{1,%d}",
			    name, CONFIG_NAME_MAX);
	error = control_directory(directory, false);
	if (error)
		return error;
	if (strlen(directory) + strlen(name) + strlen("/.sock") >= CONTROL_PATH_BYTES)
		return fail(-EINVAL, "control: %s/%s.sock is too long a path for a socket",
			    directory, name);
	stpcpy(stpcpy(stpcpy(stpcpy(path, directory), "/"), name), ".sock");
	return 0;
}

static pid_t read_pid(int fd)
{
	char text[16] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static bool same_file(int fd, const char *path)
{
	struct stat open_one, there;

	return fstat(fd, &open_one) == 0 && lstat(path, &there) == 0 &&
	       open_one.st_ino == there.st_ino && open_one.st_dev == there.st_dev;
}

static int take_lock(struct control_socket *control, const char *name)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	for (int i = 0; i < LOCK_TRIES; i++) {
		AUTO_FD fd = open(control->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return fail(-errno, "control: %s: %s", control->lock, strerror(errno));
		if (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
			if (errno != EAGAIN && errno != EACCES)
				return fail(-errno, "control: %s: %s", control->lock,
					    strerror(errno));
			return fail(-EADDRINUSE, "control: %s is in use (%s, process %d)", name,
				    control->path, read_pid(fd));
		}
		if (same_file(fd, control->lock)) {
			if (ftruncate(fd, 0) < 0 || dprintf(fd, "%d\n", getpid()) < 0)
				return fail(-errno, "control: %s: %s", control->lock,
					    strerror(errno));
			control->lock_fd = take_fd(&fd);
			return 0;
		}
	}
	return fail(-EBUSY, "control: %s comes and goes", control->lock);
}

static int remove_stale(const struct control_socket *control)
{
	struct stat st;

	if (lstat(control->path, &st) < 0)
		return errno == ENOENT
			       ? 0
			       : fail(-errno, "control: %s: %s", control->path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return fail(-EEXIST, "control: %s is there and not a socket", control->path);
	if (unlink(control->path) < 0)
		return fail(-errno, "control: %s: %s", control->path, strerror(errno));
	return 0;
}

static int listen_at(struct control_socket *control)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int bound;

	if (fd < 0)
		return fail(-errno, "control: socket: %s", strerror(errno));
	memcpy(address.sun_path, control->path, sizeof(address.sun_path));
	/* Nobody but the user connects, from the first moment. No other thread runs yet. */
	mask = umask(0177);
	bound = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	if (bound < 0)
		return fail(-errno, "control: %s: %s", control->path, strerror(errno));
	if (listen(fd, BACKLOG) < 0) {
		int error = fail(-errno, "control: %s: %s", control->path, strerror(errno));

		unlink(control->path);
		return error;
	}
	control->listen_fd = take_fd(&fd);
	return 0;
}

int control_open(struct control_socket *control, const char *name, const char *path)
{
	char directory[CONTROL_PATH_BYTES];
	int error = 0;

	*control = (struct control_socket){.lock_fd = -1, .listen_fd = -1};
	if (!path)
		error = control_directory(directory, true);
	if (!error && !path)
		error = control_path(control->path, name);
	if (error)
		return error;
	if (path && strlen(path) >= sizeof(control->path))
		return fail(-EINVAL, "control: %.60s... is too long a path for a socket", path);
	if (path)
		stpcpy(control->path, path);
	snprintf(control->lock, sizeof(control->lock), "%s.lock", control->path);
	error = take_lock(control, name);
	if (error)
		return error;
	error = remove_stale(control);
	if (!error)
		error = listen_at(control);
	if (error) {
		unlink(control->lock);
		close_fd(&control->lock_fd);
	}
	return error;
}

void control_unlink(const struct control_socket *control)
{
	unlink(control->path);
	unlink(control->lock);
}

void control_close(struct control_socket *control)
{
	if (control->lock_fd >= 0)
		control_unlink(control);
	close_fd(&control->listen_fd);
	close_fd(&control->lock_fd);
}

pid_t control_owner(const char *path)
{
	struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	char lock[CONTROL_PATH_BYTES + 8];
	AUTO_FD fd = -1;

	snprintf(lock, sizeof(lock), "%s.lock", path);
	fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &whole) < 0 || whole.l_type == F_UNLCK)
		return 0;
	return read_pid(fd);
}
