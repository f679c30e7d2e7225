/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an architecture must supply, in one place; the bodies are x86_*.c and arm64_*.c. Everything else in vmm/ is
 * the same for both. In words: where RAM and device windows lie; which interrupt controller and how its lines are
 * numbered; how a vCPU is made, what it may see, and how it starts; how the guest is told what hardware there is; which
 * exits it has beyond MMIO; and its state, saved and loaded in KVM's order.
 */
#ifndef VMM_ARCH_H
#define VMM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/state.h"
#include "devices/bus.h"
#include "devices/device.h"
#include "kvm/irq.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "memory/ram.h"
#include "vmm/clock.h"
#include "vmm/config.h"
#include "vmm/wiring.h"

/* Fixed addresses of the machine; version 1 of the machine type. */
struct arch_layout {
	struct ram_layout ram;
	gpa_t ecam, ecam_bytes;	    /* PCI configuration space, bus 0 */
	gpa_t mmio32, mmio32_bytes; /* 32-bit BARs */
	gpa_t mmio64, mmio64_bytes; /* 64-bit BARs, above all RAM */
	bool io_pio;		    /* the serial port is behind port I/O (x86), else MMIO */
	uint64_t serial;	    /* its port or gpa */
	uint32_t serial_gsi;	    /* a wired line, edge */
	bool has_its;		    /* arm64: see dirty_choose() */
	gpa_t vmgenid;		    /* where the tables say that the VM generation ID is */
	unsigned int nlines;
};
/* -EINVAL when the memory does not fit below the guest's address limit (named). */
int arch_get_layout(const struct config *config, const struct kvm_host *host,
		    struct arch_layout *out) must_check;

/* The KVM_CREATE_VM type (arm64: IPA bits). */
unsigned long arch_vm_type(const struct kvm_host *host);

/* Architecture-private part of a VM (interrupt controller descriptors, CPUID tables, boot parameters). */
struct arch_vm;

/* Before memslots: VM capabilities (irqchip, TSS address, exits...). irq gets the wired lines. */
int arch_vm_new(struct arch_vm **out, struct kvm_vm *vm, const struct config *config,
		const struct arch_layout *layout, struct kvm_irq *irq) must_check;
void arch_vm_free(struct arch_vm *arch);
/* After KVM_CREATE_VCPU, on the creating thread: CPUID / features, state before reset. */
int arch_vcpu_init(struct arch_vm *arch, struct kvm_vcpu *vcpu) must_check;
/* After all vCPUs: arm64's VGIC init; x86: nothing. */
int arch_irq_init(struct arch_vm *arch, unsigned int nvcpus) must_check;

/*
 * Loads kernel, initrd and tables (ACPI, device tree, start info) into RAM and remembers the boot vCPU's entry state.
 * Called before the first run and again at each reset. fresh_ram: nothing was written to RAM before. Hostile images:
 * -EINVAL names the file and why.
 */
int arch_load_guest(struct arch_vm *arch, struct ram *ram, bool fresh_ram) must_check;
/* Puts the vCPU in its reset (index > 0: parked) or boot state; on its thread or parked. */
int arch_vcpu_reset(struct arch_vm *arch, struct kvm_vcpu *vcpu) must_check;

/* The interrupt controllers as after power on; vCPUs parked. The vCPUs follow with arch_vcpu_reset(). */
int arch_vm_reset(struct arch_vm *arch) must_check;

/*
 * Devices that differ between architectures: real-time clock, power control. They go to the buses and the list.
 * poweroff and reset are called on a vCPU's thread when the guest asks for it.
 */
struct arch_board {
	struct loop *loop; /* the main thread's */
	struct bus *mmio, *pio;
	struct device_list *devices;
	struct wiring_kvm *wiring;
	void *opaque;
	void (*poweroff)(void *opaque);
	void (*reset)(void *opaque);
};
int arch_add_devices(struct arch_vm *arch, const struct arch_board *board) must_check;
/* The power button; and telling the guest that its VM generation ID has changed. After arch_add_devices(). Any thread. */
void arch_press_power(struct arch_vm *arch);
void arch_notify_vmgenid(struct arch_vm *arch);

/* What an exit means for the machine. */
enum arch_exit {
	ARCH_EXIT_HANDLED, /* go on */
	ARCH_EXIT_RESET,
	ARCH_EXIT_POWEROFF,
	ARCH_EXIT_PANIC, /* triple fault, SEA without handler, ... */
	ARCH_EXIT_ERROR, /* KVM_EXIT_INTERNAL_ERROR and the unknown: logged with the reason */
};
/* Exits that vcpu.c (MMIO, PIO, ring full, memory fault, INTR) does not know; on the vCPU's thread. */
enum arch_exit arch_vcpu_exit(struct arch_vm *arch, struct kvm_vcpu *vcpu);

/*
 * State. vCPU calls on the vCPU's thread or parked, all vCPUs parked. Order at save: vCPUs, then the VM (interrupt
 * controllers, clock; arm64: pending and ITS tables, which write RAM). At load: what the guest was told, vCPUs, the VM
 * (GIC, IRQ chips, clock), then devices, then VM late (routes are back: ITS tables are restored, its control register last).
 */
int arch_vcpu_save(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct buf *out) must_check;
int arch_vcpu_load(struct arch_vm *arch, struct kvm_vcpu *vcpu, struct state_set *in) must_check;
int arch_vm_save(struct arch_vm *arch, struct buf *out) must_check;
/* What the guest was told (CPUID, ID registers, frequencies): before its vCPUs are loaded. -ENOTSUP: this host cannot. */
int arch_vm_load_first(struct arch_vm *arch, struct state_set *in) must_check;
int arch_vm_load(struct arch_vm *arch, struct state_set *in, enum clock_mode mode) must_check;
int arch_vm_load_late(struct arch_vm *arch, struct state_set *in) must_check;
/*
 * What the guest was told, alone: saved at any time, also while vCPUs run; checked on a machine that waits for state, which
 * may keep it, for it is loaded again with the rest. -ENOTSUP names the CPU feature or register that this host
 * cannot show, -EBADMSG what is malformed.
 */
int arch_vm_save_first(struct arch_vm *arch, struct buf *out) must_check;
int arch_vm_check_first(struct arch_vm *arch, struct state_set *in) must_check;
/* Before vCPUs run after a pause or load (x86: KVM_KVMCLOCK_CTRL). */
void arch_vcpu_resume(struct arch_vm *arch, struct kvm_vcpu *vcpu);

#endif
