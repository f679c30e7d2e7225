// SPDX-License-Identifier: GPL-2.0-or-later
/* The entropy device: bytes arrive, empty and enormous requests are answered, and no run is longer than its turn. */
#include "devices/virtio_rng.h"

#include <glib.h>
#include <string.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

#define SLOT 2
#define SIZE 8
#define DATA 0x200000ULL

struct fixture {
	struct guest guest;
};

static void set_up(struct fixture *f, gconstpointer data)
{
	struct device *device;

	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	g_assert_cmpint(virtio_rng_new(&device, &f->guest.env, "rng0", SLOT), ==, 0);
	g_assert_cmpint(device_list_add(&f->guest.devices, device), ==, 0);
	guest_start_virtio(&f->guest, SLOT, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, 1, SIZE);
	guest_run_loop(&f->guest);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	guest_fini(&f->guest);
}

/* What the device says it wrote into a chain of these writable lengths. */
static uint32_t ask(struct fixture *f, const uint32_t *lens, unsigned int n)
{
	uint16_t before = guest_used_idx(&f->guest, 0);
	uint32_t id, len;
	gpa_t at = DATA;

	for (unsigned int i = 0; i < n; i++) {
		guest_set_desc(&f->guest, 0, i, at, lens[i],
			       VRING_DESC_F_WRITE | (i + 1 < n ? VRING_DESC_F_NEXT : 0), i + 1);
		at += lens[i];
	}
	guest_make_available(&f->guest, 0, SIZE, 0);
	guest_kick(&f->guest, SLOT, 0);
	guest_run_loop(&f->guest);
	g_assert_cmpuint((uint16_t)(guest_used_idx(&f->guest, 0) - before), ==, 1);
	guest_used_elem(&f->guest, 0, before % SIZE, &id, &len);
	g_assert_cmpuint(id, ==, 0);
	return len;
}

static void fills(struct fixture *f, gconstpointer data)
{
	static const uint32_t lens[] = {64, 3, 200};
	uint8_t *bytes = ram_ptr(f->guest.ram, DATA, 4096);
	unsigned int zeros = 0;

	g_assert_cmpuint(ask(f, lens, 3), ==, 267);
	for (unsigned int i = 0; i < 267; i++)
		zeros += bytes[i] == 0;
	g_assert_cmpuint(zeros, <, 30); /* about one expected */
	for (unsigned int i = 267; i < 4096; i++)
		g_assert_cmpuint(bytes[i], ==, 0);
	g_assert_true(f->guest.ram->written[(DATA >> 12) / 64] >> ((DATA >> 12) % 64) & 1);
}

static void enormous(struct fixture *f, gconstpointer data)
{
	static const uint32_t lens[] = {1 << 20, 1 << 20};

	g_assert_cmpuint(ask(f, lens, 2), ==, 65536);
	/* The next one is not starved by it. */
	g_assert_cmpuint(ask(f, (const uint32_t[]){32}, 1), ==, 32);
}

static void nothing_to_write(struct fixture *f, gconstpointer data)
{
	guest_set_desc(&f->guest, 0, 0, DATA, 64, 0, 0); /* readable: nothing to fill */
	guest_make_available(&f->guest, 0, SIZE, 0);
	guest_kick(&f->guest, SLOT, 0);
	guest_run_loop(&f->guest);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 1);
	g_assert_cmpuint(guest_status(&f->guest, SLOT), ==, 15);
}

static void many(struct fixture *f, gconstpointer data)
{
	for (unsigned int i = 0; i < SIZE; i++) {
		guest_set_desc(&f->guest, 0, i, DATA + 0x10000 * i, 40000, VRING_DESC_F_WRITE, 0);
		guest_make_available(&f->guest, 0, SIZE, i);
	}
	guest_kick(&f->guest, SLOT, 0);
	g_assert_cmpint(loop_run_once(f->guest.loop, 0), ==, 1);
	/* One turn is 64 KiB: two requests, the second cut short. */
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 2);
	guest_run_loop(&f->guest);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, SIZE);
}

#define TEST(name, fn) g_test_add("/virtio-rng/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("fills", fills);
	TEST("enormous", enormous);
	TEST("nothing-to-write", nothing_to_write);
	TEST("many", many);
	return g_test_run();
}
