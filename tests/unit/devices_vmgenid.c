// SPDX-License-Identifier: GPL-2.0-or-later
/* The generation id: in RAM, kept over reset and migration, new on a restore. */
#include "devices/vmgenid.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "base/log.h"

#define RAM_BYTES (2ULL << 20)

struct fixture {
	struct ram *ram;
	struct vmgenid *vmgenid;
	unsigned int notified;
};

static void on_notify(void *opaque)
{
	((struct fixture *)opaque)->notified++;
}

static void set_up(struct fixture *f, gconstpointer data)
{
	const struct ram_layout layout = {.nranges = 1, .range = {{0, RAM_BYTES}}};

	g_assert_cmpint(ram_new(&f->ram, &layout), ==, 0);
	g_assert_cmpint(vmgenid_new(&f->vmgenid, f->ram, "vmgenid",
				    (const uint8_t *)"0123456789abcdef", on_notify, f),
			==, 0);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	vmgenid_device(f->vmgenid)->ops->free(vmgenid_device(f->vmgenid));
	ram_free(f->ram);
}

static void place_and_renew(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(vmgenid_place(f->vmgenid, 0x1004), ==, -EFAULT);
	g_assert_cmpint(vmgenid_place(f->vmgenid, RAM_BYTES - 8), ==, -EFAULT);
	g_assert_cmpint(vmgenid_place(f->vmgenid, 0x1028), ==, 0);
	g_assert_cmpmem(ram_ptr(f->ram, 0x1028, 16), 16, "0123456789abcdef", 16);
	g_assert_cmpuint(f->ram->written[0], ==, 2);
	vmgenid_device(f->vmgenid)->ops->reset(vmgenid_device(f->vmgenid));
	g_assert_cmpmem(vmgenid_get(f->vmgenid), 16, "0123456789abcdef", 16);
	g_assert_cmpuint(f->notified, ==, 0);
	g_assert_cmpint(vmgenid_renew(f->vmgenid, (const uint8_t *)"new-generation-!"), ==, 0);
	g_assert_cmpmem(ram_ptr(f->ram, 0x1028, 16), 16, "new-generation-!", 16);
	g_assert_cmpuint(f->notified, ==, 1);
}

static void moves(struct fixture *f, gconstpointer data)
{
	struct device *device = vmgenid_device(f->vmgenid);
	struct fixture there = {};
	struct state_set *set;
	struct buf buf;

	g_assert_cmpint(vmgenid_place(f->vmgenid, 0x2000), ==, 0);
	buf_init(&buf, 4096);
	g_assert_cmpint(device->ops->save(device, &buf), ==, 0);
	set_up(&there, NULL);
	g_assert_cmpint(vmgenid_renew(there.vmgenid, (const uint8_t *)"something else.."), ==, 0);
	there.notified = 0;
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(
		vmgenid_device(there.vmgenid)->ops->load(vmgenid_device(there.vmgenid), set), ==,
		0);
	g_assert_cmpmem(vmgenid_get(there.vmgenid), 16, "0123456789abcdef", 16);
	g_assert_cmpuint(there.notified, ==, 0); /* the same VM, as far as the guest can tell */
	/* A restore goes on from there with a new one, in the same place. */
	g_assert_cmpint(vmgenid_renew(there.vmgenid, (const uint8_t *)"new-generation-!"), ==, 0);
	g_assert_cmpmem(ram_ptr(there.ram, 0x2000, 16), 16, "new-generation-!", 16);
	state_set_free(set);
	buf_fini(&buf);
	tear_down(&there, NULL);
}

#define TEST(name, fn) g_test_add("/vmgenid/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	log_level = LOG_ERROR;
	g_test_init(&argc, &argv, NULL);
	TEST("place-and-renew", place_and_renew);
	TEST("moves", moves);
	return g_test_run();
}
