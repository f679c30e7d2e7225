/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A memslot with KVM_MEM_USERFAULT: a "marked" page is one whose bit is set in the slot's bitmap. What the flag does is
 * tested in userfault*.c; here is what those share.
 */
#ifndef REGRESS_MARKED_H
#define REGRESS_MARKED_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vm.h"

#define UF    ((uint32_t)KVM_MEM_USERFAULT)
#define LOG   KVM_MEM_LOG_DIRTY_PAGES
#define STAMP 0x75660000ul

struct marked {
	struct vm *vm;
	uint32_t slot;
	uint64_t gpa;
	uint64_t npages;
	void *memory;
	uint64_t *bitmap;
};

/* Whole pages, so that it can be unmapped, and one more than the bits need. */
static inline size_t bitmap_bytes(uint64_t npages)
{
	return (npages / 8 + 2 * PAGE) & ~(PAGE - 1);
}

/* -> what KVM_SET_USER_MEMORY_REGION2 says to this slot with @flags. */
static inline int marked_set(const struct marked *m, uint32_t flags)
{
	const struct region2 region = {
		.slot = m->slot,
		.flags = flags,
		.guest_phys_addr = m->gpa,
		.memory_size = m->npages * PAGE,
		.userspace_addr = (uintptr_t)m->memory,
		.userfault_bitmap = (uintptr_t)m->bitmap,
	};

	return vm_set_slot2(m->vm, &region);
}

static inline int marked_delete(const struct marked *m)
{
	const struct region2 region = { .slot = m->slot, .guest_phys_addr = m->gpa };

	return vm_set_slot2(m->vm, &region);
}

/* Memory and bitmap, every page stamped and none marked; no slot yet. */
static inline void marked_init(struct marked *m, struct vm *vm, uint64_t npages, bool huge)
{
	uint64_t i;

	*m = (struct marked){ .vm = vm, .slot = 1, .gpa = TEST_GPA, .npages = npages };
	m->memory = memory_new(npages * PAGE, huge);
	for (i = 0; i < npages; i++)
		*(uint64_t *)((char *)m->memory + i * PAGE) = STAMP + i;
	m->bitmap = mmap(NULL, bitmap_bytes(npages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(m->bitmap != MAP_FAILED, "a bitmap");
}

static inline void marked_fini(struct marked *m)
{
	memory_free(m->memory, m->npages * PAGE);
	munmap(m->bitmap, bitmap_bytes(m->npages));
}

static inline bool is_marked(const struct marked *m, uint64_t page)
{
	return __atomic_load_n(&m->bitmap[page / 64], __ATOMIC_ACQUIRE) >> page % 64 & 1;
}

static inline void mark(struct marked *m, uint64_t page)
{
	__atomic_fetch_or(&m->bitmap[page / 64], 1ull << page % 64, __ATOMIC_RELAXED);
}

/* Of release order: the page has been written. */
static inline void unmark(struct marked *m, uint64_t page)
{
	__atomic_fetch_and(&m->bitmap[page / 64], ~(1ull << page % 64), __ATOMIC_RELEASE);
}

static inline void mark_all(struct marked *m)
{
	uint64_t i;

	for (i = 0; i < m->npages; i++)
		mark(m, i);
}

static inline void unmark_all(struct marked *m)
{
	uint64_t i;

	for (i = 0; i < m->npages; i++)
		unmark(m, i);
}

/* The page that a userfault exit is about, or -1 where the exit is not as documented. */
static inline int64_t marked_page_of_exit(const struct marked *m, struct vcpu *vcpu)
{
	const struct memory_fault *fault = vcpu_memory_fault(vcpu);

	if (fault->size != PAGE || fault->gpa % PAGE || fault->gpa < m->gpa ||
	    fault->gpa >= m->gpa + m->npages * PAGE ||
	    fault->flags & ~(KVM_MEMORY_EXIT_FLAG_USERFAULT | KVM_MEMORY_EXIT_FLAG_PRIVATE)) {
		tap_note("an exit that is not as documented: %s", vcpu_describe(vcpu, STOP_USERFAULT));
		return -1;
	}
	return (int64_t)((fault->gpa - m->gpa) / PAGE);
}

/* Does this kernel have the flag? Ends the program with SKIP when it has not. */
static inline void need_userfault(void)
{
	struct vm vm;
	struct marked m;
	int capability, error;

	vm_create(&vm, 0);
	marked_init(&m, &vm, 1, false);
	capability = vm_check(&vm, KVM_CAP_USERFAULT);
	error = marked_set(&m, UF);
	marked_fini(&m);
	vm_destroy(&vm);
	if (capability <= 0 && error)
		tap_skip_all("this kernel has no KVM_MEM_USERFAULT (%s)", strerror(-error));
}

#endif
