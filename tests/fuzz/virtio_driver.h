/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio driver made of a fuzzer's input, for targets of devices: wild accesses to rings and registers, and chains that
 * are almost right, of segments whose bytes come from the input too.
 */
#ifndef TESTS_FUZZ_VIRTIO_DRIVER_H
#define TESTS_FUZZ_VIRTIO_DRIVER_H

#include "tests/fuzz/input.h"
#include "tests/unit/fake_guest.h"

#define FUZZ_QSIZE     16
#define FUZZ_DATA      0x200000ULL /* segments lie from here on */
#define FUZZ_DATA_MASK 0xffff
#define FUZZ_AREA      0x9000

static inline void fuzz_clear_rings(struct guest *guest, unsigned int nqueues)
{
	for (unsigned int q = 0; q < nqueues; q++)
		memset(ram_ptr(guest->ram, GUEST_QUEUE_GPA(q), FUZZ_AREA), 0, FUZZ_AREA);
}

static inline void fuzz_write_ring(struct guest *guest, struct input *in, unsigned int queue)
{
	uint16_t at = input_u16(in);
	uint8_t data[16];
	size_t len = 1 + input_u8(in) % sizeof(data);

	input_take(in, data, len);
	if (at + len <= FUZZ_AREA)
		memcpy(ram_ptr(guest->ram, GUEST_QUEUE_GPA(queue) + at, len), data, len);
}

static inline void fuzz_access(struct guest *guest, struct input *in, gpa_t base, uint16_t mask)
{
	gpa_t gpa = base + (input_u16(in) & mask);
	uint8_t how = input_u8(in);
	uint64_t value = 0;

	if (how & 0x80) {
		bus_read(&guest->mmio, gpa, &value, 1 + how % 8);
		return;
	}
	input_take(in, &value, 1 + how % 8);
	bus_write(&guest->mmio, gpa, &value, 1 + how % 8);
}

/* Up to 7 segments: each says whether it is written to, where it is, how long, and what is in its first bytes. */
static inline void fuzz_add_chain(struct guest *guest, struct input *in, unsigned int queue)
{
	uint16_t head = input_u8(in) % FUZZ_QSIZE;
	unsigned int n = 1 + input_u8(in) % 7;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t at = (uint16_t)((head + i) % FUZZ_QSIZE);
		uint8_t how = input_u8(in);
		gpa_t gpa = FUZZ_DATA + (input_u16(in) & FUZZ_DATA_MASK);
		uint32_t len = how & 1 ? input_u8(in) : input_u16(in);
		uint16_t flags = (uint16_t)((how & 2 ? VRING_DESC_F_WRITE : 0) |
					    (i + 1 < n ? VRING_DESC_F_NEXT : 0));

		input_take(in, ram_ptr(guest->ram, gpa, 32), how >> 3);
		guest_set_desc(guest, queue, at, gpa, len, flags,
			       (uint16_t)((at + 1) % FUZZ_QSIZE));
	}
	guest_make_available(guest, queue, FUZZ_QSIZE, head);
}

/* One access of a driver to the device in `slot`. */
static inline void fuzz_driver_step(struct guest *guest, struct input *in, unsigned int slot,
				    unsigned int nqueues)
{
	uint8_t what = input_u8(in);
	unsigned int queue = (what >> 4) % nqueues;

	switch (what & 15) {
	case 0:
		fuzz_write_ring(guest, in, queue);
		break;
	case 1:
		fuzz_access(guest, in, guest_bar(guest, slot, 0), 0x3f);
		break;
	case 2:
		fuzz_access(guest, in, guest_bar(guest, slot, 0), 0x3fff);
		break;
	case 3:
	case 4:
		guest_kick(guest, slot, queue);
		break;
	default:
		fuzz_add_chain(guest, in, queue);
		break;
	}
}

static inline void fuzz_start_driver(struct guest *guest, unsigned int slot, uint8_t begin,
				     unsigned int nqueues)
{
	uint64_t features = 0;

	guest_enable_pci(guest, slot);
	features = guest_offered(guest, slot);
	if (begin & 2)
		features &= ~VIRTIO_F_EVENT_IDX;
	guest_start_virtio(guest, slot, features, nqueues, FUZZ_QSIZE);
}

#endif
