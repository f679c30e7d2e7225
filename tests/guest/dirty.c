// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The load: every vCPU goes round its share of the working set, checks in each page what it wrote there the last time,
 * and writes the next generation, at a set rate; and notes how long it was kept from its next iteration.
 *
 * Theory of operation. The generation that a page must hold follows from the sweep that its vCPU is in, so no table of
 * expectations exists that could go wrong in the same way as the pages: the registers hold it. A lost write shows as an
 * old generation, a write that landed elsewhere as a foreign page number, a torn page as words that disagree (words=N
 * spreads N words over each page). `cold=` pages are written once, whole, and checked whole at the end: what a
 * migration sends once and never again.
 *
 * The rate is a budget against the clock. Time in which the vCPU did not run is not made up for: after a stop the guest
 * goes on at its rate, not at full speed.
 *
 * First vCPU only: reports, and one-byte commands from the console: g (start the gap counters anew), r (report now),
 * q (end now, with the final check).
 */
#include "gap.h"
#include "token.h"
#include "workset.h"

#define POLL_MS		5 /* how often the console's receiver is looked at */
#define BACKLOG_MS	10
#define ERRORS_REPORTED 8
#define WORDS_PER_PAGE	(PAGE_SIZE / sizeof(uint64_t))

struct load {
	uint64_t first, npages;	     /* share of the working set */
	uint64_t cursor, generation; /* next page (within the share); number of this sweep */
	uint64_t written;	     /* pages, in all */
	volatile uint64_t errors;
	struct page_error error[ERRORS_REPORTED];
	unsigned int errors_said; /* the first vCPU's mark */
	struct page_cursor at;
	struct gap gap;
	uint64_t gap_epoch;
	volatile enum { LOAD_STARTING, LOAD_READY, LOAD_DONE } state;
} __attribute__((aligned(4096)));

static struct load loads[GUEST_VCPUS] NOINIT;

/* Set by the first vCPU before the others start. */
static struct {
	unsigned int nvcpus;
	uint64_t wset_pages, cold_pages;
	uint64_t rate;	      /* pages/s of each vCPU; 0: none, UINT64_MAX: no limit */
	uint64_t words, step; /* words per page, and words from one to the next */
	uint64_t stride;
	bool verify;
	uint64_t end; /* clock, 0: never */
	uint64_t report_ticks;
	volatile bool go, quit;
	volatile uint64_t gap_epoch;
	uint64_t
		time_backwards; /* times that the guest's time went back, as the first vCPU saw it */
} plan;

static void note_error(struct load *l, const struct page_error *e)
{
	if (l->errors < ERRORS_REPORTED)
		l->error[l->errors] = *e;
	__atomic_store_n(&l->errors, l->errors + 1, __ATOMIC_RELEASE);
}

/* noinline: the loop's registers are worth more than the call. */
static __attribute__((noinline)) void check_failed(struct load *l, uint64_t page,
						   const volatile uint64_t *p, uint64_t word,
						   uint64_t generation, uint64_t found)
{
	const struct page_error e = {.page = page,
				     .gpa = (uint64_t)p,
				     .offset = word * sizeof(uint64_t),
				     .expected = stamp(page, generation, word),
				     .found = found,
				     .generation = generation};

	note_error(l, &e);
}

static inline void check_page(struct load *l, uint64_t page, volatile uint64_t *p,
			      uint64_t generation, uint64_t step)
{
	for (uint64_t word = 0; word < WORDS_PER_PAGE; word += step) {
		uint64_t found = p[word];

		if (found != stamp(page, generation, word)) {
			check_failed(l, page, p, word, generation, found);
			return;
		}
	}
}

static inline void write_page(uint64_t page, volatile uint64_t *p, uint64_t generation,
			      uint64_t step)
{
	for (uint64_t word = 0; word < WORDS_PER_PAGE; word += step)
		p[word] = stamp(page, generation, word);
}

static inline void visit_next(struct load *l)
{
	uint64_t page = l->first + l->cursor;
	volatile uint64_t *p = workset_page(&l->at, page);

	if (plan.verify)
		check_page(l, page, p, l->generation - 1, plan.step);
	write_page(page, p, l->generation, plan.step);
	l->written++;
	l->cursor += plan.stride;
	if (l->cursor >= l->npages) {
		/* With a stride, a sweep is as many rounds as it takes to come by every page. */
		l->cursor = (l->cursor + 1) % plan.stride;
		if (l->cursor == 0 || l->cursor >= l->npages) {
			l->cursor = 0;
			l->generation++;
		}
	}
}

/* Every page of the share must hold the generation before, or this one if this sweep has passed it. */
static void check_all(struct load *l)
{
	uint64_t first = l->cursor % plan.stride;

	for (uint64_t i = 0; i < l->npages; i++) {
		uint64_t phase = i % plan.stride;
		bool passed = phase < first || (phase == first && i < l->cursor);

		check_page(l, l->first + i, workset_page(&l->at, l->first + i),
			   passed ? l->generation : l->generation - 1, plan.step);
	}
}

static void cold_each(struct load *l, bool check)
{
	for (uint64_t i = 0; i < plan.cold_pages; i++) {
		uint64_t page = plan.wset_pages + i;
		volatile uint64_t *p = workset_page(&l->at, page);

		if (check)
			check_page(l, page, p, 0, 1);
		else
			write_page(page, p, 0, 1);
	}
}

static void say_errors(void)
{
	for (unsigned int i = 0; i < plan.nvcpus; i++) {
		struct load *l = &loads[i];
		uint64_t n = __atomic_load_n(&l->errors, __ATOMIC_ACQUIRE);

		for (; l->errors_said < n && l->errors_said < ERRORS_REPORTED; l->errors_said++) {
			const struct page_error *e = &l->error[l->errors_said];

			say("guest: error vcpu=%u page=%lu gpa=0x%lx offset=%lu generation=%lu "
			    "expected=%016lx found=%016lx\n",
			    i, e->page, e->gpa, e->offset, e->generation, e->expected, e->found);
		}
	}
}

static void say_histogram(void)
{
	say("guest: gaps_ns");
	for (unsigned int bucket = 0; bucket < 64; bucket++) {
		uint64_t n = 0;

		for (unsigned int i = 0; i < plan.nvcpus; i++)
			n += loads[i].gap.histogram[bucket];
		if (n)
			say(" %lu:%lu", (1ul << bucket) * 1000000 / machine.clock_khz, n);
	}
	say("\n");
}

/* A "report" line (rate: since the last one) or the "done" line (rate: in all). Resets the interval. */
static void say_totals(bool done, uint64_t start, uint64_t now)
{
	static uint64_t said_pages, said_at;
	uint64_t since_pages = done ? 0 : said_pages, since = !done && said_at ? said_at : start;
	uint64_t pages = 0, errors = 0, longest = 0, interval = 0, backwards = 0,
		 sweeps = UINT64_MAX;

	for (unsigned int i = 0; i < plan.nvcpus; i++) {
		struct load *l = &loads[i];

		pages += l->written;
		errors += l->errors;
		backwards += l->gap.backwards;
		if (l->generation - 2 < sweeps)
			sweeps = l->generation - 2;
		if (l->gap.longest > longest)
			longest = l->gap.longest;
		if (l->gap.interval_longest > interval)
			interval = l->gap.interval_longest;
		l->gap.interval_longest = 0;
	}
	say("guest: %s ms=%lu sweeps=%lu pages=%lu rate=%lu errors=%lu gap_us=%lu gap_now_us=%lu "
	    "time_ms=%lu clock_back=%lu\n",
	    done ? "done" : "report", (now - start) / machine.clock_khz, sweeps, pages,
	    (pages - since_pages) * 1000000 / (ticks_to_us(now - since) + 1), errors,
	    ticks_to_us(longest), ticks_to_us(interval), arch_guest_time_ns() / 1000000,
	    backwards + plan.time_backwards);
	said_pages = pages;
	said_at = now;
}

/* What the first vCPU does between two pages. */
struct watch {
	uint64_t start, next_report, next_poll;
	uint64_t guest_time_ns; /* at the last poll */
};

static void watch_commands(struct watch *w, uint64_t now)
{
	int c = arch_console_get();
	uint64_t guest_time_ns = arch_guest_time_ns();

	if (guest_time_ns < w->guest_time_ns)
		plan.time_backwards++;
	w->guest_time_ns = guest_time_ns;
	w->next_poll = now + ms_to_ticks(POLL_MS);
	if (c == 'q')
		plan.quit = true;
	else if (c == 'g')
		plan.gap_epoch++;
	else if (c == 'r')
		w->next_report = now;
}

static inline void watch(struct watch *w, uint64_t now)
{
	console_poll();
	token_poll(now);
	if (now >= w->next_poll)
		watch_commands(w, now);
	if (now >= w->next_report) {
		w->next_report = now + plan.report_ticks;
		say_errors();
		say_totals(false, w->start, now);
	}
	if (plan.end && now >= plan.end)
		plan.quit = true;
}

static void load_run(struct load *l, struct watch *w)
{
	uint64_t base = clock_now(), done = 0;
	uint64_t rate_32 = plan.rate == UINT64_MAX ? 0
						   : (plan.rate << 32) / (machine.clock_khz * 1000);
	uint64_t backlog = plan.rate * BACKLOG_MS / 1000 + 1;

	gap_start(&l->gap, base);
	while (!plan.quit) {
		uint64_t now = clock_now();

		if (l->gap_epoch != plan.gap_epoch) {
			l->gap_epoch = plan.gap_epoch;
			gap_start(&l->gap, now);
		}
		gap_note(&l->gap, now);
		if (w)
			watch(w, now);
		if (plan.rate != UINT64_MAX) {
			uint64_t due = (uint64_t)((unsigned __int128)(now - base) * rate_32 >> 32);

			if (done >= due) {
				cpu_relax();
				continue;
			}
			if (due - done > backlog) {
				base = now;
				done = 0;
			}
			done++;
		}
		visit_next(l);
	}
}

static void load_share(struct load *l, unsigned int number)
{
	l->first = plan.wset_pages * number / plan.nvcpus;
	l->npages = plan.wset_pages * (number + 1) / plan.nvcpus - l->first;
	for (uint64_t i = 0; i < l->npages; i++)
		write_page(l->first + i, workset_page(&l->at, l->first + i), 1, plan.step);
	l->generation = 2;
}

static void load_vcpu(unsigned int number)
{
	struct load *l = &loads[number];

	load_share(l, number);
	l->state = LOAD_READY;
	while (!plan.go)
		cpu_relax();
	load_run(l, NULL);
	check_all(l);
	__atomic_store_n(&l->state, LOAD_DONE, __ATOMIC_RELEASE);
	for (;;)
		cpu_relax();
}

static void plan_read(void)
{
	uint64_t free_pages = workset_free_pages(), rate = param_number("rate", UINT64_MAX);

	plan.nvcpus = (unsigned int)param_number("vcpus", machine.nvcpus);
	if (plan.nvcpus < 1 || plan.nvcpus > machine.nvcpus)
		fatal("vcpus=%u, but the machine has %u", plan.nvcpus, machine.nvcpus);
	plan.wset_pages = param_number("wset", 64ul << 20) >> PAGE_SHIFT;
	plan.cold_pages = param_number("cold", 0) >> PAGE_SHIFT;
	if (plan.wset_pages < plan.nvcpus || plan.wset_pages + plan.cold_pages > free_pages)
		fatal("wset=%luK cold=%luK, but %luK are free", plan.wset_pages << 2,
		      plan.cold_pages << 2, free_pages << 2);
	plan.words = param_number("words", 2);
	if (plan.words < 1 || plan.words > WORDS_PER_PAGE || WORDS_PER_PAGE % plan.words)
		fatal("words=%lu: not a power of two up to %lu", plan.words, WORDS_PER_PAGE);
	plan.step = WORDS_PER_PAGE / plan.words;
	plan.stride = param_number("stride", 1);
	if (plan.stride < 1)
		fatal("stride=0");
	plan.rate = rate == UINT64_MAX ? rate : rate / plan.nvcpus;
	plan.verify = param_number("verify", 1);
	plan.report_ticks = ms_to_ticks(param_ms("report", 1000));
}

static void start_others(void)
{
	for (unsigned int i = 1; i < plan.nvcpus; i++)
		if (!arch_vcpu_start(i, load_vcpu))
			fatal("vcpu %u did not start", i);
}

static void wait_all(unsigned int state)
{
	for (unsigned int i = 1; i < plan.nvcpus; i++)
		while (__atomic_load_n(&loads[i].state, __ATOMIC_ACQUIRE) < state)
			cpu_relax();
}

void dirty_run(void)
{
	struct watch w;
	uint64_t run_ms, now;

	plan_read();
	memset(loads, 0, plan.nvcpus * sizeof(loads[0]));
	run_ms = param_ms("seconds", 10000);
	token_start();
	start_others();
	load_share(&loads[0], 0);
	cold_each(&loads[0], false);
	wait_all(LOAD_READY);
	say("guest: start vcpus=%u wset_pages=%lu cold_pages=%lu words=%lu stride=%lu\n",
	    plan.nvcpus, plan.wset_pages, plan.cold_pages, plan.words, plan.stride);
	console_flush();

	now = clock_now();
	w = (struct watch){.start = now, .next_report = now + plan.report_ticks};
	plan.end = run_ms ? now + ms_to_ticks(run_ms) : 0;
	plan.go = true;
	load_run(&loads[0], &w);
	now = clock_now();
	check_all(&loads[0]);
	cold_each(&loads[0], true);
	wait_all(LOAD_DONE);
	token_finish();
	say_errors();
	say_histogram();
	say_totals(true, w.start, now);
	console_flush();
}

/* Writes nothing: time passes, the console is looked at, gaps are noted. */
void idle_run(void)
{
	struct load *l = &loads[0];
	uint64_t now = clock_now(), run_ms = param_ms("seconds", 10000);
	struct watch w = {.start = now, .next_report = UINT64_MAX};

	memset(l, 0, sizeof(*l));
	plan.nvcpus = 1;
	plan.rate = 0;
	l->generation = 2;
	plan.report_ticks = ms_to_ticks(param_ms("report", 1000));
	token_start();
	plan.end = run_ms ? now + ms_to_ticks(run_ms) : 0;
	load_run(l, &w);
	token_finish();
	say_totals(true, w.start, clock_now());
	console_flush();
}
