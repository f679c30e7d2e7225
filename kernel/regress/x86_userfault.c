// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM_MEM_USERFAULT, what only x86 has: the second address space (SMM), KVM_PRE_FAULT_MEMORY, guest_memfd, and writes
 * that KVM makes on the guest's behalf. The rules that all architectures share are in userfault.c.
 */
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "marked.h"

static struct marked start(struct vm *vm, uint64_t npages)
{
	struct marked m;

	vm_start(vm, 1);
	marked_init(&m, vm, npages, false);
	return m;
}

static void finish(struct vm *vm, struct marked *m)
{
	vm_destroy(vm);
	marked_fini(m);
}

/* System management mode */

enum {
	SMM_RAM = 0x30000, /* where SMM begins after reset: code at SMBASE + 0x8000, state above it */
	SMM_CODE = 0x38000,
	SMM_AREA = 0x10000,
	SECOND_AS = 1 << 16,
};

/* In 16-bit code with 32-bit addresses: read the word at TEST_GPA + 2 pages; say so; go back. */
static const uint8_t smm_code[] = {
	0x67, 0x66, 0xa1, 0x00, 0x20, 0x00, 0x40, /* mov eax, [0x40002000] */
	0xe6, 0x80,				  /* out 0x80, al */
	0x0f, 0xaa,				  /* rsm */
};

static void test_second_address_space(void)
{
	static const char name[] = "a marked page of the second address space exits, that of the first does not";
	void *smm = memory_new(SMM_AREA, false);
	struct region2 region = {
		.slot = SECOND_AS | 2, .guest_phys_addr = SMM_RAM, .memory_size = SMM_AREA, .userspace_addr = (uintptr_t)smm
	};
	struct kvm_regs regs;
	struct marked m, second;
	struct vcpu *vcpu;
	enum stop stop;
	struct vm vm;
	bool right;

	tap_doing(name);
	m = start(&vm, 8);
	vcpu = &vm.vcpu[0];
	if (vm_check(&vm, KVM_CAP_MULTI_ADDRESS_SPACE) < 2 || vm_check(&vm, KVM_CAP_X86_SMM) <= 0) {
		tap_skip(name, "no second address space here");
		goto out;
	}
	/* The same memory in both, with a bitmap of its own in the second: page 2 is marked there alone. */
	need(marked_set(&m, UF) == 0, "the first address space");
	marked_init(&second, &vm, 8, false);
	second.slot = SECOND_AS | 1;
	mark(&second, 2);
	need(marked_set(&second, UF) == 0, "the second address space");
	memcpy((char *)smm + SMM_CODE - SMM_RAM, smm_code, sizeof(smm_code));
	need(vm_set_slot2(&vm, &region) == 0, "SMM's memory");
	right = vcpu_count_wrong(vcpu, TEST_GPA, 8, STAMP, 1) == 0;
	vcpu_give(vcpu, &(struct work){ .op = GUEST_CHECK, .gpa = TEST_GPA, .count = 8, .stride = PAGE, .value = STAMP,
					.step = 1 });
	need(ioctl(vcpu->fd, KVM_SMI, 0) == 0, "KVM_SMI");
	stop = vcpu_run(vcpu);
	if (stop != STOP_USERFAULT || marked_page_of_exit(&second, vcpu) != 2) {
		tap_note("in SMM: %s", vcpu_describe(vcpu, stop));
		right = false;
	}
	*(uint64_t *)((char *)second.memory + 2 * PAGE) = 0x51;
	unmark(&second, 2);
	stop = vcpu_run(vcpu);
	need(ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0, "KVM_GET_REGS");
	if (stop != STOP_DONE || (uint32_t)regs.rax != 0x51) {
		tap_note("SMM's read: %s, %#llx", vcpu_describe(vcpu, stop), regs.rax);
		right = false;
	}
	/* And back, to do what was given. */
	stop = vcpu_run(vcpu);
	if (stop != STOP_DONE)
		tap_note("after SMM: %s", vcpu_describe(vcpu, stop));
	tap_case(right && stop == STOP_DONE, name);
	marked_fini(&second);
out:
	finish(&vm, &m);
	memory_free(smm, SMM_AREA);
}

/* The flag of one address space's slot is turned on, off, and the slot deleted, while the other's stays. */
static void test_second_address_space_toggled(void)
{
	static const char name[] = "what is done to a slot of the second address space leaves the first alone";
	struct marked m, second;
	struct vm vm;
	bool right;

	tap_doing(name);
	m = start(&vm, 8);
	if (vm_check(&vm, KVM_CAP_MULTI_ADDRESS_SPACE) < 2) {
		tap_skip(name, "no second address space here");
		finish(&vm, &m);
		return;
	}
	need(marked_set(&m, 0) == 0, "the first address space");
	second = m;
	second.slot = SECOND_AS | 1;
	mark_all(&m);
	right = marked_set(&second, UF) == 0 && vcpu_count_wrong(&vm.vcpu[0], TEST_GPA, 8, STAMP, 1) == 0;
	right = right && marked_set(&second, UF | LOG) == 0 && marked_set(&second, 0) == 0 &&
		marked_set(&second, UF) == 0 && marked_delete(&second) == 0;
	right = right && vcpu_count_wrong(&vm.vcpu[0], TEST_GPA, 8, STAMP, 1) == 0;
	tap_case(right, name);
	finish(&vm, &m);
}

/* KVM_PRE_FAULT_MEMORY */

static int pre_fault(struct vcpu *vcpu, uint64_t gpa, uint64_t *size)
{
	struct pre_fault_memory range = { .gpa = gpa, .size = *size };
	int error = ioctl(vcpu->fd, PRE_FAULT_MEMORY, &range) < 0 ? -errno : 0;

	*size = range.size;
	return error;
}

static void test_pre_fault(void)
{
	static const char stops[] = "KVM_PRE_FAULT_MEMORY stops at a marked page";
	static const char fails[] = "KVM_PRE_FAULT_MEMORY of a marked page is EFAULT, and kvm_run is as it was";
	static const char maps[] = "KVM_PRE_FAULT_MEMORY goes on when the page is not marked any more";
	uint64_t size = 8 * PAGE;
	struct vcpu *vcpu;
	struct marked m;
	struct vm vm;
	int error;

	tap_doing(stops);
	m = start(&vm, 8);
	vcpu = &vm.vcpu[0];
	if (vm_check(&vm, KVM_CAP_PRE_FAULT_MEMORY) <= 0) {
		tap_skip(stops, "no KVM_PRE_FAULT_MEMORY here");
		finish(&vm, &m);
		return;
	}
	mark(&m, 5);
	need(marked_set(&m, UF) == 0, "the slot");
	error = pre_fault(vcpu, m.gpa, &size);
	if (error == -EOPNOTSUPP) {
		tap_skip(stops, "KVM_PRE_FAULT_MEMORY needs the TDP MMU");
		finish(&vm, &m);
		return;
	}
	tap_note("of 8 pages, %lu are left: %d", (unsigned long)(size / PAGE), error);
	tap_case(error == 0 && size == 3 * PAGE, stops);

	tap_doing(fails);
	memset(vcpu_memory_fault(vcpu), 0x5a, sizeof(struct memory_fault));
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	error = pre_fault(vcpu, m.gpa + 5 * PAGE, &size);
	tap_case(error == -EFAULT && size == 3 * PAGE && vcpu->run->exit_reason == KVM_EXIT_UNKNOWN &&
			 vcpu_memory_fault(vcpu)->flags == 0x5a5a5a5a5a5a5a5aull,
		 fails);

	tap_doing(maps);
	unmark(&m, 5);
	error = pre_fault(vcpu, m.gpa + 5 * PAGE, &size);
	tap_case(error == 0 && size == 0 && vcpu_count_wrong(vcpu, m.gpa, 8, STAMP, 1) == 0, maps);
	finish(&vm, &m);
}

/* guest_memfd */

static int set_private_slot(struct marked *m, int file, uint32_t flags)
{
	struct region2 region = {
		.slot = m->slot,
		.flags = flags,
		.guest_phys_addr = m->gpa,
		.memory_size = m->npages * PAGE,
		.userspace_addr = (uintptr_t)m->memory,
		.guest_memfd = (uint32_t)file,
		.userfault_bitmap = (uintptr_t)m->bitmap,
	};

	return vm_set_slot2(m->vm, &region);
}

static bool private_exit(struct marked *m, struct vcpu *vcpu, bool is_private, enum stop stop)
{
	const uint64_t want =
		KVM_MEMORY_EXIT_FLAG_USERFAULT | (is_private ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0);

	if (stop == STOP_USERFAULT && marked_page_of_exit(m, vcpu) == 3 && vcpu_memory_fault(vcpu)->flags == want)
		return true;
	tap_note("%s access: %s", is_private ? "private" : "shared", vcpu_describe(vcpu, stop));
	return false;
}

static void test_guest_memfd(void)
{
	static const char fixed[] = "the flag of a guest_memfd slot cannot be changed";
	static const char exits[] = "marked pages of a guest_memfd slot exit, private and shared";
	static const char off[] = "a guest_memfd slot without the flag cannot get it";
	struct work work = { .op = GUEST_WRITE, .gpa = TEST_GPA + 3 * PAGE, .count = 1, .value = 7 };
	struct memory_attributes attributes = {
		.address = TEST_GPA, .size = 8 * PAGE, .attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE
	};
	struct create_guest_memfd create = { .size = 8 * PAGE };
	struct vcpu *vcpu;
	struct marked m;
	struct vm vm;
	bool right;
	int file;

	tap_doing(fixed);
	vm_create(&vm, 0);
	right = vm_check(&vm, KVM_CAP_VM_TYPES) > 0 &&
		vm_check(&vm, KVM_CAP_VM_TYPES) & 1 << KVM_X86_SW_PROTECTED_VM;
	vm_destroy(&vm);
	if (!right) {
		tap_skip(fixed, "no software-protected VMs (CONFIG_KVM_SW_PROTECTED_VM)");
		return;
	}
	vm_create(&vm, KVM_X86_SW_PROTECTED_VM);
	vm_add_low_memory(&vm);
	vcpu = vm_add_vcpu(&vm);
	marked_init(&m, &vm, 8, false);
	file = ioctl(vm.fd, CREATE_GUEST_MEMFD, &create);
	need(file >= 0, "KVM_CREATE_GUEST_MEMFD");
	mark(&m, 3);
	need(set_private_slot(&m, file, UF | KVM_MEM_GUEST_MEMFD) == 0, "a guest_memfd slot with the flag");
	tap_case(set_private_slot(&m, file, KVM_MEM_GUEST_MEMFD) == -EINVAL && marked_set(&m, UF) == -EINVAL &&
			 marked_set(&m, 0) == -EINVAL,
		 fixed);

	tap_doing(exits);
	vcpu_give(vcpu, &work);
	right = private_exit(&m, vcpu, false, vcpu_run(vcpu));
	need(ioctl(vm.fd, SET_MEMORY_ATTRIBUTES, &attributes) == 0, "KVM_SET_MEMORY_ATTRIBUTES");
	right = private_exit(&m, vcpu, true, vcpu_run(vcpu)) && right;
	unmark(&m, 3);
	right = vcpu_run(vcpu) == STOP_DONE && vcpu_count_wrong(vcpu, work.gpa, 1, 7, 0) == 0 && right;
	/* It went to the guest_memfd, not to the ordinary memory behind the slot. */
	tap_case(right && page_word(m.memory, 3) == STAMP + 3, exits);

	tap_doing(off);
	need(marked_delete(&m) == 0, "deletion");
	need(set_private_slot(&m, file, KVM_MEM_GUEST_MEMFD) == 0, "a guest_memfd slot");
	mark_all(&m);
	tap_case(set_private_slot(&m, file, UF | KVM_MEM_GUEST_MEMFD) == -EINVAL && marked_set(&m, UF) == -EINVAL &&
			 vcpu_do(vcpu, &work) == STOP_DONE,
		 off);
	close(file);
	/* The file has gone, the slot has not. */
	tap_doing("a guest_memfd slot with the flag can go after its file");
	finish(&vm, &m);
	tap_case(true, "a guest_memfd slot with the flag can go after its file");
}

/* Writes of KVM's own */

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01

static void test_kernel_writes(void)
{
	static const char name[] = "what KVM writes by itself does not look at the bitmap";
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = MSR_KVM_SYSTEM_TIME_NEW };
	struct work work = { .op = GUEST_CHECK, .gpa = 0x20000, .count = 1 };
	struct vcpu *vcpu;
	struct marked m;
	enum stop stop;
	struct vm vm;

	tap_doing(name);
	m = start(&vm, 8);
	vcpu = &vm.vcpu[0];
	memset(m.memory, 0, 8 * PAGE);
	mark(&m, 4);
	need(marked_set(&m, UF) == 0, "the slot");
	msrs.entry.data = (m.gpa + 4 * PAGE) | 1;
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) != 1) {
		tap_skip(name, "no kvmclock here");
		finish(&vm, &m);
		return;
	}
	stop = vcpu_do(vcpu, &work);
	if (stop != STOP_DONE)
		tap_note("%s", vcpu_describe(vcpu, stop));
	/* struct pvclock_vcpu_time_info: the scale is never zero. */
	tap_case(stop == STOP_DONE && ((uint64_t *)((char *)m.memory + 4 * PAGE))[3] != 0 && is_marked(&m, 4), name);
	finish(&vm, &m);
}

int main(void)
{
	tap_start("x86_userfault", 60);
	need_userfault();
	test_second_address_space();
	test_second_address_space_toggled();
	test_pre_fault();
	test_guest_memfd();
	test_kernel_writes();
	tap_kernel_log();
	return tap_end();
}
