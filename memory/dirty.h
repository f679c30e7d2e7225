/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking of one VM: which mechanism (decided when the VM is created, for its life on this host), switching
 * logging on and off, and the harvest into a map with one bit a page. dirty.c opens with the theory of operation.
 * Thread: the one that harvests (main thread or migration thread), but for dirty_ring_full(), which says its own.
 */
#ifndef MEMORY_DIRTY_H
#define MEMORY_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/vcpu.h"
#include "memory/ram.h"

enum dirty_mode { DIRTY_AUTO, DIRTY_RING, DIRTY_BITMAP };

struct dirty_request {
	enum dirty_mode mode;
	uint32_t ring_entries; /* 0: default 65536 or the host's maximum */
};

/* What was decided, and why, for status and doctor. */
struct dirty_choice {
	enum dirty_mode mode; /* DIRTY_RING or DIRTY_BITMAP */
	uint32_t ring_entries;
	bool ring_bitmap;    /* arm64: ring with bitmap */
	bool manual_protect; /* bitmap mode: cleared range by range */
	char reason[96];
};

/*
 * The rule (has_its: an arm64 VM with an ITS): auto takes the ring where the host offers ACQ_REL ordering and, with an
 * ITS, ring + bitmap; else the bitmap. An explicit ring that the host cannot do safely is -ENOTSUP with the reason.
 * Pure: no system call.
 */
int dirty_choose(const struct kvm_host *host, const struct dirty_request *request, bool has_its,
		 struct dirty_choice *out) must_check;
/* Enables what was chosen: VM capability steps, so before any memslot. */
int dirty_enable(struct kvm_vm *vm, const struct dirty_choice *choice) must_check;

struct dirty;
/* vcpus: array of nvcpus, all created; both must outlive the tracker. */
int dirty_new(struct dirty **out, struct kvm_vm *vm, struct ram *ram,
	      const struct dirty_choice *choice, struct kvm_vcpu **vcpus,
	      unsigned int nvcpus) must_check;
void dirty_free(struct dirty *dirty); /* logging must be off; takes NULL */
/* Logging on for all slots; the map starts empty (the caller sends everything first anyway). */
int dirty_start(struct dirty *dirty) must_check;
/* Drains, resets, logging off. */
int dirty_stop(struct dirty *dirty) must_check;

/*
 * Gathers all that was dirtied since the last harvest into *map (npages bits, ORed): rings, bitmaps, sources, and
 * Tern's own writes. A page may be read only after dirty_rearm() of its range, which makes the next write to it count.
 * final: vCPUs are parked and all state is saved; nothing may write after it. Returns how many bits were new, or -errno.
 */
int64_t dirty_harvest(struct dirty *dirty, uint64_t *map, bool final) must_check;
/*
 * Makes writes to pages [first, first + npages) count again, just before they are read (bitmap with manual protection:
 * a small CLEAR_DIRTY_LOG; otherwise the harvest has done it and this is free). first a multiple of 64.
 */
int dirty_rearm(struct dirty *dirty, page_t first, uint64_t npages) must_check;

/*
 * The vCPU's ring is full (KVM_EXIT_DIRTY_RING_FULL): gathers and resets every ring into a pending map that the next
 * harvest takes. vCPU threads; serialised inside. Correct whenever it is called, also with logging off.
 */
int dirty_ring_full(struct dirty *dirty) must_check;

/*
 * Somebody else who writes guest memory and keeps a log of it (vhost in the kernel). Called with the tracker's lock
 * held, on the harvesting thread. start/stop switch the log; harvest ORs and clears it.
 */
struct dirty_source {
	void *opaque;
	int (*start)(void *opaque);
	void (*stop)(void *opaque);
	void (*harvest)(void *opaque, uint64_t *map);
};
#define DIRTY_SOURCES_MAX 16
int dirty_add_source(struct dirty *dirty,
		     const struct dirty_source *source) must_check; /* logging off; -ENOSPC */

/* Since the last dirty_start(). Ring full: how often a vCPU was held up by it, how long in all, and at most. */
struct dirty_stats {
	uint64_t harvests, pages, resets_partial;
	uint64_t ring_full_exits, ring_full_ns, ring_full_longest_ns;
};
void dirty_get_stats(const struct dirty *dirty, struct dirty_stats *out);

#endif
