// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Invalidations of guest_memfd are balanced.
 *
 * Punching a hole in a guest_memfd tells KVM that an invalidation begins, and then that it has ended. If the two do not
 * agree on whether any memslot is concerned, KVM believes for ever that one is going on, and a vCPU that has memory to
 * fault in tries again for ever: KVM_RUN spins. So holes are punched where the file is bound, where it is not, and
 * where it is in part, in files with no binding, one and several; after each, a vCPU faults memory in under an alarm
 * of 5 s. Tearing the VM down must not add a warning to the kernel's log.
 *
 * This needs a VM type that has private memory: x86's software-protected one (CONFIG_KVM_SW_PROTECTED_VM).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm.h"

#define NPAGES	  16ul
#define SIZE	  (NPAGES * PAGE)
#define FILE_SIZE (8 * SIZE)
#define STAMP	  0x6d000000ul
#define SHARED	  9 /* a slot of ordinary memory beside them */

static int new_file(struct vm *vm)
{
	struct create_guest_memfd create = { .size = FILE_SIZE };
	int fd = ioctl(vm->fd, CREATE_GUEST_MEMFD, &create);

	need(fd >= 0, "KVM_CREATE_GUEST_MEMFD");
	return fd;
}

static uint64_t slot_gpa(uint32_t slot)
{
	return TEST_GPA + slot * 0x1000000ul;
}

static void bind_slot(struct vm *vm, uint32_t slot, int file, uint64_t offset, void *memory)
{
	struct region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = slot_gpa(slot),
		.memory_size = SIZE,
		.userspace_addr = (uintptr_t)memory,
		.guest_memfd_offset = offset,
		.guest_memfd = (uint32_t)file,
	};
	struct memory_attributes attributes = {
		.address = slot_gpa(slot), .size = SIZE, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE
	};
	int error = vm_set_slot2(vm, &region);

	need(error == 0, "binding slot %u: %d", slot, error);
	need(ioctl(vm->fd, SET_MEMORY_ATTRIBUTES, &attributes) == 0, "KVM_SET_MEMORY_ATTRIBUTES");
}

static void unbind_slot(struct vm *vm, uint32_t slot)
{
	struct region2 region = { .slot = slot, .guest_phys_addr = slot_gpa(slot) };

	need(vm_set_slot2(vm, &region) == 0, "deletion of slot %u", slot);
}

static void punch(int file, uint64_t offset, uint64_t size)
{
	need(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) == 0,
	     "punching %#lx bytes at %#lx", (unsigned long)size, (unsigned long)offset);
}

static void write_pages(struct vm *vm, uint64_t gpa, uint64_t npages)
{
	struct work work = {
		.op = GUEST_WRITE, .gpa = gpa, .count = npages, .stride = PAGE, .value = STAMP, .step = 1
	};
	enum stop stop = vcpu_do(&vm->vcpu[0], &work);

	need(stop == STOP_DONE, "writing at %#lx: %s", (unsigned long)gpa, vcpu_describe(&vm->vcpu[0], stop));
}

/*
 * A VM with a vCPU and a slot of ordinary memory, of which not a page is mapped yet.
 */
static void *start(struct vm *vm)
{
	void *memory;

	vm_create(vm, KVM_X86_SW_PROTECTED_VM);
	vm_add_low_memory(vm);
	vm_add_vcpu(vm);
	memory = memory_new(SIZE, false);
	need(vm_set_slot(vm, SHARED, 0, slot_gpa(SHARED), SIZE, memory) == 0, "a slot");
	return memory;
}

/* The vCPU faults in what it has not touched before: private pages from @private_gpa on, if any, and shared ones. */
static bool still_faults(struct vm *vm, uint64_t private_gpa, uint64_t npages)
{
	tap_deadline(5);
	if (npages) {
		write_pages(vm, private_gpa, npages);
		if (vcpu_count_wrong(&vm->vcpu[0], private_gpa, npages, STAMP, 1) != 0)
			return false;
	}
	write_pages(vm, slot_gpa(SHARED), NPAGES);
	if (vcpu_count_wrong(&vm->vcpu[0], slot_gpa(SHARED), NPAGES, STAMP, 1) != 0)
		return false;
	tap_deadline(0);
	return true;
}

static void finish(struct vm *vm, void *memory, int file)
{
	vm_destroy(vm);
	memory_free(memory, SIZE);
	if (file >= 0)
		close(file);
}

static void test_unbound_file(void)
{
	static const char name[] = "punched in a file without bindings, a vCPU still faults memory in";
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm), bound = new_file(&vm);

	tap_doing(name);
	bind_slot(&vm, 1, bound, 0, memory);
	punch(file, 0, FILE_SIZE);
	punch(file, PAGE, PAGE);
	tap_case(still_faults(&vm, slot_gpa(1), NPAGES), name);
	close(bound);
	finish(&vm, memory, file);
}

/* Slot 1 is bound at [SIZE, 2 SIZE) of the file. */
static void test_one_binding(uint64_t offset, uint64_t size, const char *name)
{
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm);

	tap_doing(name);
	bind_slot(&vm, 1, file, SIZE, memory);
	write_pages(&vm, slot_gpa(1), NPAGES / 2);
	punch(file, offset, size);
	tap_case(still_faults(&vm, slot_gpa(1), NPAGES), name);
	finish(&vm, memory, file);
}

static void test_two_bindings(uint64_t offset, uint64_t size, const char *name)
{
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm);

	tap_doing(name);
	bind_slot(&vm, 1, file, SIZE, memory);
	bind_slot(&vm, 2, file, 3 * SIZE, memory);
	write_pages(&vm, slot_gpa(1), NPAGES);
	write_pages(&vm, slot_gpa(2), NPAGES);
	punch(file, offset, size);
	tap_case(still_faults(&vm, slot_gpa(1), NPAGES) && still_faults(&vm, slot_gpa(2), NPAGES), name);
	finish(&vm, memory, file);
}

static void test_contents(void)
{
	static const char name[] = "a punched page reads as zeros, its neighbours as they were";
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm);
	uint64_t gpa = slot_gpa(1);
	bool right;

	tap_doing(name);
	bind_slot(&vm, 1, file, SIZE, memory);
	write_pages(&vm, gpa, NPAGES);
	punch(file, SIZE + 4 * PAGE, 2 * PAGE);
	tap_deadline(5);
	right = vcpu_count_wrong(&vm.vcpu[0], gpa, 4, STAMP, 1) == 0 &&
		vcpu_count_wrong(&vm.vcpu[0], gpa + 4 * PAGE, 2, 0, 0) == 0 &&
		vcpu_count_wrong(&vm.vcpu[0], gpa + 6 * PAGE, NPAGES - 6, STAMP + 6, 1) == 0;
	tap_deadline(0);
	tap_case(right, name);
	finish(&vm, memory, file);
}

static void test_former_binding(void)
{
	static const char name[] = "punched where a slot was bound that is gone, a vCPU still faults memory in";
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm);

	tap_doing(name);
	bind_slot(&vm, 1, file, 0, memory);
	bind_slot(&vm, 2, file, 2 * SIZE, memory);
	write_pages(&vm, slot_gpa(1), NPAGES);
	unbind_slot(&vm, 1);
	punch(file, 0, SIZE);
	tap_case(still_faults(&vm, slot_gpa(2), NPAGES), name);
	finish(&vm, memory, file);
}

static void test_closed_file(void)
{
	static const char name[] = "a bound file closed, a vCPU still faults other memory in";
	struct vm vm;
	void *memory = start(&vm);
	int file = new_file(&vm), other = new_file(&vm);

	tap_doing(name);
	bind_slot(&vm, 1, file, 0, memory);
	bind_slot(&vm, 2, other, 0, memory);
	write_pages(&vm, slot_gpa(1), NPAGES);
	close(file);
	tap_case(still_faults(&vm, slot_gpa(2), NPAGES), name);
	finish(&vm, memory, other);
}

int main(void)
{
	struct vm vm;
	int types;

	tap_start("gmem_invalidate", 60);
	vm_create(&vm, 0);
	types = vm_check(&vm, KVM_CAP_VM_TYPES);
	vm_destroy(&vm);
	if (strcmp(arch_name, "x86-64") != 0)
		tap_skip_all("no VM type with private memory on %s", arch_name);
	if (types < 0 || !(types & 1 << KVM_X86_SW_PROTECTED_VM))
		tap_skip_all("no software-protected VMs (CONFIG_KVM_SW_PROTECTED_VM)");

	test_unbound_file();
	test_one_binding(SIZE, SIZE, "punched all that is bound, a vCPU still faults memory in");
	test_one_binding(SIZE + 3 * PAGE, PAGE, "punched a page that is bound, a vCPU still faults memory in");
	test_one_binding(4 * SIZE, SIZE, "punched where nothing is bound, a vCPU still faults memory in");
	test_one_binding(2 * SIZE, SIZE, "punched right after what is bound, a vCPU still faults memory in");
	test_one_binding(0, SIZE, "punched right before what is bound, a vCPU still faults memory in");
	test_one_binding(SIZE / 2, SIZE, "punched across the beginning of what is bound, a vCPU still faults memory in");
	test_one_binding(SIZE + SIZE / 2, SIZE, "punched across the end of what is bound, a vCPU still faults memory in");
	test_one_binding(0, FILE_SIZE, "punched the whole file, a vCPU still faults memory in");
	test_two_bindings(2 * SIZE, SIZE, "punched between two bindings, a vCPU still faults memory in");
	test_two_bindings(0, FILE_SIZE, "punched across two bindings, a vCPU still faults memory in");
	test_two_bindings(SIZE + 8 * PAGE, 2 * SIZE, "punched from one binding into another, a vCPU still faults memory in");
	test_contents();
	test_former_binding();
	test_closed_file();
	tap_kernel_log();
	return tap_end();
}
