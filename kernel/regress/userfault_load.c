// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_MEM_USERFAULT with several vCPUs at once.
 *
 * Three things can go wrong here that cannot with one vCPU at rest. A vCPU could read a page before it is written,
 * although its bit was cleared after that. A vCPU could exit for a page whose bit is clear, again and again. And a fault
 * that was taken before the flag went on could map a page after all mappings were dropped: so, once the call that turns
 * the flag on has returned, no marked page may change until its bit is cleared, whatever the vCPUs are at.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "marked.h"

#define NVCPUS 4

/* Many vCPUs read the same pages, each in its own order, and resolve their own exits. */

struct reader {
	struct clearing *c;
	struct vcpu *vcpu;
	uint8_t *seen_clear;	 /* by page: it was clear when this vCPU was last run, or before */
	uint64_t exits, repeats; /* repeats: exits for pages that were seen clear */
	uint64_t wrong;
	pthread_t thread;
};

struct clearing {
	struct marked m;
	_Atomic uint8_t *claimed; /* by page: someone writes it */
	struct reader readers[NVCPUS];
	_Atomic bool failed;
};

/* The page is written by whoever claims it; everyone goes on when it is there. */
static void resolve(struct clearing *c, uint64_t page)
{
	char *memory = (char *)c->m.memory + page * PAGE;

	if (atomic_exchange(&c->claimed[page], 1)) {
		while (is_marked(&c->m, page))
			sched_yield();
		return;
	}
	/* All of the page, so that its first word is written long before its bit is cleared, and the last one not. */
	memset(memory, 0x11, PAGE);
	*(uint64_t *)memory = STAMP + page;
	*(uint64_t *)(memory + PAGE - 8) = STAMP + page;
	unmark(&c->m, page);
}

/* The vCPU reads the last word of @count pages from @first on, @stride pages apart. */
static void read_some(struct reader *r, uint64_t first, uint64_t count, uint64_t stride)
{
	struct clearing *c = r->c;
	struct work work = {
		.op = GUEST_CHECK,
		.gpa = c->m.gpa + first * PAGE + PAGE - 8,
		.count = count,
		.stride = stride * PAGE,
		.value = STAMP + first,
		.step = stride,
	};
	struct outcome outcome;
	enum stop stop;
	int64_t page;

	vcpu_give(r->vcpu, &work);
	while ((stop = vcpu_run(r->vcpu)) != STOP_DONE) {
		if (stop == STOP_INTERRUPTED)
			continue;
		page = stop == STOP_USERFAULT ? marked_page_of_exit(&c->m, r->vcpu) : -1;
		if (page < 0) {
			tap_note("vCPU %u: %s", r->vcpu->index, vcpu_describe(r->vcpu, stop));
			c->failed = true;
			return;
		}
		r->exits++;
		r->repeats += r->seen_clear[page];
		resolve(c, (uint64_t)page);
		r->seen_clear[page] = 1;
	}
	vcpu_outcome(r->vcpu, &outcome);
	r->wrong += outcome.mismatches;
}

static void *run_reader(void *arg)
{
	struct reader *r = arg;
	uint64_t n = r->c->m.npages, lane;

	/* Odd vCPUs go in strides, the others straight on, each from another place. */
	if (r->vcpu->index % 2) {
		for (lane = 0; lane < 8 && !r->c->failed; lane++)
			read_some(r, (lane + r->vcpu->index) % 8, n / 8, 8);
	} else {
		uint64_t from = n / NVCPUS * r->vcpu->index;

		read_some(r, from, n - from, 1);
		if (!r->c->failed)
			read_some(r, 0, from, 1);
	}
	return NULL;
}

static void test_clearing(void)
{
	static const char contents[] = "no vCPU sees a page before it was written";
	static const char repeats[] = "no vCPU exits for a page that it has seen resolved";
	enum { NPAGES = 4096, ROUNDS = 4 };
	uint64_t exits = 0, again = 0, wrong = 0;
	struct clearing *c = calloc(1, sizeof(*c));
	int round, i;
	struct vm vm;

	tap_doing(contents);
	need(c, "memory");
	vm_start(&vm, NVCPUS);
	marked_init(&c->m, &vm, NPAGES, true);
	c->claimed = calloc(NPAGES, 1);
	need(c->claimed, "memory");
	need(marked_set(&c->m, 0) == 0, "the slot");
	for (round = 0; round < ROUNDS && !c->failed; round++) {
		mark_all(&c->m);
		memset((void *)c->claimed, 0, NPAGES);
		need(marked_set(&c->m, UF) == 0, "the flag");
		memset(c->m.memory, 0xee, NPAGES * PAGE);
		for (i = 0; i < NVCPUS; i++) {
			c->readers[i] = (struct reader){ .c = c, .vcpu = &vm.vcpu[i], .seen_clear = calloc(NPAGES, 1) };
			need(c->readers[i].seen_clear &&
				     pthread_create(&c->readers[i].thread, NULL, run_reader, &c->readers[i]) == 0,
			     "a thread");
		}
		for (i = 0; i < NVCPUS; i++) {
			pthread_join(c->readers[i].thread, NULL);
			exits += c->readers[i].exits;
			again += c->readers[i].repeats;
			wrong += c->readers[i].wrong;
			free(c->readers[i].seen_clear);
		}
		need(marked_set(&c->m, 0) == 0, "the flag off");
	}
	tap_note("%d rounds of %d vCPUs and %d pages: %lu exits, %lu of them for resolved pages, %lu pages read wrong",
		 round, NVCPUS, NPAGES, (unsigned long)exits, (unsigned long)again, (unsigned long)wrong);
	tap_case(!c->failed && wrong == 0 && exits >= (uint64_t)round * NPAGES, contents);
	tap_case(!c->failed && again == 0, repeats);
	vm_destroy(&vm);
	marked_fini(&c->m);
	free((void *)c->claimed);
	free(c);
}

/* vCPUs write without end while the flag is turned on under them. */

struct writer {
	struct toggling *t;
	struct vcpu *vcpu;
	pthread_t thread;
};

struct toggling {
	struct marked m;
	uint64_t stride, count; /* of a vCPU's pages */
	struct writer writers[NVCPUS];
	unsigned int nvcpus;
	/*
	 * A vCPU that has exited waits for the next round. What the lock does not guard: the bitmap, which the
	 * kernel reads, and the pages, which are what the test is about.
	 */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int parked;
	unsigned long round;
	bool stop, failed;
};

static void on_signal(int sig)
{
	(void)sig;
}

static uint64_t first_page(const struct toggling *t, unsigned int vcpu)
{
	return vcpu * t->stride * t->count;
}

static void *run_writer(void *arg)
{
	struct writer *w = arg;
	struct toggling *t = w->t;
	struct work work = {
		.op = GUEST_ADD | GUEST_FOREVER,
		.gpa = t->m.gpa + first_page(t, w->vcpu->index) * PAGE,
		.count = t->count,
		.stride = t->stride * PAGE,
		.step = 1,
	};
	enum stop stop;

	vcpu_give(w->vcpu, &work);
	for (;;) {
		stop = vcpu_run(w->vcpu);
		pthread_mutex_lock(&t->lock);
		if (stop == STOP_USERFAULT && marked_page_of_exit(&t->m, w->vcpu) >= 0) {
			unsigned long round = t->round;

			t->parked++;
			pthread_cond_broadcast(&t->changed);
			while (t->round == round && !t->stop)
				pthread_cond_wait(&t->changed, &t->lock);
		} else if (stop != STOP_INTERRUPTED) {
			tap_note("vCPU %u: %s", w->vcpu->index, vcpu_describe(w->vcpu, stop));
			t->failed = true;
			t->parked++;
			pthread_cond_broadcast(&t->changed);
			t->stop = true;
		}
		if (t->stop) {
			pthread_mutex_unlock(&t->lock);
			return NULL;
		}
		pthread_mutex_unlock(&t->lock);
	}
}

static uint64_t word_of(struct toggling *t, unsigned int vcpu, uint64_t i)
{
	return page_word(t->m.memory, first_page(t, vcpu) + i * t->stride);
}

/*
 * Everything is marked, then the flag goes on; what is in the pages at that moment must still be there when every vCPU
 * has run into a marked page. -> how many pages were written meanwhile
 */
static uint64_t turn_on_and_watch(struct toggling *t, uint64_t *before, uint32_t flags)
{
	uint64_t i, written = 0;
	unsigned int v;

	mark_all(&t->m);
	need(marked_set(&t->m, flags) == 0, "flags %#x", flags);
	for (v = 0; v < t->nvcpus; v++)
		for (i = 0; i < t->count; i++)
			before[v * t->count + i] = word_of(t, v, i);
	pthread_mutex_lock(&t->lock);
	while (t->parked < t->nvcpus && !t->failed)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	for (v = 0; v < t->nvcpus; v++)
		for (i = 0; i < t->count; i++)
			written += before[v * t->count + i] != word_of(t, v, i);
	return written;
}

static void go_on(struct toggling *t)
{
	pthread_mutex_lock(&t->lock);
	t->parked = 0;
	t->round++;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static bool counters_are_right(struct toggling *t)
{
	struct outcome outcome;
	uint64_t i, want, wrong = 0;
	unsigned int v;

	for (v = 0; v < t->nvcpus; v++) {
		vcpu_outcome(&t->m.vm->vcpu[v], &outcome);
		for (i = 0; i < t->count; i++) {
			want = outcome.passes + (i < outcome.index);
			/* The page that it stands at may have been counted. */
			if (word_of(t, v, i) != want && !(i == outcome.index && word_of(t, v, i) == want + 1))
				wrong++;
		}
	}
	if (wrong)
		tap_note("%lu pages do not hold how often they were written", (unsigned long)wrong);
	return wrong == 0;
}

/*
 * @prepare: the flags that the slot gets just before, @flags: those with which userfault is turned on.
 * @blocks: a vCPU writes one page in each huge page, instead of page after page.
 */
static void toggle(uint32_t prepare, uint32_t flags, bool blocks, const char *name)
{
	struct toggling t = { .nvcpus = 2, .stride = blocks ? HUGE / PAGE : 1, .count = blocks ? 48 : 4096 };
	const unsigned int rounds = 12;
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t *before, written = 0;
	unsigned int round, v;
	struct vm vm;

	tap_doing(name);
	sigaction(SIGUSR1, &action, NULL);
	pthread_mutex_init(&t.lock, NULL);
	pthread_cond_init(&t.changed, NULL);
	vm_start(&vm, t.nvcpus);
	marked_init(&t.m, &vm, t.nvcpus * t.stride * t.count, true);
	memset(t.m.memory, 0, t.m.npages * PAGE);
	before = calloc(t.nvcpus * t.count, sizeof(*before));
	need(before, "memory");
	need(marked_set(&t.m, 0) == 0, "the slot");
	for (v = 0; v < t.nvcpus; v++) {
		t.writers[v] = (struct writer){ .t = &t, .vcpu = &vm.vcpu[v] };
		need(pthread_create(&t.writers[v].thread, NULL, run_writer, &t.writers[v]) == 0, "a thread");
	}
	for (round = 0; round < rounds && !t.failed && !written; round++) {
		usleep(30000);
		if (prepare)
			need(marked_set(&t.m, prepare) == 0, "flags %#x", prepare);
		written += turn_on_and_watch(&t, before, flags);
		/* Resolved one way or the other. */
		if (round % 2)
			unmark_all(&t.m);
		else
			need(marked_set(&t.m, 0) == 0, "the flag off");
		go_on(&t);
		if (round % 2) {
			usleep(10000);
			need(marked_set(&t.m, 0) == 0, "the flag off");
		}
	}
	pthread_mutex_lock(&t.lock);
	t.stop = true;
	pthread_cond_broadcast(&t.changed);
	pthread_mutex_unlock(&t.lock);
	for (v = 0; v < t.nvcpus; v++) {
		vm.vcpu[v].run->immediate_exit = 1;
		pthread_kill(t.writers[v].thread, SIGUSR1);
		pthread_join(t.writers[v].thread, NULL);
	}
	if (written)
		tap_note("round %u: %lu marked pages were written", round, (unsigned long)written);
	tap_case(!t.failed && written == 0 && counters_are_right(&t), name);
	vm_destroy(&vm);
	marked_fini(&t.m);
	free(before);
}

int main(void)
{
	tap_start("userfault_load", 240);
	need_userfault();
	test_clearing();
	toggle(0, UF, false, "turned on under write load, page after page");
	toggle(0, UF, true, "turned on under write load over huge blocks");
	toggle(LOG, UF | LOG, true, "turned on under write load over blocks that logging has write-protected");
	toggle(LOG, UF, true, "turned on, and logging off, under write load over blocks that it has write-protected");
	toggle(0, UF | LOG, true, "turned on, and logging too, under write load over huge blocks");
	tap_kernel_log();
	return tap_end();
}
