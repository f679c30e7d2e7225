// SPDX-License-Identifier: GPL-2.0-or-later
/* Tests of RAM and vCPUs: all of it is there, is distinct, and what one vCPU writes the others see. */
#include "ktest.h"
#include "workset.h"

static volatile struct {
	unsigned int runs;
	uint64_t token;
	uint64_t seen[GUEST_VCPUS];
} shared;

/* The first and last words of each free page carry the page's number: two pages that share memory show. */
void ktest_memory(struct ktest *t)
{
	struct page_cursor at = {0, 0, 0};
	uint64_t npages = workset_free_pages();

	for (uint64_t i = 0; i < npages; i++) {
		volatile uint64_t *p = workset_page(&at, i);

		if ((uint64_t)p >= machine.told_end && (p[0] || p[511]))
			KTEST_CHECK(t, false, "page %lu at 0x%lx is not zero at the start", i,
				    (uint64_t)p);
		p[0] = i;
		p[511] = ~i;
		if (t->failures > 4)
			return;
	}
	for (uint64_t i = 0; i < npages && t->failures < 4; i++) {
		volatile uint64_t *p = workset_page(&at, i);

		KTEST_CHECK(t, p[0] == i && p[511] == ~i, "page %lu at 0x%lx holds %lx %lx", i,
			    (uint64_t)p, p[0], p[511]);
	}
}

static void answer(unsigned int number)
{
	shared.seen[number] = shared.token + number;
	__atomic_fetch_add(&shared.runs, 1, __ATOMIC_RELEASE);
	for (;;)
		cpu_relax();
}

void ktest_smp(struct ktest *t)
{
	unsigned int up = 1;

	shared.token = clock_now();
	for (unsigned int i = 1; i < machine.nvcpus; i++, up++)
		if (!arch_vcpu_start(i, answer))
			break;
	KTEST_CHECK(t, up == machine.nvcpus, "vcpu %u of %u did not start", up, machine.nvcpus);
	while (__atomic_load_n(&shared.runs, __ATOMIC_ACQUIRE) < up - 1)
		cpu_relax();
	for (unsigned int i = 1; i < up; i++)
		KTEST_CHECK(t, shared.seen[i] == shared.token + i, "vcpu %u said %lx", i,
			    shared.seen[i]);
}

/* The same vCPU over and over: the start-up messages find it running, halted, or not yet looking. */
void ktest_restart(struct ktest *t)
{
	uint64_t end = clock_now() + ms_to_ticks(param_ms("seconds", 1000));

	if (machine.nvcpus < 2) {
		t->skipped = "one vCPU only";
		return;
	}
	while (clock_now() < end) {
		unsigned int runs = __atomic_load_n(&shared.runs, __ATOMIC_ACQUIRE);

		if (!arch_vcpu_start(1, answer)) {
			KTEST_CHECK(t, false, "vcpu 1 did not start again");
			return;
		}
		while (__atomic_load_n(&shared.runs, __ATOMIC_ACQUIRE) == runs)
			cpu_relax();
		t->checks++;
	}
}
