// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tests of virtio devices from the driver's side: initialisation as section 3.1.1 of virtio 1.2 has it; what must be
 * refused is refused; a block device gives back what it was given; a device that was fed nonsense asks for a reset and
 * works after it.
 */
#include "ktest.h"
#include "virtio.h"
#include "virtio_blk.h"

#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define STATUS_AT	   20 /* device_status in the common configuration */

static uint8_t data[2][4096] NOINIT __attribute__((aligned(4096)));

#define FEATURE_SELECT 0
#define FEATURE	       4
#define DRIVER_SELECT  8
#define DRIVER_FEATURE 12

static uint8_t status_get(const struct virtio *v)
{
	return mmio_read8(v->common + STATUS_AT);
}

static void status_set(const struct virtio *v, uint8_t status)
{
	mmio_write8(v->common + STATUS_AT, status);
}

static void check_common(struct ktest *t, struct virtio *v, unsigned int device_id)
{
	status_set(v, 0);
	KTEST_CHECK(t, status_get(v) == 0, "device %u: status %x after reset", device_id,
		    status_get(v));
	for (uint32_t i = 2; i < 5; i++) {
		mmio_write32(v->common + FEATURE_SELECT, i);
		KTEST_CHECK(t, mmio_read32(v->common + FEATURE) == 0,
			    "device %u: offers feature word %u: %x", device_id, i,
			    mmio_read32(v->common + FEATURE));
	}
	/* Without VERSION_1, FEATURES_OK must not stick. */
	status_set(v, 1);
	status_set(v, 3);
	mmio_write32(v->common + DRIVER_SELECT, 0);
	mmio_write32(v->common + DRIVER_FEATURE, 0);
	mmio_write32(v->common + DRIVER_SELECT, 1);
	mmio_write32(v->common + DRIVER_FEATURE, 0);
	status_set(v, 3 | STATUS_FEATURES_OK);
	KTEST_CHECK(t, !(status_get(v) & STATUS_FEATURES_OK),
		    "device %u: takes a driver without VERSION_1", device_id);
	status_set(v, 0);
	KTEST_CHECK(t, virtio_start(v, 0), "device %u: does not start", device_id);
}

static void fill(uint8_t *p, uint64_t seed)
{
	for (unsigned int i = 0; i < 4096 / 8; i++)
		((uint64_t *)p)[i] = (seed + 1) * 0x9e3779b97f4a7c15ul + i;
}

static void check_blk(struct ktest *t, unsigned int nth)
{
	struct virtio_blk blk;
	uint64_t last;

	if (!virtio_blk_open(&blk, nth)) {
		KTEST_CHECK(t, false, "disk %u does not start", nth);
		return;
	}
	if (blk.capacity_512 < 16)
		return;
	last = blk.capacity_512 - 8;
	for (unsigned int i = 0; i < 8; i++) {
		fill(data[0], i);
		KTEST_CHECK(t, virtio_blk_do(&blk, VIRTIO_BLK_WRITE, i * last / 8, data[0], 4096),
			    "disk %u: write at %lu: status %x", nth, i * last / 8, blk.status);
	}
	if (blk.can_flush)
		KTEST_CHECK(t, virtio_blk_do(&blk, VIRTIO_BLK_FLUSH, 0, NULL, 0),
			    "disk %u: flush: status %x", nth, blk.status);
	if (last / 8 >= 8)
		for (unsigned int i = 0; i < 8; i++) {
			fill(data[0], i);
			KTEST_CHECK(
				t,
				virtio_blk_do(&blk, VIRTIO_BLK_READ, i * last / 8, data[1], 4096),
				"disk %u: read at %lu: status %x", nth, i * last / 8, blk.status);
			KTEST_CHECK(t, memcmp(data[0], data[1], 4096) == 0,
				    "disk %u: sector %lu came back changed", nth, i * last / 8);
		}
	KTEST_CHECK(t,
		    !virtio_blk_do(&blk, VIRTIO_BLK_READ, blk.capacity_512, data[0], 512) &&
			    blk.status == 1,
		    "disk %u: reads beyond its end: status %x", nth, blk.status);
	KTEST_CHECK(t,
		    !virtio_blk_do(&blk, VIRTIO_BLK_READ, UINT64_MAX - 7, data[0], 4096) &&
			    blk.status == 1,
		    "disk %u: reads at an offset that wraps: status %x", nth, blk.status);
	KTEST_CHECK(
		t, !virtio_blk_do(&blk, (enum virtio_blk_op)77, 0, data[0], 512) && blk.status == 2,
		"disk %u: request type 77: status %x", nth, blk.status);
}

/* A chain that points outside RAM: the device must ask for a reset (or ignore it), and work after one. */
static void check_recovery(struct ktest *t, struct virtio *v, unsigned int device_id)
{
	struct virtio_buffer bad[2] = {
		{.data = (void *)0xfffffffffff00000ul, .length = 0xffffffff},
		{.data = (void *)0x123456789000ul, .length = 512, .device_writes = true},
	};

	virtio_submit(v, bad, 2);
	wait_us(20000);
	say("guest: device %u status %x after a chain outside RAM\n", device_id, status_get(v));
	KTEST_CHECK(t, virtio_start(v, 0), "device %u: does not start again", device_id);
}

void ktest_virtio(struct ktest *t)
{
	unsigned int disks = 0, devices = 0;

	for (unsigned int function = 0; function < PCI_FUNCTIONS; function++) {
		struct virtio v;
		unsigned int device_id;

		if (!pci_present(function) || !virtio_probe(&v, function, &device_id))
			continue;
		devices++;
		check_common(t, &v, device_id);
		if (v.ring)
			check_recovery(t, &v, device_id);
		if (device_id == VIRTIO_ID_BLOCK)
			check_blk(t, disks++);
		status_set(&v, 0);
	}
	if (!devices)
		t->skipped = "no virtio device";
}
