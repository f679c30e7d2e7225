// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A virtio device's registers, configuration and queue, by any driver: register accesses, writes to the rings, kicks, turns
 * of the I/O loop, pauses and migrations in any order. The first byte says whether it begins with a driver that is up.
 */
#include "base/log.h"
#include "devices/virtio_rng.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/saved.h"
#include "tests/unit/fake_guest.h"

#define SLOT	   1
#define AREA_BYTES 0x10000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct guest guest;

static void init(void)
{
	struct device *device;

	log_level = (enum log_level) - 1;
	if (guest_init(&guest) || virtio_rng_new(&device, &guest.env, "rng0", SLOT) ||
	    device_list_add(&guest.devices, device))
		abort();
}

static void write_area(struct input *in)
{
	uint16_t at = input_u16(in);
	uint8_t data[16];
	size_t len = 1 + input_u8(in) % sizeof(data);

	input_take(in, data, len);
	if (at + len <= AREA_BYTES)
		memcpy(ram_ptr(guest.ram, GUEST_QUEUE_GPA(0) + at, len), data, len);
}

static void access_registers(struct input *in, gpa_t base, uint16_t mask)
{
	gpa_t gpa = base + (input_u16(in) & mask);
	uint8_t how = input_u8(in);
	uint64_t value = 0;

	if (how & 0x80) {
		bus_read(&guest.mmio, gpa, &value, 1 + how % 8);
		return;
	}
	input_take(in, &value, 1 + how % 8);
	bus_write(&guest.mmio, gpa, &value, 1 + how % 8);
}

static void step(struct input *in)
{
	switch (input_u8(in) % 10) {
	case 0:
	case 1:
		write_area(in);
		break;
	case 2:
	case 3: /* common configuration mostly */
		access_registers(in, guest_bar(&guest, SLOT, 0), 0x3f);
		break;
	case 4:
		access_registers(in, guest_bar(&guest, SLOT, 0), 0x3fff);
		break;
	case 5:
		access_registers(in, GUEST_ECAM + (SLOT << 15), 0xff);
		break;
	case 6:
		access_registers(in, guest_bar(&guest, SLOT, 1), 0xfff);
		break;
	case 7:
		guest_kick(&guest, SLOT, 0);
		break;
	case 8:
		loop_run_once(guest.loop, 0);
		break;
	default:
		check_saved(&guest.devices);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint8_t begin;

	if (!guest.ram)
		init();
	memset(ram_ptr(guest.ram, GUEST_QUEUE_GPA(0), AREA_BYTES), 0, AREA_BYTES);
	begin = input_u8(&in);
	if (begin & 1)
		guest_start_virtio(&guest, SLOT,
				   VIRTIO_F_VERSION_1 | (begin & 2 ? VIRTIO_F_EVENT_IDX : 0) |
					   (begin & 4 ? VIRTIO_F_INDIRECT_DESC : 0) |
					   (begin & 8 ? VIRTIO_F_RING_RESET : 0),
				   1, 8);
	while (in.left > 0)
		step(&in);
	/* A run's turn is bounded, so a few turns end what is left. */
	for (int i = 0; i < 4; i++)
		loop_run_once(guest.loop, 0);
	check_saved(&guest.devices);
	power_cycle(&guest.devices);
	guest_run_loop(&guest);
	return 0;
}
