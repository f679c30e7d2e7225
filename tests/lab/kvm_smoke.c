// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs the smallest guest there can be by hand: it adds two numbers and stores the sum where there is no memory. Shows
 * that a host's KVM works without any of Tern. Prints "kvm-smoke: ok" and exits 0.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CODE_GPA 0x10000
#define HOLE_GPA 0x100000
#define EXPECTED 42

static int vm_fd, vcpu_fd;

#if defined(__x86_64__)
/* 16-bit code: mov al,40; add al,2; mov [0],al with ds at the hole (ds base is set by hand). */
static const uint8_t code[] = {0xb0, 0x28, 0x04, 0x02, 0xa2, 0x00, 0x00, 0xf4};

static void set_up(void)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		err(1, "KVM_GET_SREGS");
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sregs.cs.limit = 0xffffffff;
	sregs.ds.base = HOLE_GPA;
	sregs.ds.selector = HOLE_GPA >> 4;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu_fd, KVM_SET_REGS, &regs) < 0)
		err(1, "setting registers");
}
#elif defined(__aarch64__)
/* mov x0,#40; add x0,x0,#2; mov x1,#HOLE_GPA; strb w0,[x1]; b . */
static const uint32_t code[] = {0xd2800500, 0x91000800, 0xd2a00201, 0x39000020, 0x14000000};

static void set_up(void)
{
	struct kvm_vcpu_init init;
	uint64_t pc = CODE_GPA;
	struct kvm_one_reg reg = {.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
					KVM_REG_ARM_CORE_REG(regs.pc),
				  .addr = (uintptr_t)&pc};

	if (ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0 ||
	    ioctl(vcpu_fd, KVM_ARM_VCPU_INIT, &init) < 0)
		err(1, "KVM_ARM_VCPU_INIT");
	if (ioctl(vcpu_fd, KVM_SET_ONE_REG, &reg) < 0)
		err(1, "setting pc");
}
#endif

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_userspace_memory_region slot = {.guest_phys_addr = CODE_GPA,
						   .memory_size = 0x10000};
	struct kvm_run *run;
	void *memory;

	if (kvm < 0)
		err(1, "/dev/kvm");
	vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	memory = mmap(NULL, slot.memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (vm_fd < 0 || memory == MAP_FAILED)
		err(1, "KVM_CREATE_VM");
	memcpy(memory, code, sizeof(code));
	slot.userspace_addr = (uintptr_t)memory;
	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		err(1, "KVM_SET_USER_MEMORY_REGION");
	vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	if (vcpu_fd < 0)
		err(1, "KVM_CREATE_VCPU");
	set_up();
	run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		   MAP_SHARED, vcpu_fd, 0);
	if (run == MAP_FAILED || ioctl(vcpu_fd, KVM_RUN, 0) < 0)
		err(1, "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != HOLE_GPA ||
	    !run->mmio.is_write || run->mmio.data[0] != EXPECTED)
		errx(1, "exit reason %u at %llx with %u", run->exit_reason,
		     (unsigned long long)run->mmio.phys_addr, run->mmio.data[0]);
	printf("kvm-smoke: ok\n");
	return 0;
}
