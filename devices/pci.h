/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI: one host bridge with bus 0, reached through ECAM, and the functions on it (function 0 of slots 1..31): their
 * configuration space, 64-bit memory BARs that the guest may move, capabilities, MSI-X. No INTx, no I/O BARs, no bridges.
 * Sources: PCI Local Bus 3.0 section 6, PCI Firmware 3.0 (ECAM), PCI Express base 7.7 (MSI-X).
 *
 * Threads and locks. The guest's accesses come from vCPU threads. pci_host.lock guards the configuration space and the
 * placement of BARs of all functions; pci_msix.lock one function's vectors. Order: pci_host.lock, then the device's own
 * lock, then pci_msix.lock. Raising an interrupt takes no lock.
 *
 * BARs get addresses at creation and at reset, from the windows that the host bridge is given; after that they are the
 * guest's. A BAR that the guest puts outside the windows or over another BAR answers nowhere until it is moved again.
 */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/log.h"
#include "base/state.h"
#include "devices/bus.h"
#include "devices/device.h"
#include "devices/wiring.h"
#include "memory/ram.h"

#define PCI_SLOTS 32
#define PCI_CONFIG_BYTES \
	256 /* conventional space; 256..4095 reads as zero: no extended capabilities */
#define PCI_BARS	  3   /* 64-bit each: registers 0-1, 2-3, 4-5 */
#define PCI_MSIX_MAX	  128 /* vectors of one function */
#define PCI_BAR_BYTES_MAX (1ULL << 30)

struct pci_function;

/* clang-format off */
#define PCI_STATE(T, F, A, V)                                                                   \
	A(T, 1, u8, config, PCI_CONFIG_BYTES)      /* the guest's view, BARs and MSI-X control included */ \
	V(T, 2, u32, msix_table, 4 * PCI_MSIX_MAX) /* address low, high, data, vector control */        \
	A(T, 3, u64, msix_pending, PCI_MSIX_MAX / 64)
/* clang-format on */
STATE_STRUCT(pci_state, PCI_STATE);
extern const struct state_table *const pci_state_list;

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
};

/* Every one may be NULL. Offsets and lengths are the guest's: any, see struct bus_ops. */
struct pci_function_ops {
	/* Registers in a BAR; vCPU threads, no lock held (a configuration access window calls with pci_host.lock held). */
	void (*bar_read)(struct pci_function *function, unsigned int bar, uint64_t offset,
			 void *data, unsigned int len);
	void (*bar_write)(struct pci_function *function, unsigned int bar, uint64_t offset,
			  const void *data, unsigned int len);
	/* The BAR now answers at gpa / no longer answers there: doorbells follow. pci_host.lock held. */
	void (*bar_mapped)(struct pci_function *function, unsigned int bar, gpa_t gpa);
	void (*bar_unmapped)(struct pci_function *function, unsigned int bar, gpa_t gpa);
	/* Before a read and after a write of [offset, offset+len) of the configuration space, clipped to it. Lock held. */
	void (*config_reading)(struct pci_function *function, unsigned int offset,
			       unsigned int len);
	void (*config_written)(struct pci_function *function, unsigned int offset,
			       unsigned int len);
	/*
	 * The guest switched bus mastering: without it a device touches no memory. pci_host.lock held. Not called by
	 * reset and commit, after which the device looks itself.
	 */
	void (*bus_master)(struct pci_function *function, bool on);
};

struct pci_bar {
	uint64_t size_bytes; /* a power of two; 0: not there */
	gpa_t reset_gpa;     /* where it is after reset */
	bool mapped;	     /* answers on the bus, at mapped_gpa */
	gpa_t mapped_gpa;
	struct pci_function *function;
	unsigned int index;
};

struct pci_vector {
	int eventfd; /* write 1: interrupt. Masked: not connected, so what is written stays and is the pending bit. */
	uint32_t handle; /* wiring's */
	bool connected;
	struct msi_message message; /* as connected */
};

struct pci_msix {
	pthread_mutex_t lock;  /* table and connections; not the eventfds, which anyone may write */
	unsigned int nvectors; /* 0: no MSI-X */
	unsigned int bar;
	uint8_t capability; /* its offset in configuration space */
	atomic_bool enabled;
	bool masked; /* all of them, by the function mask */
	struct pci_vector *vector;
};

struct pci_function {
	struct pci_host *host;
	unsigned int slot;
	const struct pci_function_ops *ops;
	struct pci_state state;
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits that the guest may change */
	uint8_t initial[PCI_CONFIG_BYTES];  /* after reset */
	unsigned int config_used;	    /* capabilities end here */
	uint8_t last_capability;
	struct pci_bar bar[PCI_BARS];
	struct pci_msix msix;
	atomic_bool bus_master;
};

struct pci_windows {
	gpa_t ecam;
	uint64_t ecam_bytes; /* at least 1 MiB: bus 0 */
	gpa_t mmio32;
	uint64_t mmio32_bytes;
	gpa_t mmio64;
	uint64_t mmio64_bytes; /* 0: none */
};

/* The host bridge is itself a device (and function 0); it must be freed after all functions. */
struct pci_host {
	struct device device;
	pthread_mutex_t lock;
	struct bus *mmio;
	struct wiring wiring;
	struct pci_windows windows;
	gpa_t next32, next64; /* where the next BAR goes at creation */
	struct pci_function *function[PCI_SLOTS];
	struct pci_function bridge;
	struct log_limit limit;
};

/*
 * Adds the ECAM window to the bus. wiring is copied. BARs go to the 32-bit window while there is room (any guest
 * reaches it), then to the 64-bit one. Errors: -EINVAL, -ENOMEM, bus_add's.
 */
int pci_host_new(struct pci_host **out, struct bus *mmio, const struct wiring *wiring,
		 const struct pci_windows *windows) must_check;

/*
 * A function in a slot (1..31; the machine chooses, stable across hosts): init, then BARs, capabilities and MSI-X, then
 * publish, which makes the guest see it. All on the thread that builds the machine, before the guest runs.
 * Errors: -EEXIST slot taken, -EINVAL, -ENOSPC, -ENOMEM. fini takes one that is half built or zeroed.
 */
int pci_function_init(struct pci_function *function, struct pci_host *host, unsigned int slot,
		      const struct pci_identity *identity,
		      const struct pci_function_ops *ops) must_check;
int pci_add_bar(struct pci_function *function, unsigned int bar, uint64_t size_bytes) must_check;
/*
 * body: the capability's bytes after id and next pointer; writable: as many, set bits are the guest's (NULL: none).
 * Returns its offset, or -ENOSPC.
 */
int pci_add_capability(struct pci_function *function, uint8_t id, const void *body,
		       const void *writable, unsigned int len) must_check;
/* MSI-X with table and pending bits in a BAR of its own; opens the vectors with the wiring. */
int pci_add_msix(struct pci_function *function, unsigned int bar, unsigned int nvectors) must_check;
int pci_function_publish(struct pci_function *function) must_check;
void pci_function_fini(struct pci_function *function);

/* The lifecycle parts, called by the device that embeds the function. load: all is checked before commit changes anything. */
void pci_function_reset(struct pci_function *function);
int pci_function_save(const struct pci_function *function, uint32_t instance,
		      struct buf *out) must_check;
int pci_function_load(struct pci_function *function, uint32_t instance, struct state_set *in,
		      struct pci_state *loaded) must_check;
void pci_function_commit(struct pci_function *function, const struct pci_state *loaded);

/* Sends the vector's message, now or when it is unmasked. Any thread, no lock. Vectors out of range are ignored. */
void pci_msix_raise(struct pci_function *function, unsigned int vector);
/* The eventfd that does the same when written (a kernel backend's call descriptor); -1 out of range. Stays ours. */
int pci_msix_eventfd(const struct pci_function *function, unsigned int vector);
static inline bool pci_msix_enabled(const struct pci_function *function)
{
	return atomic_load(&function->msix.enabled);
}
static inline bool pci_bus_master(const struct pci_function *function)
{
	return atomic_load(&function->bus_master);
}

/* One access to the configuration space of a devfn (slot << 3 | function); what ECAM calls. For tests and fuzzers. */
void pci_config_read(struct pci_host *host, unsigned int devfn, unsigned int offset, void *data,
		     unsigned int len);
void pci_config_write(struct pci_host *host, unsigned int devfn, unsigned int offset,
		      const void *data, unsigned int len);

#endif
