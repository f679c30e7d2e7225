// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A dirty ring never meets KVM_DIRTY_LOG_INITIALLY_SET.
 *
 * INITIALLY_SET says: all pages count as dirty when logging begins, so none is write-protected then. A bitmap says so
 * too, with all its bits set; a ring is empty. Pages that were mapped before logging began are therefore written without
 * a trace. A kernel that refuses the combination, in either order, passes; on one that accepts it the loss is shown.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ring.h"

#define NPAGES	     64ul
#define SIZE	     (NPAGES * PAGE)
#define RING_ENTRIES 4096u
#define SLOT	     1

static int enable_ring(struct vm *vm)
{
	return vm_enable(vm, ring_capability(vm), 0, RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
}

static int enable_manual(struct vm *vm, uint64_t options)
{
	return vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, options);
}

/*
 * The VM has a ring, and whatever else. Pages are mapped, logging is switched on, the same pages are written: how many
 * of them does the ring not have?
 */
static unsigned int count_lost(struct vm *vm)
{
	struct work work = { .op = GUEST_ADD, .gpa = TEST_GPA, .count = NPAGES, .stride = PAGE, .step = 1 };
	void *memory = memory_new(SIZE, false);
	struct ring ring;
	uint64_t offset, seen = 0;
	uint32_t slot;

	vm_add_low_memory(vm);
	need(vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE, memory) == 0, "a slot");
	vm_add_vcpu(vm);
	ring_map(&ring, &vm->vcpu[0], RING_ENTRIES);
	need(vcpu_do(&vm->vcpu[0], &work) == STOP_DONE, "writes before");
	need(vm_set_slot(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, SIZE, memory) == 0, "logging on");
	while (ring_take(&ring, &slot, &offset))
		tap_note("the ring had slot %u offset %lu before anything was written", slot, (unsigned long)offset);
	need(vcpu_do(&vm->vcpu[0], &work) == STOP_DONE, "writes after");
	while (ring_take(&ring, &slot, &offset))
		if (slot == SLOT && offset < NPAGES)
			seen |= 1ull << offset;
	ring_unmap(&ring);
	memory_free(memory, SIZE);
	return NPAGES - (unsigned int)__builtin_popcountll(seen);
}

static void test_refused(bool ring_first, const char *name)
{
	const uint64_t options = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
	struct vm vm;
	int first, second;

	tap_doing(name);
	vm_create(&vm, 0);
	first = ring_first ? enable_ring(&vm) : enable_manual(&vm, options);
	need(first == 0, "the first of the two: %d", first);
	second = ring_first ? enable_manual(&vm, options) : enable_ring(&vm);
	if (second == 0)
		tap_note("accepted; then %u of %lu pages that were written are not in the ring", count_lost(&vm),
			 NPAGES);
	else if (second != -EINVAL)
		tap_note("refused with %d", second);
	tap_case(second == -EINVAL, name);
	vm_destroy(&vm);
}

static void test_legal(uint64_t options, const char *name)
{
	unsigned int lost;
	struct vm vm;

	tap_doing(name);
	vm_create(&vm, 0);
	need(enable_ring(&vm) == 0, "a ring");
	if (options)
		need(enable_manual(&vm, options) == 0, "MANUAL_PROTECT_ENABLE beside a ring");
	lost = count_lost(&vm);
	if (lost)
		tap_note("%u of %lu pages that were written are not in the ring", lost, NPAGES);
	tap_case(lost == 0, name);
	vm_destroy(&vm);
}

int main(void)
{
	struct vm vm;
	int options;

	tap_start("ring_init_set", 60);
	vm_create(&vm, 0);
	if (!ring_capability(&vm))
		tap_skip_all("no dirty rings here");
	options = vm_check(&vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	vm_destroy(&vm);

	test_legal(0, "a ring has every page that was written after logging began");
	if (options & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE)
		test_legal(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, "so it has with MANUAL_PROTECT_ENABLE alone");
	if (options & KVM_DIRTY_LOG_INITIALLY_SET) {
		test_refused(true, "INITIALLY_SET is refused when there is a ring");
		test_refused(false, "a ring is refused when there is INITIALLY_SET");
	} else {
		tap_skip("INITIALLY_SET is refused when there is a ring", "no INITIALLY_SET here");
	}
	tap_kernel_log();
	return tap_end();
}
