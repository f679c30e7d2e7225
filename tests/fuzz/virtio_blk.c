// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The block device's requests, by any driver, on an image in memory. What was in flight always ends, the state always
 * moves, and nothing is written behind the end of the disk: the image has more than the guest was given.
 */
#include <sys/mman.h>

#include "base/log.h"
#include "devices/virtio_blk.h"
#include "tests/fuzz/saved.h"
#include "tests/fuzz/virtio_driver.h"

#define SLOT	    1
#define QUEUES	    2
#define DISK_BYTES  (64U << 10)
#define GUARD_BYTES (64U << 10)
#define GUARD	    0xa5

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct guest guest;
static struct virtio_blk *blk;
static uint8_t *disk;

static void init(void)
{
	struct blk_image_options image = {.path = "memory", .cached = true};
	struct virtio_blk_options options = {
		.serial = "fuzz", .nqueues = QUEUES, .engine = BLK_ENGINE_THREADS};
	struct device *device;

	log_level = (enum log_level) - 1;
	image.fd = memfd_create("disk", MFD_CLOEXEC);
	saved_or_abort(image.fd >= 0 && ftruncate(image.fd, DISK_BYTES) == 0);
	disk = mmap(NULL, DISK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, image.fd,
		    0);
	saved_or_abort(disk != MAP_FAILED);
	saved_or_abort(blk_image_open(&options.image, &image) == 0 && guest_init(&guest) == 0);
	saved_or_abort(virtio_blk_new(&device, &guest.env, "disk0", SLOT, &options) == 0);
	saved_or_abort(device_list_add(&guest.devices, device) == 0);
	blk = virtio_blk_of(device);
	saved_or_abort(ftruncate(options.image->fd, DISK_BYTES + GUARD_BYTES) == 0);
	memset(disk + DISK_BYTES, GUARD, GUARD_BYTES);
}

/* A pause would wait for what only this thread's turns of the loop complete. */
static void finish_requests(void)
{
	struct virtio_blk_info info;

	for (int i = 0; i < 1000; i++) {
		virtio_blk_get_info(blk, &info);
		if (info.in_flight == 0)
			return;
		loop_run_once(guest.loop, 10);
	}
	abort();
}

static void check_guard(void)
{
	for (unsigned int i = 0; i < GUARD_BYTES; i++)
		saved_or_abort(disk[DISK_BYTES + i] == GUARD);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint8_t begin;

	if (!guest.ram)
		init();
	fuzz_clear_rings(&guest, QUEUES);
	begin = input_u8(&in);
	if (begin & 1)
		fuzz_start_driver(&guest, SLOT, begin, QUEUES);
	while (in.left > 0) {
		uint8_t turn = input_u8(&in);

		if (turn < 40)
			loop_run_once(guest.loop, 0);
		if (turn == 255) {
			finish_requests();
			check_saved(&guest.devices);
		}
		fuzz_driver_step(&guest, &in, SLOT, QUEUES);
	}
	for (int i = 0; i < 4; i++)
		loop_run_once(guest.loop, 0);
	finish_requests();
	check_saved(&guest.devices);
	finish_requests();
	power_cycle(&guest.devices);
	guest_run_loop(&guest);
	check_guard();
	return 0;
}
