// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * memstress [-m MIB] [-t THREADS] [-r PAGES_PER_SECOND] [-s SECONDS]: finds out whether memory keeps what was written.
 *
 * Theory of operation
 *
 * Each thread owns a part of the memory. It walks over its pages in an order that jumps about, and for each page checks
 * every word against what the page's number and generation say it must be, then writes the next generation. The
 * generations stand in an array apart, which is memory under test itself: a page that an old copy has replaced shows the
 * generation before, and a page of zeros none. Every second the program says how far it is, and the longest time between
 * two pages of one thread: a pause of the whole machine shows there. At the end (SECONDS, or SIGTERM) it checks all pages
 * once more.
 *
 *   memstress: start pages=N threads=N rate=N
 *   memstress: passes=N writes=N errors=N longest_gap_us=N       each second
 *   memstress: CORRUPT page=N word=N is=X should=X               at each of the first errors
 *   memstress: end writes=N errors=N longest_gap_us=N            and exit status 0, or 1 if there were errors
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tools.h"

#define PAGE_BYTES  4096
#define PAGE_WORDS  (PAGE_BYTES / sizeof(uint64_t))
#define THREADS_MAX 64
#define ERRORS_TOLD 20
#define STRIDE	    769 /* a prime: neighbours in time are not neighbours in memory */

struct worker {
	pthread_t thread;
	uint64_t first, npages, rate;
	_Atomic uint64_t writes, passes, errors, longest_gap_ns;
};

static uint64_t *memory;
static uint32_t *generation;
static atomic_bool stop;

static void on_signal(int signo)
{
	stop = true;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The first word of a page in a generation; the others count up from it by an odd constant. */
static uint64_t seed_of(uint64_t page, uint32_t gen)
{
	uint64_t x = page << 32 | gen;

	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

static void write_page(uint64_t page, uint32_t gen)
{
	uint64_t value = seed_of(page, gen), *words = memory + page * PAGE_WORDS;

	for (size_t i = 0; i < PAGE_WORDS; i++, value += 0xd1342543de82ef95u)
		words[i] = value;
	generation[page] = gen;
}

static void check_page(struct worker *worker, uint64_t page)
{
	uint64_t value = seed_of(page, generation[page]);
	const uint64_t *words = memory + page * PAGE_WORDS;

	for (size_t i = 0; i < PAGE_WORDS; i++, value += 0xd1342543de82ef95u) {
		if (words[i] == value)
			continue;
		if (worker->errors++ < ERRORS_TOLD)
			printf("memstress: CORRUPT page=%llu generation=%u word=%zu is=%016llx "
			       "should=%016llx\n",
			       (unsigned long long)page, generation[page], i,
			       (unsigned long long)words[i], (unsigned long long)value);
		return;
	}
}

/* Sleep when ahead of the rate; returns how long, so that it does not count as a gap. */
static uint64_t keep_rate(const struct worker *worker, uint64_t started_ns, uint64_t now)
{
	uint64_t due_ns;
	struct timespec nap;

	if (worker->rate == 0)
		return 0;
	due_ns = started_ns + worker->writes * 1000000000u / worker->rate;
	if (due_ns <= now + 1000000)
		return 0;
	nap.tv_sec = (time_t)((due_ns - now) / 1000000000u);
	nap.tv_nsec = (long)((due_ns - now) % 1000000000u);
	nanosleep(&nap, NULL);
	return due_ns - now;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	uint64_t started_ns = now_ns(), last_ns = started_ns, step = STRIDE % worker->npages,
		 at = 0;

	/* A stride that divides the number of pages would leave some out. */
	if (step == 0 || worker->npages % STRIDE == 0)
		step = 1;
	while (!stop) {
		uint64_t page = worker->first + at, now, gap;

		check_page(worker, page);
		write_page(page, generation[page] + 1);
		worker->writes++;
		at = (at + step) % worker->npages;
		worker->passes = worker->writes / worker->npages;
		now = now_ns();
		gap = now - last_ns;
		if (gap > worker->longest_gap_ns)
			worker->longest_gap_ns = gap;
		if ((worker->writes & 15) == 0 && keep_rate(worker, started_ns, now))
			now = now_ns();
		last_ns = now;
	}
	return NULL;
}

static void report(const char *what, const struct worker *workers, unsigned int nthreads,
		   bool passes)
{
	uint64_t writes = 0, errors = 0, gap = 0, least = UINT64_MAX;

	for (unsigned int i = 0; i < nthreads; i++) {
		writes += workers[i].writes;
		errors += workers[i].errors;
		if (workers[i].longest_gap_ns > gap)
			gap = workers[i].longest_gap_ns;
		if (workers[i].passes < least)
			least = workers[i].passes;
	}
	printf("memstress: %s", what);
	if (passes)
		printf("passes=%llu ", (unsigned long long)least);
	printf("writes=%llu errors=%llu longest_gap_us=%llu\n", (unsigned long long)writes,
	       (unsigned long long)errors, (unsigned long long)gap / 1000);
	fflush(stdout);
}

static bool prepare(uint64_t npages)
{
	memory = mmap(NULL, npages * PAGE_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	generation = calloc(npages, sizeof(*generation));
	if (memory == MAP_FAILED || !generation) {
		perror("memstress");
		return false;
	}
	for (uint64_t page = 0; page < npages; page++)
		write_page(page, 1);
	return true;
}

static uint64_t finish(struct worker *workers, unsigned int nthreads)
{
	uint64_t errors = 0;

	for (unsigned int i = 0; i < nthreads; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned int i = 0; i < nthreads; i++) {
		for (uint64_t page = 0; page < workers[i].npages; page++)
			check_page(&workers[i], workers[i].first + page);
		errors += workers[i].errors;
	}
	return errors;
}

int memstress_main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	unsigned long mib = 32, nthreads = 1, rate = 0, seconds = 0;
	uint64_t npages, errors;
	int option;

	while ((option = getopt(argc, argv, "m:t:r:s:")) != -1) {
		unsigned long *number = option == 'm'	? &mib
					: option == 't' ? &nthreads
					: option == 'r' ? &rate
					: option == 's' ? &seconds
							: NULL;

		if (!number)
			return 2;
		*number = strtoul(optarg, NULL, 10);
	}
	npages = (uint64_t)mib * 256;
	if (nthreads < 1 || nthreads > THREADS_MAX || npages < nthreads || !prepare(npages))
		return 2;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	printf("memstress: start pages=%llu threads=%lu rate=%lu\n", (unsigned long long)npages,
	       nthreads, rate);
	fflush(stdout);
	for (unsigned int i = 0; i < nthreads; i++) {
		workers[i].first = npages * i / nthreads;
		workers[i].npages = npages * (i + 1) / nthreads - workers[i].first;
		workers[i].rate = rate / nthreads;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			return 2;
	}
	for (unsigned long second = 1; !stop; second++) {
		sleep(1);
		report("", workers, (unsigned int)nthreads, true);
		if (seconds && second >= seconds)
			stop = true;
	}
	errors = finish(workers, (unsigned int)nthreads);
	report("end ", workers, (unsigned int)nthreads, false);
	return errors > 0;
}
