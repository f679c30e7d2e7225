// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A failed memslot creation frees its dirty bitmap.
 *
 * KVM_SET_USER_MEMORY_REGION with KVM_MEM_LOG_DIRTY_PAGES allocates the bitmap before the architecture has its say. When
 * the architecture refuses the slot, the bitmap must go: "there is no old slot" means that it cannot have been inherited
 * from one. (A kernel that confuses the two leaks it; upstream fixed that in 2022.)
 *
 * A slot of 64 GiB, over address space without memory, has a bitmap of 4 MiB. VmallocUsed is read after every call, and
 * the program gives up as soon as it has grown by LEAK_LIMIT: a thousand leaked bitmaps would take the host down.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "vm.h"

#define SLOT_SIZE  (64ul << 30)
#define CALLS	   1000
#define LEAK_LIMIT (32l << 10) /* KiB */

/* KiB of vmalloc space in use. Freed areas count no more, even while their unmapping is put off. */
static long vmalloc_used(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	long kib = -1;
	char line[128];

	need(file, "/proc/meminfo");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "VmallocUsed: %ld kB", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

/* Fails to create a slot up to CALLS times. -> how many KiB of vmalloc space are in use more than before. */
static long refuse_slots(struct vm *vm, void *memory, uint32_t flags, bool *refused)
{
	long before = vmalloc_used(), grown = 0;
	int error, expected, call;
	uint64_t gpa = arch_refused_gpa(vm, &expected);

	*refused = true;
	for (call = 0; call < CALLS && grown < LEAK_LIMIT; call++) {
		error = vm_set_slot(vm, 1, flags, gpa, SLOT_SIZE, memory);
		if (error != -expected) {
			tap_note("call %d: answered %d, not %d", call, error, -expected);
			*refused = false;
			break;
		}
		grown = vmalloc_used() - before;
	}
	tap_note("%d calls, VmallocUsed grew by %ld KiB from %ld", call, grown, before);
	return grown;
}

int main(void)
{
	bool refused;
	struct vm vm;
	void *memory;
	long grown;

	tap_start("memslot_leak", 120);
	vm_create(&vm, 0);
	if (vmalloc_used() <= 0)
		tap_skip_all("/proc/meminfo does not say VmallocUsed");
	memory = mmap(NULL, SLOT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		tap_skip_all("no 64 GiB of address space: %s", strerror(errno));

	tap_doing("a slot at an address that the architecture refuses is refused");
	grown = refuse_slots(&vm, memory, KVM_MEM_LOG_DIRTY_PAGES, &refused);
	tap_case(refused, "a slot at an address that the architecture refuses is refused");
	tap_case(grown < LEAK_LIMIT, "its dirty bitmap is freed");

	/* The same with the VM's slots in use, so that the failing creation has neighbours. */
	tap_doing("the same beside another slot that logs");
	vm_add_low_memory(&vm);
	need(vm_set_slot(&vm, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, LOW_SIZE, vm.low) == 0, "logging on low memory");
	grown = refuse_slots(&vm, memory, KVM_MEM_LOG_DIRTY_PAGES, &refused);
	tap_case(refused && grown < LEAK_LIMIT, "the same beside another slot that logs");

	tap_doing("the slot can then be created where it is allowed");
	need(munmap(memory, SLOT_SIZE) == 0, "munmap");
	memory = memory_new(LOW_SIZE, false);
	tap_case(vm_set_slot(&vm, 1, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, LOW_SIZE, memory) == 0,
		 "the slot can then be created where it is allowed");
	vm_destroy(&vm);
	tap_kernel_log();
	return tap_end();
}
