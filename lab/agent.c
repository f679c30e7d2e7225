// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The lab host's agent: process 1 inside a lab host once init has set it up. It listens on TCP and runs one command per
 * connection, carrying its input, output and exit status. What does not live here: files, which travel as the input and
 * output of tar and cat; and the other end of the protocol, lab.py.
 *
 * Theory of operation
 *
 * Each connection is one process of ours and one command. Frames go both ways: a type byte, a length (32 bits, little
 * endian), the payload.
 *
 *   to the agent    E  the command: strings, each ended by NUL: token, uid, gid, further groups ("" or "104,108"), mode
 *                      ("pipe" or "pty"), directory, number of environment words, those words, the argument vector.
 *                      Must come first, once
 *                   I  input for the command;  C  end of its input;  K  a signal number (1 byte) for its process group
 *   from the agent  O  its output;  R  its error output;  X  how it ended: a wait status (32 bits), always last;
 *                   F  it could not be started: why, in words, always last
 *
 * A connection that closes early kills the command's process group: nothing that a test started outlives its interest.
 * After the command has ended, what is in the pipes is still delivered, but nobody waits for their end: a daemon that
 * the command left behind may hold them open for ever.
 *
 * Before it listens it brings up the other CPUs, for x86-64 hosts start with one (maxcpus=1 in lab.py): where several CPUs
 * run under QEMU before 8.1, one of them may go on from a translation of code that another has just patched, and Linux
 * dies of a breakpoint that nobody knows. So what switches code on and off (static keys) does it while one CPU runs.
 * Two of KVM's keys change later: its hook in the scheduler comes with the first VM and goes with the last, and a check
 * of local APICs is in force while any vCPU has not switched on its own. The agent keeps a VM with a vCPU that nobody
 * runs, and so both of them on.
 *
 * The lab host is one user's own toy on a loopback port; the token only keeps neighbours from reaching the wrong one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME_MAX  (1u << 20)
#define CHUNK_SIZE (64u << 10)
#define ARGS_MAX   4096
#define GROUPS_MAX 16

struct command {
	char *strings; /* the payload of the E frame, which the rest points into */
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t ngroups;
	bool pty;
	const char *directory;
	char *env[ARGS_MAX + 1];
	char *argv[ARGS_MAX + 1];
};

/* One connection: its socket, the command's process and its three ends (-1 when closed). */
struct link {
	int sock;
	pid_t pid;
	int in, out, err;
	bool pty;
	char *held; /* input that the command has not taken yet: a frame, and how far into it */
	uint32_t held_size, held_at;
};

static volatile sig_atomic_t child_ended;

static void on_child(int signo)
{
	child_ended = 1;
}

/* Read exactly @size bytes; false at the end of the stream or on an error. */
static bool read_full(int fd, void *data, size_t size)
{
	char *at = data;

	while (size > 0) {
		ssize_t n = read(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool write_full(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			poll(&p, 1, -1);
			continue;
		}
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool send_frame(int sock, char type, const void *data, uint32_t size)
{
	unsigned char head[5] = {(unsigned char)type, size & 0xff, size >> 8 & 0xff,
				 size >> 16 & 0xff, size >> 24};

	return write_full(sock, head, sizeof(head)) && write_full(sock, data, size);
}

/* Receive one frame into a fresh, NUL-ended buffer that the caller frees; NULL when the peer is gone or talks nonsense. */
static char *recv_frame(int sock, char *type, uint32_t *size)
{
	unsigned char head[5];
	char *data;

	if (!read_full(sock, head, sizeof(head)))
		return NULL;
	*type = (char)head[0];
	*size = (uint32_t)head[1] | (uint32_t)head[2] << 8 | (uint32_t)head[3] << 16 |
		(uint32_t)head[4] << 24;
	if (*size > FRAME_MAX)
		return NULL;
	data = malloc((size_t)*size + 1);
	if (!data)
		return NULL;
	if (!read_full(sock, data, *size)) {
		free(data);
		return NULL;
	}
	data[*size] = '\0';
	return data;
}

/* The next of the NUL-ended strings between *at and end, or NULL when there is none left. */
static char *next_string(char **at, const char *end)
{
	char *s = *at;

	if (s >= end)
		return NULL;
	*at = s + strlen(s) + 1;
	return s;
}

static bool parse_command(struct command *cmd, char *data, uint32_t size, const char *token)
{
	char *at = data, *end = data + size, *s, *word, *save = NULL;
	size_t nenv, n;

	cmd->strings = data;
	s = next_string(&at, end);
	if (!s || strcmp(s, token) != 0)
		return false;
	if (!(s = next_string(&at, end)))
		return false;
	cmd->uid = (uid_t)strtoul(s, NULL, 10);
	if (!(s = next_string(&at, end)))
		return false;
	cmd->gid = (gid_t)strtoul(s, NULL, 10);
	if (!(s = next_string(&at, end)))
		return false;
	for (word = strtok_r(s, ",", &save); word && cmd->ngroups < GROUPS_MAX;
	     word = strtok_r(NULL, ",", &save))
		cmd->groups[cmd->ngroups++] = (gid_t)strtoul(word, NULL, 10);
	if (!(s = next_string(&at, end)))
		return false;
	cmd->pty = strcmp(s, "pty") == 0;
	if (!(cmd->directory = next_string(&at, end)) || !(s = next_string(&at, end)))
		return false;
	nenv = strtoul(s, NULL, 10);
	if (nenv > ARGS_MAX)
		return false;
	for (n = 0; n < nenv; n++)
		if (!(cmd->env[n] = next_string(&at, end)))
			return false;
	for (n = 0; n < ARGS_MAX && (cmd->argv[n] = next_string(&at, end)); n++)
		;
	return n > 0 && n < ARGS_MAX;
}

/* In the child: become the user and the command. Returns only by _exit. */
static void __attribute__((noreturn))
become(const struct command *cmd, int in, int out, int err, int report)
{
	const char *what = "setsid";
	sigset_t none;
	char text[256];
	int len;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	if (setsid() < 0)
		goto failed;
	what = "terminal";
	if (cmd->pty && ioctl(in, TIOCSCTTY, 0) < 0)
		goto failed;
	what = "dup2";
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		goto failed;
	what = "user";
	if (setgroups(cmd->ngroups, cmd->groups) < 0 || setgid(cmd->gid) < 0 ||
	    setuid(cmd->uid) < 0)
		goto failed;
	what = cmd->directory;
	if (chdir(cmd->directory) < 0)
		goto failed;
	what = cmd->argv[0];
	for (char *const *word = cmd->env; *word; word++)
		putenv(*word);
	execvp(cmd->argv[0], cmd->argv);
failed:
	len = snprintf(text, sizeof(text), "%s: %s", what, strerror(errno));
	if (write(report, text, (size_t)len) < 0)
		_exit(126);
	_exit(127);
}

/* The two ends of the command's input, output and error: ours[] and its[]. 0, or -1 with errno. */
static int make_ends(bool pty, int ours[3], int its[3])
{
	if (pty) {
		struct winsize size = {.ws_row = 25, .ws_col = 200};
		int leader = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (leader < 0 || grantpt(leader) < 0 || unlockpt(leader) < 0 ||
		    ioctl(leader, TIOCSWINSZ, &size) < 0)
			return -1;
		its[0] = open(ptsname(leader), O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (its[0] < 0)
			return -1;
		its[1] = its[2] = its[0];
		ours[0] = ours[1] = leader;
		ours[2] = -1;
		return 0;
	}
	for (int i = 0; i < 3; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return -1;
		ours[i] = ends[i == 0];
		its[i] = ends[i != 0];
	}
	return 0;
}

/* Start the command; 0, or -1 with the reason sent to the peer. */
static int start(struct link *link, const struct command *cmd)
{
	int ours[3] = {-1, -1, -1}, its[3] = {-1, -1, -1}, report[2];
	char text[256];
	ssize_t n;

	if (make_ends(cmd->pty, ours, its) < 0 || pipe2(report, O_CLOEXEC) < 0) {
		send_frame(link->sock, 'F', "pipe", 4);
		return -1;
	}
	link->pid = fork();
	if (link->pid == 0)
		become(cmd, its[0], its[1], its[2], report[1]);
	close(report[1]);
	close(its[0]);
	if (!cmd->pty) {
		close(its[1]);
		close(its[2]);
	}
	n = link->pid < 0 ? snprintf(text, sizeof(text), "fork: %s", strerror(errno))
			  : read(report[0], text, sizeof(text));
	close(report[0]);
	if (n > 0) {
		send_frame(link->sock, 'F', text, (uint32_t)n);
		return -1;
	}
	link->in = ours[0];
	link->out = ours[1];
	link->err = ours[2];
	link->pty = cmd->pty;
	fcntl(link->in, F_SETFL, O_NONBLOCK);
	fcntl(link->out, F_SETFL, O_NONBLOCK);
	if (link->err >= 0)
		fcntl(link->err, F_SETFL, O_NONBLOCK);
	return 0;
}

/* Pass on what a pipe holds now; closes it at its end. False when the peer is gone. */
static bool forward(struct link *link, int *fd, char type)
{
	static char data[CHUNK_SIZE];

	for (;;) {
		ssize_t n = read(*fd, data, sizeof(data));

		if (n > 0) {
			if (!send_frame(link->sock, type, data, (uint32_t)n))
				return false;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		/* A terminal says EIO when its last user is gone. */
		if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
			if (!link->pty)
				close(*fd);
			*fd = -1;
		}
		return true;
	}
}

/* Give the command what input it takes now. One that has closed its input is its own affair: the rest is dropped. */
static void feed(struct link *link)
{
	ssize_t n = write(link->in, link->held + link->held_at, link->held_size - link->held_at);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0 && !link->pty) {
		close(link->in);
		link->in = -1;
	}
	link->held_at = n < 0 ? link->held_size : link->held_at + (uint32_t)n;
	if (link->held_at == link->held_size) {
		free(link->held);
		link->held = NULL;
	}
}

/* One frame from the peer for the running command. False when the peer is gone. */
static bool obey(struct link *link)
{
	char type, *data;
	uint32_t size;

	data = recv_frame(link->sock, &type, &size);
	if (!data)
		return false;
	if (type == 'I' && link->in >= 0) {
		link->held = data;
		link->held_size = size;
		link->held_at = 0;
		return true;
	}
	if (type == 'C' && link->in >= 0) {
		if (link->pty)
			write_full(link->in, "\004", 1);
		else
			close(link->in);
		link->in = -1;
	} else if (type == 'K' && size == 1) {
		kill(-link->pid, data[0]);
	}
	free(data);
	return true;
}

/* Carry a command's input and output until it has ended. */
static void serve_command(struct link *link, const sigset_t *unblocked)
{
	bool ended = false, peer = true;
	int status = 0;

	while (peer && !ended) {
		/* No further frame is taken before the held input is: the peer waits, the output flows on. */
		struct pollfd p[4] = {{.fd = link->sock, .events = link->held ? POLLRDHUP : POLLIN},
				      {.fd = link->out, .events = POLLIN},
				      {.fd = link->err, .events = POLLIN},
				      {.fd = link->held ? link->in : -1, .events = POLLOUT}};

		/* SIGCHLD is blocked but in here, so that an end between the check and the wait is not missed. */
		if (ppoll(p, 4, NULL, unblocked) < 0 && errno != EINTR)
			break;
		if (child_ended) {
			child_ended = 0;
			ended = waitpid(link->pid, &status, WNOHANG) == link->pid;
			if (ended)
				break;
			continue;
		}
		if (p[0].revents)
			peer = link->held ? false : obey(link);
		if (peer && link->out >= 0 && p[1].revents)
			peer = forward(link, &link->out, 'O');
		if (peer && link->err >= 0 && p[2].revents)
			peer = forward(link, &link->err, 'R');
		if (peer && link->held && p[3].revents)
			feed(link);
	}
	if (!ended) {
		kill(-link->pid, SIGKILL);
		waitpid(link->pid, &status, 0);
		return;
	}
	if (link->out >= 0)
		forward(link, &link->out, 'O');
	if (link->err >= 0)
		forward(link, &link->err, 'R');
	unsigned char end[4] = {status & 0xff, status >> 8 & 0xff, status >> 16 & 0xff,
				(unsigned)status >> 24};

	send_frame(link->sock, 'X', end, sizeof(end));
}

static void serve(int sock, const char *token, const sigset_t *unblocked)
{
	static struct command cmd;
	struct link link = {.sock = sock, .pid = -1, .in = -1, .out = -1, .err = -1};
	char discard[4096];
	char type, *data;
	uint32_t size;

	data = recv_frame(sock, &type, &size);
	if (!data)
		return;
	if (type != 'E' || !parse_command(&cmd, data, size, token)) {
		send_frame(sock, 'F', "not a command", 13);
		return;
	}
	if (start(&link, &cmd) == 0)
		serve_command(&link, unblocked);
	free(data);
	/* Closing with input unread would throw away what the peer has not received yet: wait until it closes. */
	shutdown(sock, SHUT_WR);
	while (recv(sock, discard, sizeof(discard), 0) > 0)
		;
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 64) < 0)
		return -1;
	return fd;
}

static void keep_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	/* Close-on-exec, and open until the host ends. arm64 has no such controller, nor the second key. */
	if (vm >= 0 && ioctl(vm, KVM_CREATE_IRQCHIP, 0) == 0)
		ioctl(vm, KVM_CREATE_VCPU, 0);
}

static void start_cpus(void)
{
	glob_t cpus;

	if (glob("/sys/devices/system/cpu/cpu*/online", 0, NULL, &cpus) != 0)
		return;
	for (size_t i = 0; i < cpus.gl_pathc; i++) {
		int fd = open(cpus.gl_pathv[i], O_WRONLY | O_CLOEXEC);

		if (fd >= 0 && write(fd, "1", 1) < 0)
			perror(cpus.gl_pathv[i]);
		if (fd >= 0)
			close(fd);
	}
	globfree(&cpus);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_child};
	sigset_t blocked, unblocked;
	int listener;

	if (argc != 3) {
		fprintf(stderr, "usage: agent PORT TOKEN\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGCHLD, &action, NULL);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	sigdelset(&unblocked, SIGCHLD);
	listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
	if (listener < 0) {
		perror("agent: listen");
		return 1;
	}
	keep_vm();
	start_cpus();
	printf("lab: ready\n");
	fflush(stdout);
	for (;;) {
		struct pollfd p = {.fd = listener, .events = POLLIN};
		int sock;

		ppoll(&p, 1, NULL, &unblocked);
		/* Process 1: whatever loses its parent ends up here. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		child_ended = 0;
		if (!(p.revents & POLLIN))
			continue;
		sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (sock < 0)
			continue;
		if (fork() == 0) {
			close(listener);
			serve(sock, argv[2], &unblocked);
			_exit(0);
		}
		close(sock);
	}
}
