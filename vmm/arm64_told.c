// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an arm64 guest was told of its CPUs and counter, checked against this host before anything else comes: the ID
 * registers, cache geometry and firmware registers of vCPU 0, SVE's vector lengths, and the counter's frequency.
 *
 * They are read when the machine is built, and again when a saved VM's were loaded: reading a register of a vCPU that runs
 * would wait until it leaves the guest, and none of these changes while it runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/arm64.h"

#define TOLD_REGS_MAX  512
#define TOLD_BYTES_MAX 8192
#define TOLD_BUF_BYTES (64 << 10)
#define TOLD_REG_BYTES 64 /* SVE's vector lengths are the widest */

/* clang-format off */
#define TOLD_STATE(T, F, A, V)			\
	F(T, 1, u64, frequency_hz)		\
	F(T, 2, u8, has_its)			\
	F(T, 3, u8, has_pvtime)			\
	V(T, 4, u64, id, TOLD_REGS_MAX)		\
	V(T, 5, u8, value, TOLD_BYTES_MAX)
STATE_STRUCT(arm64_told, TOLD_STATE);
STATE_TABLE(arm64_told, 1, TOLD_STATE);
/* clang-format on */

/* Arm ARM D19.2: identification has CRn 0; op1 2 is CSSELR, which the guest writes. */
static bool is_told(uint64_t id)
{
	unsigned int op0 = (id >> 14) & 3, op1 = (id >> 11) & 7, crn = (id >> 7) & 15;

	if (id == KVM_REG_ARM64_SVE_VLS)
		return true;
	switch ((id & KVM_REG_ARM_COPROC_MASK) >> KVM_REG_ARM_COPROC_SHIFT) {
	case 0x11: /* cache geometry */
	case 0x14: /* firmware */
	case 0x16:
		return true;
	case 0x13:
		return op0 == 3 && crn == 0 && op1 != 2;
	default:
		return false;
	}
}

static int collect(void *opaque, struct kvm_vcpu *vcpu, uint64_t id)
{
	struct arm64_told *told = opaque;
	uint32_t bytes = kvm_arm64_reg_bytes(id);
	char name[ARM64_REG_NAME_MAX];
	int error;

	if (!is_told(id))
		return 0;
	if (told->n_id == TOLD_REGS_MAX || bytes > TOLD_REG_BYTES ||
	    told->n_value + bytes > TOLD_BYTES_MAX)
		return fail(-ENOSPC, "machine: more ID registers than fit");
	error = kvm_arm64_get_reg(vcpu, id, told->value + told->n_value);
	if (error)
		return fail(error, "machine: read %s: %s", arm64_reg_name(id, name),
			    strerror(-error));
	told->id[told->n_id++] = id;
	told->n_value += bytes;
	return 0;
}

int arm64_told_take(struct arch_vm *arch)
{
	AUTO_FREE struct arm64_told *told = calloc(1, sizeof(*told));
	int error;

	if (!told)
		return fail(-ENOMEM, "machine: no memory for what the guest was told");
	told->frequency_hz = arm64_counter_frequency();
	told->has_its = arch->layout.has_its;
	told->has_pvtime = arch->pvtime;
	error = kvm_arm64_each_reg(arch->vcpu[0], collect, told);
	if (error)
		return error;
	arch->told.max = TOLD_BUF_BYTES;
	buf_clear(&arch->told);
	return state_save(&arm64_told_table, 0, told, &arch->told);
}

int arch_vm_save_first(struct arch_vm *arch, struct buf *out)
{
	return buf_put(out, arch->told.bytes, arch->told.len);
}

static int refuse(uint64_t id, const char *why)
{
	char name[ARM64_REG_NAME_MAX];

	return fail(-ENOTSUP, "cpu: %s: %s", arm64_reg_name(id, name), why);
}

static int check_sizes(const struct arm64_told *told)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < told->n_id; i++) {
		if (!is_told(told->id[i]) || kvm_arm64_reg_bytes(told->id[i]) > TOLD_REG_BYTES)
			return fail(-EBADMSG, "machine: register %#llx among the ID registers",
				    (unsigned long long)told->id[i]);
		bytes += kvm_arm64_reg_bytes(told->id[i]);
	}
	if (bytes != told->n_value)
		return fail(-EBADMSG, "machine: %u bytes of values for ID registers of %llu",
			    told->n_value, (unsigned long long)bytes);
	return 0;
}

/* What has the same value, or can be given it. It stays: the same is loaded with the state. */
static int check_register(struct kvm_vcpu *vcpu, uint64_t id, const void *value)
{
	uint8_t here[TOLD_REG_BYTES];

	if (kvm_arm64_get_reg(vcpu, id, here))
		return refuse(id, "this host does not have it");
	if (!memcmp(here, value, kvm_arm64_reg_bytes(id)))
		return 0;
	if (id == KVM_REG_ARM64_SVE_VLS)
		return refuse(id, "this host has other SVE vector lengths");
	if (kvm_arm64_set_reg(vcpu, id, value)) {
		char name[ARM64_REG_NAME_MAX];

		if (kvm_arm64_reg_bytes(id) != sizeof(uint64_t))
			return refuse(id, "another value than this host's, and it cannot be set");
		return fail(-ENOTSUP,
			    "cpu: %s: the guest was told %#llx, this host has %#llx and cannot "
			    "show it",
			    arm64_reg_name(id, name), (unsigned long long)get_le64(value),
			    (unsigned long long)get_le64(here));
	}
	return 0;
}

static bool is_listed(const struct arm64_told *told, uint64_t id)
{
	for (uint32_t i = 0; i < told->n_id; i++)
		if (told->id[i] == id)
			return true;
	return false;
}

static int check_listed(void *opaque, struct kvm_vcpu *vcpu, uint64_t id)
{
	return !is_told(id) || is_listed(opaque, id)
		       ? 0
		       : refuse(id, "this host has it and the VM does not");
}

static int check_machine(const struct arch_vm *arch, const struct arm64_told *told)
{
	if (told->frequency_hz != arm64_counter_frequency())
		return fail(
			-ENOTSUP,
			"cpu: CNTFRQ_EL0: the guest's counter runs at %llu Hz, this host's at %llu",
			(unsigned long long)told->frequency_hz,
			(unsigned long long)arm64_counter_frequency());
	if (told->has_its != arch->layout.has_its)
		return fail(-ENOTSUP, "machine: the guest %s an ITS, this host's KVM %s one",
			    told->has_its ? "has" : "has not got",
			    arch->layout.has_its ? "gives it" : "does not give it");
	if (told->has_pvtime != arch->pvtime)
		return fail(-ENOTSUP, "machine: the guest %s told of stolen time, this host %s it",
			    told->has_pvtime ? "is" : "is not",
			    arch->pvtime ? "tells" : "cannot tell");
	return 0;
}

int arch_vm_check_first(struct arch_vm *arch, struct state_set *in)
{
	AUTO_FREE struct arm64_told *told = calloc(1, sizeof(*told));
	const uint8_t *value;
	int error;

	if (!told)
		return fail(-ENOMEM, "machine: no memory for what the guest was told");
	error = state_load(in, &arm64_told_table, 0, told);
	if (!error)
		error = check_sizes(told);
	if (!error)
		error = check_machine(arch, told);
	if (!error)
		error = kvm_arm64_each_reg(arch->vcpu[0], check_listed, told);
	value = told->value;
	for (uint32_t i = 0; i < told->n_id && !error; i++) {
		error = check_register(arch->vcpu[0], told->id[i], value);
		value += kvm_arm64_reg_bytes(told->id[i]);
	}
	return error;
}
