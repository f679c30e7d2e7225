// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Switching dirty tracking on and off, and the harvest. What is tracked how is decided in dirty_choose.c.
 *
 * Theory of operation. A page's life in one round:
 *
 *	written -> noted (ring entry, bitmap bit, Tern's own bit, a source's log) -> harvested into the caller's map
 *	-> tracking re-armed -> read and sent; a write after the re-arming is noted again
 *
 * The page must be re-armed *before* it is read. The other way round a write between the two is lost without a trace.
 * Three mechanisms do that differently:
 *
 *	ring		KVM_RESET_DIRTY_RINGS, repeated until it has reset all that was gathered. Entries whose reset has not
 *			returned are counted in `unreset`; no harvest returns while it is above zero.
 *	bitmap		KVM_GET_DIRTY_LOG re-arms as it reads.
 *	bitmap with	GET only reads. `stale` holds the bits that were handed out and not yet cleared; dirty_rearm() clears
 *	manual protect	a range of them just before it is sent, so that a page written between harvest and send is sent
 *			once, not twice, and no single ioctl holds the MMU lock for long. A bit never cleared is simply
 *			reported by the next harvest again.
 *
 * A vCPU whose ring is full comes to dirty_ring_full() on its own thread: it gathers all rings into `pending` and resets
 * them, and the next harvest takes `pending`. So two kinds of threads gather; `lock` serialises them.
 *
 * arm64's interrupt controller writes guest memory without a vCPU. Those pages are in the bitmap even when a ring is on, and
 * they are collected by the final harvest, as its last step: saving the tables must come before it.
 */
#include "memory/dirty.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

struct dirty {
	struct kvm_vm *vm;
	struct ram *ram;
	struct dirty_choice choice;
	struct kvm_vcpu **vcpus;
	unsigned int nvcpus;
	unsigned int nsources;
	struct dirty_source source[DIRTY_SOURCES_MAX];
	bool logging;
	pthread_mutex_t lock; /* rings, pending, unreset, stats; not the kernel's bitmaps */
	uint64_t *pending;    /* gathered by full rings since the last harvest */
	uint64_t unreset;     /* ring entries gathered whose reset has not been confirmed */
	uint64_t *stale;      /* manual protection: handed out, not re-armed */
	uint64_t *scratch;    /* one slot's bitmap */
	struct dirty_stats stats;
};

int dirty_enable(struct kvm_vm *vm, const struct dirty_choice *choice)
{
	int error;

	if (choice->mode == DIRTY_BITMAP)
		return choice->manual_protect ? kvm_vm_enable_manual_protect(vm) : 0;
	error = kvm_vm_enable_ring(vm, choice->ring_entries);
	if (!error && choice->ring_bitmap)
		error = kvm_vm_enable_ring_bitmap(vm);
	return error;
}

static size_t map_words(const struct dirty *dirty)
{
	return dirty->ram->npages / 64;
}

int dirty_new(struct dirty **out, struct kvm_vm *vm, struct ram *ram,
	      const struct dirty_choice *choice, struct kvm_vcpu **vcpus, unsigned int nvcpus)
{
	struct dirty *dirty = calloc(1, sizeof(*dirty));

	if (!dirty)
		return fail(-ENOMEM, "dirty tracking: no memory");
	*dirty = (struct dirty){
		.vm = vm, .ram = ram, .choice = *choice, .vcpus = vcpus, .nvcpus = nvcpus};
	pthread_mutex_init(&dirty->lock, NULL);
	*out = dirty;
	return 0;
}

void dirty_free(struct dirty *dirty)
{
	if (!dirty)
		return;
	free(dirty->pending);
	free(dirty->stale);
	free(dirty->scratch);
	pthread_mutex_destroy(&dirty->lock);
	free(dirty);
}

int dirty_add_source(struct dirty *dirty, const struct dirty_source *source)
{
	assert(!dirty->logging);
	if (dirty->nsources == DIRTY_SOURCES_MAX)
		return fail(-ENOSPC, "dirty tracking: more than %u sources", DIRTY_SOURCES_MAX);
	dirty->source[dirty->nsources++] = *source;
	return 0;
}

/* The maps are there only while logging is on: a VM that never moves does not pay for them. */
static int alloc_maps(struct dirty *dirty)
{
	size_t words = map_words(dirty);

	dirty->pending = calloc(words, sizeof(uint64_t));
	dirty->stale = calloc(words, sizeof(uint64_t));
	dirty->scratch = calloc(words, sizeof(uint64_t));
	if (dirty->pending && dirty->stale && dirty->scratch)
		return 0;
	return fail(-ENOMEM, "dirty tracking: no memory for maps of %zu KiB", words * 3 * 8 / 1024);
}

static void free_maps(struct dirty *dirty)
{
	free(dirty->pending);
	free(dirty->stale);
	free(dirty->scratch);
	dirty->pending = dirty->stale = dirty->scratch = NULL;
}

static int set_logging(struct dirty *dirty, unsigned int nregions, bool on)
{
	int error = 0;

	for (unsigned int i = 0; i < nregions; i++) {
		const struct ram_region *region = &dirty->ram->region[i];
		int result = kvm_vm_set_memslot(dirty->vm, region->slot,
						on ? KVM_MEM_LOG_DIRTY_PAGES : 0, region->gpa,
						region->size_bytes, region->hva);

		if (result && on) {
			int undone = set_logging(dirty, i, false);

			return undone ? undone : result;
		}
		if (result)
			error = result;
	}
	return error;
}

static void stop_sources(struct dirty *dirty, unsigned int n)
{
	while (n--)
		dirty->source[n].stop(dirty->source[n].opaque);
}

static int start_sources(struct dirty *dirty)
{
	for (unsigned int i = 0; i < dirty->nsources; i++) {
		int error = dirty->source[i].start(dirty->source[i].opaque);

		if (error) {
			stop_sources(dirty, i);
			return error;
		}
	}
	return 0;
}

int dirty_start(struct dirty *dirty)
{
	int error = alloc_maps(dirty);

	assert(!dirty->logging);
	if (error)
		goto out_maps;
	memset(dirty->ram->written, 0, map_words(dirty) * sizeof(uint64_t));
	error = start_sources(dirty);
	if (error)
		goto out_maps;
	pthread_mutex_lock(&dirty->lock);
	dirty->stats = (struct dirty_stats){};
	dirty->logging = true;
	pthread_mutex_unlock(&dirty->lock);
	error = set_logging(dirty, dirty->ram->nregions, true);
	if (!error)
		return 0;
	pthread_mutex_lock(&dirty->lock);
	dirty->logging = false;
	pthread_mutex_unlock(&dirty->lock);
	stop_sources(dirty, dirty->nsources);
out_maps:
	free_maps(dirty);
	return error;
}

/* KVM's slot number and offset of a ring entry are its own words, but cheap to check before they index a bitmap. */
static void note_entry(struct dirty *dirty, const struct kvm_dirty_gfn *entry)
{
	const struct ram_region *region;
	page_t page;

	if (entry->slot >= dirty->ram->nregions)
		return;
	region = &dirty->ram->region[entry->slot];
	if (entry->offset >= region->npages)
		return;
	page = region->first_page + entry->offset;
	dirty->pending[page / 64] |= 1ULL << (page % 64);
}

/* With the lock held. Returns how many entries were gathered. api.rst: dirty, then harvested, in ring order. */
static uint64_t gather_ring(struct dirty *dirty, struct kvm_vcpu *vcpu)
{
	uint64_t gathered = 0;
	uint32_t mask = dirty->vm->ring_entries - 1;

	while (gathered <= mask) {
		struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->ring_fetch_index & mask];

		/* Partner: the kernel publishes slot and offset before it sets DIRTY. */
		if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		if (dirty->pending)
			note_entry(dirty, entry);
		/* Partner: the kernel reads slot and offset again after it has seen RESET. */
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vcpu->ring_fetch_index++;
		gathered++;
	}
	return gathered;
}

/* With the lock held: all rings into `pending`, and tracking of those pages armed again. */
static int gather_rings(struct dirty *dirty)
{
	for (unsigned int i = 0; i < dirty->nvcpus; i++)
		dirty->unreset += gather_ring(dirty, dirty->vcpus[i]);
	while (dirty->unreset) {
		int reset = kvm_vm_reset_rings(dirty->vm);

		if (reset < 0)
			return reset;
		if ((uint64_t)reset < dirty->unreset)
			dirty->stats.resets_partial++;
		/* More than was gathered cannot be: entries are reset only after they were marked. */
		dirty->unreset -= (uint64_t)reset < dirty->unreset ? (uint64_t)reset
								   : dirty->unreset;
	}
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

int dirty_ring_full(struct dirty *dirty)
{
	uint64_t begin = now_ns(), took;
	int error;

	pthread_mutex_lock(&dirty->lock);
	error = gather_rings(dirty);
	took = now_ns() - begin; /* the wait for the lock is the guest's, too */
	dirty->stats.ring_full_exits++;
	dirty->stats.ring_full_ns += took;
	if (took > dirty->stats.ring_full_longest_ns)
		dirty->stats.ring_full_longest_ns = took;
	pthread_mutex_unlock(&dirty->lock);
	return error;
}

/* ORs `from` into `to` and returns how many bits were new. */
static uint64_t merge(uint64_t *to, const uint64_t *from, uint64_t nwords)
{
	uint64_t fresh = 0;

	for (uint64_t i = 0; i < nwords; i++) {
		fresh += __builtin_popcountll(from[i] & ~to[i]);
		to[i] |= from[i];
	}
	return fresh;
}

/* Every slot's bitmap into `pending`. With manual protection they stay armed against nothing until dirty_rearm(). */
static int gather_bitmaps(struct dirty *dirty)
{
	for (unsigned int i = 0; i < dirty->ram->nregions; i++) {
		const struct ram_region *region = &dirty->ram->region[i];
		uint64_t word = region->first_page / 64, nwords = region->npages / 64;
		int error = kvm_vm_get_dirty_log(dirty->vm, region->slot, dirty->scratch);

		if (error)
			return error;
		merge(dirty->pending + word, dirty->scratch, nwords);
		if (dirty->choice.manual_protect)
			merge(dirty->stale + word, dirty->scratch, nwords);
	}
	return 0;
}

static int gather(struct dirty *dirty, bool final)
{
	int error = 0;

	if (dirty->choice.mode == DIRTY_RING)
		error = gather_rings(dirty);
	if (error)
		return error;
	for (unsigned int i = 0; i < dirty->nsources; i++)
		dirty->source[i].harvest(dirty->source[i].opaque, dirty->pending);
	ram_take_written(dirty->ram, dirty->pending);
	/* Last of all: nothing that writes guest memory comes after the final reading of the bitmaps. */
	if (dirty->choice.mode == DIRTY_BITMAP || (dirty->choice.ring_bitmap && final))
		error = gather_bitmaps(dirty);
	return error;
}

int64_t dirty_harvest(struct dirty *dirty, uint64_t *map, bool final)
{
	int64_t fresh;
	int error;

	assert(dirty->logging);
	pthread_mutex_lock(&dirty->lock);
	error = gather(dirty, final);
	if (error) {
		/* What was gathered stays in `pending` for the next attempt. */
		fresh = error;
	} else {
		fresh = merge(map, dirty->pending, map_words(dirty));
		memset(dirty->pending, 0, map_words(dirty) * sizeof(uint64_t));
		dirty->stats.harvests++;
		dirty->stats.pages += fresh;
	}
	pthread_mutex_unlock(&dirty->lock);
	return fresh;
}

static int clear_range(struct dirty *dirty, const struct ram_region *region, uint64_t word,
		       uint64_t nwords)
{
	uint64_t *stale = dirty->stale + word;
	uint64_t any = 0;
	int error;

	for (uint64_t i = 0; i < nwords; i++)
		any |= stale[i];
	if (!any)
		return 0;
	error = kvm_vm_clear_dirty_log(dirty->vm, region->slot, word * 64 - region->first_page,
				       nwords * 64, stale);
	if (!error)
		memset(stale, 0, nwords * sizeof(uint64_t));
	return error;
}

int dirty_rearm(struct dirty *dirty, page_t first, uint64_t npages)
{
	uint64_t end = (first + npages + 63) / 64;

	assert(first % 64 == 0);
	if (!dirty->choice.manual_protect)
		return 0;
	for (unsigned int i = 0; i < dirty->ram->nregions; i++) {
		const struct ram_region *region = &dirty->ram->region[i];
		uint64_t region_first = region->first_page / 64;
		uint64_t region_end = region_first + region->npages / 64;
		uint64_t from = first / 64 > region_first ? first / 64 : region_first;
		uint64_t to = end < region_end ? end : region_end;
		int error = from < to ? clear_range(dirty, region, from, to - from) : 0;

		if (error)
			return error;
	}
	return 0;
}

int dirty_stop(struct dirty *dirty)
{
	int error = 0, result;

	assert(dirty->logging);
	pthread_mutex_lock(&dirty->lock);
	/* Rings are empty and reset before logging goes off: a slot without logging cannot be re-protected. */
	if (dirty->choice.mode == DIRTY_RING)
		error = gather_rings(dirty);
	pthread_mutex_unlock(&dirty->lock);
	result = set_logging(dirty, dirty->ram->nregions, false);
	stop_sources(dirty, dirty->nsources);
	pthread_mutex_lock(&dirty->lock);
	dirty->logging = false;
	free_maps(dirty);
	pthread_mutex_unlock(&dirty->lock);
	return error ? error : result;
}

void dirty_get_stats(const struct dirty *dirty, struct dirty_stats *out)
{
	struct dirty *unlocked =
		(struct dirty *)dirty; /* the lock is not part of what is observed */

	pthread_mutex_lock(&unlocked->lock);
	*out = dirty->stats;
	pthread_mutex_unlock(&unlocked->lock);
}
