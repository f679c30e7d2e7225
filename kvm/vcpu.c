// SPDX-License-Identifier: GPL-2.0-or-later
/* One vCPU's descriptor: creation with its shared pages, KVM_RUN, and the calls that both architectures have. */
#include "kvm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/log.h"
#include "kvm/uapi.h"

static size_t ring_bytes(const struct kvm_vcpu *vcpu)
{
	return vcpu->vm->ring_entries * sizeof(struct kvm_dirty_gfn);
}

static int map_shared(struct kvm_vcpu *vcpu)
{
	void *run = mmap(NULL, vcpu->vm->host->vcpu_mmap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	void *ring;

	if (run == MAP_FAILED)
		return fail(-errno, "kvm: map vCPU %u: %s", vcpu->index, strerror(errno));
	vcpu->run = run;
	if (!vcpu->vm->ring_entries)
		return 0;
	ring = mmap(NULL, ring_bytes(vcpu), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
		    KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
	if (ring == MAP_FAILED)
		return fail(-errno, "kvm: map dirty ring of vCPU %u: %s", vcpu->index,
			    strerror(errno));
	vcpu->ring = ring;
	return 0;
}

int kvm_vcpu_new(struct kvm_vcpu *vcpu, struct kvm_vm *vm, unsigned int index)
{
	int error = kvm_vm_step(vm, VM_STEP_VCPU);

	*vcpu = (struct kvm_vcpu){.vm = vm, .index = index, .fd = -1};
	if (error)
		return error;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, index);
	if (vcpu->fd < 0)
		return fail(-errno, "kvm: create vCPU %u: %s", index, strerror(errno));
	error = map_shared(vcpu);
	if (error)
		kvm_vcpu_fini(vcpu);
	return error;
}

void kvm_vcpu_fini(struct kvm_vcpu *vcpu)
{
	if (vcpu->ring)
		munmap(vcpu->ring, ring_bytes(vcpu));
	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->host->vcpu_mmap_bytes);
	vcpu->ring = NULL;
	vcpu->run = NULL;
	close_fd(&vcpu->fd);
}

int kvm_vcpu_run(struct kvm_vcpu *vcpu)
{
	int error;

	if (!(__atomic_load_n(&vcpu->vm->done, __ATOMIC_RELAXED) & (1U << VM_STEP_RUN))) {
		error = kvm_vm_step(vcpu->vm, VM_STEP_RUN);
		if (error)
			return error;
	}
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
		return 0;
	error = -errno;
	if (error != -EINTR && error != -EFAULT && error != -EAGAIN)
		return fail(error, "kvm: run vCPU %u: %s", vcpu->index, strerror(-error));
	return error;
}

void kvm_vcpu_request_exit(struct kvm_vcpu *vcpu, bool exit_now)
{
	/* A byte that the kernel reads on its way into the guest; the signal that follows orders it. */
	__atomic_store_n(&vcpu->run->immediate_exit, exit_now, __ATOMIC_SEQ_CST);
}

int kvm_vcpu_ioctl(struct kvm_vcpu *vcpu, const char *what, unsigned long request, void *arg)
{
	if (ioctl(vcpu->fd, request, arg) < 0)
		return fail(-errno, "kvm: %s of vCPU %u: %s", what, vcpu->index, strerror(errno));
	return 0;
}

int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, uint32_t *mp_state)
{
	struct kvm_mp_state state = {};
	int error = kvm_vcpu_ioctl(vcpu, "get MP state", KVM_GET_MP_STATE, &state);

	*mp_state = state.mp_state;
	return error;
}

int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, uint32_t mp_state)
{
	struct kvm_mp_state state = {.mp_state = mp_state};

	return kvm_vcpu_ioctl(vcpu, "set MP state", KVM_SET_MP_STATE, &state);
}

int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *events)
{
	*events = (struct kvm_vcpu_events){};
	return kvm_vcpu_ioctl(vcpu, "get events", KVM_GET_VCPU_EVENTS, events);
}

int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events)
{
	return kvm_vcpu_ioctl(vcpu, "set events", KVM_SET_VCPU_EVENTS, (void *)events);
}
