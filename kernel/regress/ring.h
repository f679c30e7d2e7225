/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU's dirty ring, seen from userspace: mapping it and harvesting it. Enabling it is what the tests are about.
 */
#ifndef REGRESS_RING_H
#define REGRESS_RING_H

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vm.h"

/* KVM_DIRTY_LOG_PAGE_OFFSET, which headers before 6.2 have as 0 (no rings) on arm64. */
#define RING_PAGE_OFFSET 64

struct ring {
	struct kvm_dirty_gfn *entries;
	uint32_t size; /* entries; a power of two */
	uint32_t next; /* counts on; wraps at 2^32, where size divides it */
};

/* The capability by which this architecture offers rings, or 0. */
static inline uint32_t ring_capability(struct vm *vm)
{
	if (vm_check(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0)
		return KVM_CAP_DIRTY_LOG_RING_ACQ_REL;
	return vm_check(vm, KVM_CAP_DIRTY_LOG_RING) > 0 ? KVM_CAP_DIRTY_LOG_RING : 0;
}

static inline void ring_map(struct ring *ring, struct vcpu *vcpu, uint32_t entries)
{
	void *memory = mmap(NULL, entries * sizeof(*ring->entries), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
			    (off_t)(RING_PAGE_OFFSET * PAGE));

	need(memory != MAP_FAILED, "mmap of a dirty ring");
	ring->entries = memory;
	ring->size = entries;
	ring->next = 0;
}

static inline void ring_unmap(struct ring *ring)
{
	munmap(ring->entries, ring->size * sizeof(*ring->entries));
}

/* Takes the next dirty page, if there is one. It is reset by the next KVM_RESET_DIRTY_RINGS. */
static inline bool ring_take(struct ring *ring, uint32_t *slot, uint64_t *offset)
{
	struct kvm_dirty_gfn *entry = &ring->entries[ring->next & (ring->size - 1)];

	/* Pairs with the kernel's write barrier before it sets the flag. */
	if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
		return false;
	*slot = entry->slot;
	*offset = entry->offset;
	/* The kernel's load-acquire of the flag pairs with this: we are done with the entry. */
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	ring->next++;
	return true;
}

/* KVM_RESET_DIRTY_RINGS: how many entries it reset, or -errno. */
static inline int ring_reset(struct vm *vm)
{
	int n = ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);

	return n < 0 ? -errno : n;
}

#endif
