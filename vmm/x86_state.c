// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saving and loading a vCPU's registers and the VM's interrupt controllers. x87 to AVX-512 are in x86_fpu.c, the clocks
 * in x86_clock.c; the lists are in x86_state.h.
 *
 * Theory of operation of the order in arch_vcpu_load(). CPUID came first, at creation or with x86_cpu, for it decides
 * which of the rest is legal. System registers carry the local APIC's base and mode, so they precede its page. The
 * APIC's page precedes the MSRs, because the deadline timer's MSR is dropped unless the APIC's timer is in that mode.
 * The MP state precedes the events, which may carry a start-up vector for a vCPU that waits for it. TSC and deadline
 * are only checked and kept here: they are set with the VM's clock, for all vCPUs at once (x86_clock.c).
 */
#include "vmm/x86_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/x86_cpuid.h"

STATE_TABLE(x86_regs, 1, X86_REGS);
STATE_TABLE(x86_sregs, 1, X86_SREGS);
STATE_TABLE(x86_debug, 1, X86_DEBUG);
STATE_TABLE(x86_events, 1, X86_EVENTS);
STATE_TABLE(x86_mp, 1, X86_MP);
STATE_TABLE(x86_msrs, 1, X86_MSRS);
STATE_TABLE(x86_lapic, 1, X86_LAPIC_STATE);
STATE_TABLE(x86_cpu, 1, X86_CPU);
STATE_TABLE(x86_ioapic, 1, X86_IOAPIC_STATE);
STATE_TABLE(x86_pic, 1, X86_PIC);

const struct state_table *const x86_register_tables[] = {&x86_regs_table,
							 &x86_sregs_table,
							 &x86_debug_table,
							 &x86_events_table,
							 &x86_mp_table,
							 &x86_msrs_table,
							 &x86_lapic_table,
							 &x86_cpu_table,
							 &x86_ioapic_table,
							 &x86_pic_table,
							 NULL};

/* ---- General registers ---- */

_Static_assert(sizeof(struct kvm_regs) == 18 * 8, "16 registers, rip, rflags");

static int save_regs(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct kvm_regs regs = {};
	struct x86_regs state;
	int error = kvm_x86_get_regs(vcpu, &regs);

	if (error)
		return error;
	memcpy(state.gpr, &regs, sizeof(state.gpr));
	state.rip = regs.rip;
	state.rflags = regs.rflags;
	return state_save(&x86_regs_table, vcpu->index, &state, out);
}

static int load_regs(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct kvm_regs regs = {};
	struct x86_regs state;
	int error = state_load(in, &x86_regs_table, vcpu->index, &state);

	if (error)
		return error;
	memcpy(&regs, state.gpr, sizeof(state.gpr));
	regs.rip = state.rip;
	regs.rflags = state.rflags;
	return kvm_x86_set_regs(vcpu, &regs);
}

/* ---- System registers ---- */

static void segment_to_state(const struct kvm_segment *segment, struct x86_sregs *state, int i)
{
	state->segment_base[i] = segment->base;
	state->segment_limit[i] = segment->limit;
	state->segment_selector[i] = segment->selector;
	state->segment_attributes[i] =
		(segment->type & 15) | (segment->s & 1) << 4 | (segment->dpl & 3) << 5 |
		(segment->present & 1) << 7 | (segment->avl & 1) << 8 | (segment->l & 1) << 9 |
		(segment->db & 1) << 10 | (segment->g & 1) << 11 | (segment->unusable & 1) << 12;
}

static void segment_from_state(struct kvm_segment *segment, const struct x86_sregs *state, int i)
{
	uint16_t a = state->segment_attributes[i];

	*segment = (struct kvm_segment){
		.base = state->segment_base[i],
		.limit = state->segment_limit[i],
		.selector = state->segment_selector[i],
		.type = a & 15,
		.s = a >> 4 & 1,
		.dpl = a >> 5 & 3,
		.present = a >> 7 & 1,
		.avl = a >> 8 & 1,
		.l = a >> 9 & 1,
		.db = a >> 10 & 1,
		.g = a >> 11 & 1,
		.unusable = a >> 12 & 1,
	};
}

/* In the order of the saved arrays, which is also KVM's. */
static struct kvm_segment *segment_of(struct kvm_sregs2 *sregs, int i)
{
	struct kvm_segment *const segments[X86_SEGMENTS] = {&sregs->cs, &sregs->ds, &sregs->es,
							    &sregs->fs, &sregs->gs, &sregs->ss,
							    &sregs->tr, &sregs->ldt};

	return segments[i];
}

static int save_sregs(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct kvm_sregs2 sregs = {};
	struct x86_sregs state = {};
	int error = kvm_x86_get_sregs2(vcpu, &sregs);

	if (error)
		return error;
	for (int i = 0; i < X86_SEGMENTS; i++)
		segment_to_state(segment_of(&sregs, i), &state, i);
	state.gdt_base = sregs.gdt.base;
	state.gdt_limit = sregs.gdt.limit;
	state.idt_base = sregs.idt.base;
	state.idt_limit = sregs.idt.limit;
	state.cr0 = sregs.cr0;
	state.cr2 = sregs.cr2;
	state.cr3 = sregs.cr3;
	state.cr4 = sregs.cr4;
	state.cr8 = sregs.cr8;
	state.efer = sregs.efer;
	state.apic_base = sregs.apic_base;
	state.pdptrs_valid = !!(sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID);
	if (state.pdptrs_valid)
		memcpy(state.pdptr, sregs.pdptrs, sizeof(state.pdptr));
	return state_save(&x86_sregs_table, vcpu->index, &state, out);
}

static int load_sregs(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct kvm_sregs2 sregs = {};
	struct x86_sregs state;
	int error = state_load(in, &x86_sregs_table, vcpu->index, &state);

	if (error)
		return error;
	for (int i = 0; i < X86_SEGMENTS; i++)
		segment_from_state(segment_of(&sregs, i), &state, i);
	sregs.gdt = (struct kvm_dtable){.base = state.gdt_base, .limit = state.gdt_limit};
	sregs.idt = (struct kvm_dtable){.base = state.idt_base, .limit = state.idt_limit};
	sregs.cr0 = state.cr0;
	sregs.cr2 = state.cr2;
	sregs.cr3 = state.cr3;
	sregs.cr4 = state.cr4;
	sregs.cr8 = state.cr8;
	sregs.efer = state.efer;
	sregs.apic_base = state.apic_base;
	if (state.pdptrs_valid) {
		sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
		memcpy(sregs.pdptrs, state.pdptr, sizeof(state.pdptr));
	}
	return kvm_x86_set_sregs2(vcpu, &sregs);
}

/* ---- Debug registers, events, MP state, local APIC ---- */

static int save_debug(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct kvm_debugregs regs = {};
	struct x86_debug state;
	int error = kvm_x86_get_debugregs(vcpu, &regs);

	if (error)
		return error;
	memcpy(state.db, regs.db, sizeof(state.db));
	state.dr6 = regs.dr6;
	state.dr7 = regs.dr7;
	return state_save(&x86_debug_table, vcpu->index, &state, out);
}

static int load_debug(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct kvm_debugregs regs = {};
	struct x86_debug state;
	int error = state_load(in, &x86_debug_table, vcpu->index, &state);

	if (error)
		return error;
	memcpy(regs.db, state.db, sizeof(state.db));
	regs.dr6 = state.dr6;
	regs.dr7 = state.dr7;
	return kvm_x86_set_debugregs(vcpu, &regs);
}

static int save_events(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct kvm_vcpu_events events;
	struct x86_events state;
	int error = kvm_vcpu_get_events(vcpu, &events);

	if (error)
		return error;
	state = (struct x86_events){
		.exception_injected = events.exception.injected,
		.exception_nr = events.exception.nr,
		.exception_has_error_code = events.exception.has_error_code,
		.exception_error_code = events.exception.error_code,
		.interrupt_injected = events.interrupt.injected,
		.interrupt_nr = events.interrupt.nr,
		.interrupt_soft = events.interrupt.soft,
		.interrupt_shadow = events.interrupt.shadow,
		.nmi_injected = events.nmi.injected,
		.nmi_pending = events.nmi.pending,
		.nmi_masked = events.nmi.masked,
		.sipi_vector = events.sipi_vector,
	};
	return state_save(&x86_events_table, vcpu->index, &state, out);
}

static int load_events(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct kvm_vcpu_events events = {};
	struct x86_events state;
	int error = state_load(in, &x86_events_table, vcpu->index, &state);

	if (error)
		return error;
	events.exception.injected = state.exception_injected;
	events.exception.nr = state.exception_nr;
	events.exception.has_error_code = state.exception_has_error_code;
	events.exception.error_code = state.exception_error_code;
	events.interrupt.injected = state.interrupt_injected;
	events.interrupt.nr = state.interrupt_nr;
	events.interrupt.soft = state.interrupt_soft;
	events.interrupt.shadow = state.interrupt_shadow;
	events.nmi.injected = state.nmi_injected;
	events.nmi.pending = state.nmi_pending;
	events.nmi.masked = state.nmi_masked;
	events.sipi_vector = state.sipi_vector;
	/* SMM is not offered, exception payloads are not enabled: their flags stay off. */
	events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		       KVM_VCPUEVENT_VALID_SHADOW;
	return kvm_vcpu_set_events(vcpu, &events);
}

static int save_mp(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct x86_mp state = {};
	int error = kvm_vcpu_get_mp_state(vcpu, &state.mp_state);

	return error ? error : state_save(&x86_mp_table, vcpu->index, &state, out);
}

static int load_mp(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct x86_mp state;
	int error = state_load(in, &x86_mp_table, vcpu->index, &state);

	return error ? error : kvm_vcpu_set_mp_state(vcpu, state.mp_state);
}

_Static_assert(sizeof(struct kvm_lapic_state) == sizeof(struct x86_lapic), "one register page");

static int save_lapic(struct kvm_vcpu *vcpu, struct buf *out)
{
	struct x86_lapic state = {};
	int error = kvm_x86_get_lapic(vcpu, (struct kvm_lapic_state *)&state);

	return error ? error : state_save(&x86_lapic_table, vcpu->index, &state, out);
}

static int load_lapic(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct x86_lapic state;
	int error = state_load(in, &x86_lapic_table, vcpu->index, &state);

	return error ? error : kvm_x86_set_lapic(vcpu, (const struct kvm_lapic_state *)&state);
}

/* ---- MSRs ---- */

/* Room for one KVM_{GET,SET}_MSRS call. */
struct msr_call {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[X86_MSRS_MAX];
};

int x86_msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} call = {.head = {.nmsrs = 1}, .entry = {.index = index}};
	int done = kvm_x86_get_msrs(vcpu, &call.head);

	*value = call.entry.data;
	return done < 0 ? done : done == 1 ? 0 : -ENOENT;
}

int x86_msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} call = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = value}};
	int done = kvm_x86_set_msrs(vcpu, &call.head);

	if (done < 0)
		return done;
	return done == 1 ? 0
			 : fail(-ENOTSUP, "x86: vCPU %u: KVM refuses MSR %#x = %#llx", vcpu->index,
				index, (unsigned long long)value);
}

static bool is_clock_msr(uint32_t index)
{
	return index == X86_MSR_TSC || index == X86_MSR_TSC_DEADLINE;
}

static int save_msrs(const struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out)
{
	struct x86_msrs state = {};
	struct msr_call call = {};
	uint32_t first = 0;

	for (uint32_t i = 0; i < arch->msrs->nmsrs; i++) {
		if (!is_clock_msr(arch->msrs->indices[i]))
			call.entry[call.head.nmsrs++].index = arch->msrs->indices[i];
	}
	/* KVM stops at one that this guest does not have: it is left out, and the call goes on behind it. */
	while (first < call.head.nmsrs) {
		struct msr_call rest = {.head = {.nmsrs = call.head.nmsrs - first}};
		int done;

		memcpy(rest.entry, call.entry + first, rest.head.nmsrs * sizeof(rest.entry[0]));
		done = kvm_x86_get_msrs(vcpu, &rest.head);
		if (done < 0)
			return done;
		for (int i = 0; i < done; i++) {
			state.index[state.n_index++] = rest.entry[i].index;
			state.value[state.n_value++] =
				x86_msr_held(arch->cpuid, rest.entry[i].index, rest.entry[i].data);
		}
		first += done + 1;
	}
	return state_save(&x86_msrs_table, vcpu->index, &state, out);
}

static int load_msrs(struct kvm_vcpu *vcpu, struct state_set *in)
{
	struct x86_msrs state;
	struct msr_call call = {};
	int error = state_load(in, &x86_msrs_table, vcpu->index, &state);

	if (error)
		return error;
	if (state.n_index != state.n_value)
		return fail(-EBADMSG, "x86: %u MSRs with %u values", state.n_index, state.n_value);
	for (uint32_t i = 0; i < state.n_index; i++) {
		if (!x86_msr_is_saved(state.index[i]) || is_clock_msr(state.index[i]))
			return fail(-EBADMSG, "x86: MSR %#x does not belong into saved state",
				    state.index[i]);
	}
	for (uint32_t first = 0; first < state.n_index;) {
		int done;

		call.head.nmsrs = state.n_index - first;
		for (uint32_t i = 0; i < call.head.nmsrs; i++)
			call.entry[i] = (struct kvm_msr_entry){.index = state.index[first + i],
							       .data = state.value[first + i]};
		done = kvm_x86_set_msrs(vcpu, &call.head);
		if (done < 0)
			return done;
		first += done;
		if (first == state.n_index)
			break;
		if (state.value[first])
			return fail(-ENOTSUP, "x86: vCPU %u: this host refuses MSR %#x = %#llx",
				    vcpu->index, state.index[first],
				    (unsigned long long)state.value[first]);
		first++; /* it is zero: what the guest reads of a register that is not there, or a fault as before */
	}
	return 0;
}

/* ---- A vCPU ---- */

int arch_vcpu_save(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out)
{
	/* The MP state first: asking for it lets KVM take in events that change the other registers. */
	int error = save_mp(vcpu, out);

	if (!error)
		error = save_regs(vcpu, out);
	if (!error)
		error = save_sregs(vcpu, out);
	if (!error)
		error = x86_fpu_save(arch, vcpu, out);
	if (!error)
		error = save_debug(vcpu, out);
	if (!error)
		error = save_msrs(arch, vcpu, out);
	if (!error)
		error = save_lapic(vcpu, out);
	if (!error)
		error = save_events(vcpu, out);
	return error ? error : x86_tsc_save(arch, vcpu, out);
}

int arch_vcpu_load(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in)
{
	int error = load_sregs(vcpu, in);

	if (!error)
		error = x86_fpu_load(arch, vcpu, in);
	if (!error)
		error = load_regs(vcpu, in);
	if (!error)
		error = load_debug(vcpu, in);
	if (!error)
		error = load_lapic(vcpu, in);
	if (!error)
		error = load_msrs(vcpu, in);
	if (!error)
		error = load_mp(vcpu, in);
	if (!error)
		error = load_events(vcpu, in);
	return error ? error : x86_tsc_load(arch, vcpu, in);
}

/* ---- Interrupt controllers ---- */

static int save_pic(struct arch_vm *arch, uint32_t chip_id, struct buf *out)
{
	struct kvm_irqchip chip = {.chip_id = chip_id};
	const struct kvm_pic_state *pic = &chip.chip.pic;
	struct x86_pic state;
	int error = kvm_x86_get_irqchip(arch->vm, &chip);

	if (error)
		return error;
	state = (struct x86_pic){
		.last_irr = pic->last_irr,
		.irr = pic->irr,
		.imr = pic->imr,
		.isr = pic->isr,
		.priority_add = pic->priority_add,
		.irq_base = pic->irq_base,
		.read_reg_select = pic->read_reg_select,
		.poll = pic->poll,
		.special_mask = pic->special_mask,
		.init_state = pic->init_state,
		.auto_eoi = pic->auto_eoi,
		.rotate_on_auto_eoi = pic->rotate_on_auto_eoi,
		.special_fully_nested_mode = pic->special_fully_nested_mode,
		.init4 = pic->init4,
		.elcr = pic->elcr,
		.elcr_mask = pic->elcr_mask,
	};
	return state_save(&x86_pic_table, chip_id, &state, out);
}

static int load_pic(struct arch_vm *arch, uint32_t chip_id, struct state_set *in)
{
	struct kvm_irqchip chip = {.chip_id = chip_id};
	struct x86_pic state;
	int error = state_load(in, &x86_pic_table, chip_id, &state);

	if (error)
		return error;
	chip.chip.pic = (struct kvm_pic_state){
		.last_irr = state.last_irr,
		.irr = state.irr,
		.imr = state.imr,
		.isr = state.isr,
		.priority_add = state.priority_add,
		.irq_base = state.irq_base,
		.read_reg_select = state.read_reg_select,
		.poll = state.poll,
		.special_mask = state.special_mask,
		.init_state = state.init_state,
		.auto_eoi = state.auto_eoi,
		.rotate_on_auto_eoi = state.rotate_on_auto_eoi,
		.special_fully_nested_mode = state.special_fully_nested_mode,
		.init4 = state.init4,
		.elcr = state.elcr,
		.elcr_mask = state.elcr_mask,
	};
	return kvm_x86_set_irqchip(arch->vm, &chip);
}

static int save_ioapic(struct arch_vm *arch, struct buf *out)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	const struct kvm_ioapic_state *ioapic = &chip.chip.ioapic;
	struct x86_ioapic state;
	int error = kvm_x86_get_irqchip(arch->vm, &chip);

	if (error)
		return error;
	state = (struct x86_ioapic){.base = ioapic->base_address,
				    .select = ioapic->ioregsel,
				    .id = ioapic->id,
				    .irr = ioapic->irr};
	for (unsigned int i = 0; i < X86_IOAPIC_PINS; i++)
		state.redirection[i] = ioapic->redirtbl[i].bits;
	return state_save(&x86_ioapic_table, 0, &state, out);
}

static int load_ioapic(struct arch_vm *arch, struct state_set *in)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_ioapic_state *ioapic = &chip.chip.ioapic;
	struct x86_ioapic state;
	int error = state_load(in, &x86_ioapic_table, 0, &state);

	if (error)
		return error;
	if (state.base != X86_IOAPIC)
		return fail(-EBADMSG, "x86: the IOAPIC at %#llx", (unsigned long long)state.base);
	*ioapic = (struct kvm_ioapic_state){.base_address = state.base,
					    .ioregsel = state.select,
					    .id = state.id,
					    .irr = state.irr};
	for (unsigned int i = 0; i < X86_IOAPIC_PINS; i++)
		ioapic->redirtbl[i].bits = state.redirection[i];
	return kvm_x86_set_irqchip(arch->vm, &chip);
}

int x86_chips_save(struct arch_vm *arch, struct buf *out)
{
	int error = save_pic(arch, KVM_IRQCHIP_PIC_MASTER, out);

	if (!error)
		error = save_pic(arch, KVM_IRQCHIP_PIC_SLAVE, out);
	return error ? error : save_ioapic(arch, out);
}

int x86_chips_load(struct arch_vm *arch, struct state_set *in)
{
	int error = load_pic(arch, KVM_IRQCHIP_PIC_MASTER, in);

	if (!error)
		error = load_pic(arch, KVM_IRQCHIP_PIC_SLAVE, in);
	return error ? error : load_ioapic(arch, in);
}

/* ---- What the guest was told of its CPUs ---- */

_Static_assert(X86_CPUID_MAX <= 256, "the section's arrays hold every table");

static int save_cpu(struct arch_vm *arch, struct buf *out)
{
	struct x86_cpu state = {.tsc_khz = arch->tsc_khz};
	uint32_t n = arch->cpuid->nent;

	for (uint32_t i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *entry = &arch->cpuid->entries[i];

		state.function[i] = entry->function;
		state.index[i] = entry->index;
		state.flags[i] = entry->flags;
		state.eax[i] = entry->eax;
		state.ebx[i] = entry->ebx;
		state.ecx[i] = entry->ecx;
		state.edx[i] = entry->edx;
	}
	state.n_function = state.n_index = state.n_flags = n;
	state.n_eax = state.n_ebx = state.n_ecx = state.n_edx = n;
	return state_save(&x86_cpu_table, 0, &state, out);
}

static int table_from_state(const struct x86_cpu *state, struct kvm_cpuid2 **out)
{
	struct kvm_cpuid2 *cpuid;
	uint32_t n = state->n_function;

	if (n == 0 || n > X86_CPUID_MAX || state->n_index != n || state->n_flags != n ||
	    state->n_eax != n || state->n_ebx != n || state->n_ecx != n || state->n_edx != n)
		return fail(-EBADMSG, "x86: the CPUID table's columns differ in length");
	cpuid = calloc(1, sizeof(*cpuid) + X86_CPUID_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return fail(-ENOMEM, "x86: no memory for CPUID");
	cpuid->nent = n;
	for (uint32_t i = 0; i < n; i++)
		cpuid->entries[i] = (struct kvm_cpuid_entry2){
			.function = state->function[i],
			.index = state->index[i],
			.flags = state->flags[i] & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = state->eax[i],
			.ebx = state->ebx[i],
			.ecx = state->ecx[i],
			.edx = state->edx[i]};
	*out = cpuid;
	return 0;
}

static int load_cpu(struct arch_vm *arch, struct state_set *in)
{
	AUTO_FREE struct x86_cpu *state = malloc(sizeof(*state));
	struct kvm_cpuid2 *cpuid = NULL;
	int error;

	if (!state)
		return fail(-ENOMEM, "x86: no memory for CPUID");
	error = state_load(in, &x86_cpu_table, 0, state);
	if (!error)
		error = table_from_state(state, &cpuid);
	if (!error)
		error = x86_cpuid_check(cpuid, arch->supported);
	if (!error)
		error = x86_tsc_khz_set(arch, state->tsc_khz);
	for (unsigned int i = 0; i < arch->nvcpus && !error; i++)
		error = x86_vcpu_set_cpuid(arch, arch->vcpu[i], cpuid);
	if (error) {
		free(cpuid);
		return error;
	}
	free(arch->cpuid);
	arch->cpuid = cpuid;
	return 0;
}

/* ---- The VM ---- */

int arch_vm_save(struct arch_vm *arch, struct buf *out)
{
	int error = save_cpu(arch, out);

	if (!error)
		error = x86_chips_save(arch, out);
	return error ? error : x86_clock_save(arch, out);
}

int arch_vm_load_first(struct arch_vm *arch, struct state_set *in)
{
	return load_cpu(arch, in);
}

int arch_vm_save_first(struct arch_vm *arch, struct buf *out)
{
	return save_cpu(arch, out);
}

int arch_vm_check_first(struct arch_vm *arch, struct state_set *in)
{
	return load_cpu(arch, in);
}

int arch_vm_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode)
{
	int error = x86_chips_load(arch, in);

	return error ? error : x86_clock_load(arch, in, mode);
}

int arch_vm_load_late(struct arch_vm *arch, struct state_set *in)
{
	return 0;
}
