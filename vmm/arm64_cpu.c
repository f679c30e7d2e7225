// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an arm64 guest may see of the CPU: features that are asked of KVM before anything else, and the ID registers.
 *
 *	host		what the host has, but for what does not migrate yet: PMU, MTE, nested virtualization
 *	armv8-base	every ID field that KVM lets us write has the value that the table below gives (zero where it
 *			has no row): Armv8.0-A with the FP and AdvSIMD that Linux needs. Fields that cannot be written
 *			stay the host's, and a target that has another value there is refused at migration, by name.
 *
 * Sources: Arm ARM (DDI 0487) D19.2; KVM api.rst 4.82 (features), 4.139 (writable masks).
 */
#include "vmm/arm64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kvm/uapi.h"

#define ID_CRN 0

struct id_name {
	uint8_t crm, op2;
	const char *name;
};

/* clang-format off */
static const struct id_name id_names[] = {
	{0, 0, "MIDR_EL1"},		{0, 5, "MPIDR_EL1"},		{0, 6, "REVIDR_EL1"},
	{1, 0, "ID_PFR0_EL1"},		{1, 1, "ID_PFR1_EL1"},		{1, 2, "ID_DFR0_EL1"},
	{4, 0, "ID_AA64PFR0_EL1"},	{4, 1, "ID_AA64PFR1_EL1"},	{4, 2, "ID_AA64PFR2_EL1"},
	{4, 4, "ID_AA64ZFR0_EL1"},	{4, 5, "ID_AA64SMFR0_EL1"},	{5, 0, "ID_AA64DFR0_EL1"},
	{5, 1, "ID_AA64DFR1_EL1"},	{6, 0, "ID_AA64ISAR0_EL1"},	{6, 1, "ID_AA64ISAR1_EL1"},
	{6, 2, "ID_AA64ISAR2_EL1"},	{7, 0, "ID_AA64MMFR0_EL1"},	{7, 1, "ID_AA64MMFR1_EL1"},
	{7, 2, "ID_AA64MMFR2_EL1"},	{7, 3, "ID_AA64MMFR3_EL1"},	{7, 4, "ID_AA64MMFR4_EL1"},
};

/* The baseline where it is not zero. Fields: DDI 0487 D19.2. */
static const struct {
	uint8_t crm, op2;
	uint64_t value;
	const char *what;
} base_ids[] = {
	{4, 0, 0x11 | 1 << 24,		"EL0 and EL1 in AArch64 alone; FP and AdvSIMD there (0); the GIC's system registers"},
	{5, 0, 0x6 | 1 << 20,		"Armv8.0 debug, two watchpoints (one less is stated)"},
	{7, 0, 0x2 | 0xfULL << 24,	"40 bits of physical address; granules: 4 KiB (0), no 64 KiB (15), no 16 KiB (0)"},
};
/* clang-format on */

const char *arm64_reg_name(uint64_t id, char buffer[ARM64_REG_NAME_MAX])
{
	unsigned int kind = (id & KVM_REG_ARM_COPROC_MASK) >> KVM_REG_ARM_COPROC_SHIFT;
	unsigned int op0 = (id >> 14) & 3, op1 = (id >> 11) & 7, crn = (id >> 7) & 15,
		     crm = (id >> 3) & 15;
	unsigned int op2 = id & 7;

	if (kind == 0x14 || kind == 0x16) {
		snprintf(buffer, ARM64_REG_NAME_MAX, "firmware register %s%" PRIu64,
			 kind == 0x16 ? "map " : "", id & 0xffff);
		return buffer;
	}
	if (kind != 0x13) {
		snprintf(buffer, ARM64_REG_NAME_MAX, "register %#" PRIx64, id);
		return buffer;
	}
	snprintf(buffer, ARM64_REG_NAME_MAX, "system register %u:%u:%u:%u:%u", op0, op1, crn, crm,
		 op2);
	for (size_t i = 0; op0 == 3 && op1 == 0 && crn == ID_CRN && i < ARRAY_SIZE(id_names); i++) {
		if (id_names[i].crm == crm && id_names[i].op2 == op2)
			snprintf(buffer, ARM64_REG_NAME_MAX, "%s", id_names[i].name);
	}
	return buffer;
}

static void add_feature(struct arch_vm *arch, unsigned int feature)
{
	arch->init.features[feature / 32] |= 1U << (feature % 32);
}

int arm64_cpu_choose(struct arch_vm *arch)
{
	const struct kvm_host *host = arch->vm->host;
	bool all = !strcmp(arch->config->cpu, "host");
	int error = kvm_arm64_preferred_target(arch->vm, &arch->init);

	if (error)
		return error;
	if (!all && strcmp(arch->config->cpu, "armv8-base"))
		return fail(-EINVAL, "cpu: %s: on arm64 there are host and armv8-base",
			    arch->config->cpu);
	memset(arch->init.features, 0, sizeof(arch->init.features));
	add_feature(arch, KVM_ARM_VCPU_PSCI_0_2);
	if (!all)
		return 0;
	arch->sve = kvm_host_extension(host, KVM_CAP_ARM_SVE);
	if (arch->sve)
		add_feature(arch, KVM_ARM_VCPU_SVE);
	if (kvm_host_extension(host, KVM_CAP_ARM_PTRAUTH_ADDRESS) &&
	    kvm_host_extension(host, KVM_CAP_ARM_PTRAUTH_GENERIC)) {
		add_feature(arch, KVM_ARM_VCPU_PTRAUTH_ADDRESS);
		add_feature(arch, KVM_ARM_VCPU_PTRAUTH_GENERIC);
	}
	return 0;
}

static uint64_t base_value(unsigned int crm, unsigned int op2)
{
	for (size_t i = 0; i < ARRAY_SIZE(base_ids); i++) {
		if (base_ids[i].crm == crm && base_ids[i].op2 == op2)
			return base_ids[i].value;
	}
	return 0;
}

int arm64_cpu_fix_ids(struct arch_vm *arch, struct kvm_vcpu *vcpu)
{
	uint64_t masks[KVM_ARM64_ID_REGS];
	char name[ARM64_REG_NAME_MAX];
	int error = kvm_arm64_writable_masks(arch->vm, masks);

	if (error)
		return fail(error, "cpu: armv8-base: this kernel does not let ID registers be "
				   "written (Linux 6.7 does)");
	for (unsigned int i = 0; i < KVM_ARM64_ID_REGS; i++) {
		unsigned int crm = i / 8, op2 = i % 8;
		uint64_t id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG | 3 << 14 |
			      crm << 3 | op2;
		uint64_t value, fixed;

		/* AArch32's (CRm 1 to 3) are invisible to a guest that has none. */
		if (!masks[i] || crm < 4 || kvm_arm64_get_reg(vcpu, id, &value))
			continue;
		fixed = (value & ~masks[i]) | (base_value(crm, op2) & masks[i]);
		if (fixed == value)
			continue;
		error = kvm_arm64_set_reg(vcpu, id, &fixed);
		if (error)
			return fail(error,
				    "cpu: armv8-base: this host cannot make %s %#" PRIx64
				    " (it has %#" PRIx64 "): %s",
				    arm64_reg_name(id, name), fixed, value, strerror(-error));
	}
	return 0;
}
