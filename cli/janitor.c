// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The janitor process. It lives in a session of its own with all signals blocked, so that neither ^C nor a kill of the
 * VMM's process group reaches it, and ends when its parent does: it watches the parent's pidfd, and the socket to it
 * for orders. Descriptors that the parent's other children inherit do not keep it waiting.
 */
#include "cli/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/log.h"
#include "cli/terminal.h"

#define ORDER_RAW    'r'
#define ORDER_FINISH 'f'

struct post {
	int parent; /* pidfd */
	int orders;
	int tty;
	struct control_socket control;
	struct terminal_modes saved;
};

/* false: it is time to clean up. */
static bool obey(struct post *post)
{
	char order = 0, done;

	if (read(post->orders, &order, 1) != 1 || order != ORDER_RAW)
		return false;
	done = terminal_make_raw(post->tty, &post->saved) == 0;
	return write(post->orders, &done, 1) == 1;
}

static void watch(struct post *post)
{
	struct pollfd polled[] = {{.fd = post->parent, .events = POLLIN},
				  {.fd = post->orders, .events = POLLIN}};

	for (;;) {
		if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
			continue; /* nothing but a lack of memory; all signals are blocked */
		if (polled[0].revents)
			return;
		if (polled[1].revents && !obey(post))
			return;
	}
}

/* The descriptor numbers that the child uses: whatever else was open is closed. */
enum { CHILD_PARENT = 3, CHILD_ORDERS, CHILD_TTY, CHILD_LOCK, CHILD_END };

static _Noreturn void janitor_main(struct post *post)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	prctl(PR_SET_NAME, "tern-janitor");
	/* Out of the way of the low numbers first, then down to them. */
	post->parent = fcntl(post->parent, F_DUPFD, CHILD_END);
	post->orders = fcntl(post->orders, F_DUPFD, CHILD_END);
	post->tty = post->tty >= 0 ? fcntl(post->tty, F_DUPFD, CHILD_END) : -1;
	post->control.lock_fd = fcntl(post->control.lock_fd, F_DUPFD, CHILD_END);
	dup2(post->parent, CHILD_PARENT);
	dup2(post->orders, CHILD_ORDERS);
	if (post->tty >= 0)
		post->tty = dup2(post->tty, CHILD_TTY);
	dup2(post->control.lock_fd, CHILD_LOCK);
	post->parent = CHILD_PARENT;
	post->orders = CHILD_ORDERS;
	for (int fd = 0; fd < CHILD_PARENT; fd++)
		close(fd);
	syscall(SYS_close_range, CHILD_END, ~0U, 0);
	watch(post);
	terminal_restore(post->tty, &post->saved);
	control_unlink(&post->control);
	/* The lock goes with the process, and after the files. */
	_exit(0);
}

int janitor_start(struct janitor *janitor, const struct control_socket *control, int tty)
{
	struct post post = {.tty = tty, .control = *control};
	AUTO_FD parent = -1;
	int pair[2];
	pid_t pid;

	janitor->fd = -1;
	parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (parent < 0)
		return fail(-errno, "janitor: pidfd_open: %s", strerror(errno));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(-errno, "janitor: socketpair: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		post.parent = parent;
		post.orders = pair[1];
		janitor_main(&post);
	}
	close(pair[1]);
	if (pid < 0) {
		int error = fail(-errno, "janitor: fork: %s", strerror(errno));

		close(pair[0]);
		return error;
	}
	janitor->fd = pair[0];
	janitor->pid = pid;
	return 0;
}

int janitor_make_raw(struct janitor *janitor)
{
	char order = ORDER_RAW, done = 0;

	if (write(janitor->fd, &order, 1) != 1 || read(janitor->fd, &done, 1) != 1 || !done)
		return fail(-EIO, "terminal: cannot be made raw");
	return 0;
}

void janitor_finish(struct janitor *janitor)
{
	char order = ORDER_FINISH, end;

	if (janitor->fd < 0)
		return;
	/* The janitor answers by ending: the read returns when its end is closed. */
	if (write(janitor->fd, &order, 1) == 1)
		while (read(janitor->fd, &end, 1) < 0 && errno == EINTR)
			;
	close_fd(&janitor->fd);
	while (waitpid(janitor->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
