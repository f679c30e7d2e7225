// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Uses the C library's heap in sandboxed threads as hard as a device could: in many threads at once, with more memory than
 * a heap begins with, given back at once. Exit status 0, or death by SIGSYS where the library makes a system call for its
 * heaps that threads may not make. Without sanitizers, whose heap is another.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/sandbox.h"

#define THREADS 24
#define BLOCKS	64
#define BYTES	(16 * 1024)

static struct sandbox *sandbox;
static pthread_barrier_t barrier;

static void *thread(void *opaque)
{
	const enum sandbox_class *class = opaque;
	void *blocks[BLOCKS];

	if (sandbox_enter(sandbox, *class))
		exit(1);
	pthread_barrier_wait(&barrier);
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < BLOCKS; i++) {
			blocks[i] = malloc(BYTES);
			if (!blocks[i])
				exit(1);
			memset(blocks[i], round, BYTES);
		}
		for (int i = BLOCKS; i-- > 0;)
			free(blocks[i]);
	}
	return NULL;
}

int main(void)
{
	static const enum sandbox_class classes[] = {SANDBOX_VCPU, SANDBOX_IO, SANDBOX_WORKER};
	pthread_t threads[THREADS];

	if (sandbox_new(&sandbox, SANDBOX_ON) || pthread_barrier_init(&barrier, NULL, THREADS))
		return 1;
	for (int i = 0; i < THREADS; i++) {
		if (pthread_create(&threads[i], NULL, thread, (void *)&classes[i % 3]))
			return 1;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	sandbox_free(sandbox);
	puts("ok");
	return 0;
}
