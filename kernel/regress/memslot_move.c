// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A moved memslot gets new metadata; a memslot's size never changes.
 *
 * x86 keeps arrays for each slot whose length, and whose "no huge page here" marks, depend on how the slot's first
 * gfn is aligned. A slot on huge pages that has been mapped in huge pages is moved by less than a huge page: with the
 * arrays of its old place KVM maps a huge page at an address that is not aligned, and the guest reads its neighbour's
 * page. So each page is stamped, and after each move a vCPU reads them all. (Upstream fixed that in 2020. The arrays'
 * overrun under shadow paging needs KASAN to be seen; the same moves cause it.) arm64 has no such arrays, and the same
 * has to hold.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm.h"

#define SIZE   (8 * HUGE)
#define NPAGES (SIZE / PAGE)
#define STAMP  0x5a000000ul
#define SLOT   1

static void stamp(void *memory)
{
	uint64_t i;

	for (i = 0; i < NPAGES; i++)
		*(uint64_t *)((char *)memory + i * PAGE) = STAMP + i;
}

/* Moves the slot, and lets a vCPU read all of it. */
static void move_and_read(struct vm *vm, void *memory, uint64_t gpa, const char *name)
{
	uint64_t wrong;
	int error;

	tap_doing(name);
	error = vm_set_slot(vm, SLOT, 0, gpa, SIZE, memory);
	if (error) {
		tap_note("moving to %#lx: %d", (unsigned long)gpa, error);
		tap_case(false, name);
		return;
	}
	wrong = vcpu_count_wrong(&vm->vcpu[0], gpa, NPAGES, STAMP, 1);
	if (wrong)
		tap_note("%lu of %lu pages read wrong", (unsigned long)wrong, (unsigned long)NPAGES);
	tap_case(wrong == 0, name);
}

static void test_size_and_kind_are_fixed(struct vm *vm, void *memory)
{
	bool refused = vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE / 2, memory) == -EINVAL &&
		       vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE * 2, memory) == -EINVAL &&
		       vm_set_slot(vm, SLOT, 0, TEST_GPA + PAGE, SIZE - PAGE, memory) == -EINVAL;

	tap_case(refused, "a slot's size does not change");
	refused = vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE, (char *)memory + PAGE) == -EINVAL &&
		  vm_set_slot(vm, SLOT, KVM_MEM_READONLY, TEST_GPA, SIZE, memory) == -EINVAL;
	tap_case(refused, "nor does its host address, nor whether it is read-only");
	tap_case(vcpu_count_wrong(&vm->vcpu[0], TEST_GPA, NPAGES, STAMP, 1) == 0,
		 "the refused changes changed nothing");
}

/* What has been written is known by the page's place in the slot, and stays known when the slot moves. */
static void test_logging(struct vm *vm, void *memory)
{
	static const char name[] = "a moved slot that logs keeps its bitmap and goes on logging";
	struct work work = { .op = GUEST_WRITE, .count = 1, .value = STAMP };
	uint64_t bitmap[NPAGES / 64], i, gpa = TEST_GPA + PAGE;
	bool right = true;

	tap_doing(name);
	need(vm_set_slot(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa, SIZE, memory) == 0, "logging on");
	work.gpa = gpa + 5 * PAGE;
	need(vcpu_do(&vm->vcpu[0], &work) == STOP_DONE, "a write");
	gpa = TEST_GPA + 4 * PAGE;
	need(vm_set_slot(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa, SIZE, memory) == 0, "a move");
	work.gpa = gpa + 700 * PAGE;
	need(vcpu_do(&vm->vcpu[0], &work) == STOP_DONE, "a write");
	memset(bitmap, 0xff, sizeof(bitmap));
	need(vm_get_dirty_log(vm, SLOT, bitmap) == 0, "KVM_GET_DIRTY_LOG");
	for (i = 0; i < NPAGES; i++)
		if ((bitmap[i / 64] >> i % 64 & 1) != (i == 5 || i == 700)) {
			tap_note("page %lu is logged wrong", (unsigned long)i);
			right = false;
		}
	tap_case(right, name);
	need(vm_set_slot(vm, SLOT, 0, gpa, SIZE, memory) == 0, "logging off");
	stamp(memory);
}

static void test_old_place_is_empty(struct vm *vm, void *memory)
{
	static const char name[] = "nothing is left where the slot was";
	struct work work = { .op = GUEST_CHECK, .gpa = TEST_GPA, .count = 1 };
	enum stop stop;

	tap_doing(name);
	need(vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE, memory) == 0, "a move");
	need(vcpu_count_wrong(&vm->vcpu[0], TEST_GPA, NPAGES, STAMP, 1) == 0, "a read");
	need(vm_set_slot(vm, SLOT, 0, TEST_GPA + 2 * SIZE, SIZE, memory) == 0, "a move");
	stop = vcpu_do(&vm->vcpu[0], &work);
	if (stop != STOP_MMIO)
		tap_note("%s", vcpu_describe(&vm->vcpu[0], stop));
	tap_case(stop == STOP_MMIO, name);
}

static void test_collision(struct vm *vm, void *memory)
{
	static const char name[] = "a move onto another slot is refused, and the slot stays where it was";
	void *other = memory_new(HUGE, false);
	bool refused;

	tap_doing(name);
	need(vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE, memory) == 0, "a move");
	need(vm_set_slot(vm, SLOT + 1, 0, TEST_GPA + 4 * SIZE, HUGE, other) == 0, "another slot");
	refused = vm_set_slot(vm, SLOT, 0, TEST_GPA + 3 * SIZE + PAGE, SIZE, memory) == -EEXIST;
	tap_case(refused && vcpu_count_wrong(&vm->vcpu[0], TEST_GPA, NPAGES, STAMP, 1) == 0, name);
	need(vm_set_slot(vm, SLOT + 1, 0, TEST_GPA + 4 * SIZE, 0, other) == 0, "deletion");
	memory_free(other, HUGE);
}

int main(void)
{
	char mode[64];
	void *memory;
	size_t huge;
	struct vm vm;

	tap_start("memslot_move", 120);
	vm_start(&vm, 1);
	memory = memory_new(SIZE, true);
	stamp(memory);
	huge = memory_huge_bytes(memory, SIZE);
	need(vm_set_slot(&vm, SLOT, 0, TEST_GPA, SIZE, memory) == 0, "the slot");
	need(vcpu_count_wrong(&vm.vcpu[0], TEST_GPA, NPAGES, STAMP, 1) == 0, "a read");
	tap_note("%zu of %lu MiB on huge pages (transparent_hugepage: %s); KVM's pages_2m: %ld", huge >> 20, SIZE >> 20,
		 read_text("/sys/kernel/mm/transparent_hugepage/enabled", mode, sizeof(mode)),
		 (long)vm_statistic(&vm, "pages_2m"));

	test_size_and_kind_are_fixed(&vm, memory);
	if (huge < SIZE / 2)
		tap_skip("the memory is on huge pages", "no transparent huge pages here: the moves that follow prove less");
	else
		tap_case(true, "the memory is on huge pages");
	move_and_read(&vm, memory, TEST_GPA + PAGE, "moved by a page, every page reads right");
	move_and_read(&vm, memory, TEST_GPA, "moved back");
	move_and_read(&vm, memory, TEST_GPA + HUGE - PAGE, "moved up by a page less than a huge page");
	move_and_read(&vm, memory, TEST_GPA + HUGE / 2, "moved down by half a huge page");
	move_and_read(&vm, memory, TEST_GPA - 3 * PAGE, "moved below where it began");
	move_and_read(&vm, memory, TEST_GPA + 4 * HUGE, "moved to an aligned place that overlaps the old one");
	test_logging(&vm, memory);
	test_old_place_is_empty(&vm, memory);
	test_collision(&vm, memory);
	vm_destroy(&vm);
	tap_kernel_log();
	return tap_end();
}
