// SPDX-License-Identifier: GPL-2.0-or-later
/* The state tables of devices, found through the devices that own them; state_table.h has the tests. */
#include "base/state.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "devices/cmos.h"
#include "devices/device.h"
#include "devices/pci.h"
#include "devices/pl031.h"
#include "devices/pl061.h"
#include "devices/power.h"
#include "devices/serial.h"
#include "devices/virtio.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_net.h"
#include "devices/vmgenid.h"
#include "state_table.h"

/* Adds the device's main table, and frees the device. */
static void add_device(struct device *device)
{
	add(device->ops->table);
	device->ops->free(device);
}

static void add_devices(struct loop *loop, struct ram *ram)
{
	const struct serial_host serial_host = {};
	const struct power_host power_host = {};
	const uint8_t guid[VMGENID_BYTES] = {};
	struct vmgenid *vmgenid;
	struct serial *serial;
	struct power *power;
	struct pl031 *pl031;
	struct pl061 *pl061;
	struct cmos *cmos;

	g_assert_cmpint(serial_new(&serial, loop, "s", -1, &serial_host), ==, 0);
	add_device(serial_device(serial));
	g_assert_cmpint(cmos_new(&cmos, "c", NULL, NULL), ==, 0);
	add_device(cmos_device(cmos));
	g_assert_cmpint(pl031_new(&pl031, "r", NULL, NULL), ==, 0);
	add_device(pl031_device(pl031));
	g_assert_cmpint(pl061_new(&pl061, loop, "g", -1), ==, 0);
	add_device(pl061_device(pl061));
	g_assert_cmpint(power_new(&power, "p", -1, &power_host), ==, 0);
	add_device(power_device(power));
	g_assert_cmpint(vmgenid_new(&vmgenid, ram, "v", guid, NULL, NULL), ==, 0);
	add_device(vmgenid_device(vmgenid));
}

int main(int argc, char **argv)
{
	const struct ram_layout layout = {.nranges = 1, .range = {{0, 2 << 20}}};
	struct loop *loop;
	struct ram *ram;
	int result;

	g_test_init(&argc, &argv, NULL);
	/* Refusals are logged once each, and there are thousands. */
	if (!g_test_verbose())
		log_level = LOG_NONE;
	g_assert_cmpint(loop_new(&loop), ==, 0);
	g_assert_cmpint(ram_new(&ram, &layout), ==, 0);
	add(pci_state_list);
	add(virtio_state_list);
	add(virtq_state_list);
	add(virtio_blk_state_list);
	add(virtio_net_state_list);
	add_devices(loop, ram);
	result = g_test_run();
	ram_free(ram);
	loop_free(loop);
	return result;
}
