/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vCPU's descriptor: creation, KVM_RUN and the generic calls. Registers are in x86_vcpu.h and arm64_vcpu.h.
 * Every call that KVM expects on the vCPU's own thread is made there, or while that thread is parked.
 */
#ifndef KVM_VCPU_H
#define KVM_VCPU_H

#include <linux/kvm.h>
#include <stdatomic.h>

#include "base/auto.h"
#include "kvm/vm.h"

struct kvm_vcpu {
	struct kvm_vm *vm;
	unsigned int index; /* KVM_CREATE_VCPU's id */
	int fd;
	struct kvm_run *run;	    /* shared with the kernel, vm->host->vcpu_mmap_bytes */
	struct kvm_dirty_gfn *ring; /* NULL without a ring; vm->ring_entries entries */
	uint32_t ring_fetch_index;  /* next entry to harvest; the harvester's */
};

int kvm_vcpu_new(struct kvm_vcpu *vcpu, struct kvm_vm *vm, unsigned int index) must_check;
void kvm_vcpu_fini(struct kvm_vcpu *vcpu);

/*
 * KVM_RUN, on the vCPU's thread. 0: an exit, see vcpu->run->exit_reason. -EINTR: a signal or immediate_exit; -EFAULT
 * with exit_reason KVM_EXIT_MEMORY_FAULT: a fault for user space; others: logged.
 */
int kvm_vcpu_run(struct kvm_vcpu *vcpu) must_check;
/* Makes the next or present KVM_RUN return -EINTR; any thread. A signal must also be sent to a vCPU that runs. */
void kvm_vcpu_request_exit(struct kvm_vcpu *vcpu, bool exit_now);

int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, uint32_t *mp_state) must_check;
int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, uint32_t mp_state) must_check;
int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events) must_check;
int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events) must_check;
/* -1/-errno are handed back as -errno; `what` names the call in the log. For the per-architecture files of kvm/ only. */
int kvm_vcpu_ioctl(struct kvm_vcpu *vcpu, const char *what, unsigned long request,
		   void *arg) must_check;

#endif
