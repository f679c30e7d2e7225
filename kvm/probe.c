// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Probes of KVM by behaviour. A capability number says what a kernel means to offer; these say what happens.
 * Guest code and registers are in x86_probe.c and arm64_probe.c.
 */
#include "kvm/probe.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "base/log.h"
#include "kvm/probe_guest.h"
#include "kvm/uapi.h"
#include "kvm/userfault_abi.h"

#define SMALL_RING   1024
#define MANY_PAGES   2048 /* more than a small ring holds */
#define FEW_PAGES    64
#define USER_TURNS   20000000
#define FEW_TURNS    20000
#define KERNEL_TURNS 2000000 /* some seconds where they are emulated */
#define SCRATCH_SLOT 1

static int set_up_tracking(struct probe_vm *probe, const struct probe_shape *shape)
{
	int error = 0;

	if (shape->ring_entries)
		error = kvm_vm_enable_ring(&probe->vm, shape->ring_entries);
	if (!error && shape->ring_bitmap)
		error = kvm_vm_enable_ring_bitmap(&probe->vm);
	if (!error && shape->manual_protect)
		error = kvm_vm_enable_manual_protect(&probe->vm);
	return error;
}

int probe_vm_init(struct probe_vm *probe, const struct probe_shape *shape)
{
	void *memory;
	int error;

	*probe = (struct probe_vm){.host.fd = -1, .vm.fd = -1, .vcpu.fd = -1};
	error = kvm_host_open(&probe->host, -1);
	if (!error)
		error = kvm_vm_new(&probe->vm, &probe->host, probe_arch_vm_type(&probe->host));
	if (!error)
		error = set_up_tracking(probe, shape);
	if (!error)
		error = probe_arch_prepare_vm(probe);
	if (error)
		return error;
	memory = mmap(NULL, PROBE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return fail(-errno, "probe: memory: %s", strerror(errno));
	probe->memory = memory;
	error = kvm_vm_set_memslot(&probe->vm, 0, shape->memslot_flags, 0,
				   shape->slot_bytes ? shape->slot_bytes : PROBE_RAM_BYTES, memory);
	if (!error)
		error = kvm_vcpu_new(&probe->vcpu, &probe->vm, 0);
	if (!error)
		error = probe_arch_prepare_vcpu(probe, shape->kernel_mode);
	return error;
}

void probe_vm_fini(struct probe_vm *probe)
{
	kvm_vcpu_fini(&probe->vcpu);
	kvm_vm_fini(&probe->vm);
	if (probe->memory)
		munmap(probe->memory, PROBE_RAM_BYTES);
	kvm_host_close(&probe->host);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Completes the store that ended a program, so that the vCPU may be given new registers. */
static void finish_store(struct kvm_vcpu *vcpu)
{
	kvm_vcpu_request_exit(vcpu, true);
	/* -EINTR is what was asked for. */
	if (kvm_vcpu_run(vcpu) == 0)
		log_debug("probe: an exit in place of an interruption");
	kvm_vcpu_request_exit(vcpu, false);
}

/* Runs until the program has stored to its end, or something else happened. */
static void run(struct probe_vm *probe, struct probe_run *out)
{
	struct kvm_run *shared = probe->vcpu.run;

	*out = (struct probe_run){};
	do {
		out->error = kvm_vcpu_run(&probe->vcpu);
	} while (out->error == -EINTR || out->error == -EAGAIN);
	out->exit_reason = shared->exit_reason;
	out->finished = !out->error && shared->exit_reason == KVM_EXIT_MMIO &&
			shared->mmio.phys_addr == PROBE_END_GPA && shared->mmio.is_write;
	if (out->finished)
		finish_store(&probe->vcpu);
}

static int probe_mode(bool kernel_mode, uint64_t turns, struct probe_run *out)
{
	struct probe_shape shape = {.kernel_mode = kernel_mode};
	struct probe_vm probe;
	double started;
	int error = probe_vm_init(&probe, &shape);

	if (!error)
		error = probe_arch_start(&probe, kernel_mode ? PROBE_KERNEL : PROBE_COUNT,
					 PROBE_DATA_GPA, turns);
	if (!error) {
		started = now();
		run(&probe, out);
		out->million_per_second = (double)turns / (now() - started) / 1e6;
	}
	probe_vm_fini(&probe);
	return error;
}

int kvm_probe_user_mode(struct probe_run *out)
{
	return probe_mode(false, USER_TURNS, out);
}

/*
 * Few turns first: where every instruction is emulated, and one fails, many would only take long. Then enough to see
 * past what entering the guest costs.
 */
int kvm_probe_kernel_mode(struct probe_run *out)
{
	int error = probe_mode(true, FEW_TURNS, out);

	return error || !out->finished ? error : probe_mode(true, KERNEL_TURNS, out);
}

/* What is in the ring: notes the pages and releases the entries, as memory/dirty.c does for real. */
static void drain_ring(struct kvm_vcpu *vcpu, uint64_t map[MANY_PAGES / 64])
{
	for (;; vcpu->ring_fetch_index++) {
		struct kvm_dirty_gfn *entry =
			&vcpu->ring[vcpu->ring_fetch_index % vcpu->vm->ring_entries];
		uint64_t page;

		/* Pairs with the kernel's release of a complete entry. */
		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			return;
		/* A page whose write met a full ring is written, and reported, again: counted once. */
		page = entry->offset - PROBE_PAGES_GPA / 4096;
		if (entry->slot == 0 && page < MANY_PAGES)
			map[page / 64] |= 1ULL << page % 64;
		/* Pairs with the kernel's acquire in KVM_RESET_DIRTY_RINGS. */
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
}

static uint32_t count_bits(const uint64_t *map, size_t words)
{
	uint32_t n = 0;

	for (size_t i = 0; i < words; i++)
		n += (uint32_t)__builtin_popcountll(map[i]);
	return n;
}

static int watch_small_ring(struct probe_ring *out)
{
	struct probe_shape shape = {.ring_entries = SMALL_RING,
				    .memslot_flags = KVM_MEM_LOG_DIRTY_PAGES};
	uint64_t map[MANY_PAGES / 64] = {};
	struct probe_vm probe;
	struct probe_run result;
	int error = probe_vm_init(&probe, &shape);

	if (!error)
		error = probe_arch_start(&probe, PROBE_WRITE, PROBE_PAGES_GPA, MANY_PAGES);
	out->written = MANY_PAGES;
	for (int i = 0; !error && i < MANY_PAGES; i++) {
		run(&probe, &result);
		drain_ring(&probe.vcpu, map);
		if (result.exit_reason != KVM_EXIT_DIRTY_RING_FULL || result.error)
			break;
		out->full_exit = true;
		if (kvm_vm_reset_rings(&probe.vm) < 0)
			break;
	}
	out->harvested = count_bits(map, MANY_PAGES / 64);
	probe_vm_fini(&probe);
	return error;
}

static bool ring_works(uint32_t entries, bool with_bitmap)
{
	struct probe_shape shape = {.ring_entries = entries, .ring_bitmap = with_bitmap};
	struct probe_vm probe;
	int error = probe_vm_init(&probe, &shape);

	probe_vm_fini(&probe);
	return !error;
}

int kvm_probe_ring(struct probe_ring *out)
{
	struct kvm_host host;
	uint32_t entries;
	int error = kvm_host_open(&host, -1);

	*out = (struct probe_ring){};
	if (error)
		return error;
	out->acq_rel = host.ring_acq_rel;
	entries = host.ring_max_bytes / sizeof(struct kvm_dirty_gfn);
	while (entries >= SMALL_RING && !ring_works(entries, false))
		entries /= 2;
	if (entries >= SMALL_RING) {
		out->max_entries = entries;
		out->with_bitmap = host.ring_with_bitmap && ring_works(SMALL_RING, true);
		error = watch_small_ring(out);
	}
	kvm_host_close(&host);
	return error;
}

/* Writes FEW_PAGES pages and counts those that the log has; with manual protection they are then cleared. */
static int write_and_count(struct probe_vm *probe, bool manual, uint32_t *found)
{
	uint64_t map[PROBE_RAM_BYTES / 4096 / 64] = {};
	uint64_t first = PROBE_PAGES_GPA / 4096;
	struct probe_run result;
	int error = probe_arch_start(probe, PROBE_WRITE, PROBE_PAGES_GPA, FEW_PAGES);

	if (error)
		return error;
	run(probe, &result);
	if (!result.finished)
		return fail(-EIO, "probe: the guest did not finish (exit %u)", result.exit_reason);
	error = kvm_vm_get_dirty_log(&probe->vm, 0, map);
	*found = count_bits(map + first / 64, FEW_PAGES / 64);
	if (!error && manual)
		error = kvm_vm_clear_dirty_log(&probe->vm, 0, first, FEW_PAGES, map + first / 64);
	return error;
}

int kvm_probe_bitmap(struct probe_bitmap *out)
{
	struct probe_shape shape = {.manual_protect = true,
				    .memslot_flags = KVM_MEM_LOG_DIRTY_PAGES};
	struct probe_vm probe;
	uint32_t again = 0;
	int error = probe_vm_init(&probe, &shape);

	*out = (struct probe_bitmap){.manual_protect = !error, .written = FEW_PAGES};
	if (error) {
		probe_vm_fini(&probe);
		shape.manual_protect = false;
		error = probe_vm_init(&probe, &shape);
	}
	if (!error)
		error = write_and_count(&probe, shape.manual_protect, &out->harvested);
	if (!error)
		error = write_and_count(&probe, shape.manual_protect, &again);
	out->reprotects = again == FEW_PAGES;
	probe_vm_fini(&probe);
	return error;
}

/* The pages that programs write as a slot of their own with the flag, all bits set. */
static int set_marked_slot(struct probe_vm *probe, uint64_t *bitmap)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = SCRATCH_SLOT,
		.flags = KVM_MEM_USERFAULT,
		.guest_phys_addr = PROBE_PAGES_GPA,
		.memory_size = FEW_PAGES * 4096ULL,
		.userspace_addr = (uintptr_t)probe->memory + PROBE_PAGES_GPA,
	};

	_Static_assert(offsetof(struct kvm_userspace_memory_region2, pad2) ==
			       KVM_USERFAULT_BITMAP_OFFSET,
		       "the bitmap's address is the first word of the padding");
	region.pad2[0] = (uintptr_t)bitmap;
	return ioctl(probe->vm.fd, KVM_SET_USER_MEMORY_REGION2, &region) < 0 ? -errno : 0;
}

/* KVM_EXIT_MEMORY_FAULT's part of kvm_run, which older headers lack. */
struct memory_fault {
	uint64_t flags, gpa, size;
};

static void try_marked_page(struct probe_vm *probe, uint64_t *bitmap, struct probe_userfault *out)
{
	struct probe_run result;
	struct memory_fault fault;

	run(probe, &result);
	memcpy(&fault, &probe->vcpu.run->mmio,
	       sizeof(fault)); /* the union's first member's place */
	out->exits = result.error == -EFAULT && result.exit_reason == KVM_EXIT_MEMORY_FAULT &&
		     (fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT) && fault.gpa == PROBE_PAGES_GPA;
	if (!out->exits)
		return;
	/* The release is the rule: the page's content comes before its bit. */
	__atomic_fetch_and(bitmap, 0, __ATOMIC_RELEASE);
	run(probe, &result);
	out->resumes = result.finished && probe->memory[PROBE_PAGES_GPA] != 0;
}

int kvm_probe_userfault(struct probe_userfault *out)
{
	struct probe_shape shape = {.slot_bytes = PROBE_PAGES_GPA};
	uint64_t bitmap = UINT64_MAX;
	struct probe_vm probe;
	int error = probe_vm_init(&probe, &shape);

	*out = (struct probe_userfault){};
	if (!error)
		out->slot_accepted = set_marked_slot(&probe, &bitmap) == 0;
	if (!error && out->slot_accepted)
		error = probe_arch_start(&probe, PROBE_WRITE, PROBE_PAGES_GPA, 1);
	if (!error && out->slot_accepted)
		try_marked_page(&probe, &bitmap, out);
	probe_vm_fini(&probe);
	return error;
}

static bool makes_guest_memfd(const struct kvm_host *host, unsigned long type)
{
	struct kvm_create_guest_memfd create = {.size = 2 << 20};
	AUTO_FD vm = ioctl(host->fd, KVM_CREATE_VM, type);
	AUTO_FD fd = -1;

	if (vm < 0)
		return false;
	fd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &create);
	return fd >= 0;
}

int kvm_probe_guest_memfd(struct probe_guest_memfd *out)
{
	struct kvm_host host;
	int error = kvm_host_open(&host, -1);

	*out = (struct probe_guest_memfd){};
	if (error)
		return error;
	out->ordinary = makes_guest_memfd(&host, probe_arch_vm_type(&host));
	/* x86's KVM_X86_SW_PROTECTED_VM is type 1; elsewhere no such type exists and the answer is no. */
	out->protected_vm = makes_guest_memfd(&host, probe_arch_vm_type(&host) | 1);
	kvm_host_close(&host);
	return 0;
}
