// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dirty ring and dirty bitmap: what may be enabled before what, each combination with its documented answer; and, on
 * arm64, the interrupt controller's writes, which no vCPU makes, in the bitmap that stands beside the ring.
 *
 * A few answers are the companion patches' own. Whether the kernel has those is taken from its userfault capability;
 * --stock and --patched say it instead.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring.h"

#define SIZE	     (64 * PAGE)
#define RING_BYTES   65536ul
#define RING_ENTRIES (RING_BYTES / sizeof(struct kvm_dirty_gfn))
#define SLOT	     1

enum step {
	END,
	RING,	   /* the ring capability, RING_BYTES */
	RING_NONE, /* the same with other sizes and arguments */
	RING_SMALL,
	RING_ODD,
	RING_LARGE,
	RING_4G_MORE,
	RING_TERABYTE,
	RING_FLAGS,
	BITMAP, /* KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP */
	SLOT_PLAIN,
	SLOT_LOGS,
	SLOT_QUIET, /* logging off */
	SLOT_GONE,
	MANUAL,	  /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: MANUAL_PROTECT_ENABLE */
	INIT_SET, /* the same and INITIALLY_SET */
	MANUAL_OFF,
	VCPU,
	GET_LOG,
	CLEAR_LOG,
	RESET,
	IRQCHIP,
	SPLIT, /* KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE */
};

enum { X86 = 1, ARM64 = 2, BOTH = 3 };

/* Every step but the last succeeds; the last gives the answer. */
static const struct row {
	int arch;
	int stock, patched;
	enum step steps[7];
	const char *name;
} rows[] = {
	/* clang-format off */
	{ BOTH,  0,       0,       { RING },                             "a ring, before anything else" },
	{ BOTH,  -EINVAL, -EINVAL, { RING, RING },                       "a ring, twice" },
	{ BOTH,  -EINVAL, -EINVAL, { VCPU, RING },                       "a ring after a vCPU" },
	{ BOTH,  0,       0,       { RING, VCPU },                       "a vCPU after a ring" },
	{ BOTH,  0,       0,       { SLOT_PLAIN, RING },                 "a ring after a slot that does not log" },
	{ BOTH,  0,       -EBUSY,  { SLOT_LOGS, RING },                  "a ring after a slot that logs" },
	{ BOTH,  0,       0,       { SLOT_LOGS, SLOT_QUIET, RING },      "a ring after a slot has stopped logging" },
	{ BOTH,  0,       0,       { SLOT_LOGS, SLOT_GONE, RING },       "a ring after a slot that logged is gone" },
	{ BOTH,  0,       0,       { RING, SLOT_LOGS, VCPU },            "a ring, a slot that logs, a vCPU" },
	{ BOTH,  0,       0,       { RING, VCPU, SLOT_LOGS },            "a ring, a vCPU, a slot that logs" },

	{ BOTH,  -EINVAL, -EINVAL, { RING_NONE },                        "a ring of no size" },
	{ BOTH,  -EINVAL, -EINVAL, { RING_SMALL },                       "a ring of less than a page" },
	{ BOTH,  -EINVAL, -EINVAL, { RING_ODD },                         "a ring whose size is no power of two" },
	{ BOTH,  -E2BIG,  -E2BIG,  { RING_LARGE },                       "a ring larger than the capability says" },
	{ BOTH,  0,       -EINVAL, { RING_4G_MORE },                     "a ring whose size has a bit above 32" },
	{ BOTH,  -EINVAL, -E2BIG,  { RING_TERABYTE },                    "a ring whose size has only a bit above 32" },
	{ BOTH,  0,       -EINVAL, { RING_FLAGS },                       "a ring with a flag" },

	{ BOTH,  -EINVAL, -EINVAL, { BITMAP },                           "a bitmap beside no ring" },
	{ ARM64, 0,       0,       { RING, BITMAP },                     "a bitmap beside a ring" },
	{ X86,   -EINVAL, -EINVAL, { RING, BITMAP },                     "a bitmap beside a ring, which x86 never has" },
	{ ARM64, 0,       0,       { RING, BITMAP, SLOT_LOGS, VCPU },    "a ring, a bitmap, a slot that logs, a vCPU" },
	{ ARM64, 0,       0,       { RING, VCPU, BITMAP },               "a bitmap after a vCPU" },
	{ ARM64, -EINVAL, -EINVAL, { RING, SLOT_PLAIN, BITMAP },         "a bitmap after a slot" },
	{ ARM64, -EINVAL, -EINVAL, { RING, SLOT_LOGS, BITMAP },          "a bitmap after a slot that logs" },
	{ ARM64, -EINVAL, -EINVAL, { SLOT_PLAIN, RING, BITMAP },         "a slot, a ring, a bitmap" },
	{ ARM64, 0,       0,       { RING, SLOT_LOGS, SLOT_GONE, BITMAP }, "a bitmap after the only slot is gone" },

	{ BOTH,  0,       0,       { SLOT_LOGS, GET_LOG },               "GET_DIRTY_LOG without a ring" },
	{ BOTH,  -ENXIO,  -ENXIO,  { RING, SLOT_LOGS, GET_LOG },         "GET_DIRTY_LOG with a ring" },
	{ BOTH,  -ENXIO,  -ENXIO,  { RING, SLOT_LOGS, CLEAR_LOG },       "CLEAR_DIRTY_LOG with a ring" },
	{ ARM64, 0,       0,       { RING, BITMAP, SLOT_LOGS, GET_LOG }, "GET_DIRTY_LOG with a ring and a bitmap" },
	{ BOTH,  -ENOENT, -ENOENT, { SLOT_PLAIN, GET_LOG },              "GET_DIRTY_LOG of a slot that does not log" },
	{ BOTH,  -EINVAL, -EINVAL, { SLOT_LOGS, RESET },                 "RESET_DIRTY_RINGS without a ring" },
	{ BOTH,  0,       0,       { RING, SLOT_LOGS, VCPU, RESET },     "RESET_DIRTY_RINGS of an empty ring" },

	{ BOTH,  0,       0,       { RING, MANUAL },                     "MANUAL_PROTECT_ENABLE after a ring" },
	{ BOTH,  0,       0,       { MANUAL, RING },                     "a ring after MANUAL_PROTECT_ENABLE" },
	{ BOTH,  0,       -EINVAL, { RING, INIT_SET },                   "INITIALLY_SET after a ring" },
	{ BOTH,  0,       -EINVAL, { INIT_SET, RING },                   "a ring after INITIALLY_SET" },
	{ BOTH,  0,       0,       { INIT_SET, MANUAL_OFF, RING },       "a ring after INITIALLY_SET has gone again" },
	{ BOTH,  0,       0,       { INIT_SET, MANUAL, RING },           "a ring after only MANUAL_PROTECT_ENABLE is left" },
	{ BOTH,  0,       0,       { INIT_SET, SLOT_LOGS, GET_LOG, CLEAR_LOG }, "INITIALLY_SET without a ring" },

	{ X86,   0,       0,       { IRQCHIP, VCPU },                    "a vCPU after the interrupt chip" },
	{ X86,   -EINVAL, -EINVAL, { VCPU, IRQCHIP },                    "the interrupt chip after a vCPU" },
	{ ARM64, 0,       0,       { SPLIT, SLOT_LOGS },                 "eager splitting before a slot" },
	{ ARM64, -EINVAL, -EINVAL, { SLOT_PLAIN, SPLIT },                "eager splitting after a slot" },
	/* clang-format on */
};

static int clear_log(struct vm *vm)
{
	uint64_t bits = 0;
	struct kvm_clear_dirty_log clear = { .slot = SLOT, .num_pages = 64, .dirty_bitmap = &bits };

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0 ? -errno : 0;
}

static int take(struct vm *vm, enum step step, void *memory)
{
	uint64_t bits[SIZE / PAGE / 64];
	uint32_t ring = ring_capability(vm);
	uint64_t largest = (uint64_t)vm_check(vm, ring);

	switch (step) {
	case END:
		break;
	case RING:
		return vm_enable(vm, ring, 0, RING_BYTES);
	case RING_NONE:
		return vm_enable(vm, ring, 0, 0);
	case RING_SMALL:
		return vm_enable(vm, ring, 0, PAGE / 2);
	case RING_ODD:
		return vm_enable(vm, ring, 0, RING_BYTES - 16);
	case RING_LARGE:
		return vm_enable(vm, ring, 0, largest * 2);
	case RING_4G_MORE:
		return vm_enable(vm, ring, 0, 1ull << 32 | RING_BYTES);
	case RING_TERABYTE:
		return vm_enable(vm, ring, 0, 1ull << 40);
	case RING_FLAGS:
		return vm_enable(vm, ring, 1, RING_BYTES);
	case BITMAP:
		return vm_enable(vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0, 0);
	case SLOT_PLAIN:
	case SLOT_QUIET:
		return vm_set_slot(vm, SLOT, 0, TEST_GPA, SIZE, memory);
	case SLOT_LOGS:
		return vm_set_slot(vm, SLOT, KVM_MEM_LOG_DIRTY_PAGES, TEST_GPA, SIZE, memory);
	case SLOT_GONE:
		return vm_set_slot(vm, SLOT, 0, TEST_GPA, 0, memory);
	case MANUAL:
		return vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	case INIT_SET:
		return vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0,
				 KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	case MANUAL_OFF:
		return vm_enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0, 0);
	case VCPU:
		vm_add_vcpu(vm);
		return 0;
	case GET_LOG:
		return vm_get_dirty_log(vm, SLOT, bits);
	case CLEAR_LOG:
		return clear_log(vm);
	case RESET:
		return ring_reset(vm);
	case IRQCHIP:
		return ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0 ? -errno : 0;
	case SPLIT:
		return vm_enable(vm, KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE, 0, HUGE);
	}
	return -ENOSYS;
}

static void test_row(const struct row *row, bool patched, void *memory)
{
	int i, answer = 0, expected = patched ? row->patched : row->stock;
	struct vm vm;

	tap_doing(row->name);
	vm_create(&vm, 0);
	for (i = 0; row->steps[i] != END; i++) {
		answer = take(&vm, row->steps[i], memory);
		if (answer < 0)
			break;
	}
	if (answer >= 0 || row->steps[i + 1] == END) {
		if (answer != expected)
			tap_note("answered %d, not %d", answer, expected);
		tap_case(answer == expected, row->name);
	} else {
		tap_note("step %d answered %d", i + 1, answer);
		tap_case(false, row->name);
	}
	vm_destroy(&vm);
}

/*
 * What vCPUs write is in their rings, and on arm64 not in the bitmap beside. Where KVM's emulator makes the guest's
 * writes, a page may be in the ring more than once.
 */
static void test_who_logs(bool with_bitmap, const char *name)
{
	struct work work = { .op = GUEST_ADD, .gpa = TEST_GPA + PAGE, .count = 20, .stride = 2 * PAGE, .step = 1 };
	uint64_t seen = 0, bitmap[SIZE / PAGE / 64] = { 0 }, offset, wanted = 0, i;
	void *memory = memory_new(SIZE, false);
	struct ring ring;
	uint32_t slot;
	int entries = 0;
	struct vm vm;

	tap_doing(name);
	for (i = 0; i < 20; i++)
		wanted |= 1ull << (1 + 2 * i);
	vm_create(&vm, 0);
	need(take(&vm, RING, memory) == 0, "a ring");
	if (with_bitmap)
		need(take(&vm, BITMAP, memory) == 0, "a bitmap");
	vm_add_low_memory(&vm);
	need(take(&vm, SLOT_LOGS, memory) == 0, "a slot");
	vm_add_vcpu(&vm);
	ring_map(&ring, &vm.vcpu[0], RING_ENTRIES);
	need(vcpu_do(&vm.vcpu[0], &work) == STOP_DONE, "writes");
	need(vcpu_do(&vm.vcpu[0], &work) == STOP_DONE, "the same writes again");
	while (ring_take(&ring, &slot, &offset)) {
		need(slot == SLOT && offset < SIZE / PAGE, "slot %u offset %lu in the ring", slot,
		     (unsigned long)offset);
		seen |= 1ull << offset;
		entries++;
	}
	if (with_bitmap)
		need(vm_get_dirty_log(&vm, SLOT, bitmap) == 0, "GET_DIRTY_LOG");
	if (seen != wanted || entries < 20 || bitmap[0])
		tap_note("%d entries, pages %#lx, bitmap %#lx", entries, (unsigned long)seen,
			 (unsigned long)bitmap[0]);
	tap_case(seen == wanted && entries >= 20 && bitmap[0] == 0 && ring_reset(&vm) == entries, name);
	ring_unmap(&ring);
	vm_destroy(&vm);
	memory_free(memory, SIZE);
}

#ifdef REGRESS_arm64

enum {
	DIST_GPA = 0x09000000,
	REDIST_GPA = 0x090a0000,
	ITS_GPA = 0x09080000,
	GITS_BASER1 = 0x108,
};

static void set_attribute(int device, uint32_t group, uint64_t attr, uint64_t value)
{
	struct kvm_device_attr request = { .group = group, .attr = attr, .addr = (uintptr_t)&value };

	need(ioctl(device, KVM_SET_DEVICE_ATTR, &request) == 0, "group %u attribute %#lx", group,
	     (unsigned long)attr);
}

/* -> the GIC's ITS, ready, or -1 where the host has none. */
static int make_its(struct vm *vm, int *gic)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };

	if (ioctl(vm->fd, KVM_CREATE_DEVICE, &device) < 0)
		return -1;
	*gic = (int)device.fd;
	set_attribute(*gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, DIST_GPA);
	set_attribute(*gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, REDIST_GPA);
	device = (struct kvm_create_device){ .type = KVM_DEV_TYPE_ARM_VGIC_ITS };
	need(ioctl(vm->fd, KVM_CREATE_DEVICE, &device) == 0, "an ITS");
	set_attribute((int)device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, ITS_GPA);
	set_attribute(*gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
	set_attribute((int)device.fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
	return (int)device.fd;
}

enum { ITS_SKIPPED = 77, ITS_WRONG = 1, ITS_RIGHT = 0 };

/*
 * The collection table is at page 16 of the slot; saving the tables writes its end mark, with no vCPU running.
 * In a process of its own: a kernel that cannot cope kills who asks, with its locks held.
 */
static int its_child(bool with_bitmap)
{
	uint64_t bitmap[SIZE / PAGE / 64] = { 0 };
	void *memory = memory_new(SIZE, false);
	struct ring ring;
	uint64_t offset;
	uint32_t slot;
	struct vm vm;
	int its, gic;

	memset(memory, 0xff, SIZE);
	vm_create(&vm, 0);
	need(take(&vm, RING, memory) == 0, "a ring");
	if (with_bitmap)
		need(take(&vm, BITMAP, memory) == 0, "a bitmap");
	vm_add_low_memory(&vm);
	need(take(&vm, SLOT_LOGS, memory) == 0, "a slot");
	vm_add_vcpu(&vm);
	ring_map(&ring, &vm.vcpu[0], RING_ENTRIES);
	its = make_its(&vm, &gic);
	if (its < 0)
		return ITS_SKIPPED;
	/* valid, entries of 8 bytes, one page of 64 KiB */
	set_attribute(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_BASER1, 1ull << 63 | 2ull << 8 | (TEST_GPA + 0x10000));
	set_attribute(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_SAVE_TABLES, 0);
	if (*(uint64_t *)((char *)memory + 0x10000) != 0) {
		tap_note("SAVE_TABLES wrote nothing");
		return ITS_WRONG;
	}
	if (ring_take(&ring, &slot, &offset)) {
		tap_note("the ring has an entry: slot %u offset %lu", slot, (unsigned long)offset);
		return ITS_WRONG;
	}
	if (!with_bitmap)
		return vm_get_dirty_log(&vm, SLOT, bitmap) == -ENXIO ? ITS_RIGHT : ITS_WRONG;
	need(vm_get_dirty_log(&vm, SLOT, bitmap) == 0, "GET_DIRTY_LOG");
	if (bitmap[0] != 1ull << 16) {
		tap_note("the bitmap is %#lx", (unsigned long)bitmap[0]);
		return ITS_WRONG;
	}
	return ITS_RIGHT;
}

static void test_its(bool with_bitmap, const char *name)
{
	int status = -1, tenths;
	pid_t child, done = 0;

	tap_doing(name);
	fflush(stdout);
	child = fork();
	need(child >= 0, "fork");
	if (child == 0) {
		status = its_child(with_bitmap);
		fflush(stdout);
		_exit(status);
	}
	for (tenths = 0; tenths < 100 && done == 0; tenths++) {
		done = waitpid(child, &status, WNOHANG);
		if (done == 0)
			usleep(100000);
	}
	if (done == child && WIFEXITED(status) && WEXITSTATUS(status) == ITS_SKIPPED) {
		tap_skip(name, "no GICv3 for guests here");
		return;
	}
	if (done == 0)
		tap_note("it has not come back after 10 s");
	else if (!WIFEXITED(status))
		tap_note("it was killed by signal %d", WTERMSIG(status));
	tap_case(done == child && WIFEXITED(status) && WEXITSTATUS(status) == ITS_RIGHT, name);
}

#endif

int main(int argc, char **argv)
{
	void *memory;
	bool patched;
	struct vm vm;
	size_t i;

	tap_start("ring_bitmap_order", 120);
	vm_create(&vm, 0);
	patched = vm_check(&vm, KVM_CAP_USERFAULT) > 0;
	if (argc > 1)
		patched = strcmp(argv[1], "--patched") == 0;
	if (!ring_capability(&vm))
		tap_skip_all("no dirty rings here");
	vm_destroy(&vm);
	tap_note("answers of a %s kernel are expected", patched ? "patched" : "stock");
	memory = memory_new(SIZE, false);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].arch & (strcmp(arch_name, "arm64") == 0 ? ARM64 : X86))
			test_row(&rows[i], patched, memory);
	}
	test_who_logs(false, "with a ring, each written page is in it");
#ifdef REGRESS_arm64
	test_who_logs(true, "with a ring and a bitmap, vCPUs write to the ring alone");
	test_its(true, "ITS tables saved without a running vCPU are in the bitmap beside the ring");
	test_its(false, "with a ring alone, saving ITS tables goes unlogged and does no harm");
#endif
	tap_kernel_log();
	return tap_end();
}
