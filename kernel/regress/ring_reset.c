// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_RESET_DIRTY_RINGS: it resets what was harvested, a signal interrupts it, and nothing is ever lost.
 *
 * "Nothing is lost" has two halves. Every page that was written comes out of a ring; and every page whose entry was
 * reset is write-protected again, so that the next write to it comes out of a ring once more. A reset that is cut short
 * must not drop the entries that it has already taken.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

#define SLOT 1

struct fixture {
	struct vm vm;
	struct ring ring[2];
	unsigned int nvcpus;
	uint64_t npages; /* of each vCPU: the slot has nvcpus * npages */
	void *memory;
	uint8_t *seen; /* by page: how often it came out of a ring in this round */
	uint64_t entries;
};

static void setup(struct fixture *f, unsigned int nvcpus, uint32_t ring_entries, uint64_t npages)
{
	uint64_t size = nvcpus * npages * PAGE;
	unsigned int i;

	memset(f, 0, sizeof(*f));
	f->nvcpus = nvcpus;
	f->npages = npages;
	vm_create(&f->vm, 0);
	need(vm_enable(&f->vm, ring_capability(&f->vm), 0, ring_entries * sizeof(struct kvm_dirty_gfn)) == 0,
	     "a ring of %u entries", ring_entries);
	vm_add_low_memory(&f->vm);
	f->memory = memory_new(size, false);
	need(vm_set_slot(&f->vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, size, f->memory) == 0, "a slot");
	f->seen = calloc(nvcpus * npages, 1);
	need(f->seen, "memory");
	for (i = 0; i < nvcpus; i++) {
		vm_add_vcpu(&f->vm);
		ring_map(&f->ring[i], &f->vm.vcpu[i], ring_entries);
	}
}

static void teardown(struct fixture *f)
{
	unsigned int i;

	for (i = 0; i < f->nvcpus; i++)
		ring_unmap(&f->ring[i]);
	vm_destroy(&f->vm);
	memory_free(f->memory, f->nvcpus * f->npages * PAGE);
	free(f->seen);
}

/* -> how many entries were taken. */
static uint64_t harvest(struct fixture *f)
{
	uint64_t offset, taken = 0;
	uint32_t slot;
	unsigned int i;

	for (i = 0; i < f->nvcpus; i++)
		while (ring_take(&f->ring[i], &slot, &offset)) {
			need(slot == SLOT && offset < f->nvcpus * f->npages, "slot %u offset %lu", slot,
			     (unsigned long)offset);
			if (f->seen[offset] < 255)
				f->seen[offset]++;
			taken++;
		}
	f->entries += taken;
	return taken;
}

/*
 * Each vCPU writes each of its pages once, @stride pages apart in each of stride passes: neighbours in a ring are then
 * not neighbours in memory, and a reset cannot take 64 of them at a time. Full rings are harvested and reset.
 * -> how often a ring was full
 */
static unsigned int write_all(struct fixture *f, uint64_t stride)
{
	unsigned int i, full = 0;
	enum stop stop;
	uint64_t first, taken;

	for (i = 0; i < f->nvcpus; i++)
		for (first = 0; first < stride; first++) {
			struct work work = {
				.op = GUEST_ADD,
				.gpa = TEST_GPA + (i * f->npages + first) * PAGE,
				.count = f->npages / stride,
				.stride = stride * PAGE,
				.step = 1,
			};

			vcpu_give(&f->vm.vcpu[i], &work);
			while ((stop = vcpu_run(&f->vm.vcpu[i])) != STOP_DONE) {
				if (stop == STOP_INTERRUPTED)
					continue;
				need(stop == STOP_RING_FULL, "%s", vcpu_describe(&f->vm.vcpu[i], stop));
				full++;
				taken = harvest(f);
				need(taken > 0, "vCPU %u: a full ring has nothing to harvest (taken before: %u, %u)", i, f->ring[0].next, f->ring[1].next);
				while (taken > 0) {
					int n = ring_reset(&f->vm);

					need(n >= 0 && (uint64_t)n <= taken, "RESET returned %d of %lu", n,
					     (unsigned long)taken);
					taken -= (uint64_t)n;
				}
			}
		}
	return full;
}

static uint64_t count_unseen(struct fixture *f)
{
	uint64_t i, unseen = 0;

	for (i = 0; i < f->nvcpus * f->npages; i++)
		if (!f->seen[i])
			unseen++;
	memset(f->seen, 0, f->nvcpus * f->npages);
	return unseen;
}

/* Small rings and many writes: they fill up, their indices wrap, and every page of every round comes out. */
static void test_full_and_wrap(void)
{
	static const char wraps[] = "rings fill up and wrap, and every page comes out of them";
	static const char again[] = "a page that was reset is logged again";
	unsigned int full = 0, round;
	uint64_t unseen = 0;
	struct fixture f;

	tap_doing(wraps);
	if (host_emulates_guest_kernel()) {
		tap_skip(wraps, "guest kernel mode is emulated here: it overruns the entries held in reserve");
		return;
	}
	setup(&f, 2, 1024, 1536);
	for (round = 0; round < 3; round++) {
		full += write_all(&f, 1);
		harvest(&f);
		while (ring_reset(&f.vm) > 0)
			;
		unseen += count_unseen(&f);
	}
	tap_note("%lu entries through 2 rings of 1024, full %u times, %lu pages missing", (unsigned long)f.entries, full,
		 (unsigned long)unseen);
	tap_case(full >= 4 && f.ring[0].next > 2048 && f.ring[1].next > 2048, wraps);
	tap_case(unseen == 0, again);
	teardown(&f);
}

static void test_only_harvested(void)
{
	static const char name[] = "RESET takes what was harvested, in order, and no more";
	uint64_t offset;
	uint32_t slot;
	struct fixture f;
	int none, half, rest, i;

	tap_doing(name);
	setup(&f, 1, 1024, 100);
	write_all(&f, 1);
	none = ring_reset(&f.vm);
	for (i = 0; i < 50; i++)
		need(ring_take(&f.ring[0], &slot, &offset), "entry %d", i);
	half = ring_reset(&f.vm);
	rest = (int)harvest(&f);
	rest -= ring_reset(&f.vm);
	if (none || half != 50 || rest)
		tap_note("none harvested: %d; 50 harvested: %d; %d of the rest remain", none, half, rest);
	tap_case(none == 0 && half == 50 && rest == 0, name);
	teardown(&f);
}

static struct {
	pthread_t target;
	_Atomic bool armed, stop;
	_Atomic unsigned long sent;
} storm;

static void on_signal(int sig)
{
	(void)sig;
}

/* Sends signals, a while apart, for as long as it is armed. */
static void *send_signals(void *arg)
{
	struct timespec pause = { .tv_nsec = 50000 };

	(void)arg;
	while (!storm.stop) {
		if (storm.armed) {
			pthread_kill(storm.target, SIGUSR1);
			storm.sent++;
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void test_signal(void)
{
	static const char interrupts[] = "a signal interrupts RESET, which returns how many it has reset";
	static const char adds_up[] = "the counts of the calls add up to what was harvested";
	static const char protects[] = "every page that an interrupted RESET took is logged again";
	enum { ROUNDS = 2, NPAGES = 8192 };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	unsigned int round, partial = 0, calls = 0;
	uint64_t taken, unseen = 0, spurious = 0;
	bool right = true;
	pthread_t sender;
	struct fixture f;
	int n;

	tap_doing(interrupts);
	setup(&f, 2, 32768, NPAGES);
	sigaction(SIGUSR1, &action, NULL);
	storm.target = pthread_self();
	need(pthread_create(&sender, NULL, send_signals, NULL) == 0, "a thread");
	/* The last round only looks at what the resets before it have protected. */
	for (round = 0; round <= ROUNDS && (partial < 3 || round < 2); round++) {
		write_all(&f, 128);
		taken = harvest(&f);
		unseen += count_unseen(&f);
		if (taken < 2 * NPAGES)
			break;
		while (taken > 0) {
			storm.armed = true;
			n = ring_reset(&f.vm);
			storm.armed = false;
			calls++;
			if (n < 0 || (uint64_t)n > taken) {
				tap_note("RESET returned %d of %lu", n, (unsigned long)taken);
				right = false;
				goto out;
			}
			if ((uint64_t)n < taken && n > 0)
				partial++;
			taken -= (uint64_t)n;
		}
		/* All was reset: another call has nothing to do. */
		n = ring_reset(&f.vm);
		spurious += n > 0 ? (uint64_t)n : 0;
	}
	write_all(&f, 1);
	harvest(&f);
	unseen += count_unseen(&f);
out:
	storm.stop = true;
	pthread_join(sender, NULL);
	tap_note("%u rounds of %d entries: %u calls, %u of them partial, %lu signals; %lu pages missing", round,
		 2 * NPAGES, calls, partial, storm.sent, (unsigned long)unseen);
	tap_case(partial > 0, interrupts);
	tap_case(right && spurious == 0, adds_up);
	tap_case(unseen == 0, protects);
	teardown(&f);
}

int main(void)
{
	struct vm vm;

	tap_start("ring_reset", 180);
	vm_create(&vm, 0);
	if (!ring_capability(&vm))
		tap_skip_all("no dirty rings here");
	vm_destroy(&vm);
	test_full_and_wrap();
	test_only_harvested();
	test_signal();
	tap_kernel_log();
	return tap_end();
}
