// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The machine's own limit for a migration: N bytes over raw loopback TCP streams, from memory that is in use to memory
 * that was never touched, as a migration's target fills it. Says seconds and bytes per second on one line.
 *
 *	raw-stream BYTES [STREAMS [MEMORY]]
 *
 * Both ends have MEMORY bytes, or as many as are sent if that is less, and go through them as often as it takes, as the
 * rounds of a migration do.
 * Every stream has a thread of its own at both ends, and the ends are two processes. No checksums, no framing, 1 MiB
 * per call; nothing that a migration must do besides is done here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STREAMS_MAX 16
#define CALL_BYTES  (1ul << 20)

struct stream {
	pthread_t thread;
	int fd;
	char *memory;
	uint64_t memory_bytes, nbytes;
	bool sends;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "raw-stream: %s: %s\n", what, strerror(errno));
	exit(2);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *stream_run(void *opaque)
{
	struct stream *s = opaque;

	for (uint64_t done = 0; done < s->nbytes;) {
		uint64_t at = done % s->memory_bytes;
		uint64_t left = MIN(s->nbytes - done, s->memory_bytes - at);
		size_t want = MIN(left, CALL_BYTES);
		ssize_t n = s->sends ? send(s->fd, s->memory + at, want, 0)
				     : recv(s->fd, s->memory + at, want, 0);

		if (n <= 0)
			fail(s->sends ? "send" : "recv");
		done += (uint64_t)n;
	}
	return NULL;
}

static void streams_run(struct stream *streams, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&streams[i].thread, NULL, stream_run, &streams[i]))
			fail("pthread_create");
	for (unsigned int i = 0; i < n; i++)
		pthread_join(streams[i].thread, NULL);
}

static char *memory_new(uint64_t nbytes, bool populated)
{
	char *p = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	madvise(p, nbytes, MADV_HUGEPAGE); /* as a guest's RAM, where the host allows it */
	if (populated)
		memset(p, 1, nbytes);
	return p;
}

static void divide(struct stream *streams, unsigned int n, char *memory, uint64_t memory_bytes,
		   uint64_t nbytes, bool sends)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t from = memory_bytes * i / n, to = memory_bytes * (i + 1) / n;

		streams[i].memory = memory + from;
		streams[i].memory_bytes = to - from;
		streams[i].nbytes = nbytes * (i + 1) / n - nbytes * i / n;
		streams[i].sends = sends;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint64_t nbytes = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	unsigned int n = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 0) : 1;
	uint64_t memory_bytes = MIN(nbytes, argc > 3 ? strtoull(argv[3], NULL, 0) : nbytes);
	struct stream streams[STREAMS_MAX] = {};
	socklen_t length = sizeof(address);
	int listener, status;
	double start, seconds;
	char *memory, done;
	pid_t child;

	if (!n || n > STREAMS_MAX || memory_bytes < n) {
		fprintf(stderr, "usage: raw-stream BYTES [STREAMS up to %d [MEMORY]]\n",
			STREAMS_MAX);
		return 2;
	}
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, STREAMS_MAX) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		fail("listen");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		divide(streams, n, memory_new(memory_bytes, false), memory_bytes, nbytes, false);
		for (unsigned int i = 0; i < n; i++)
			if ((streams[i].fd = accept(listener, NULL, NULL)) < 0)
				fail("accept");
		streams_run(streams, n);
		if (send(streams[0].fd, "", 1, 0) != 1)
			fail("send");
		return 0;
	}
	memory = memory_new(memory_bytes, true);
	divide(streams, n, memory, memory_bytes, nbytes, true);
	for (unsigned int i = 0; i < n; i++) {
		streams[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(streams[i].fd, (struct sockaddr *)&address, sizeof(address)))
			fail("connect");
	}
	start = now();
	streams_run(streams, n);
	/* The last byte counts when it has arrived; giving the memory back does not. */
	if (recv(streams[0].fd, &done, 1, 0) != 1)
		fail("recv");
	seconds = now() - start;
	if (waitpid(child, &status, 0) < 0 || status)
		fail("receiver");
	printf("%.6f %.0f\n", seconds, (double)nbytes / seconds);
	return 0;
}
