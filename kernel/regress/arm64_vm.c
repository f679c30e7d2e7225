// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * arm64: the guest runs at EL1, over a one-to-one map of the first 4 GiB in 1 GiB blocks. Its MMU is on because memory
 * accesses with it off go round the caches, and host and guest would not see each other's writes on real hardware.
 */
#include "vm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

const char *const arch_name = "arm64";

enum {
	TABLE = 0x1000,
	CODE = 0x8000,
	DONE_GPA = 0x08000000,
};

/*
 * x0 gpa, x1 count, x2 stride, x3 value, x4 step, x5 operation
 * x6 mismatches, x7 first mismatch, x8 passes, x9 index; x10 and x11 walk, x12 and x14 are scratch, x13 is DONE_GPA.
 */
extern const char guest_code[] __attribute__((visibility("hidden")));
extern const char guest_code_end[] __attribute__((visibility("hidden")));
asm(".pushsection .rodata\n"
    ".balign 4\n"
    "guest_code:\n"
    "pass:	mov	x10, x0\n"
    "	mov	x11, x3\n"
    "	mov	x9, xzr\n"
    "	cbz	x1, end_pass\n"
    "	and	x14, x5, #0xff\n"
    "	cmp	x14, #1\n"
    "	b.eq	check\n"
    "	cmp	x14, #2\n"
    "	b.eq	add\n"
    "	cmp	x14, #3\n"
    "	b.eq	call\n"
    "write:	str	x11, [x10]\n"
    "	add	x10, x10, x2\n"
    "	add	x11, x11, x4\n"
    "	add	x9, x9, #1\n"
    "	cmp	x9, x1\n"
    "	b.ne	write\n"
    "	b	end_pass\n"
    "check:	ldr	x12, [x10]\n"
    "	cmp	x12, x11\n"
    "	b.eq	2f\n"
    "	cbnz	x6, 1f\n"
    "	mov	x7, x9\n"
    "1:	add	x6, x6, #1\n"
    "2:	add	x10, x10, x2\n"
    "	add	x11, x11, x4\n"
    "	add	x9, x9, #1\n"
    "	cmp	x9, x1\n"
    "	b.ne	check\n"
    "	b	end_pass\n"
    "add:	ldr	x12, [x10]\n"
    "	add	x12, x12, x4\n"
    "	str	x12, [x10]\n"
    "	add	x10, x10, x2\n"
    "	add	x9, x9, #1\n"
    "	cmp	x9, x1\n"
    "	b.ne	add\n"
    "	b	end_pass\n"
    "call:	blr	x10\n"
    "	add	x10, x10, x2\n"
    "	add	x9, x9, #1\n"
    "	cmp	x9, x1\n"
    "	b.ne	call\n"
    "end_pass:\n"
    "	add	x8, x8, #1\n"
    "	tbnz	x5, #8, pass\n"
    "done:	str	x8, [x13]\n"
    "	b	done\n"
    "guest_code_end:\n"
    ".popsection\n");

/* The address space that KVM gives by default is 40 bits; a machine with fewer has to be asked for what it has. */
unsigned long arch_vm_type(int kvm, unsigned long type)
{
	int bits = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE);

	return bits > 0 && bits < 40 ? type | KVM_VM_TYPE_ARM_IPA_SIZE((unsigned long)bits) : type;
}

void arch_fill_low_memory(uint8_t *low)
{
	/* block, attribute 0, inner shareable, accessed; readable and writable at EL1 */
	const uint64_t block = 1 | 3 << 8 | 1 << 10;
	uint64_t i;

	for (i = 0; i < 4; i++)
		((uint64_t *)(low + TABLE))[i] = i << 30 | block;
	memcpy(low + CODE, guest_code, (size_t)(guest_code_end - guest_code));
}

static void set_register(struct vcpu *vcpu, uint64_t id, uint64_t value, const char *name)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	need(ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg) == 0, "KVM_SET_ONE_REG %s", name);
}

static uint64_t core_register(size_t offset)
{
	return KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | offset / sizeof(uint32_t);
}

static uint64_t x_register(unsigned int n)
{
	return core_register(offsetof(struct kvm_regs, regs.regs) + n * sizeof(uint64_t));
}

static uint64_t get_x(struct vcpu *vcpu, unsigned int n)
{
	uint64_t value;
	struct kvm_one_reg reg = { .id = x_register(n), .addr = (uintptr_t)&value };

	need(ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg) == 0, "KVM_GET_ONE_REG x%u", n);
	return value;
}

void arch_start_vcpu(struct vcpu *vcpu)
{
	struct kvm_vcpu_init init;
	/* 32 bits of address; walks cacheable and inner shareable; 4 KiB granule; no upper half */
	const uint64_t tcr = 32 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23;
	const uint64_t sctlr = 0x30d00800 | 1 << 0 | 1 << 2 | 1 << 12; /* RES1 bits, MMU, data and instruction cache */

	need(ioctl(vcpu->vm->fd, KVM_ARM_PREFERRED_TARGET, &init) == 0, "KVM_ARM_PREFERRED_TARGET");
	need(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init) == 0, "KVM_ARM_VCPU_INIT");
	set_register(vcpu, ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff, "MAIR_EL1");
	set_register(vcpu, ARM64_SYS_REG(3, 0, 2, 0, 2), tcr, "TCR_EL1");
	set_register(vcpu, ARM64_SYS_REG(3, 0, 2, 0, 0), TABLE, "TTBR0_EL1");
	set_register(vcpu, ARM64_SYS_REG(3, 0, 1, 0, 0), sctlr, "SCTLR_EL1");
	set_register(vcpu, core_register(offsetof(struct kvm_regs, regs.pstate)), 0x3c5, "PSTATE");
}

void arch_give(struct vcpu *vcpu, const struct work *work)
{
	const uint64_t x[] = { work->gpa, work->count, work->stride, work->value, work->step, work->op, 0, 0, 0, 0 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(x); i++)
		set_register(vcpu, x_register(i), x[i], "x0 to x9");
	set_register(vcpu, x_register(13), DONE_GPA, "x13");
	set_register(vcpu, core_register(offsetof(struct kvm_regs, regs.pc)), CODE, "pc");
}

void arch_outcome(struct vcpu *vcpu, struct outcome *outcome)
{
	outcome->mismatches = get_x(vcpu, 6);
	outcome->first = get_x(vcpu, 7);
	outcome->passes = get_x(vcpu, 8);
	outcome->index = get_x(vcpu, 9);
}

bool arch_is_done(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == DONE_GPA && run->mmio.is_write;
}

uint64_t arch_refused_gpa(struct vm *vm, int *error)
{
	int bits = ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_VM_IPA_SIZE);

	*error = EFAULT;
	return 1ull << (bits > 0 && bits < 40 ? bits : 40);
}

void arch_move_page_table(struct vcpu *vcpu, uint64_t gpa, void *memory)
{
	memcpy(memory, vcpu->vm->low + TABLE, PAGE);
	set_register(vcpu, ARM64_SYS_REG(3, 0, 2, 0, 0), gpa, "TTBR0_EL1");
}

void arch_put_return_code(void *page)
{
	*(uint32_t *)page = 0xd65f03c0; /* ret */
}

bool host_emulates_guest_kernel(void)
{
	return false;
}
