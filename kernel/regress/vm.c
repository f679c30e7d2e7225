// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The small virtual machine of vm.h, the part that no architecture differs in.
 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		tap_skip_all("/dev/kvm cannot be opened: %s", strerror(errno));
	return fd;
}

int vm_try_create(struct vm *vm, unsigned long type)
{
	int error;

	memset(vm, 0, sizeof(*vm));
	vm->kvm = open_kvm();
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, arch_vm_type(vm->kvm, type));
	if (vm->fd >= 0)
		return 0;
	error = -errno;
	close(vm->kvm);
	return error;
}

void vm_create(struct vm *vm, unsigned long type)
{
	int error = vm_try_create(vm, type);

	errno = -error;
	need(error == 0, "KVM_CREATE_VM of type %lu", type);
}

void vm_add_low_memory(struct vm *vm)
{
	int error;

	vm->low = memory_new(LOW_SIZE, false);
	arch_fill_low_memory(vm->low);
	error = vm_set_slot(vm, 0, 0, 0, LOW_SIZE, vm->low);
	need(error == 0, "low memory: %d", error);
}

struct vcpu *vm_add_vcpu(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpu[vm->nvcpus];
	int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	need(vm->nvcpus < MAX_VCPU, "too many vCPUs");
	need(size > 0, "KVM_GET_VCPU_MMAP_SIZE");
	vcpu->vm = vm;
	vcpu->index = vm->nvcpus++;
	vcpu->in_exit = false;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->index);
	need(vcpu->fd >= 0, "KVM_CREATE_VCPU %u", vcpu->index);
	vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	need(vcpu->run != MAP_FAILED, "mmap of kvm_run");
	arch_start_vcpu(vcpu);
	return vcpu;
}

void vm_start(struct vm *vm, unsigned int nvcpus)
{
	vm_create(vm, 0);
	vm_add_low_memory(vm);
	while (vm->nvcpus < nvcpus)
		vm_add_vcpu(vm);
}

void vm_destroy(struct vm *vm)
{
	int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	unsigned int i;

	for (i = 0; i < vm->nvcpus; i++) {
		munmap(vm->vcpu[i].run, (size_t)size);
		close(vm->vcpu[i].fd);
	}
	close(vm->fd);
	close(vm->kvm);
	if (vm->low)
		memory_free(vm->low, LOW_SIZE);
	memset(vm, 0, sizeof(*vm));
}

int vm_check(struct vm *vm, long capability)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, capability);
}

int vm_enable(struct vm *vm, uint32_t capability, uint32_t flags, uint64_t arg0)
{
	struct kvm_enable_cap cap = { .cap = capability, .flags = flags, .args = { arg0 } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0 ? -errno : 0;
}

int vm_set_slot(struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *memory)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)memory,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? -errno : 0;
}

int vm_set_slot2(struct vm *vm, const struct region2 *region)
{
	return ioctl(vm->fd, SET_REGION2, region) < 0 ? -errno : 0;
}

int vm_get_dirty_log(struct vm *vm, uint32_t slot, void *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0 ? -errno : 0;
}

void vcpu_give(struct vcpu *vcpu, const struct work *work)
{
	/* An exit for I/O is completed by the next KVM_RUN, which must not move the new program counter. */
	if (vcpu->in_exit) {
		vcpu->run->immediate_exit = 1;
		ioctl(vcpu->fd, KVM_RUN, 0);
		vcpu->run->immediate_exit = 0;
		vcpu->in_exit = false;
	}
	arch_give(vcpu, work);
}

struct memory_fault *vcpu_memory_fault(struct vcpu *vcpu)
{
	return (struct memory_fault *)&vcpu->run->hw;
}

enum stop vcpu_run(struct vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			return STOP_INTERRUPTED;
		if (errno != EFAULT && errno != EHWPOISON)
			return STOP_OTHER;
		if (vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
		    vcpu_memory_fault(vcpu)->flags & KVM_MEMORY_EXIT_FLAG_USERFAULT)
			return STOP_USERFAULT;
		return STOP_FAULT;
	}
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_INTR:
		return STOP_INTERRUPTED;
	case KVM_EXIT_IO:
	case KVM_EXIT_MMIO:
		vcpu->in_exit = true;
		return arch_is_done(vcpu->run) ? STOP_DONE : STOP_MMIO;
	case KVM_EXIT_DIRTY_RING_FULL:
		return STOP_RING_FULL;
	default:
		return STOP_OTHER;
	}
}

const char *vcpu_describe(struct vcpu *vcpu, enum stop stop)
{
	static __thread char text[160];
	const struct memory_fault *fault = vcpu_memory_fault(vcpu);

	switch (stop) {
	case STOP_DONE:
		return "done";
	case STOP_INTERRUPTED:
		return "interrupted";
	case STOP_USERFAULT:
	case STOP_FAULT:
		if (vcpu->run->exit_reason != KVM_EXIT_MEMORY_FAULT)
			return "EFAULT without a memory fault exit";
		snprintf(text, sizeof(text), "memory fault exit at gpa %#llx, size %#llx, flags %#llx",
			 (unsigned long long)fault->gpa, (unsigned long long)fault->size,
			 (unsigned long long)fault->flags);
		return text;
	case STOP_MMIO:
		snprintf(text, sizeof(text), "MMIO %s at %#llx", vcpu->run->mmio.is_write ? "write" : "read",
			 (unsigned long long)vcpu->run->mmio.phys_addr);
		return text;
	case STOP_RING_FULL:
		return "the dirty ring is full";
	case STOP_OTHER:
	default:
		snprintf(text, sizeof(text), "exit reason %u, %s", vcpu->run->exit_reason, strerror(errno));
		return text;
	}
}

void vcpu_outcome(struct vcpu *vcpu, struct outcome *outcome)
{
	arch_outcome(vcpu, outcome);
}

enum stop vcpu_do(struct vcpu *vcpu, const struct work *work)
{
	enum stop stop;

	vcpu_give(vcpu, work);
	do
		stop = vcpu_run(vcpu);
	while (stop == STOP_INTERRUPTED);
	return stop;
}

uint64_t vcpu_count_wrong(struct vcpu *vcpu, uint64_t gpa, uint64_t npages, uint64_t value, uint64_t step)
{
	struct work work = {
		.op = GUEST_CHECK, .gpa = gpa, .count = npages, .stride = PAGE, .value = value, .step = step
	};
	enum stop stop = vcpu_do(vcpu, &work);
	struct outcome outcome;

	need(stop == STOP_DONE, "the vCPU was to read %lu pages: %s", (unsigned long)npages,
	     vcpu_describe(vcpu, stop));
	vcpu_outcome(vcpu, &outcome);
	return outcome.mismatches;
}

void *memory_new(size_t size, bool huge)
{
	size_t more = size + HUGE;
	char *start = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *memory;

	need(start != MAP_FAILED, "mmap of %zu bytes", more);
	memory = (char *)(((uintptr_t)start + HUGE - 1) & ~(HUGE - 1));
	if (memory > start)
		munmap(start, (size_t)(memory - start));
	if (start + more > memory + size)
		munmap(memory + size, (size_t)(start + more - (memory + size)));
	/* Fails where the kernel has no transparent huge pages, which is as good as forbidding them. */
	madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return memory;
}

void memory_free(void *memory, size_t size)
{
	munmap(memory, size);
}

size_t memory_huge_bytes(void *memory, size_t size)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	size_t kib, total = 0;
	uintptr_t start, end;
	bool inside = false;
	char line[512];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
			inside = start < (uintptr_t)memory + size && end > (uintptr_t)memory;
		else if (inside && sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
			total += kib << 10;
	}
	fclose(file);
	return total;
}

/* Adds up the counters called @name of one statistics descriptor. */
static int64_t statistic_of(int stats, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc;
	int64_t value = -1;
	uint64_t word;
	size_t size;
	uint32_t i;

	if (stats < 0)
		return -1;
	if (pread(stats, &header, sizeof(header), 0) != sizeof(header))
		goto out;
	size = sizeof(*desc) + header.name_size;
	desc = malloc(size);
	for (i = 0; desc && i < header.num_desc; i++) {
		if (pread(stats, desc, size, header.desc_offset + (off_t)(i * size)) != (ssize_t)size)
			break;
		if (strcmp(desc->name, name) != 0)
			continue;
		if (pread(stats, &word, sizeof(word), header.data_offset + (off_t)desc->offset) == sizeof(word))
			value = (int64_t)word;
		break;
	}
	free(desc);
out:
	close(stats);
	return value;
}

int64_t vm_statistic(struct vm *vm, const char *name)
{
	int64_t value = statistic_of(ioctl(vm->fd, KVM_GET_STATS_FD, 0), name), sum = 0;
	unsigned int i;

	if (value >= 0)
		return value;
	for (i = 0; i < vm->nvcpus; i++) {
		value = statistic_of(ioctl(vm->vcpu[i].fd, KVM_GET_STATS_FD, 0), name);
		if (value < 0)
			return -1;
		sum += value;
	}
	return vm->nvcpus ? sum : -1;
}

const char *read_text(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);

	if (fd >= 0)
		close(fd);
	if (n < 0)
		n = 0;
	buffer[n] = '\0';
	buffer[strcspn(buffer, "\n")] = '\0';
	return buffer;
}
