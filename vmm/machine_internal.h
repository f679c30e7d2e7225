/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine's inside, shared by the files that are its body: machine.c (building), board.c (devices), lifecycle.c,
 * machine_state.c (save and load). Nobody else includes this.
 */
#ifndef VMM_MACHINE_INTERNAL_H
#define VMM_MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "devices/pci.h"
#include "devices/virtio.h"
#include "devices/vmgenid.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/sandbox.h"
#include "vmm/serial_host.h"
#include "vmm/vcpu.h"
#include "vmm/wiring.h"

/* What vCPU threads ask of the main thread; bits, the most important first. */
enum machine_request {
	REQUEST_ERROR = 1 << 0,
	REQUEST_PANIC = 1 << 1,
	REQUEST_POWEROFF = 1 << 2,
	REQUEST_RESET = 1 << 3,
};

struct machine {
	/* Main thread only, but where another is named. */
	struct config config;
	struct loop *loop; /* the caller's */
	struct machine_events events;
	enum machine_status status;
	bool incoming;	     /* RAM and state come from elsewhere: no boot image is loaded */
	bool devices_paused; /* device_list_pause() holds */
	bool ran;	     /* a vCPU has run: RAM is not fresh, clocks tell of pauses */
	bool loaded;	     /* machine_load() succeeded */
	bool held;	     /* it is being moved: nobody else resumes or resets it */
	bool has_buses;
	bool sealed; /* the main thread's sandbox is closed */

	struct kvm_host host;
	struct kvm_vm vm;
	struct kvm_irq irq;
	struct arch_layout layout;
	struct arch_vm *arch;
	struct ram *ram;
	struct dirty_choice dirty_choice;
	struct dirty *dirty;
	struct vcpus vcpus;

	struct bus mmio, pio;
	struct wiring_kvm wiring;
	struct device_list devices;
	struct pci_host *pci; /* owned by `devices`, like all devices */
	struct vmgenid *vmgenid;
	struct serial_host_end *serial;

	struct sandbox *sandbox; /* each thread enters its class of it */

	/* The I/O loop and its thread. */
	struct loop *io_loop;
	pthread_t io_thread;
	int io_start_error;
	bool has_io_thread;

	/* From vCPU threads: bits, then the eventfd. */
	atomic_uint requests;
	int request_fd;
	struct loop_watch *request_watch;
};

/* board.c */
/* Defaults become effective values: nothing later decides by itself. */
int board_resolve(struct config *config) must_check;
int board_new(struct machine *machine) must_check;

/* machine.c: closes the main thread's sandbox, once. */
int machine_seal(struct machine *machine) must_check;

/* machine_disks.c: what is saved of a disk's image; for tests. */
extern const struct state_table *const machine_disk_table;

/* lifecycle.c */
/* Any thread: parks the vCPUs and has the main thread see to it. */
void machine_ask(struct machine *machine, enum machine_request request);
void machine_handle_requests(struct machine *machine);
/* Boot image and vCPUs as after power on; vCPUs parked, devices paused or never run. */
int machine_load_guest(struct machine *machine) must_check;

#endif
