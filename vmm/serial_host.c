// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's end of the serial port.
 *
 * Output never blocks the main loop: poll(2) says whether a descriptor takes bytes, and at most PIPE_BUF are written at
 * a time, which then do not block. Where it takes none, the loop watches for room. A file is always ready (and cannot
 * be watched).
 *
 * A pseudo-terminal's master reports a hang-up for as long as nobody has the other side open; watching it level
 * triggered would spin. It is watched edge triggered, and output to nobody is taken and forgotten.
 */
#include "vmm/serial_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

struct serial_host_end {
	struct loop *loop;
	struct serial *serial;
	int fd; /* -1: off */
	bool pty;
	bool watching; /* for room to write; not with a pty, whose watch is always there */
	struct loop_watch *watch;
	struct buf pending; /* input that the device has not taken */
	char path[64];
};

static void deliver(struct serial_host_end *end)
{
	size_t taken;

	if (!end->serial || !end->pending.len)
		return;
	taken = serial_input(end->serial, end->pending.bytes, end->pending.len);
	buf_consume(&end->pending, taken);
}

void serial_host_input(struct serial_host_end *end, const void *bytes, size_t len)
{
	size_t room = SERIAL_HOST_PENDING - end->pending.len;

	if (buf_put(&end->pending, bytes, len < room ? len : room))
		end->pending.error =
			0; /* no memory: what is typed is lost, what comes later need not be */
	deliver(end);
}

static void read_pty(struct serial_host_end *end)
{
	uint8_t bytes[512];

	/* Edge triggered: to the end, or until there is no room; wants_input() goes on then. */
	while (end->pending.len < SERIAL_HOST_PENDING / 2) {
		ssize_t got = read(end->fd, bytes, sizeof(bytes));

		if (got <= 0)
			return;
		serial_host_input(end, bytes, got);
	}
}

static void ready(void *opaque, int fd, uint32_t events)
{
	struct serial_host_end *end = opaque;

	if (end->pty && events & EPOLLIN)
		read_pty(end);
	if (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) || !end->serial)
		return;
	if (end->watching) {
		end->watching = false;
		loop_watch_free(end->watch);
		end->watch = NULL;
	}
	serial_output_ready(end->serial);
}

/* Has ready() called when there is room. Files need no watch. */
static void watch_for_room(struct serial_host_end *end)
{
	if (end->pty || end->watching)
		return;
	end->watching = !loop_add_fd(end->loop, end->fd, EPOLLOUT, ready, end, &end->watch);
}

static size_t sink(void *opaque, const void *bytes, size_t len)
{
	struct serial_host_end *end = opaque;
	struct pollfd poll_fd = {.fd = end->fd, .events = POLLOUT};
	ssize_t written;

	if (end->fd < 0 || poll(&poll_fd, 1, 0) < 0)
		return len;
	if (poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL))
		return len; /* nobody listens any more: output is lost, the guest goes on */
	if (!(poll_fd.revents & POLLOUT)) {
		watch_for_room(end);
		return 0;
	}
	written = write(end->fd, bytes, len < PIPE_BUF ? len : PIPE_BUF);
	if (written < 0 && (errno == EAGAIN || errno == EINTR)) {
		watch_for_room(end);
		return 0;
	}
	return written < 0 ? len : (size_t)written;
}

static void wants_input(void *opaque)
{
	struct serial_host_end *end = opaque;

	deliver(end);
	if (end->pty)
		read_pty(end);
}

static int open_pty(struct serial_host_end *end)
{
	struct termios termios;
	int error;

	end->pty = true;
	end->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (end->fd < 0 || grantpt(end->fd) < 0 || unlockpt(end->fd) < 0 ||
	    ptsname_r(end->fd, end->path, sizeof(end->path)) != 0)
		return fail(-errno, "serial: pseudo-terminal: %s", strerror(errno));
	/* Set through the master, so that nobody's first output is echoed back as input. */
	if (tcgetattr(end->fd, &termios) == 0) {
		cfmakeraw(&termios);
		tcsetattr(end->fd, TCSANOW, &termios);
	}
	error = loop_add_fd(end->loop, end->fd, EPOLLIN | EPOLLOUT | EPOLLET, ready, end,
			    &end->watch);
	return error;
}

static int open_file(struct serial_host_end *end, const char *path)
{
	end->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0600);
	if (end->fd < 0)
		return fail(-errno, "serial: %s: %s", path, strerror(errno));
	return 0;
}

static int open_stdio(struct serial_host_end *end)
{
	/* A descriptor of our own, so that it is closed like the others; its flags are whoever's standard output it is. */
	end->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (end->fd < 0)
		return fail(-errno, "serial: standard output: %s", strerror(errno));
	return 0;
}

int serial_host_new(struct serial_host_end **out, const struct config *config, struct loop *loop)
{
	struct serial_host_end *end = calloc(1, sizeof(*end));
	int error = 0;

	if (!end)
		return fail(-ENOMEM, "serial: no memory");
	*end = (struct serial_host_end){.loop = loop, .fd = -1};
	buf_init(&end->pending, SERIAL_HOST_PENDING);
	switch (config->serial) {
	case SERIAL_STDIO:
		error = open_stdio(end);
		break;
	case SERIAL_PTY:
		error = open_pty(end);
		break;
	case SERIAL_FILE:
		error = open_file(end, config->serial_path);
		break;
	case SERIAL_OFF:
		break;
	}
	if (error) {
		serial_host_free(end);
		return error;
	}
	*out = end;
	return 0;
}

void serial_host_free(struct serial_host_end *end)
{
	if (!end)
		return;
	loop_watch_free(end->watch);
	close_fd(&end->fd);
	buf_fini(&end->pending);
	free(end);
}

struct serial_host serial_host_ops(struct serial_host_end *end)
{
	return (struct serial_host){.opaque = end, .sink = sink, .wants_input = wants_input};
}

void serial_host_attach(struct serial_host_end *end, struct serial *serial)
{
	end->serial = serial;
}

const char *serial_host_pty_path(const struct serial_host_end *end)
{
	return end->path;
}
