// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where tokens go; see token.h.
 *
 * Serial: a line "token: N". Disk (the first virtio-blk): sector N % capacity holds a struct token_record, so the image
 * is a log of the last `capacity` tokens that a watcher can read at any time; at start the largest one found there
 * is where counting goes on. At most one write is in flight; a token that comes due meanwhile waits for it.
 */
#include "token.h"

#include "virtio_blk.h"

#define MAGIC 0x314b4f544e524554ul /* "TERNTOK1" */

/* One sector; little-endian. tests/live reads it. */
struct token_record {
	uint64_t magic, value;
	uint64_t clock; /* clock_now() when it was made */
	uint64_t check; /* of the three above */
	uint8_t rest[SECTOR_SIZE - 32];
};

struct token token = {.next = UINT64_MAX};

#define SCAN_SECTORS 128u

static struct token_record record NOINIT __attribute__((aligned(512)));
static struct token_record scanned[SCAN_SECTORS] NOINIT __attribute__((aligned(4096)));
static struct virtio_blk disk;
static uint64_t value, period;
static bool to_serial, to_disk, in_flight;
static uint64_t failed;

static uint64_t record_check(const struct token_record *r)
{
	return (r->magic ^ r->value * 0x9e3779b97f4a7c15ul) + r->clock;
}

/* Finds the largest token in SCAN_SECTORS sectors, or in what is left of the disk. */
static void scan(uint64_t sector)
{
	uint64_t left = disk.capacity_512 - sector;
	unsigned int n = left < SCAN_SECTORS ? (unsigned int)left : SCAN_SECTORS;

	if (!virtio_blk_do(&disk, VIRTIO_BLK_READ, sector, scanned, n * SECTOR_SIZE))
		fatal("token: cannot read sector %lu", sector);
	for (unsigned int i = 0; i < n; i++) {
		const struct token_record *r = &scanned[i];

		if (r->magic == MAGIC && r->check == record_check(r) && r->value > value)
			value = r->value;
	}
}

static void disk_start(void)
{
	if (!virtio_blk_open(&disk, 0) || !disk.capacity_512)
		fatal("token=disk, but there is no disk that works");
	for (uint64_t sector = 0; sector < disk.capacity_512; sector += SCAN_SECTORS)
		scan(sector);
	say("guest: token disk sectors=%lu last=%lu\n", disk.capacity_512, value);
	memset(&record, 0, sizeof(record));
}

void token_start(void)
{
	to_serial = param_lists("token", "serial");
	to_disk = param_lists("token", "disk");
	if (!to_serial && !to_disk)
		return;
	if (to_disk)
		disk_start();
	period = ms_to_ticks(param_number("token_ms", 10));
	token.next = clock_now() + period;
}

static void disk_write(uint64_t now)
{
	record.magic = MAGIC;
	record.value = value;
	record.clock = now;
	record.check = record_check(&record);
	virtio_blk_submit(&disk, VIRTIO_BLK_WRITE, value % disk.capacity_512, &record,
			  sizeof(record));
	in_flight = true;
}

/* Is the disk free for the next one? */
static bool disk_poll(void)
{
	bool ok;

	if (!in_flight)
		return true;
	if (!virtio_blk_done(&disk, &ok))
		return false;
	in_flight = false;
	if (!ok) {
		failed++;
		say("guest: error token=%lu: the disk's status is 0x%x\n", value, disk.status);
	}
	return true;
}

void token_emit(uint64_t now)
{
	if (to_disk && !disk_poll())
		return;
	token.next += period;
	if (token.next < now)
		token.next = now + period;
	value++;
	if (to_serial)
		say("token: %lu\n", value);
	if (to_disk)
		disk_write(now);
}

uint64_t token_finish(void)
{
	while (to_disk && !disk_poll())
		cpu_relax();
	if (to_serial || to_disk)
		say("guest: token last=%lu failed=%lu\n", value, failed);
	return failed;
}
