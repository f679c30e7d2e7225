/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest virtual machine that can be given work: one slot of low memory with a page table and a loop that walks
 * pages, and vCPUs that run the loop. vm.c is common; x86_vm.c and arm64_vm.c hold the guest code and the registers.
 *
 * Guest physical memory: low memory (slot 0) from 0 to LOW_SIZE; the tests put theirs from TEST_GPA on, in slots 1 and
 * up, below 4 GiB. The guest maps all of the first 4 GiB one to one.
 *
 * No function here is a test: what fails and is not expected to ends the program (need()).
 */
#ifndef REGRESS_VM_H
#define REGRESS_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tap.h"
#include "uapi.h"

#define PAGE	 4096ul
#define HUGE	 (512 * PAGE)
#define LOW_SIZE 0x100000ul
#define TEST_GPA 0x40000000ul
#define MAX_VCPU 16

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct vm;

struct vcpu {
	struct vm *vm;
	int fd;
	unsigned int index;
	struct kvm_run *run;
	bool in_exit; /* an exit has to be completed before the registers may be set */
};

struct vm {
	int kvm;
	int fd;
	uint8_t *low;
	unsigned int nvcpus;
	struct vcpu vcpu[MAX_VCPU];
};

/* What a vCPU does with a word in each of @count places, @stride bytes apart, from @gpa on. */
enum guest_op {
	GUEST_WRITE, /* word = value + i * step */
	GUEST_CHECK, /* word == value + i * step? */
	GUEST_ADD,   /* word += step, not atomically */
	GUEST_CALL,  /* calls it; the page holds guest_return_code() */
};
#define GUEST_FOREVER 0x100 /* with an operation: begin again at the end */

struct work {
	unsigned int op;
	uint64_t gpa, count, stride, value, step;
};

struct outcome {
	uint64_t mismatches; /* GUEST_CHECK */
	uint64_t first;	     /* the index of the first mismatch */
	uint64_t passes;     /* whole passes done */
	uint64_t index;	     /* where in the pass it stands */
};

/* Why KVM_RUN came back. */
enum stop {
	STOP_DONE,	  /* the work is done */
	STOP_INTERRUPTED, /* a signal, or immediate_exit */
	STOP_USERFAULT,	  /* KVM_EXIT_MEMORY_FAULT with the userfault flag */
	STOP_FAULT,	  /* KVM_EXIT_MEMORY_FAULT without it, or a plain EFAULT */
	STOP_MMIO,
	STOP_RING_FULL,
	STOP_OTHER,
};

/* Opens /dev/kvm; skips the whole program when there is none. */
int open_kvm(void);

/* KVM_CREATE_VM, with nothing in it. @type is an x86 VM type, or 0. */
void vm_create(struct vm *vm, unsigned long type);

/* KVM_CREATE_VM that may fail: 0 or -errno. */
int vm_try_create(struct vm *vm, unsigned long type);

/* Low memory with the guest's page table and code. Before the first vCPU runs. */
void vm_add_low_memory(struct vm *vm);

struct vcpu *vm_add_vcpu(struct vm *vm);

/* Everything, in the usual order: VM, low memory, @nvcpus vCPUs. */
void vm_start(struct vm *vm, unsigned int nvcpus);

void vm_destroy(struct vm *vm);

/* KVM_CHECK_EXTENSION on the VM. */
int vm_check(struct vm *vm, long capability);

/* KVM_ENABLE_CAP on the VM: 0 or -errno. */
int vm_enable(struct vm *vm, uint32_t capability, uint32_t flags, uint64_t arg0);

/* KVM_SET_USER_MEMORY_REGION: 0 or -errno. */
int vm_set_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *memory);

/* KVM_SET_USER_MEMORY_REGION2: 0 or -errno. */
int vm_set_slot2(struct vm *vm, const struct region2 *region);

/* KVM_GET_DIRTY_LOG: 0 or -errno. */
int vm_get_dirty_log(struct vm *vm, uint32_t slot, void *bitmap);

/* Gives the vCPU new work; it begins at the next vcpu_run(). */
void vcpu_give(struct vcpu *vcpu, const struct work *work);

/* One KVM_RUN. */
enum stop vcpu_run(struct vcpu *vcpu);

/* What KVM_RUN said, for a note. */
const char *vcpu_describe(struct vcpu *vcpu, enum stop stop);

struct memory_fault *vcpu_memory_fault(struct vcpu *vcpu);

void vcpu_outcome(struct vcpu *vcpu, struct outcome *outcome);

/* Gives work and runs until it is done; anything but interruptions comes back. */
enum stop vcpu_do(struct vcpu *vcpu, const struct work *work);

/* Walks pages from @gpa on: how many do not hold value + i * step. Needs to be done without exits. */
uint64_t vcpu_count_wrong(struct vcpu *vcpu, uint64_t gpa, uint64_t npages, uint64_t value, uint64_t step);

/* Anonymous memory at a huge-page boundary; @huge asks for transparent huge pages, else they are forbidden. */
void *memory_new(size_t size, bool huge);
void memory_free(void *memory, size_t size);

/* How many bytes of the mapping at @memory huge pages back. */
size_t memory_huge_bytes(void *memory, size_t size);

/* A sum of this VM's counters called @name (binary statistics of the VM or of its vCPUs), or -1. */
int64_t vm_statistic(struct vm *vm, const char *name);

/* The text of a file of /sys or /proc, "" if there is none. */
const char *read_text(const char *path, char *buffer, size_t size);

/* Is guest kernel mode run by an emulator here, so that only simple guest code runs? */
bool host_emulates_guest_kernel(void);

static inline uint64_t page_word(const void *memory, uint64_t page)
{
	return *(const volatile uint64_t *)((const char *)memory + page * PAGE);
}

/* The architecture's part. */
extern const char *const arch_name;
unsigned long arch_vm_type(int kvm, unsigned long type);
void arch_fill_low_memory(uint8_t *low);
void arch_start_vcpu(struct vcpu *vcpu);
void arch_give(struct vcpu *vcpu, const struct work *work);
void arch_outcome(struct vcpu *vcpu, struct outcome *outcome);
bool arch_is_done(const struct kvm_run *run);
/* A gpa that KVM_SET_USER_MEMORY_REGION refuses after it has allocated a dirty bitmap, and with which errno. */
uint64_t arch_refused_gpa(struct vm *vm, int *error);
/* Has the vCPU's hardware walk a copy of its page table that is put at @gpa, which is @memory here. */
void arch_move_page_table(struct vcpu *vcpu, uint64_t gpa, void *memory);
/* The code that returns to GUEST_CALL's loop. */
void arch_put_return_code(void *page);

#endif
