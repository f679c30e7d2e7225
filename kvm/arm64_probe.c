// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The probes' guest on arm64, and the facts that only arm64 has. Programs run at EL1 with translation off: then all
 * addresses are physical, and what is not RAM exits to user space.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kvm/arm64_vcpu.h"
#include "kvm/probe_guest.h"
#include "kvm/uapi.h"

#define IPA_BITS_DEFAULT 40
#define X_REG(n) \
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.regs[n]))
#define PC_REG (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc))

/* X0: the page; X1: how often; X2: where a store ends the program. */
static const uint32_t write_code[] = {
	0x39000003, /* again: strb w3, [x0] */
	0x91400400, /* add x0, x0, #4096 */
	0xf1000421, /* subs x1, x1, #1 */
	0x54ffffa1, /* b.ne again */
	0x39000043, /* strb w3, [x2] */
	0x14000000, /* stay: b stay */
};
static const uint32_t count_code[] = {
	0xf1000421, /* again: subs x1, x1, #1 */
	0x54ffffe1, /* b.ne again */
	0x39000043, /* strb w3, [x2] */
	0x14000000, /* stay: b stay */
};

unsigned long probe_arch_vm_type(const struct kvm_host *host)
{
	int bits = kvm_host_extension(host, KVM_CAP_ARM_VM_IPA_SIZE);

	/* 0 stands for 40 bits, which some CPUs do not have. */
	return bits && bits < IPA_BITS_DEFAULT ? KVM_VM_TYPE_ARM_IPA_SIZE(bits) : 0;
}

int probe_arch_prepare_vm(struct probe_vm *probe)
{
	return 0;
}

int probe_arch_prepare_vcpu(struct probe_vm *probe, bool kernel_mode)
{
	struct kvm_vcpu_init init = {};
	int error = kvm_arm64_preferred_target(&probe->vm, &init);

	init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
	return error ? error : kvm_arm64_vcpu_init(&probe->vcpu, &init);
}

int probe_arch_start(struct probe_vm *probe, enum probe_program program, uint64_t gpa,
		     uint64_t count)
{
	const struct {
		uint64_t id, value;
	} start[] = {
		{X_REG(0), gpa},  {X_REG(1), count},	    {X_REG(2), PROBE_END_GPA},
		{X_REG(3), 0xff}, {PC_REG, PROBE_CODE_GPA},
	};
	int error = 0;

	if (program == PROBE_WRITE)
		memcpy(probe->memory + PROBE_CODE_GPA, write_code, sizeof(write_code));
	else
		memcpy(probe->memory + PROBE_CODE_GPA, count_code, sizeof(count_code));
	/* The guest fetches what the data cache holds only once it is cleaned. */
	__builtin___clear_cache((char *)probe->memory + PROBE_CODE_GPA,
				(char *)probe->memory + PROBE_CODE_GPA + 64);
	for (size_t i = 0; i < ARRAY_SIZE(start) && !error; i++)
		error = kvm_arm64_set_reg(&probe->vcpu, start[i].id, &start[i].value);
	return error;
}

static bool has_device(struct probe_vm *probe, uint32_t type)
{
	int fd;

	return kvm_vm_create_device(&probe->vm, type, true, &fd) == 0;
}

static struct probe_fact *add(struct probe_fact **next, const char *name, bool good)
{
	struct probe_fact *fact = (*next)++;

	*fact = (struct probe_fact){.name = name, .good = good};
	return fact;
}

static void facts_interrupts(struct probe_vm *probe, struct probe_fact **next)
{
	bool gic = has_device(probe, KVM_DEV_TYPE_ARM_VGIC_V3),
	     its = has_device(probe, KVM_DEV_TYPE_ARM_VGIC_ITS);
	struct probe_fact *fact = add(next, "gicv3", gic);

	snprintf(fact->detail, sizeof(fact->detail), "the interrupt controller can %sbe made",
		 gic ? "" : "not ");
	fact->instead = "no VM can be run here";
	fact->fix = "a machine with a GICv3 or newer";
	fact = add(next, "its", its);
	snprintf(fact->detail, sizeof(fact->detail), "message interrupts by the ITS can %sbe made",
		 its ? "" : "not ");
	fact->instead = "no VM can be run here";
	fact->fix = "Linux 4.8 or newer";
}

static void facts_cpu(struct probe_vm *probe, struct probe_fact **next)
{
	static const struct {
		const char *name;
		int capability;
		const char *yes, *no, *instead;
	} features[] = {
		{"sve", KVM_CAP_ARM_SVE, "offered to guests", "the CPU has none",
		 "guests have none"},
		{"pointer-auth", KVM_CAP_ARM_PTRAUTH_ADDRESS, "offered to guests",
		 "the CPU has none", "guests have none"},
		{"el1-32bit", KVM_CAP_ARM_EL1_32BIT, "32-bit kernels could run",
		 "only 64-bit kernels", "nothing: guests are 64-bit"},
		{"mte", KVM_CAP_ARM_MTE,
		 "offered by KVM; not given to guests, for its tags do not migrate", "not offered",
		 "guests have none"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		bool good = kvm_host_extension(&probe->host, features[i].capability);
		struct probe_fact *fact = add(next, features[i].name, good);

		snprintf(fact->detail, sizeof(fact->detail), "%s",
			 good ? features[i].yes : features[i].no);
		fact->instead = features[i].instead;
	}
}

static void facts_migration(struct probe_vm *probe, struct probe_fact **next)
{
	uint64_t masks[KVM_ARM64_ID_REGS];
	bool writable = kvm_arm64_writable_masks(&probe->vm, masks) == 0;
	bool offset = kvm_arm64_has_counter_offset(&probe->vm);
	int bits = kvm_host_extension(&probe->host, KVM_CAP_ARM_VM_IPA_SIZE);
	struct probe_fact *fact = add(next, "id-registers", writable);

	snprintf(fact->detail, sizeof(fact->detail),
		 "what a guest sees of the CPU can %sbe lowered", writable ? "" : "not ");
	fact->instead = "a VM moves only between hosts with the same CPU";
	fact->fix = "Linux 6.7 or newer";
	fact = add(next, "counter-offset", offset);
	snprintf(fact->detail, sizeof(fact->detail), "a VM's counter can %sbe set as one",
		 offset ? "" : "not ");
	fact->instead = "each vCPU's counter is set on its own";
	fact->fix = "Linux 6.4 or newer";
	fact = add(next, "eager-split", probe->host.eager_split_sizes != 0);
	snprintf(fact->detail, sizeof(fact->detail), "block sizes %#llx",
		 (unsigned long long)probe->host.eager_split_sizes);
	fact->instead =
		"the first write to each huge page after logging starts pays for splitting it";
	fact->fix = "Linux 6.5 or newer";
	fact = add(next, "guest-address", true);
	snprintf(fact->detail, sizeof(fact->detail), "guest physical addresses have up to %d bits",
		 bits ? bits : 40);
}

int kvm_probe_arch_facts(struct probe_fact facts[KVM_PROBE_FACTS_MAX])
{
	struct probe_shape shape = {};
	struct probe_fact *next = facts;
	struct probe_vm probe;
	int error = probe_vm_init(&probe, &shape);

	memset(facts, 0, sizeof(*facts) * KVM_PROBE_FACTS_MAX);
	if (!error) {
		facts_interrupts(&probe, &next);
		facts_cpu(&probe, &next);
		facts_migration(&probe, &next);
	}
	probe_vm_fini(&probe);
	return error;
}
