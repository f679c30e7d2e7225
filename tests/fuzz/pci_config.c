// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Configuration space and BARs of several functions through the bus: any access of any length, BARs moved over each other,
 * MSI-X tables written, vectors raised. Then all of it is saved and loaded.
 */
#include <stdio.h>

#include "base/log.h"
#include "devices/virtio_rng.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/saved.h"
#include "tests/unit/fake_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct guest guest;

static void init(void)
{
	static const unsigned int slots[] = {1, 2, 31};

	log_level = (enum log_level) -
		    1; /* what the guest does wrong is logged, and here it is always wrong */
	if (guest_init(&guest))
		abort();
	for (unsigned int i = 0; i < ARRAY_SIZE(slots); i++) {
		struct device *device;
		char id[8];

		snprintf(id, sizeof(id), "rng%u", i);
		if (virtio_rng_new(&device, &guest.env, id, slots[i]) ||
		    device_list_add(&guest.devices, device))
			abort();
	}
}

static const gpa_t bases[] = {
	GUEST_ECAM,   GUEST_ECAM + (1 << 15), GUEST_ECAM + (2 << 15), GUEST_ECAM + (31 << 15),
	GUEST_MMIO32, GUEST_MMIO32 + 0x4000,  GUEST_MMIO32 + 0x8000,  GUEST_MMIO64,
};

static void step(struct input *in)
{
	uint8_t op = input_u8(in);
	gpa_t gpa = bases[op % ARRAY_SIZE(bases)] + input_u16(in);
	unsigned int len = input_len(in);
	struct pci_function *function;
	uint64_t value;

	switch (op >> 5) {
	case 0:
	case 1:
	case 2:
	case 3:
		value = input_u64(in);
		bus_write(&guest.mmio, gpa, &value, len);
		break;
	case 4:
	case 5:
		bus_read(&guest.mmio, gpa, &value, len);
		break;
	case 6:
		function = guest.pci->function[1 + op % 2];
		pci_msix_raise(function, len);
		break;
	default:
		check_saved(&guest.devices);
		break;
	}
}

/* Windows on the bus do not overlap, and are those that the functions think they have. */
static void check_bus(void)
{
	for (unsigned int i = 1; i < guest.mmio.nwindows; i++) {
		const struct bus_window *w = &guest.mmio.window[i];

		if (w[-1].start + w[-1].size_bytes > w->start)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};

	if (!guest.ram)
		init();
	while (in.left > 0)
		step(&in);
	check_bus();
	check_saved(&guest.devices);
	check_bus();
	guest_run_loop(&guest);
	power_cycle(&guest.devices);
	return 0;
}
