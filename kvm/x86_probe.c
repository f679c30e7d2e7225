// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The probes' guest on x86, and the facts that only x86 has. The vCPU is put straight into 64-bit mode by its special
 * registers: user mode runs natively on every kind of host, kernel mode is what is in question.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kvm/probe_guest.h"
#include "kvm/x86_vcpu.h"

#define TSS_GPA		 0xfffbd000
#define IDENTITY_MAP_GPA 0xfffbc000

/* RDI: the page or datum; RCX: how often; RSI: where a store ends the program. */
static const uint8_t count_code[] = {
	0x48, 0xff, 0xc9, /* again: dec %rcx */
	0x75, 0xfb,	  /* jnz again */
	0x88, 0x06,	  /* mov %al,(%rsi) */
	0xeb, 0xfe,	  /* stay: jmp stay */
};
static const uint8_t write_code[] = {
	0xfe, 0x07,				  /* again: incb (%rdi) */
	0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add $4096,%rdi */
	0x48, 0xff, 0xc9,			  /* dec %rcx */
	0x75, 0xf2,				  /* jnz again */
	0x88, 0x06,				  /* mov %al,(%rsi) */
	0xeb, 0xfe,				  /* stay: jmp stay */
};
static const uint8_t kernel_code[] = {
	0xf0, 0x48, 0x0f,
	0xc7, 0x0f,	  /* lock cmpxchg16b (%rdi): a stock kernel's allocator uses it */
	0x48, 0xff, 0xc9, /* again: dec %rcx */
	0x75, 0xfb,	  /* jnz again */
	0x88, 0x06,	  /* mov %al,(%rsi) */
	0xeb, 0xfe,	  /* stay: jmp stay */
};

static const struct {
	const uint8_t *bytes;
	size_t len;
} programs[] = {
	[PROBE_COUNT] = {count_code, sizeof(count_code)},
	[PROBE_WRITE] = {write_code, sizeof(write_code)},
	[PROBE_KERNEL] = {kernel_code, sizeof(kernel_code)},
};

unsigned long probe_arch_vm_type(const struct kvm_host *host)
{
	return 0;
}

int probe_arch_prepare_vm(struct probe_vm *probe)
{
	int error = kvm_x86_set_tss_addr(&probe->vm, TSS_GPA);

	return error ? error : kvm_x86_set_identity_map_addr(&probe->vm, IDENTITY_MAP_GPA);
}

/* Identity-maps the first GiB for both modes, accessed and dirty already: walks write nothing. */
static void write_page_tables(struct probe_vm *probe)
{
	uint64_t *pml4 = (uint64_t *)(void *)(probe->memory + PROBE_TABLES_GPA);
	uint64_t *pdpt = pml4 + 512, *pd = pml4 + 1024;

	pml4[0] = (PROBE_TABLES_GPA + 0x1000) | 0x67;
	pdpt[0] = (PROBE_TABLES_GPA + 0x2000) | 0x67;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | 0xe7;
}

int probe_arch_prepare_vcpu(struct probe_vm *probe, bool kernel_mode)
{
	uint8_t dpl = kernel_mode ? 0 : 3;
	struct kvm_segment code = {.selector = 0x18 | dpl,
				   .limit = 0xffffffff,
				   .type = 11,
				   .present = 1,
				   .dpl = dpl,
				   .s = 1,
				   .l = 1,
				   .g = 1};
	struct kvm_segment data = {.selector = 0x20 | dpl,
				   .limit = 0xffffffff,
				   .type = 3,
				   .present = 1,
				   .dpl = dpl,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	AUTO_FREE struct kvm_cpuid2 *cpuid = NULL;
	struct kvm_sregs sregs;
	int error = kvm_x86_supported_cpuid(&probe->host, &cpuid);

	if (!error)
		error = kvm_x86_set_cpuid(&probe->vcpu, cpuid);
	if (!error)
		error = kvm_x86_get_sregs(&probe->vcpu, &sregs);
	if (error)
		return error;
	write_page_tables(probe);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	sregs.cr0 = 0x80050033;
	sregs.cr3 = PROBE_TABLES_GPA;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	return kvm_x86_set_sregs(&probe->vcpu, &sregs);
}

int probe_arch_start(struct probe_vm *probe, enum probe_program program, uint64_t gpa,
		     uint64_t count)
{
	struct kvm_regs regs = {.rip = PROBE_CODE_GPA,
				.rflags = 2,
				.rdi = gpa,
				.rcx = count,
				.rsi = PROBE_END_GPA,
				.rbx = 1};

	memcpy(probe->memory + PROBE_CODE_GPA, programs[program].bytes, programs[program].len);
	return kvm_x86_set_regs(&probe->vcpu, &regs);
}

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

static void fact_nested(const struct kvm_cpuid2 *cpuid, struct probe_fact *fact)
{
	const struct kvm_cpuid_entry2 *leaf1 = find_leaf(cpuid, 1),
				      *amd = find_leaf(cpuid, 0x80000001);
	bool vmx = leaf1 && leaf1->ecx & (1U << 5), svm = amd && amd->ecx & (1U << 2);
	uint32_t eax, ebx, ecx = 0, edx;

	*fact = (struct probe_fact){.name = "nested", .good = true};
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	snprintf(fact->detail, sizeof(fact->detail), "this host is %s; its KVM %s%s",
		 ecx & (1U << 31) ? "itself a virtual machine" : "a physical machine",
		 vmx || svm ? "could give guests " : "gives guests no virtualization",
		 vmx   ? "VMX"
		 : svm ? "SVM"
		       : "");
	fact->instead = "guests get neither VMX nor SVM: nested state does not migrate yet";
}

static void fact_tsc(struct probe_vm *probe, struct probe_fact *fact)
{
	bool scales = kvm_host_extension(&probe->host, KVM_CAP_TSC_CONTROL);
	int khz = kvm_x86_get_tsc_khz(&probe->vcpu);

	*fact = (struct probe_fact){.name = "tsc-scaling", .good = scales};
	snprintf(fact->detail, sizeof(fact->detail), "%d kHz; %s", khz,
		 scales ? "guests can be given another frequency"
			: "guests have the host's frequency");
	fact->instead =
		"a VM moves only between hosts whose TSC runs within 250 ppm of one another";
}

static void fact_clock(struct probe_vm *probe, struct probe_fact *fact)
{
	struct kvm_clock_data clock;
	int offered = kvm_host_extension(&probe->host, KVM_CAP_ADJUST_CLOCK);
	bool paired = !kvm_vm_get_clock(&probe->vm, &clock) && clock.flags & KVM_CLOCK_REALTIME;

	*fact = (struct probe_fact){.name = "master-clock", .good = paired};
	snprintf(fact->detail, sizeof(fact->detail),
		 "guest clock, TSC and wall time are read %s (flags %#x, offered %#x)",
		 paired ? "as one" : "one after another", paired ? clock.flags : 0, offered);
	fact->instead = "the gap of a migration is measured with the wall clocks of both hosts, "
			"less exactly";
	fact->fix = "a host whose clock source is the TSC (/sys/devices/system/clocksource)";
}

static void fact_xsave(const struct kvm_host *host, struct probe_fact *fact)
{
	int bytes = kvm_host_extension(host, KVM_CAP_XSAVE2);

	*fact = (struct probe_fact){.name = "xsave", .good = true};
	snprintf(fact->detail, sizeof(fact->detail),
		 "extended state of a vCPU takes up to %d bytes", bytes > 4096 ? bytes : 4096);
}

int kvm_probe_arch_facts(struct probe_fact facts[KVM_PROBE_FACTS_MAX])
{
	AUTO_FREE struct kvm_cpuid2 *cpuid = NULL;
	struct probe_shape shape = {};
	struct probe_vm probe;
	int error = probe_vm_init(&probe, &shape);

	memset(facts, 0, sizeof(*facts) * KVM_PROBE_FACTS_MAX);
	if (!error)
		error = kvm_x86_supported_cpuid(&probe.host, &cpuid);
	if (!error) {
		fact_nested(cpuid, &facts[0]);
		fact_tsc(&probe, &facts[1]);
		fact_clock(&probe, &facts[2]);
		fact_xsave(&probe.host, &facts[3]);
	}
	probe_vm_fini(&probe);
	return error;
}
