// SPDX-License-Identifier: GPL-2.0-or-later
/* The block device as a guest sees it: good requests, hostile ones, pause with requests in flight, save and load. */
#include "devices/virtio_blk.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

#define SLOT	    3
#define QUEUES	    2
#define QSIZE	    256
#define IMAGE_BYTES (2ULL << 20)
#define HEADERS_GPA 0x200000ULL
#define STATUS_GPA  0x208000ULL
#define TABLES_GPA  0x210000ULL /* indirect tables, 64 bytes each */
#define DATA_GPA    0x300000ULL
#define DATA_BYTES  (1ULL << 20)
#define F_FLUSH	    (1ULL << 9)
#define F_ALL	    (1ULL << 2 | 1ULL << 6 | F_FLUSH | 1ULL << 10 | 1ULL << 12 | 1ULL << 13 | 1ULL << 14)
#define OK	    0
#define IOERR	    1
#define UNSUPP	    2
#define NOT_WRITTEN 0xee

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };

struct fixture {
	struct guest guest;
	char path[64];
	struct device *device;
	struct virtio_blk *blk;
	unsigned int nrequests; /* built so far */
	unsigned int ndescs[QUEUES];
	pthread_t io;
};

static struct device *new_device(struct fixture *f, struct guest *guest, bool readonly,
				 uint32_t block_bytes)
{
	struct blk_image_options image = {
		.path = f->path, .fd = -1, .readonly = readonly, .block_bytes = block_bytes};
	struct virtio_blk_options options = {.serial = "serial-0123456789ab", .nqueues = QUEUES};
	struct device *device;

	g_assert_cmpint(blk_image_open(&options.image, &image), ==, 0);
	g_assert_cmpint(virtio_blk_new(&device, &guest->env, "disk0", SLOT, &options), ==, 0);
	g_assert_cmpint(device_list_add(&guest->devices, device), ==, 0);
	return device;
}

static void set_up_as(struct fixture *f, bool readonly)
{
	int fd;

	memset(f, 0, sizeof(*f));
	g_strlcpy(f->path, "/var/tmp/tern-vblk-XXXXXX", sizeof(f->path));
	fd = mkstemp(f->path);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, IMAGE_BYTES), ==, 0);
	close(fd);
	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	f->device = new_device(f, &f->guest, readonly, 0);
	f->blk = virtio_blk_of(f->device);
	g_assert_nonnull(f->blk);
	guest_enable_pci(&f->guest, SLOT);
	guest_start_virtio(&f->guest, SLOT,
			   VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
				   (guest_offered(&f->guest, SLOT) & F_ALL),
			   QUEUES, QSIZE);
	g_assert_cmpint(guest_status(&f->guest, SLOT), ==, 15);
}

static void set_up(struct fixture *f, gconstpointer data)
{
	set_up_as(f, false);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	guest_fini(&f->guest);
	(void)g_unlink(f->path);
}

static uint8_t *memory(struct fixture *f, gpa_t gpa)
{
	uint8_t *p = ram_ptr(f->guest.ram, gpa, 1);

	g_assert_nonnull(p);
	return p;
}

static uint8_t status_of(struct fixture *f, unsigned int request)
{
	return *memory(f, STATUS_GPA + request);
}

static void put_header(struct fixture *f, unsigned int request, uint32_t type, uint64_t sector)
{
	uint8_t *header = memory(f, HEADERS_GPA + 16 * request);

	put_le32(header, type);
	put_le32(header + 4, 0);
	put_le64(header + 8, sector);
	*memory(f, STATUS_GPA + request) = NOT_WRITTEN;
}

/* A request as Linux makes it: header, data, status in three descriptors. Returns its number. */
static unsigned int add_request(struct fixture *f, unsigned int queue, uint32_t type,
				uint64_t sector, gpa_t data, uint32_t len)
{
	bool in = type == T_IN || type == T_ID;
	unsigned int request = f->nrequests++, d = f->ndescs[queue];
	unsigned int head = d % QSIZE;

	put_header(f, request, type, sector);
	guest_set_desc(&f->guest, queue, head, HEADERS_GPA + 16 * request, 16, VRING_DESC_F_NEXT,
		       (d + 1) % QSIZE);
	d++;
	if (len) {
		guest_set_desc(&f->guest, queue, d % QSIZE, data, len,
			       VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0), (d + 1) % QSIZE);
		d++;
	}
	guest_set_desc(&f->guest, queue, d % QSIZE, STATUS_GPA + request, 1, VRING_DESC_F_WRITE, 0);
	d++;
	f->ndescs[queue] = d;
	guest_make_available(&f->guest, queue, QSIZE, (uint16_t)head);
	return request;
}

static void kick_and_wait(struct fixture *f, unsigned int queue, uint16_t used)
{
	guest_kick(&f->guest, SLOT, queue);
	for (int i = 0; i < 1000 && guest_used_idx(&f->guest, queue) != used; i++)
		loop_run_once(f->guest.loop, 100);
	g_assert_cmpuint(guest_used_idx(&f->guest, queue), ==, used);
}

static uint8_t run_one(struct fixture *f, uint32_t type, uint64_t sector, gpa_t data, uint32_t len)
{
	unsigned int request = add_request(f, 0, type, sector, data, len);

	kick_and_wait(f, 0, (uint16_t)(guest_used_idx(&f->guest, 0) + 1));
	return status_of(f, request);
}

static void fill(uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

static void check_file(struct fixture *f, uint64_t offset, const void *want, size_t len)
{
	AUTO_FD fd = open(f->path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE uint8_t *got = malloc(len);

	g_assert_cmpint(pread(fd, got, len, (off_t)offset), ==, (ssize_t)len);
	g_assert_cmpmem(got, len, want, len);
}

static bool page_written(struct fixture *f, gpa_t gpa)
{
	page_t page = gpa >> RAM_PAGE_SHIFT;

	return f->guest.ram->written[page / 64] >> (page % 64) & 1;
}

static void what_is_written_is_read(struct fixture *f, gconstpointer data)
{
	uint32_t id, len;

	fill(memory(f, DATA_GPA), 65536, 5);
	g_assert_cmpint(run_one(f, T_OUT, 128, DATA_GPA, 65536), ==, OK);
	guest_used_elem(&f->guest, 0, 0, &id, &len);
	g_assert_cmpuint(len, ==, 1);
	g_assert_cmpint(run_one(f, T_FLUSH, 0, 0, 0), ==, OK);
	check_file(f, 65536, memory(f, DATA_GPA), 65536);
	g_assert_false(page_written(f, DATA_GPA));

	g_assert_cmpint(run_one(f, T_IN, 128, DATA_GPA + 0x20000, 65536), ==, OK);
	guest_used_elem(&f->guest, 0, 2, &id, &len);
	g_assert_cmpuint(len, ==, 65537);
	g_assert_cmpmem(memory(f, DATA_GPA), 65536, memory(f, DATA_GPA + 0x20000), 65536);
	for (unsigned int i = 0; i < 16; i++)
		g_assert_true(page_written(f, DATA_GPA + 0x20000 + i * 4096));
	g_assert_true(page_written(f, STATUS_GPA));
	/* The vector of queue 0 is the second: the first is the configuration's. */
	g_assert_cmpuint(fake_delivered(&f->guest.wiring, 1), >, 0);
}

/* Where a descriptor ends means nothing: header in three pieces, data and status in one. */
static void framing_means_nothing(struct fixture *f, gconstpointer data)
{
	uint32_t id, len;

	fill(memory(f, DATA_GPA), 1024, 77);
	g_assert_cmpint(run_one(f, T_OUT, 9, DATA_GPA, 1024), ==, OK);
	put_header(f, 50, T_IN, 9);
	guest_set_desc(&f->guest, 0, 200, HEADERS_GPA + 800, 3, VRING_DESC_F_NEXT, 201);
	guest_set_desc(&f->guest, 0, 201, HEADERS_GPA + 803, 5, VRING_DESC_F_NEXT, 202);
	guest_set_desc(&f->guest, 0, 202, HEADERS_GPA + 808, 8, VRING_DESC_F_NEXT, 203);
	guest_set_desc(&f->guest, 0, 203, DATA_GPA + 0x3003, 100,
		       VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 204);
	guest_set_desc(&f->guest, 0, 204, DATA_GPA + 0x3067, 925, VRING_DESC_F_WRITE, 0);
	*memory(f, DATA_GPA + 0x3003 + 1024) = NOT_WRITTEN;
	guest_make_available(&f->guest, 0, QSIZE, 200);
	kick_and_wait(f, 0, 2);
	guest_used_elem(&f->guest, 0, 1, &id, &len);
	g_assert_cmpuint(id, ==, 200);
	g_assert_cmpuint(len, ==, 1025);
	g_assert_cmpmem(memory(f, DATA_GPA), 1024, memory(f, DATA_GPA + 0x3003), 1024);
	g_assert_cmpint(*memory(f, DATA_GPA + 0x3003 + 1024), ==, OK);

	/* The same for a write: header and data in one descriptor. */
	put_header(f, 60, T_OUT, 77);
	memcpy(memory(f, HEADERS_GPA + 960 + 16), memory(f, DATA_GPA), 512);
	guest_set_desc(&f->guest, 0, 210, HEADERS_GPA + 960, 528, VRING_DESC_F_NEXT, 211);
	guest_set_desc(&f->guest, 0, 211, STATUS_GPA + 60, 1, VRING_DESC_F_WRITE, 0);
	guest_make_available(&f->guest, 0, QSIZE, 210);
	kick_and_wait(f, 0, 3);
	g_assert_cmpint(status_of(f, 60), ==, OK);
	check_file(f, 77 * 512, memory(f, DATA_GPA), 512);
}

static void bad_requests_are_answered(struct fixture *f, gconstpointer data)
{
	const uint64_t sectors = IMAGE_BYTES / 512;
	const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} cases[] = {
		{T_IN, sectors, 512, IOERR},
		{T_IN, sectors - 1, 1024, IOERR},
		{T_IN, UINT64_MAX, 512, IOERR},
		{T_IN, UINT64_MAX / 512 + 1, 512, IOERR},
		{T_OUT, UINT64_MAX - 1, 1024, IOERR},
		{T_IN, 0, 511, IOERR},
		{T_OUT, 0, 513, IOERR},
		{T_IN, sectors - 1, 512, OK},
		{T_IN, 0, 0, OK},
		{T_OUT, sectors, 0, OK},
		{2, 0, 512, UNSUPP},
		{0x80000000, 0, 512, UNSUPP},
		{T_DISCARD, 0, 15, IOERR},
		{T_DISCARD, 0, 32, IOERR},
		{T_ZEROES, 0, 0, IOERR},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("case %u", i);
		g_assert_cmpint(run_one(f, cases[i].type, cases[i].sector, DATA_GPA, cases[i].len),
				==, cases[i].status);
	}
	g_assert_cmpint(guest_status(&f->guest, SLOT), ==, 15);
}

static uint8_t run_range(struct fixture *f, uint32_t type, uint64_t sector, uint32_t n,
			 uint32_t flags)
{
	uint8_t *range = memory(f, DATA_GPA);

	put_le64(range, sector);
	put_le32(range + 8, n);
	put_le32(range + 12, flags);
	return run_one(f, type, 0, DATA_GPA, 16);
}

static void ranges_are_zeroed_and_discarded(struct fixture *f, gconstpointer data)
{
	AUTO_FREE uint8_t *zero = calloc(1, 65536);
	const uint64_t sectors = IMAGE_BYTES / 512;
	struct stat before, after;

	fill(memory(f, DATA_GPA), 1 << 19, 1);
	g_assert_cmpint(run_one(f, T_OUT, 0, DATA_GPA, 1 << 19), ==, OK);
	g_assert_cmpint(run_one(f, T_FLUSH, 0, 0, 0), ==, OK);
	g_assert_cmpint(stat(f->path, &before), ==, 0);
	g_assert_cmpint(run_range(f, T_ZEROES, 8, 128, 0), ==, OK);
	check_file(f, 4096, zero, 65536);
	g_assert_cmpint(run_range(f, T_ZEROES, 256, 128, 1), ==, OK);
	check_file(f, 256 * 512, zero, 65536);
	g_assert_cmpint(run_range(f, T_DISCARD, 512, 256, 0), ==, OK);
	g_assert_cmpint(stat(f->path, &after), ==, 0);
	g_assert_cmpint(after.st_blocks, <, before.st_blocks);

	g_assert_cmpint(run_range(f, T_DISCARD, 0, 8, 1), ==, UNSUPP);
	g_assert_cmpint(run_range(f, T_ZEROES, 0, 8, 2), ==, UNSUPP);
	g_assert_cmpint(run_range(f, T_ZEROES, sectors - 8, 16, 0), ==, IOERR);
	g_assert_cmpint(run_range(f, T_ZEROES, 0, UINT32_MAX, 0), ==, IOERR);
	g_assert_cmpint(run_range(f, T_DISCARD, UINT64_MAX, 8, 0), ==, IOERR);
	g_assert_cmpint(run_range(f, T_DISCARD, 0, 0, 0), ==, OK);
}

static void serial_number_is_told(struct fixture *f, gconstpointer data)
{
	memset(memory(f, DATA_GPA), 0xff, 64);
	g_assert_cmpint(run_one(f, T_ID, 0, DATA_GPA, 20), ==, OK);
	g_assert_cmpmem(memory(f, DATA_GPA), 20, "serial-0123456789ab\0", 20);
	g_assert_cmpint(*memory(f, DATA_GPA + 20), ==, 0xff);
	g_assert_cmpint(run_one(f, T_ID, 0, DATA_GPA + 64, 6), ==, OK);
	g_assert_cmpmem(memory(f, DATA_GPA + 64), 6, "serial", 6);
}

static void readonly_disks_are_not_written(void)
{
	struct fixture f;

	set_up_as(&f, true);
	g_assert_true(guest_offered(&f.guest, SLOT) & 1 << 5);
	g_assert_false(guest_offered(&f.guest, SLOT) & (1 << 13 | 1 << 14));
	g_assert_cmpint(run_one(&f, T_IN, 0, DATA_GPA, 4096), ==, OK);
	g_assert_cmpint(run_one(&f, T_OUT, 0, DATA_GPA, 4096), ==, IOERR);
	g_assert_cmpint(run_range(&f, T_DISCARD, 0, 8, 0), ==, UNSUPP);
	g_assert_cmpint(run_one(&f, T_FLUSH, 0, 0, 0), ==, OK);
	tear_down(&f, NULL);
}

/* No room for the answer: the device breaks, gives the chain back, and works again after a reset. */
static void unanswerable_requests_break_the_device(struct fixture *f, gconstpointer data)
{
	put_header(f, 0, T_OUT, 0);
	guest_set_desc(&f->guest, 0, 0, HEADERS_GPA, 16, 0, 0);
	guest_make_available(&f->guest, 0, QSIZE, 0);
	guest_kick(&f->guest, SLOT, 0);
	guest_run_loop(&f->guest);
	g_assert_true(guest_status(&f->guest, SLOT) & VIRTIO_STATUS_NEEDS_RESET);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 1);

	memset(guest_avail(&f->guest, 0), 0, 4);
	memset(guest_used(&f->guest, 0), 0, 4);
	guest_start_virtio(&f->guest, SLOT, VIRTIO_F_VERSION_1 | F_ALL, QUEUES, QSIZE);
	g_assert_cmpint(guest_status(&f->guest, SLOT), ==, 15);
	f->ndescs[0] = 0;
	g_assert_cmpint(run_one(f, T_IN, 0, DATA_GPA, 4096), ==, OK);

	/* Too short a header, too. */
	guest_set_desc(&f->guest, 0, 100, HEADERS_GPA, 15, VRING_DESC_F_NEXT, 101);
	guest_set_desc(&f->guest, 0, 101, STATUS_GPA, 1, VRING_DESC_F_WRITE, 0);
	guest_make_available(&f->guest, 0, QSIZE, 100);
	guest_kick(&f->guest, SLOT, 0);
	guest_run_loop(&f->guest);
	g_assert_true(guest_status(&f->guest, SLOT) & VIRTIO_STATUS_NEEDS_RESET);
}

/* One descriptor each, in an indirect table: a whole queue's worth, more than the pool. */
static void add_indirect(struct fixture *f, unsigned int queue, unsigned int i, uint32_t type,
			 uint64_t sector, gpa_t data, uint32_t len)
{
	struct vring_desc *table = ram_ptr(f->guest.ram, TABLES_GPA + 64 * i, 48);

	put_header(f, i, type, sector);
	table[0] = (struct vring_desc){HEADERS_GPA + 16 * i, 16, VRING_DESC_F_NEXT, 1};
	table[1] = (struct vring_desc){
		data, len,
		VRING_DESC_F_NEXT | (type == T_IN || type == T_ID ? VRING_DESC_F_WRITE : 0), 2};
	table[2] = (struct vring_desc){STATUS_GPA + i, 1, VRING_DESC_F_WRITE, 0};
	guest_set_desc(&f->guest, queue, i, TABLES_GPA + 64 * i, 48, VRING_DESC_F_INDIRECT, 0);
	guest_make_available(&f->guest, queue, QSIZE, (uint16_t)i);
}

static void a_full_queue_is_served_from_a_small_pool(struct fixture *f, gconstpointer data)
{
	struct virtio_blk_info info;

	fill(memory(f, DATA_GPA), QSIZE * 2048, 3);
	for (unsigned int i = 0; i < QSIZE; i++)
		add_indirect(f, 1, i, T_OUT, i * 4, DATA_GPA + i * 2048, 2048);
	kick_and_wait(f, 1, QSIZE);
	for (unsigned int i = 0; i < QSIZE; i++)
		g_assert_cmpint(status_of(f, i), ==, OK);
	check_file(f, 0, memory(f, DATA_GPA), QSIZE * 2048);
	virtio_blk_get_info(f->blk, &info);
	g_assert_cmpuint(info.writes, ==, QSIZE);
	g_assert_cmpuint(info.in_flight, ==, 0);
	/* One interrupt for a batch, not one for a request. */
	g_assert_cmpuint(fake_delivered(&f->guest.wiring, 2), <, QSIZE / 2);
}

/* Requests that are answered at once: a guest that has more of them must let go of the loop all the same. */
static void a_run_takes_so_many_requests(struct fixture *f, gconstpointer data)
{
	guest_run_loop(&f->guest); /* starting a queue kicks it */
	for (unsigned int i = 0; i < QSIZE; i++)
		add_indirect(f, 0, i, T_ID, 0, DATA_GPA, 20);
	guest_kick(&f->guest, SLOT, 0);
	g_assert_cmpint(loop_run_once(f->guest.loop, 0), >, 0);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, QSIZE / 2);
	guest_run_loop(&f->guest);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, QSIZE);
}

static void *io_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

static void start_io(struct fixture *f)
{
	g_assert_cmpint(pthread_create(&f->io, NULL, io_thread, f->guest.loop), ==, 0);
}

static void stop_io(struct fixture *f)
{
	loop_stop(f->guest.loop);
	pthread_join(f->io, NULL);
}

/* After pause nothing is in flight, what was popped is answered, and kicks wait. */
static void pause_drains_and_keeps_kicks(struct fixture *f, gconstpointer data)
{
	struct virtio_blk_info info;
	uint16_t used;

	start_io(f);
	for (unsigned int i = 0; i < 200; i++)
		add_indirect(f, 0, i, T_IN, i, DATA_GPA + (i % 128) * 4096, 4096);
	guest_kick(&f->guest, SLOT, 0);
	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	virtio_blk_get_info(f->blk, &info);
	g_assert_cmpuint(info.in_flight, ==, 0);
	used = guest_used_idx(&f->guest, 0);
	for (unsigned int i = 0; i < used; i++) {
		uint32_t id, len;

		guest_used_elem(&f->guest, 0, i, &id, &len);
		g_assert_cmpint(status_of(f, id), ==, OK);
	}
	for (unsigned int i = 200; i < 210; i++)
		add_indirect(f, 0, i, T_IN, i, DATA_GPA, 512);
	guest_kick(&f->guest, SLOT, 0);
	g_usleep(20000);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, used);

	f->device->ops->resume(f->device);
	for (int i = 0; i < 1000 && guest_used_idx(&f->guest, 0) != 210; i++)
		g_usleep(10000);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 210);
	stop_io(f);
}

/* Moves the paused device and its RAM into a guest of its own, at which nobody has kicked. */
static void move_guest(struct fixture *f, struct guest *target)
{
	memcpy(ram_ptr(target->ram, 0, GUEST_RAM), ram_ptr(f->guest.ram, 0, GUEST_RAM), GUEST_RAM);
}

static int load_into(struct device *device, const struct buf *saved, size_t len)
{
	struct state_set *set = NULL;
	int error = state_set_parse(&set, saved->bytes, len);

	if (!error)
		error = device->ops->load(device, set);
	state_set_free(set);
	return error;
}

static void saved_disks_go_on_elsewhere(struct fixture *f, gconstpointer data)
{
	struct guest target;
	struct device *device;
	struct virtio_blk *blk;
	struct buf saved, again;

	fill(memory(f, DATA_GPA), 4096, 8);
	g_assert_cmpint(run_one(f, T_OUT, 0, DATA_GPA, 4096), ==, OK);
	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	/* Made available and never seen by the source. */
	add_request(f, 0, T_IN, 0, DATA_GPA + 0x8000, 4096);
	buf_init(&saved, 1 << 20);
	g_assert_cmpint(f->device->ops->save(f->device, &saved), ==, 0);
	g_assert_cmpint(virtio_blk_release(f->blk), ==, 0);

	g_assert_cmpint(guest_init(&target), ==, 0);
	device =
		new_device(f, &target, false, 0); /* would be refused if the lock were still held */
	blk = virtio_blk_of(device);
	move_guest(f, &target);
	for (size_t len = 0; len < saved.len; len += 101)
		g_assert_cmpint(load_into(device, &saved, len), !=, 0);
	g_assert_cmpint(load_into(device, &saved, saved.len), ==, 0);
	g_assert_cmpint(virtio_blk_acquire(blk), ==, 0);
	buf_init(&again, 1 << 20);
	g_assert_cmpint(device->ops->save(device, &again), ==, 0);
	g_assert_cmpmem(saved.bytes, saved.len, again.bytes, again.len);

	device->ops->resume(device);
	for (int i = 0; i < 100 && guest_used_idx(&target, 0) != 2; i++)
		loop_run_once(target.loop, 100);
	g_assert_cmpuint(guest_used_idx(&target, 0), ==, 2);
	g_assert_cmpmem(ram_ptr(target.ram, DATA_GPA + 0x8000, 4096), 4096, memory(f, DATA_GPA),
			4096);
	/* The source lost it for good until the target lets go. */
	g_assert_cmpint(virtio_blk_acquire(f->blk), ==, -EBUSY);
	buf_fini(&saved);
	buf_fini(&again);
	guest_fini(&target);
}

static void another_disk_is_refused(struct fixture *f, gconstpointer data)
{
	struct guest target;
	struct device *device;
	struct buf saved;

	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	buf_init(&saved, 1 << 20);
	g_assert_cmpint(f->device->ops->save(f->device, &saved), ==, 0);
	g_assert_cmpint(virtio_blk_release(f->blk), ==, 0);

	g_assert_cmpint(guest_init(&target), ==, 0);
	device = new_device(f, &target, false, 4096);
	g_assert_cmpint(load_into(device, &saved, saved.len), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "blocks"));
	guest_fini(&target);

	g_assert_cmpint(truncate(f->path, IMAGE_BYTES / 2), ==, 0);
	g_assert_cmpint(guest_init(&target), ==, 0);
	device = new_device(f, &target, false, 0);
	g_assert_cmpint(load_into(device, &saved, saved.len), ==, -EBADMSG);
	guest_fini(&target);

	/* A larger one is not: the guest goes on knowing what it knew. */
	g_assert_cmpint(truncate(f->path, IMAGE_BYTES * 2), ==, 0);
	g_assert_cmpint(guest_init(&target), ==, 0);
	device = new_device(f, &target, false, 0);
	g_assert_cmpint(load_into(device, &saved, saved.len), ==, 0);
	guest_enable_pci(&target, SLOT);
	g_assert_cmpuint(guest_read(&target, GUEST_DEVCFG(&target, SLOT), 8), ==,
			 IMAGE_BYTES / 512);
	guest_fini(&target);
	buf_fini(&saved);
}

/* The hand-over fails on the target: the source takes its lock again and goes on. */
static void a_released_disk_may_come_back(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	g_assert_cmpint(virtio_blk_release(f->blk), ==, 0);
	g_assert_cmpint(virtio_blk_acquire(f->blk), ==, 0);
	f->device->ops->resume(f->device);
	g_assert_cmpint(run_one(f, T_IN, 0, DATA_GPA, 4096), ==, OK);

	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	g_assert_cmpint(virtio_blk_release(f->blk), ==, 0);
	g_assert_cmpint(truncate(f->path, IMAGE_BYTES / 2), ==, 0);
	g_assert_cmpint(virtio_blk_acquire(f->blk), ==, -EINVAL);
}

static void storage_errors_reach_the_guest(struct fixture *f, gconstpointer data)
{
	uint32_t id, len;

	g_assert_cmpint(truncate(f->path, 65536), ==, 0);
	g_assert_cmpint(run_one(f, T_IN, 120, DATA_GPA, 8192), ==, IOERR);
	guest_used_elem(&f->guest, 0, 0, &id, &len);
	g_assert_cmpuint(len, ==, 0);
	/* Some of it was read: the pages are dirty all the same. */
	g_assert_true(page_written(f, DATA_GPA));
	g_assert_cmpint(run_one(f, T_IN, 0, DATA_GPA, 8192), ==, OK);
}

/* A guest resets the device with requests in flight: it sees the reset done only when they are. */
static void reset_waits_for_requests(struct fixture *f, gconstpointer data)
{
	for (unsigned int i = 0; i < 100; i++)
		add_indirect(f, 0, i, T_IN, i, DATA_GPA + i * 4096, 4096);
	guest_kick(&f->guest, SLOT, 0);
	loop_run_once(f->guest.loop, 100);
	guest_set_status(&f->guest, SLOT, 0);
	for (int i = 0; i < 100 && guest_status(&f->guest, SLOT) != 0; i++)
		loop_run_once(f->guest.loop, 100);
	g_assert_cmpint(guest_status(&f->guest, SLOT), ==, 0);
	memset(guest_avail(&f->guest, 0), 0, 4);
	memset(guest_used(&f->guest, 0), 0, 4);
	guest_start_virtio(&f->guest, SLOT, VIRTIO_F_VERSION_1 | F_ALL, QUEUES, QSIZE);
	g_assert_cmpint(run_one(f, T_IN, 0, DATA_GPA, 4096), ==, OK);
}

/* Without FLUSH what is written must stay: the write is answered after an fdatasync. */
static void writes_are_synced_for_a_driver_without_flush(struct fixture *f, gconstpointer data)
{
	guest_start_virtio(&f->guest, SLOT, VIRTIO_F_VERSION_1 | (F_ALL & ~F_FLUSH), QUEUES, QSIZE);
	fill(memory(f, DATA_GPA), 4096, 8);
	g_assert_cmpint(run_one(f, T_OUT, 0, DATA_GPA, 4096), ==, OK);
	check_file(f, 0, memory(f, DATA_GPA), 4096);
}

static void bad_options_are_refused(struct fixture *f, gconstpointer data)
{
	struct virtio_blk_options options = {.serial = "123456789012345678901", .nqueues = 1};
	struct blk_image_options image = {.path = f->path, .fd = -1, .defer_lock = true};
	struct device *device;

	g_assert_cmpint(blk_image_open(&options.image, &image), ==, 0);
	g_assert_cmpint(virtio_blk_new(&device, &f->guest.env, "disk1", SLOT + 1, &options), ==,
			-EINVAL);
	options = (struct virtio_blk_options){.nqueues = 0};
	g_assert_cmpint(blk_image_open(&options.image, &image), ==, 0);
	g_assert_cmpint(virtio_blk_new(&device, &f->guest.env, "disk1", SLOT + 1, &options), ==,
			-EINVAL);
	/* The slot is taken: all that was made before is gone again. */
	options.nqueues = 1;
	g_assert_cmpint(blk_image_open(&options.image, &image), ==, 0);
	g_assert_cmpint(virtio_blk_new(&device, &f->guest.env, "disk1", SLOT, &options), ==,
			-EEXIST);
	g_assert_null(device);
}

#define TEST(name) g_test_add("/virtio-blk/" #name, struct fixture, NULL, set_up, name, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST(what_is_written_is_read);
	TEST(framing_means_nothing);
	TEST(bad_requests_are_answered);
	TEST(ranges_are_zeroed_and_discarded);
	TEST(serial_number_is_told);
	g_test_add_func("/virtio-blk/readonly_disks_are_not_written",
			readonly_disks_are_not_written);
	TEST(unanswerable_requests_break_the_device);
	TEST(a_full_queue_is_served_from_a_small_pool);
	TEST(a_run_takes_so_many_requests);
	TEST(pause_drains_and_keeps_kicks);
	TEST(saved_disks_go_on_elsewhere);
	TEST(another_disk_is_refused);
	TEST(a_released_disk_may_come_back);
	TEST(storage_errors_reach_the_guest);
	TEST(reset_waits_for_requests);
	TEST(writes_are_synced_for_a_driver_without_flush);
	TEST(bad_options_are_refused);
	return g_test_run();
}
