// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An arm64 vCPU's state, saved and loaded.
 *
 * Theory of operation. KVM lists every register that a vCPU has (KVM_GET_REG_LIST): core, system, ID, timer, SVE and
 * firmware registers; all of them travel, as pairs of id and value. On the target each saved register is written; one
 * that cannot be, but reads the same, is fine (MIDR, caches); any other refuses the VM by the register's name. So does
 * a register that this host's list has and the saved one lacks: its value would be this host's, not the VM's.
 *
 * Three do not fit that: the SVE vector lengths are fixed when the feature is finalised and only compared; the counters
 * are one for the whole VM (arm64_clock.c); and which address holds stolen time is not a register.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/arm64.h"

#define REGS_MAX      2048
#define VALUES_MAX    65536
#define REG_MAX_BYTES 256 /* an SVE vector */

/* clang-format off */
#define VCPU_STATE(T, F, A, V)			\
	F(T, 1, u32, mp_state)			\
	F(T, 2, u8, serror_pending)		\
	F(T, 3, u8, serror_has_esr)		\
	F(T, 4, u64, serror_esr)		\
	F(T, 5, u8, ext_dabt_pending)		\
	F(T, 6, u64, pvtime_ipa)		\
	V(T, 7, u64, id, REGS_MAX)		\
	V(T, 8, u8, value, VALUES_MAX)
STATE_STRUCT(arm64_vcpu, VCPU_STATE);
STATE_TABLE(arm64_vcpu, 1, VCPU_STATE);
/* clang-format on */

#define NO_PVTIME     UINT64_MAX
#define TIMER_EXPIRED (1U << 2) /* ISTATUS, read-only */

static bool is_counter(uint64_t id)
{
	return id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

/*
 * Timer control registers (CNTV_CTL_EL0, CNTP_CTL_EL0): whether the timer has expired is no state but a comparison with a
 * counter that runs, which KVM makes when it is asked, and ignores when it is told.
 */
static bool is_timer_control(uint64_t id)
{
	return id == KVM_REG_ARM_TIMER_CTL || id == KVM_REG_ARM_PTIMER_CTL;
}

/* What must not be written, only be the same. */
static bool is_fixed(uint64_t id)
{
	return id == KVM_REG_ARM64_SVE_VLS;
}

static int save_register(void *opaque, struct kvm_vcpu *vcpu, uint64_t id)
{
	struct arm64_vcpu *state = opaque;
	uint32_t bytes = kvm_arm64_reg_bytes(id);
	char name[ARM64_REG_NAME_MAX];
	int error;

	if (is_counter(id))
		return 0;
	if (state->n_id == REGS_MAX || bytes > REG_MAX_BYTES || state->n_value + bytes > VALUES_MAX)
		return fail(-ENOSPC, "machine: vCPU %u has more registers than fit", vcpu->index);
	error = kvm_arm64_get_reg(vcpu, id, state->value + state->n_value);
	if (error)
		return fail(error, "machine: read %s of vCPU %u: %s", arm64_reg_name(id, name),
			    vcpu->index, strerror(-error));
	if (is_timer_control(id))
		state->value[state->n_value] &= ~TIMER_EXPIRED;
	state->id[state->n_id++] = id;
	state->n_value += bytes;
	return 0;
}

int arch_vcpu_save(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out)
{
	AUTO_FREE struct arm64_vcpu *state = calloc(1, sizeof(*state));
	struct kvm_vcpu_events events;
	int error;

	if (!state)
		return fail(-ENOMEM, "machine: no memory for a vCPU's state");
	error = kvm_vcpu_get_mp_state(vcpu, &state->mp_state);
	if (!error)
		error = kvm_vcpu_get_events(vcpu, &events);
	if (!error)
		error = kvm_arm64_each_reg(vcpu, save_register, state);
	if (error)
		return error;
	state->serror_pending = events.exception.serror_pending;
	state->serror_has_esr = events.exception.serror_has_esr;
	state->serror_esr = events.exception.serror_esr;
	state->ext_dabt_pending = events.exception.ext_dabt_pending;
	state->pvtime_ipa = arch->pvtime ? ARM64_PVTIME + (uint64_t)vcpu->index * ARM64_PVTIME_BYTES
					 : NO_PVTIME;
	return state_save(&arm64_vcpu_table, vcpu->index, state, out);
}

static int refuse(struct kvm_vcpu *vcpu, uint64_t id, const char *why)
{
	char name[ARM64_REG_NAME_MAX];

	return fail(-EBADMSG, "machine: vCPU %u: %s: %s", vcpu->index, arm64_reg_name(id, name),
		    why);
}

static int load_register(struct kvm_vcpu *vcpu, uint64_t id, const void *value)
{
	uint8_t here[REG_MAX_BYTES];
	int error = -EPERM;

	if (is_counter(id))
		return refuse(vcpu, id, "it belongs to the VM, not to one vCPU");
	if (!is_fixed(id))
		error = kvm_arm64_set_reg(vcpu, id, value);
	if (!error)
		return 0;
	if (kvm_arm64_get_reg(vcpu, id, here))
		return refuse(vcpu, id, "this host does not have it");
	if (memcmp(here, value, kvm_arm64_reg_bytes(id)))
		return refuse(vcpu, id, "another value than this host's, and it cannot be set");
	return 0;
}

static bool is_listed(const struct arm64_vcpu *state, uint64_t id)
{
	for (uint32_t i = 0; i < state->n_id; i++) {
		if (state->id[i] == id)
			return true;
	}
	return false;
}

/* A register of this host's vCPU is among those saved. */
static int check_listed(void *opaque, struct kvm_vcpu *vcpu, uint64_t id)
{
	return is_counter(id) || is_listed(opaque, id)
		       ? 0
		       : refuse(vcpu, id, "this host has it and the saved VM does not");
}

/* The sizes that the ids state must add up to the values that came. */
static int check_sizes(const struct kvm_vcpu *vcpu, const struct arm64_vcpu *state)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < state->n_id; i++) {
		if (kvm_arm64_reg_bytes(state->id[i]) > REG_MAX_BYTES)
			return fail(-EBADMSG, "machine: vCPU %u: register of %u bytes", vcpu->index,
				    kvm_arm64_reg_bytes(state->id[i]));
		bytes += kvm_arm64_reg_bytes(state->id[i]);
	}
	if (bytes != state->n_value)
		return fail(-EBADMSG,
			    "machine: vCPU %u: %u bytes of values for registers of %" PRIu64,
			    vcpu->index, state->n_value, bytes);
	return 0;
}

static int load_events(struct kvm_vcpu *vcpu, const struct arm64_vcpu *state)
{
	struct kvm_vcpu_events events = {};

	events.exception.serror_pending = state->serror_pending;
	events.exception.serror_has_esr = state->serror_has_esr;
	events.exception.serror_esr = state->serror_esr;
	events.exception.ext_dabt_pending = state->ext_dabt_pending;
	return kvm_vcpu_set_events(vcpu, &events);
}

int arch_vcpu_load(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in)
{
	AUTO_FREE struct arm64_vcpu *state = calloc(1, sizeof(*state));
	uint64_t pvtime = arch->pvtime ? ARM64_PVTIME + (uint64_t)vcpu->index * ARM64_PVTIME_BYTES
				       : NO_PVTIME;
	const uint8_t *value;
	int error;

	if (!state)
		return fail(-ENOMEM, "machine: no memory for a vCPU's state");
	error = state_load(in, &arm64_vcpu_table, vcpu->index, state);
	if (!error)
		error = check_sizes(vcpu, state);
	if (!error)
		error = kvm_arm64_each_reg(vcpu, check_listed, state);
	if (!error && state->pvtime_ipa != pvtime)
		error = fail(-EBADMSG,
			     "machine: vCPU %u: stolen time at %#" PRIx64 ", here at %#" PRIx64,
			     vcpu->index, state->pvtime_ipa, pvtime);
	value = state->value;
	for (uint32_t i = 0; !error && i < state->n_id; i++) {
		error = load_register(vcpu, state->id[i], value);
		value += kvm_arm64_reg_bytes(state->id[i]);
	}
	if (!error)
		error = load_events(vcpu, state);
	return error ? error : kvm_vcpu_set_mp_state(vcpu, state->mp_state);
}

int arch_vm_save(struct arch_vm *arch, struct buf *out)
{
	int error = arm64_clock_save(arch, out);

	return error ? error : arm64_gic_save(arch, out);
}

int arch_vm_load_first(struct arch_vm *arch, struct state_set *in)
{
	/* What the guest was told is in its vCPUs' ID registers, which are written and compared with the rest. */
	return 0;
}

int arch_vm_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode)
{
	int error = arm64_clock_load(arch, in, mode);

	if (!error)
		error = arm64_gic_load(arch, in);
	/* The vCPUs have the saved VM's registers now. */
	return error ? error : arm64_told_take(arch);
}

int arch_vm_load_late(struct arch_vm *arch, struct state_set *in)
{
	return arm64_its_load(arch, in);
}
