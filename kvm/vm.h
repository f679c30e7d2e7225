/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VM's descriptor, and the order in which its parts may be set up.
 *
 * KVM accepts some set-up calls in orders that lose dirty pages silently or waste memory (docs/dirty-tracking.md). So
 * every set-up call names its step, and vm_step() refuses a step out of order with -EPROTO and both steps' names,
 * before it reaches the kernel:
 *
 *	open -> VM capabilities -> memslots -> vCPUs -> interrupt controller init -> run
 *
 * Thread: the one that sets the VM up, then (memslots, logging, harvest) the main thread; irq.h says its own.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "kvm/host.h"

/* Rows of the table in vm.c, which says what each must precede and what it needs. */
enum vm_step {
	VM_STEP_IRQCHIP,     /* x86: KVM_CREATE_IRQCHIP / split irqchip; before vCPUs */
	VM_STEP_EAGER_SPLIT, /* arm64: KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE; before memslots */
	VM_STEP_MANUAL_PROTECT, /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; before memslots; never with a ring */
	VM_STEP_RING,		/* the dirty ring; before memslots and vCPUs */
	VM_STEP_RING_BITMAP, /* arm64: ring + bitmap; needs the ring; before memslots */
	VM_STEP_VM_CAP,	     /* any other VM capability; before vCPUs */
	VM_STEP_MEMSLOT,     /* the first; later ones are allowed at any time (hotplug) */
	VM_STEP_VCPU,	     /* KVM_CREATE_VCPU; needs a memslot */
	VM_STEP_VCPU_INIT,   /* arm64: KVM_ARM_VCPU_INIT and ID registers; needs its vCPU */
	VM_STEP_IRQ_INIT,    /* arm64: VGIC_CTRL_INIT; needs all vCPUs; no vCPU after it */
	VM_STEP_RUN,	     /* the first KVM_RUN */
	VM_STEPS,
};

struct kvm_vm {
	const struct kvm_host *host;
	int fd;
	uint32_t done;	       /* mask of the steps taken */
	uint32_t ring_entries; /* per vCPU, 0: no ring */
	bool ring_bitmap;
	bool manual_protect;
	uint64_t memslot_flags[64]; /* by slot number, to tell what changes */
};

/* type: 0, or the architecture's machine type (arm64: IPA bits). Errors: -errno, logged. */
int kvm_vm_new(struct kvm_vm *vm, const struct kvm_host *host, unsigned long type) must_check;
void kvm_vm_fini(struct kvm_vm *vm);

/* Notes that the step is taken now, or refuses it: -EPROTO, logged "kvm: STEP after STEP". Every set-up call uses it. */
int kvm_vm_step(struct kvm_vm *vm, enum vm_step step) must_check;

/* KVM_ENABLE_CAP on the VM, as the given step. */
int kvm_vm_enable_cap(struct kvm_vm *vm, enum vm_step step, uint32_t cap,
		      const uint64_t args[4]) must_check;
/* The dirty ring with that many entries (a power of two), ACQ_REL where offered; -ENOTSUP, -EINVAL with the reason. */
int kvm_vm_enable_ring(struct kvm_vm *vm, uint32_t entries) must_check;
int kvm_vm_enable_ring_bitmap(struct kvm_vm *vm) must_check;
int kvm_vm_enable_manual_protect(struct kvm_vm *vm) must_check;

/* KVM_SET_USER_MEMORY_REGION; flags as in the UAPI. size 0 deletes. */
int kvm_vm_set_memslot(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
		       uint64_t size_bytes, void *hva) must_check;
/* KVM_GET_DIRTY_LOG: one bit a page, npages rounded up to 64. -ENXIO while a ring without bitmap is on. */
int kvm_vm_get_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t *bitmap) must_check;
/* KVM_CLEAR_DIRTY_LOG for pages [first, first+npages) of the slot; first a multiple of 64. */
int kvm_vm_clear_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t first, uint32_t npages,
			   uint64_t *bitmap) must_check;
/* KVM_RESET_DIRTY_RINGS: how many entries were reset (>= 0), -EINTR included as 0. */
int kvm_vm_reset_rings(struct kvm_vm *vm) must_check;

/* KVM_CREATE_DEVICE and the attribute calls, on a VM, vCPU or device descriptor. */
int kvm_vm_create_device(struct kvm_vm *vm, uint32_t type, bool test_only, int *fd) must_check;
bool kvm_has_attr(int fd, uint32_t group, uint64_t attr);
int kvm_set_attr(int fd, uint32_t group, uint64_t attr, const void *value) must_check;
int kvm_get_attr(int fd, uint32_t group, uint64_t attr, void *value) must_check;

/* KVM_GET_CLOCK / KVM_SET_CLOCK (x86). */
int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *clock) must_check;
int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock) must_check;

#endif
