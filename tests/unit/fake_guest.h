/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's half of devices, for tests: configuration space and BARs through a bus, and a virtio driver with its rings
 * in a plain struct ram. It does what it is told, right or wrong.
 */
#ifndef TESTS_FAKE_GUEST_H
#define TESTS_FAKE_GUEST_H

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/loop.h"
#include "devices/bus.h"
#include "devices/pci.h"
#include "devices/virtio.h"
#include "memory/ram.h"
#include "tests/unit/fake_wiring.h"

#define GUEST_ECAM   0xe0000000ULL
#define GUEST_MMIO32 0xc0000000ULL
#define GUEST_MMIO64 0x100000000ULL
#define GUEST_RAM    (4ULL << 20)

struct guest {
	struct fake_wiring wiring;
	struct bus mmio;
	struct pci_host *pci;
	struct ram *ram;
	struct loop *loop;
	struct virtio_env env;
	struct device_list devices; /* frees what is added */
};

/* 0, or the error of what failed. */
static inline int guest_init(struct guest *guest)
{
	const struct pci_windows windows = {
		.ecam = GUEST_ECAM,
		.ecam_bytes = 1 << 20,
		.mmio32 = GUEST_MMIO32,
		.mmio32_bytes = 1 << 20,
		.mmio64 = GUEST_MMIO64,
		.mmio64_bytes = 1 << 24,
	};
	const struct ram_layout layout = {.nranges = 1, .range = {{0, GUEST_RAM}}};
	int error;

	memset(guest, 0, sizeof(*guest));
	fake_wiring_init(&guest->wiring);
	bus_init(&guest->mmio);
	error = loop_new(&guest->loop);
	if (!error)
		error = ram_new(&guest->ram, &layout);
	if (!error)
		error = pci_host_new(&guest->pci, &guest->mmio, &guest->wiring.wiring, &windows);
	if (!error)
		error = device_list_add(&guest->devices, &guest->pci->device);
	guest->env = (struct virtio_env){guest->pci, guest->ram, guest->loop};
	return error;
}

static inline void guest_fini(struct guest *guest)
{
	device_list_free(&guest->devices);
	ram_free(guest->ram);
	loop_free(guest->loop);
	bus_fini(&guest->mmio);
}

/* Runs the I/O loop until it has nothing to do. */
static inline void guest_run_loop(struct guest *guest)
{
	while (loop_run_once(guest->loop, 0) > 0)
		;
}

/* Configuration space of function 0 of a slot */

static inline uint32_t guest_config_read(struct guest *guest, unsigned int slot,
					 unsigned int offset, unsigned int len)
{
	uint32_t value = 0;

	bus_read(&guest->mmio, GUEST_ECAM + ((uint64_t)slot << 15) + offset, &value, len);
	return value;
}

static inline void guest_config_write(struct guest *guest, unsigned int slot, unsigned int offset,
				      uint32_t value, unsigned int len)
{
	bus_write(&guest->mmio, GUEST_ECAM + ((uint64_t)slot << 15) + offset, &value, len);
}

static inline gpa_t guest_bar(struct guest *guest, unsigned int slot, unsigned int bar)
{
	uint64_t low = guest_config_read(guest, slot, PCI_BASE_ADDRESS_0 + 8 * bar, 4);
	uint64_t high = guest_config_read(guest, slot, PCI_BASE_ADDRESS_0 + 8 * bar + 4, 4);

	return (low & ~0xfULL) | high << 32;
}

static inline void guest_enable_pci(struct guest *guest, unsigned int slot)
{
	guest_config_write(guest, slot, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* The offset of a capability; 0: none. skip: how many of that id to pass over. */
static inline unsigned int guest_find_capability(struct guest *guest, unsigned int slot, uint8_t id,
						 unsigned int skip)
{
	unsigned int at = guest_config_read(guest, slot, PCI_CAPABILITY_LIST, 1);

	for (int i = 0; at && i < 64; i++) {
		if (guest_config_read(guest, slot, at, 1) == id && skip-- == 0)
			return at;
		at = guest_config_read(guest, slot, at + 1, 1);
	}
	return 0;
}

static inline uint64_t guest_read(struct guest *guest, gpa_t gpa, unsigned int len)
{
	uint64_t value = 0;

	bus_read(&guest->mmio, gpa, &value, len);
	return value;
}

static inline void guest_write(struct guest *guest, gpa_t gpa, uint64_t value, unsigned int len)
{
	bus_write(&guest->mmio, gpa, &value, len);
}

/* MSI-X: entry `vector` of the table in BAR 1, as virtio_pci.c has it */

static inline void guest_set_vector(struct guest *guest, unsigned int slot, unsigned int vector,
				    uint64_t address, uint32_t data, bool masked)
{
	gpa_t entry = guest_bar(guest, slot, 1) + 16 * vector;

	guest_write(guest, entry, address, 8);
	guest_write(guest, entry + 8, data, 4);
	guest_write(guest, entry + 12, masked, 4);
}

static inline void guest_msix_control(struct guest *guest, unsigned int slot, uint16_t control)
{
	unsigned int at = guest_find_capability(guest, slot, PCI_CAP_ID_MSIX, 0);

	guest_config_write(guest, slot, at + PCI_MSIX_FLAGS, control, 2);
}

/* A virtio driver with one ring layout: queue q's areas lie at fixed places in RAM */

#define GUEST_QUEUE_GPA(q)    (0x100000ULL + 0x10000ULL * (q))
#define GUEST_DESC(q)	      (GUEST_QUEUE_GPA(q))
#define GUEST_AVAIL(q)	      (GUEST_QUEUE_GPA(q) + 0x4000)
#define GUEST_USED(q)	      (GUEST_QUEUE_GPA(q) + 0x8000)
#define GUEST_COMMON(g, s)    (guest_bar(g, s, 0))
#define GUEST_ISR(g, s)	      (guest_bar(g, s, 0) + 0x1000)
#define GUEST_DEVCFG(g, s)    (guest_bar(g, s, 0) + 0x2000)
#define GUEST_NOTIFY(g, s, q) (guest_bar(g, s, 0) + 0x3000 + 4 * (q))

static inline uint64_t guest_common_read(struct guest *guest, unsigned int slot, unsigned int reg,
					 unsigned int len)
{
	return guest_read(guest, GUEST_COMMON(guest, slot) + reg, len);
}

static inline void guest_common_write(struct guest *guest, unsigned int slot, unsigned int reg,
				      uint64_t value, unsigned int len)
{
	guest_write(guest, GUEST_COMMON(guest, slot) + reg, value, len);
}

static inline uint8_t guest_status(struct guest *guest, unsigned int slot)
{
	return guest_common_read(guest, slot, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void guest_set_status(struct guest *guest, unsigned int slot, uint8_t status)
{
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_STATUS, status, 1);
}

static inline uint64_t guest_offered(struct guest *guest, unsigned int slot)
{
	uint64_t features = 0;

	for (unsigned int i = 0; i < 2; i++) {
		guest_common_write(guest, slot, VIRTIO_PCI_COMMON_DFSELECT, i, 4);
		features |= guest_common_read(guest, slot, VIRTIO_PCI_COMMON_DF, 4) << (32 * i);
	}
	return features;
}

static inline void guest_accept(struct guest *guest, unsigned int slot, uint64_t features)
{
	for (unsigned int i = 0; i < 2; i++) {
		guest_common_write(guest, slot, VIRTIO_PCI_COMMON_GFSELECT, i, 4);
		guest_common_write(guest, slot, VIRTIO_PCI_COMMON_GF,
				   (uint32_t)(features >> (32 * i)), 4);
	}
}

static inline void guest_setup_queue(struct guest *guest, unsigned int slot, unsigned int queue,
				     uint16_t size, uint16_t vector)
{
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_MSIX, vector, 2);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_DESCLO, GUEST_DESC(queue), 8);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_AVAILLO, GUEST_AVAIL(queue), 8);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_USEDLO, GUEST_USED(queue), 8);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

/* From reset to DRIVER_OK with nqueues queues of that size, vectors 1.. for queues and 0 for the configuration. */
static inline void guest_start_virtio(struct guest *guest, unsigned int slot, uint64_t features,
				      unsigned int nqueues, uint16_t size)
{
	guest_enable_pci(guest, slot);
	guest_msix_control(guest, slot, PCI_MSIX_FLAGS_ENABLE);
	for (unsigned int i = 0; i <= nqueues; i++)
		guest_set_vector(guest, slot, i, 0xfee00000, 0x40 + i, false);
	guest_set_status(guest, slot, 0);
	guest_set_status(guest, slot, VIRTIO_STATUS_ACKNOWLEDGE);
	guest_set_status(guest, slot, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	guest_accept(guest, slot, features);
	guest_set_status(guest, slot,
			 VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
				 VIRTIO_STATUS_FEATURES_OK);
	guest_common_write(guest, slot, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (unsigned int i = 0; i < nqueues; i++)
		guest_setup_queue(guest, slot, i, size, i + 1);
	guest_set_status(guest, slot,
			 VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
				 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
}

/* The rings, straight in RAM */

static inline struct vring_desc *guest_desc(struct guest *guest, unsigned int queue, unsigned int i)
{
	return ram_ptr(guest->ram, GUEST_DESC(queue) + 16 * i, 16);
}

static inline void guest_set_desc(struct guest *guest, unsigned int queue, unsigned int i,
				  uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	*guest_desc(guest, queue, i) =
		(struct vring_desc){.addr = gpa, .len = len, .flags = flags, .next = next};
}

static inline uint16_t *guest_avail(struct guest *guest, unsigned int queue)
{
	return ram_ptr(guest->ram, GUEST_AVAIL(queue), 0x1000); /* flags, idx, ring... */
}

static inline uint16_t *guest_used(struct guest *guest, unsigned int queue)
{
	return ram_ptr(guest->ram, GUEST_USED(queue), 0x4000); /* flags, idx, elements... */
}

static inline uint16_t guest_used_idx(struct guest *guest, unsigned int queue)
{
	return guest_used(guest, queue)[1];
}

static inline void guest_used_elem(struct guest *guest, unsigned int queue, unsigned int i,
				   uint32_t *id, uint32_t *len)
{
	const uint8_t *elem = (const uint8_t *)(guest_used(guest, queue) + 2) + 8 * i;

	*id = get_le32(elem);
	*len = get_le32(elem + 4);
}

/* Makes a chain's head available; size: of the queue. */
static inline void guest_make_available(struct guest *guest, unsigned int queue, uint16_t size,
					uint16_t head)
{
	uint16_t *avail = guest_avail(guest, queue);

	avail[2 + avail[1] % size] = head;
	avail[1]++;
}

static inline void guest_kick(struct guest *guest, unsigned int slot, unsigned int queue)
{
	gpa_t gpa = GUEST_NOTIFY(guest, slot, queue);

	if (!fake_ring_doorbell(&guest->wiring, gpa))
		guest_write(guest, gpa, queue, 2);
}

#endif
