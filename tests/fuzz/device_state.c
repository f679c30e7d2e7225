// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved device state as a hostile file or peer has it, into fresh devices: refused, or it runs. The input is a patch to a
 * good state: pairs of an offset and a byte, so that it gets past the framing; what is loaded is resumed and runs.
 */
#include <sys/eventfd.h>

#include "base/log.h"
#include "devices/cmos.h"
#include "devices/pl031.h"
#include "devices/pl061.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "devices/virtio_rng.h"
#include "devices/vmgenid.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/saved.h"
#include "tests/unit/fake_guest.h"

#define SLOT 1

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct guest guest;
static struct buf good;

static size_t sink(void *opaque, const void *bytes, size_t len)
{
	return len;
}

static void nothing(void *opaque)
{
}

static void add(struct device *device)
{
	if (device_list_add(&guest.devices, device))
		abort();
}

static void init(void)
{
	const struct serial_host serial_host = {NULL, sink, nothing};
	const struct power_host power_host = {NULL, nothing, nothing};
	static const uint8_t guid[VMGENID_BYTES] = "0123456789abcde";
	int irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct vmgenid *vmgenid;
	struct serial *serial;
	struct power *power;
	struct pl031 *pl031;
	struct pl061 *pl061;
	struct device *rng;
	struct cmos *cmos;

	log_level = (enum log_level) - 1;
	if (guest_init(&guest) || serial_new(&serial, guest.loop, "serial", irq, &serial_host) ||
	    cmos_new(&cmos, "cmos", NULL, NULL) || pl031_new(&pl031, "pl031", NULL, NULL) ||
	    pl061_new(&pl061, guest.loop, "gpio", irq) ||
	    power_new(&power, "power", irq, &power_host) ||
	    vmgenid_new(&vmgenid, guest.ram, "vmgenid", guid, nothing, NULL) ||
	    virtio_rng_new(&rng, &guest.env, "rng0", SLOT))
		abort();
	add(serial_device(serial));
	add(cmos_device(cmos));
	add(pl031_device(pl031));
	add(pl061_device(pl061));
	add(power_device(power));
	add(vmgenid_device(vmgenid));
	add(rng);
	/* A good state to start from: a driver that is up, something typed, something printed. */
	guest_start_virtio(&guest, SLOT, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, 1, 8);
	serial_bus_ops.write(serial, 0, "x", 1);
	serial_input(serial, "typed", 5);
	buf_init(&good, 1 << 20);
	if (device_list_pause(&guest.devices) || device_list_save(&guest.devices, &good))
		abort();
	device_list_resume(&guest.devices);
}

static void try_load(uint8_t *bytes, size_t len)
{
	struct state_set *set;

	if (device_list_pause(&guest.devices))
		abort();
	device_list_reset(&guest.devices);
	if (state_set_parse(&set, bytes, len))
		return;
	if (device_list_load(&guest.devices, set) == 0) {
		device_list_resume(&guest.devices);
		guest_kick(&guest, SLOT, 0);
		for (int i = 0; i < 4; i++)
			loop_run_once(guest.loop, 0);
		check_saved(&guest.devices);
	}
	state_set_free(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint8_t *copy;
	size_t len;

	if (!guest.ram)
		init();
	copy = malloc(good.len);
	if (!copy)
		abort();
	memcpy(copy, good.bytes, good.len);
	len = good.len - (input_u8(&in) % 8 == 7 ? input_u8(&in) : 0);
	while (in.left > 0) {
		size_t at = input_u16(&in) % good.len;

		copy[at] = input_u8(&in);
	}
	try_load(copy, len);
	free(copy);
	memset(ram_ptr(guest.ram, GUEST_QUEUE_GPA(0), 0x10000), 0, 0x10000);
	power_cycle(&guest.devices);
	guest_run_loop(&guest);
	return 0;
}
