// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Starts a program and says how long it took from exec to the first byte on its standard output, to the first line's
 * end, and to its exit: three numbers in microseconds, on one line. A program of its own because an interpreter's own
 * start of a child takes as long as what is measured.
 *
 *	first-byte [--root DIR] -- PROGRAM ARGUMENTS...
 *
 * With --root the child changes its root before the clock starts. Gives up after 20 s. What the child wrote goes to
 * standard error.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_MS 20000

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "first-byte: %s: %s\n", what, strerror(errno));
	exit(2);
}

static _Noreturn void child_main(char **argv, const char *root, int out, int64_t *start)
{
	if (dup2(out, STDOUT_FILENO) < 0)
		fail("dup2");
	if (root && (chroot(root) || chdir("/")))
		fail(root);
	*start = now_ns();
	execv(argv[0], argv);
	fail(argv[0]);
}

int main(int argc, char **argv)
{
	int64_t *start, first = 0, line = 0;
	const char *root = NULL;
	int out[2], i = 1, status;
	pid_t child;

	if (argc > 3 && strcmp(argv[1], "--root") == 0) {
		root = argv[2];
		i = 3;
	}
	if (i + 1 >= argc || strcmp(argv[i], "--") != 0) {
		fprintf(stderr, "usage: first-byte [--root DIR] -- PROGRAM ARGUMENTS...\n");
		return 2;
	}
	start = mmap(NULL, sizeof(*start), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (start == MAP_FAILED || pipe(out))
		fail("pipe");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(out[0]);
		child_main(argv + i + 1, root, out[1], start);
	}
	close(out[1]);
	for (;;) {
		struct pollfd pollfd = {.fd = out[0], .events = POLLIN};
		char bytes[4096];
		ssize_t n;

		if (poll(&pollfd, 1, LIMIT_MS) <= 0) {
			kill(child, SIGKILL);
			fprintf(stderr, "first-byte: silent for %d ms\n", LIMIT_MS);
			return 1;
		}
		n = read(out[0], bytes, sizeof(bytes));
		if (n <= 0)
			break;
		if (!first)
			first = now_ns();
		if (!line && memchr(bytes, '\n', (size_t)n))
			line = now_ns();
		if (write(STDERR_FILENO, bytes, (size_t)n) < 0)
			break;
	}
	if (waitpid(child, &status, 0) < 0)
		fail("waitpid");
	if (!first) {
		fprintf(stderr, "first-byte: no output, wait status 0x%x\n", status);
		return 1;
	}
	printf("%.1f %.1f %.1f\n", (double)(first - *start) / 1e3, (double)(line - *start) / 1e3,
	       (double)(now_ns() - *start) / 1e3);
	return 0;
}
