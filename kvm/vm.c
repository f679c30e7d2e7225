// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One VM's descriptor: the set-up phases, memslots, dirty logs, device attributes.
 *
 * Theory of operation of the phases. Each set-up call has a row below: which steps must have been taken before it, and
 * which must not have been (what it must precede). The kernel enforces some of these, accepts others and loses dirty
 * pages later; nobody has to remember which, for every call passes kvm_vm_step() first.
 */
#include "kvm/vm.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "kvm/uapi.h"

#define STEP(s)	   (1U << VM_STEP_##s)
#define RING_ENTRY sizeof(struct kvm_dirty_gfn)
/* 64 entries that KVM reserves and 512 of a hardware log (PML) may be written after "full" was noticed. */
#define RING_MIN_ENTRIES 1024

struct step_row {
	const char *name;
	uint32_t needs;	   /* steps that must come before */
	uint32_t precedes; /* steps that must not have been taken yet */
	bool once;
	const char *reason; /* why it must precede these */
};

/* clang-format off */
static const struct step_row steps[] = {
	[VM_STEP_IRQCHIP] = {"interrupt controller", 0, STEP(VCPU), true,
		"vCPUs get their local interrupt controllers from it"},
	[VM_STEP_EAGER_SPLIT] = {"eager page splitting", 0, STEP(MEMSLOT), true,
		"KVM refuses it once memory exists"},
	[VM_STEP_MANUAL_PROTECT] = {"manual dirty log protection", 0, STEP(MEMSLOT) | STEP(RING), true,
		"it belongs to the bitmap, and must hold from the first logged page"},
	[VM_STEP_RING] = {"dirty ring", 0, STEP(MEMSLOT) | STEP(VCPU) | STEP(MANUAL_PROTECT), true,
		"bitmaps that exist before it are wasted, vCPUs that exist before it have no ring"},
	[VM_STEP_RING_BITMAP] = {"dirty ring with bitmap", STEP(RING), STEP(MEMSLOT) | STEP(VCPU), true,
		"writes without a vCPU would be dropped"},
	[VM_STEP_VM_CAP] = {"VM capability", 0, STEP(VCPU), false,
		"vCPUs take it over at creation"},
	[VM_STEP_MEMSLOT] = {"memslot", 0, 0, false, ""},
	[VM_STEP_VCPU] = {"vCPU", STEP(MEMSLOT), STEP(IRQ_INIT) | STEP(RUN), false,
		"the interrupt controller is sized by the vCPUs"},
	[VM_STEP_VCPU_INIT] = {"vCPU initialisation", STEP(VCPU), STEP(IRQ_INIT) | STEP(RUN), false,
		"features are fixed before the interrupt controller looks at them"},
	[VM_STEP_IRQ_INIT] = {"interrupt controller initialisation", STEP(VCPU), STEP(RUN), true,
		"it must know all vCPUs"},
	[VM_STEP_RUN] = {"run", STEP(VCPU), 0, false, ""},
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(steps) == VM_STEPS, "each step has its row");

static const char *first_step(uint32_t mask)
{
	return steps[__builtin_ctz(mask)].name;
}

int kvm_vm_step(struct kvm_vm *vm, enum vm_step step)
{
	const struct step_row *row = &steps[step];
	uint32_t done = __atomic_load_n(&vm->done, __ATOMIC_RELAXED);

	if (row->needs & ~done)
		return fail(-EPROTO, "kvm: %s before %s", row->name,
			    first_step(row->needs & ~done));
	if (row->precedes & done)
		return fail(-EPROTO, "kvm: %s after %s: %s", row->name,
			    first_step(row->precedes & done), row->reason);
	if (row->once && (done & (1U << step)))
		return fail(-EPROTO, "kvm: %s twice", row->name);
	/* Atomic for vCPU threads that all note the first run. */
	__atomic_fetch_or(&vm->done, 1U << step, __ATOMIC_RELAXED);
	return 0;
}

int kvm_vm_new(struct kvm_vm *vm, const struct kvm_host *host, unsigned long type)
{
	*vm = (struct kvm_vm){.host = host};
	/* EINTR: creation stops for any signal and may simply be asked for again. */
	do {
		vm->fd = ioctl(host->fd, KVM_CREATE_VM, type);
	} while (vm->fd < 0 && errno == EINTR);
	if (vm->fd < 0)
		return fail(-errno, "kvm: create VM: %s", strerror(errno));
	return 0;
}

void kvm_vm_fini(struct kvm_vm *vm)
{
	close_fd(&vm->fd);
}

int kvm_vm_enable_cap(struct kvm_vm *vm, enum vm_step step, uint32_t cap, const uint64_t args[4])
{
	struct kvm_enable_cap enable = {.cap = cap};
	int error = kvm_vm_step(vm, step);

	if (error)
		return error;
	if (args)
		memcpy(enable.args, args, sizeof(enable.args));
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &enable) < 0)
		return fail(-errno, "kvm: enable capability %u: %s", cap, strerror(errno));
	return 0;
}

int kvm_vm_enable_ring(struct kvm_vm *vm, uint32_t entries)
{
	const struct kvm_host *host = vm->host;
	uint64_t args[4] = {(uint64_t)entries * RING_ENTRY};
	uint32_t cap = host->ring_acq_rel ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL : KVM_CAP_DIRTY_LOG_RING;
	int error;

	if (!host->ring_max_bytes)
		return fail(-ENOTSUP, "kvm: this kernel offers no dirty ring");
	if (entries < RING_MIN_ENTRIES || (entries & (entries - 1)) ||
	    args[0] > host->ring_max_bytes)
		return fail(-EINVAL, "kvm: dirty ring of %u entries: a power of two from %u to %zu",
			    entries, RING_MIN_ENTRIES, host->ring_max_bytes / RING_ENTRY);
	error = kvm_vm_enable_cap(vm, VM_STEP_RING, cap, args);
	if (!error)
		vm->ring_entries = entries;
	return error;
}

int kvm_vm_enable_ring_bitmap(struct kvm_vm *vm)
{
	uint64_t args[4] = {};
	int error = kvm_vm_enable_cap(vm, VM_STEP_RING_BITMAP, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP,
				      args);

	if (!error)
		vm->ring_bitmap = true;
	return error;
}

int kvm_vm_enable_manual_protect(struct kvm_vm *vm)
{
	/*
	 * Not INITIALLY_SET, although the bitmap could use it: the whole of RAM is sent in the first round anyway, and one
	 * flag that must never meet a ring is one flag fewer to get wrong.
	 */
	uint64_t args[4] = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE};
	int error = kvm_vm_enable_cap(vm, VM_STEP_MANUAL_PROTECT, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
				      args);

	if (!error)
		vm->manual_protect = true;
	return error;
}

int kvm_vm_set_memslot(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
		       uint64_t size_bytes, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)hva,
	};
	int error;

	assert(slot < ARRAY_SIZE(vm->memslot_flags));
	error = kvm_vm_step(vm, VM_STEP_MEMSLOT);
	if (error)
		return error;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return fail(-errno, "kvm: memslot %u of %llu KiB at %#llx: %s", slot,
			    (unsigned long long)size_bytes / 1024, (unsigned long long)gpa,
			    strerror(errno));
	vm->memslot_flags[slot] = flags;
	return 0;
}

int kvm_vm_get_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t *bitmap)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};

	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0)
		return fail(-errno, "kvm: dirty log of memslot %u: %s", slot, strerror(errno));
	return 0;
}

int kvm_vm_clear_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t first, uint32_t npages,
			   uint64_t *bitmap)
{
	struct kvm_clear_dirty_log clear = {
		.slot = slot, .first_page = first, .num_pages = npages, .dirty_bitmap = bitmap};

	if (ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
		return fail(-errno, "kvm: clear dirty log of memslot %u: %s", slot,
			    strerror(errno));
	return 0;
}

int kvm_vm_reset_rings(struct kvm_vm *vm)
{
	int reset = ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);

	if (reset < 0 && errno == EINTR)
		return 0;
	if (reset < 0)
		return fail(-errno, "kvm: reset dirty rings: %s", strerror(errno));
	return reset;
}

int kvm_vm_create_device(struct kvm_vm *vm, uint32_t type, bool test_only, int *fd)
{
	struct kvm_create_device device = {.type = type,
					   .flags = test_only ? KVM_CREATE_DEVICE_TEST : 0};

	if (ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0) {
		if (test_only)
			return -errno;
		return fail(-errno, "kvm: create device of type %u: %s", type, strerror(errno));
	}
	*fd = test_only ? -1 : (int)device.fd;
	return 0;
}

bool kvm_has_attr(int fd, uint32_t group, uint64_t attr)
{
	struct kvm_device_attr device_attr = {.group = group, .attr = attr};

	return ioctl(fd, KVM_HAS_DEVICE_ATTR, &device_attr) == 0;
}

int kvm_set_attr(int fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr device_attr = {
		.group = group, .attr = attr, .addr = (uintptr_t)value};

	if (ioctl(fd, KVM_SET_DEVICE_ATTR, &device_attr) < 0)
		return fail(-errno, "kvm: set attribute %u/%#llx: %s", group,
			    (unsigned long long)attr, strerror(errno));
	return 0;
}

int kvm_get_attr(int fd, uint32_t group, uint64_t attr, void *value)
{
	struct kvm_device_attr device_attr = {
		.group = group, .attr = attr, .addr = (uintptr_t)value};

	if (ioctl(fd, KVM_GET_DEVICE_ATTR, &device_attr) < 0)
		return fail(-errno, "kvm: get attribute %u/%#llx: %s", group,
			    (unsigned long long)attr, strerror(errno));
	return 0;
}

int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *clock)
{
	*clock = (struct kvm_clock_data){};
	if (ioctl(vm->fd, KVM_GET_CLOCK, clock) < 0)
		return fail(-errno, "kvm: get clock: %s", strerror(errno));
	return 0;
}

int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock)
{
	if (ioctl(vm->fd, KVM_SET_CLOCK, clock) < 0)
		return fail(-errno, "kvm: set clock: %s", strerror(errno));
	return 0;
}
