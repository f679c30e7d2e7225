// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Doctor's check of the named arm64 CPU: a vCPU of a scratch VM is made one. The process ends with the check, and takes
 * along what it has opened.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/log.h"
#include "cli/doctor.h"
#include "vmm/arm64.h"
#include "vmm/arch.h"

#define SCRATCH_BYTES 65536 /* a page of any size */

static char base[] = "armv8-base";

static int make_base_vcpu(void)
{
	static struct kvm_host host;
	static struct kvm_vm vm;
	static struct kvm_vcpu vcpu;
	struct config config = {.cpu = base};
	struct arch_vm arch = {.vm = &vm, .config = &config};
	void *memory = mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error = memory == MAP_FAILED ? fail(-ENOMEM, "doctor: no memory") : 0;

	if (!error)
		error = kvm_host_open(&host, -1);
	if (!error)
		error = kvm_vm_new(&vm, &host, arch_vm_type(&host));
	/* vCPUs come after memory (kvm/vm.h), even those that never run. */
	if (!error)
		error = kvm_vm_set_memslot(&vm, 0, 0, 0, SCRATCH_BYTES, memory);
	if (!error)
		error = kvm_vcpu_new(&vcpu, &vm, 0);
	if (!error)
		error = arm64_cpu_choose(&arch);
	if (!error)
		error = kvm_arm64_vcpu_init(&vcpu, &arch.init);
	return error ? error : arm64_cpu_fix_ids(&arch, &vcpu);
}

static void try_base(struct doctor_result *result)
{
	if (make_base_vcpu())
		doctor_note(result, DOCTOR_NO, "%s", fail_text());
	else
		doctor_note(result, DOCTOR_YES, "guests can have it");
}

/* clang-format off */
const struct doctor_check doctor_cpu_checks[] = {
	{"cpu-armv8-base", try_base, "--cpu armv8-base is refused; --cpu host moves between equal hosts only",
	 "Linux 6.7 or newer"},
	{NULL},
};
/* clang-format on */
