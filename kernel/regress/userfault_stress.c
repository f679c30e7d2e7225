// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_MEM_USERFAULT and dirty logging under everything at once, for a while:  userfault_stress [SECONDS]
 * (or $REGRESS_STRESS, or 5).
 *
 * vCPUs count in their pages without end. Meanwhile, at random: the flag is turned on with all pages marked, every page
 * is taken away (kept aside, and poison put in its place), and comes back when a vCPU exits for it or when a thread
 * fetches it in the background; dirty logging goes on and off, before, while and after that; slots are deleted and made
 * again.
 *
 * Theory of operation. Two things are verified.
 * - No page is lost or mixed up: each word holds how often its vCPU wrote it. A write to a page that is away goes to
 *   the poison and is missing later; a read of it counts on from the poison.
 * - No dirty page is missed: while logging is on a copy is kept as a migration would: all pages first, then those that
 *   the log names. When logging is about to end the vCPUs are stopped, the log is taken a last time, and the copy has
 *   to be equal. Taking a page away and bringing it back is not logged, as it does not change it.
 * A page's lock is held while it is taken away, brought back or copied. Its mark is set only before the flag goes on,
 * and cleared only under its lock: who sees the mark set under the lock knows that no vCPU can have the page mapped.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "marked.h"

#define NVCPUS 3
#define NPAGES 3072ul /* 1024 for each vCPU; two huge pages each */
#define EACH   (NPAGES / NVCPUS)
#define POISON 0xdbdbdbdbdbdbdbdbull

struct page {
	_Atomic bool locked;
	bool away; /* its contents are in aside[] */
};

static struct stress {
	struct vm vm;
	struct marked m;
	struct page pages[NPAGES];
	uint64_t *aside, *copy; /* a word of each page: that is all that the guest writes */
	uint64_t log[NPAGES / 64];
	bool logging;
	uint32_t flags;

	pthread_t threads[NVCPUS], fetcher;
	/* Guards the three below. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int stopped;
	_Atomic bool pause, stop;
	_Atomic bool fetch;

	_Atomic unsigned long exits, stale, repeats;
	_Atomic bool failed;
	unsigned long turned_on, logged, deleted;
	unsigned int random;
} s;

static unsigned int rnd(unsigned int below)
{
	s.random = s.random * 1103515245u + 12345u;
	return (s.random >> 8) % below;
}

static void lock_page(uint64_t page)
{
	while (atomic_exchange_explicit(&s.pages[page].locked, true, memory_order_acquire))
		sched_yield();
}

static void unlock_page(uint64_t page)
{
	atomic_store_explicit(&s.pages[page].locked, false, memory_order_release);
}

static volatile uint64_t *word_at(uint64_t page)
{
	return (volatile uint64_t *)((char *)s.m.memory + page * PAGE);
}

/* Brings a page back, if it is away, and lets vCPUs have it. -> was it marked? */
static bool bring_back(uint64_t page)
{
	bool marked;

	lock_page(page);
	marked = is_marked(&s.m, page);
	if (s.pages[page].away) {
		if (*word_at(page) != POISON) {
			tap_note("page %lu was written while it was away: %#lx", (unsigned long)page,
				 (unsigned long)*word_at(page));
			s.failed = true;
		}
		*word_at(page) = s.aside[page];
		s.pages[page].away = false;
	}
	unmark(&s.m, page);
	unlock_page(page);
	return marked;
}

/* The flag is on, and no vCPU has the page if its mark is still set. */
static void take_away(uint64_t page)
{
	lock_page(page);
	if (is_marked(&s.m, page)) {
		s.aside[page] = *word_at(page);
		*word_at(page) = POISON;
		s.pages[page].away = true;
	}
	unlock_page(page);
}

static void copy_page(uint64_t page)
{
	lock_page(page);
	s.copy[page] = s.pages[page].away ? s.aside[page] : *word_at(page);
	unlock_page(page);
}

static void on_signal(int sig)
{
	(void)sig;
}

/* Waits while the vCPUs are to stand still. -> is it to end? */
static bool pause_here(struct vcpu *vcpu)
{
	bool end;

	pthread_mutex_lock(&s.lock);
	if (s.pause && !s.stop) {
		s.stopped++;
		pthread_cond_broadcast(&s.changed);
		while (s.pause && !s.stop)
			pthread_cond_wait(&s.changed, &s.lock);
		s.stopped--;
	}
	/* Only now: who paused us sets it, and does so once. */
	vcpu->run->immediate_exit = 0;
	end = s.stop;
	pthread_mutex_unlock(&s.lock);
	return end;
}

static void *run_vcpu(void *arg)
{
	struct vcpu *vcpu = arg;
	struct work work = {
		.op = GUEST_ADD | GUEST_FOREVER,
		.gpa = TEST_GPA + vcpu->index * EACH * PAGE,
		.count = EACH,
		.stride = PAGE,
		.step = 1,
	};
	int64_t page, last = -1;
	unsigned int same = 0;
	enum stop stop;

	vcpu_give(vcpu, &work);
	while (!s.failed) {
		stop = vcpu_run(vcpu);
		if (stop == STOP_INTERRUPTED) {
			if (pause_here(vcpu))
				break;
			continue;
		}
		page = stop == STOP_USERFAULT ? marked_page_of_exit(&s.m, vcpu) : -1;
		if (page < 0) {
			tap_note("vCPU %u: %s", vcpu->index, vcpu_describe(vcpu, stop));
			s.failed = true;
			break;
		}
		s.exits++;
		if (!bring_back((uint64_t)page))
			s.stale++;
		/* It may have been marked anew since, but not for ever. */
		same = page == last ? same + 1 : 0;
		last = page;
		if (same > 1)
			s.repeats++;
		if (same > 1000) {
			tap_note("vCPU %u exits for page %ld for ever", vcpu->index, (long)page);
			s.failed = true;
		}
	}
	pthread_mutex_lock(&s.lock);
	s.failed |= !s.stop;
	s.stopped += NVCPUS; /* nobody waits for it any more */
	pthread_cond_broadcast(&s.changed);
	pthread_mutex_unlock(&s.lock);
	return NULL;
}

/* Fetches pages in the background, as post-copy does. */
static void *run_fetcher(void *arg)
{
	struct timespec pause = { .tv_nsec = 200000 };
	uint64_t page = 0;
	int n;

	while (!s.stop && !s.failed) {
		for (n = 0; n < 16 && s.fetch; n++) {
			bring_back(page);
			page = (page + 7) % NPAGES;
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void pause_vcpus(void)
{
	unsigned int i;

	pthread_mutex_lock(&s.lock);
	s.pause = true;
	pthread_mutex_unlock(&s.lock);
	for (i = 0; i < NVCPUS; i++) {
		s.vm.vcpu[i].run->immediate_exit = 1;
		pthread_kill(s.threads[i], SIGUSR1);
	}
	pthread_mutex_lock(&s.lock);
	while (s.stopped < NVCPUS)
		pthread_cond_wait(&s.changed, &s.lock);
	pthread_mutex_unlock(&s.lock);
}

static void resume_vcpus(void)
{
	pthread_mutex_lock(&s.lock);
	s.pause = false;
	pthread_cond_broadcast(&s.changed);
	pthread_mutex_unlock(&s.lock);
}

static void set_flags(uint32_t flags)
{
	int error = marked_set(&s.m, flags);

	need(error == 0, "from flags %#x to %#x: %d", s.flags, flags, error);
	s.flags = flags;
}

static void harvest(void)
{
	uint64_t page;

	need(vm_get_dirty_log(&s.vm, s.m.slot, s.log) == 0, "KVM_GET_DIRTY_LOG");
	for (page = 0; page < NPAGES; page++)
		if (s.log[page / 64] >> page % 64 & 1)
			copy_page(page);
}

static void logging_on(void)
{
	uint64_t page;

	set_flags(s.flags | LOG);
	for (page = 0; page < NPAGES; page++)
		copy_page(page);
	s.logging = true;
	s.logged++;
}

static void compare(void)
{
	uint64_t page, now, wrong = 0;

	for (page = 0; page < NPAGES; page++) {
		now = s.pages[page].away ? s.aside[page] : *word_at(page);
		if (now != s.copy[page] && wrong++ == 0)
			tap_note("page %lu holds %lu, its copy %lu", (unsigned long)page, (unsigned long)now,
				 (unsigned long)s.copy[page]);
	}
	if (wrong) {
		tap_note("the log missed %lu pages", (unsigned long)wrong);
		s.failed = true;
	}
}

static void logging_off(void)
{
	s.fetch = false;
	pause_vcpus();
	harvest();
	compare();
	set_flags(s.flags & ~(uint32_t)LOG);
	s.logging = false;
	resume_vcpus();
}

static void flag_on(void)
{
	uint64_t page;

	mark_all(&s.m);
	set_flags(s.flags | UF);
	s.turned_on++;
	for (page = 0; page < NPAGES; page++)
		take_away(page);
	s.fetch = rnd(2);
}

/* All pages are brought back first: from then on nothing holds a vCPU off. */
static void flag_off(void)
{
	uint64_t page;

	for (page = 0; page < NPAGES; page++)
		bring_back(page);
	s.fetch = false;
	set_flags(s.flags & ~UF);
}

/* With the flags that it has; nothing that is marked may be lost by it. */
static void delete_and_create(void)
{
	uint32_t flags = s.flags;

	pause_vcpus();
	if (s.logging)
		harvest();
	need(marked_delete(&s.m) == 0, "deletion");
	need(marked_set(&s.m, flags) == 0, "creation with flags %#x", flags);
	s.deleted++;
	resume_vcpus();
}

static void check_counters(void)
{
	struct outcome outcome;
	uint64_t i, page, want, wrong = 0;
	unsigned int v;

	for (v = 0; v < NVCPUS; v++) {
		vcpu_outcome(&s.vm.vcpu[v], &outcome);
		for (i = 0; i < EACH; i++) {
			page = v * EACH + i;
			want = outcome.passes + (i < outcome.index);
			if (*word_at(page) == want || (i == outcome.index && *word_at(page) == want + 1))
				continue;
			if (wrong++ == 0)
				tap_note("page %lu holds %lu, not %lu", (unsigned long)page,
					 (unsigned long)*word_at(page), (unsigned long)want);
		}
		tap_note("vCPU %u: %lu passes", v, (unsigned long)outcome.passes);
	}
	if (wrong)
		tap_note("%lu pages hold something else than how often they were written", (unsigned long)wrong);
	tap_case(!s.failed && wrong == 0, "no page was lost, and no vCPU wrote a page that was away");
}

static time_t seconds_since(time_t began)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - began;
}

static void act(void)
{
	switch (rnd(8)) {
	case 0:
	case 1:
	case 2:
		if (s.flags & UF)
			flag_off();
		else
			flag_on();
		break;
	case 3:
	case 4:
		if (s.logging)
			logging_off();
		else
			logging_on();
		break;
	case 5:
		if (s.logging)
			harvest();
		break;
	case 6:
		s.fetch = s.flags & UF;
		break;
	default:
		if (rnd(4) == 0)
			delete_and_create();
		break;
	}
}

int main(int argc, char **argv)
{
	const char *wanted = argc > 1 ? argv[1] : getenv("REGRESS_STRESS");
	int seconds = wanted ? atoi(wanted) : 5;
	struct sigaction action = { .sa_handler = on_signal };
	time_t began = seconds_since(0);
	unsigned int i;

	tap_start("userfault_stress", (unsigned int)seconds + 60);
	need_userfault();
	tap_doing("no page was lost, and no vCPU wrote a page that was away");
	s.random = (unsigned int)time(NULL);
	tap_note("seed %u, %d s", s.random, seconds);
	sigaction(SIGUSR1, &action, NULL);
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.changed, NULL);
	vm_start(&s.vm, NVCPUS);
	marked_init(&s.m, &s.vm, NPAGES, true);
	memset(s.m.memory, 0, NPAGES * PAGE);
	s.aside = calloc(NPAGES, sizeof(*s.aside));
	s.copy = calloc(NPAGES, sizeof(*s.copy));
	need(s.aside && s.copy, "memory");
	set_flags(0);
	for (i = 0; i < NVCPUS; i++)
		need(pthread_create(&s.threads[i], NULL, run_vcpu, &s.vm.vcpu[i]) == 0, "a thread");
	need(pthread_create(&s.fetcher, NULL, run_fetcher, NULL) == 0, "a thread");
	while (seconds_since(began) < seconds && !s.failed) {
		act();
		usleep(rnd(20000));
	}
	if (!s.failed && s.logging)
		logging_off();
	if (!s.failed && s.flags & UF)
		flag_off();
	pthread_mutex_lock(&s.lock);
	s.stop = true;
	pthread_cond_broadcast(&s.changed);
	pthread_mutex_unlock(&s.lock);
	for (i = 0; i < NVCPUS; i++) {
		s.vm.vcpu[i].run->immediate_exit = 1;
		pthread_kill(s.threads[i], SIGUSR1);
		pthread_join(s.threads[i], NULL);
	}
	pthread_join(s.fetcher, NULL);
	tap_note("the flag went on %lu times, logging %lu times, the slot was deleted %lu times; %lu exits, %lu of them stale",
		 s.turned_on, s.logged, s.deleted, s.exits, s.stale);
	check_counters();
	tap_case(!s.failed && s.turned_on > 0 && s.logged > 0, "no page that was written is missing in the log");
	vm_destroy(&s.vm);
	tap_kernel_log();
	return tap_end();
}
