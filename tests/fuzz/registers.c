// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registers of the devices that are not virtio, by any accesses, with the host's side of them (input, a sink that stalls,
 * buttons, time) moving too. The first byte picks the device.
 */
#include <sys/eventfd.h>

#include "base/log.h"
#include "devices/cmos.h"
#include "devices/pl031.h"
#include "devices/pl061.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/saved.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct loop *loop;
static struct device_list devices;
static int irq;
static uint64_t now_us = 1772323198000000;
static size_t sink_takes;

static struct serial *serial;
static struct cmos *cmos;
static struct pl031 *pl031;
static struct pl061 *pl061;
static struct power *power;

static uint64_t test_clock(void *opaque)
{
	return now_us;
}

static size_t sink(void *opaque, const void *bytes, size_t len)
{
	return len < sink_takes ? len : sink_takes;
}

static void nothing(void *opaque)
{
}

static void init(void)
{
	const struct serial_host serial_host = {NULL, sink, nothing};
	const struct power_host power_host = {NULL, nothing, nothing};

	log_level = LOG_ERROR;
	irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop_new(&loop) || serial_new(&serial, loop, "serial", irq, &serial_host) ||
	    cmos_new(&cmos, "cmos", test_clock, NULL) ||
	    pl031_new(&pl031, "pl031", test_clock, NULL) || pl061_new(&pl061, loop, "gpio", irq) ||
	    power_new(&power, "power", irq, &power_host))
		abort();
	if (device_list_add(&devices, serial_device(serial)) ||
	    device_list_add(&devices, cmos_device(cmos)) ||
	    device_list_add(&devices, pl031_device(pl031)) ||
	    device_list_add(&devices, pl061_device(pl061)) ||
	    device_list_add(&devices, power_device(power)))
		abort();
}

/* What the host may do meanwhile. */
static void host(struct input *in)
{
	uint8_t what = input_u8(in);
	uint8_t bytes[32];

	switch (what % 8) {
	case 0:
		input_take(in, bytes, sizeof(bytes));
		serial_input(serial, bytes, what % (sizeof(bytes) + 1));
		break;
	case 1:
		serial_input_break(serial);
		break;
	case 2:
		sink_takes = what;
		serial_output_ready(serial);
		break;
	case 3:
		loop_run_once(loop, 0);
		break;
	case 4:
		now_us += input_u32(in);
		break;
	case 5:
		power_event(power, what >> 4);
		break;
	case 6:
		pl061_set_line(pl061, what >> 5, what & 8);
		break;
	default:
		check_saved(&devices);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	static const struct bus_ops *const ops[] = {&serial_bus_ops, &cmos_bus_ops, &pl031_bus_ops,
						    &pl061_bus_ops, &power_bus_ops};
	void *opaque[] = {serial, cmos, pl031, pl061, power};
	unsigned int pick;

	if (!loop) {
		init();
		return 0;
	}
	pick = input_u8(&in) % ARRAY_SIZE(ops);
	while (in.left > 0) {
		uint8_t op = input_u8(&in);
		uint64_t offset = input_u16(&in) % (pick == 2 || pick == 3 ? 4096 : 8);
		uint64_t value = 0;

		if (op % 4 == 0) {
			host(&in);
		} else if (op % 4 == 1) {
			ops[pick]->read(opaque[pick], offset, &value, 1 + (op >> 2) % 8);
		} else {
			input_take(&in, &value, 1 + (op >> 2) % 8);
			ops[pick]->write(opaque[pick], offset, &value, 1 + (op >> 2) % 8);
		}
	}
	check_saved(&devices);
	power_cycle(&devices);
	return 0;
}
