// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A virtio device with its real threads: an I/O loop, two vCPUs that set it up, kick it, break it and reset it, and a main
 * thread that stops them to pause, save, load and resume it, over and over. Nothing may be lost: each request that a vCPU
 * waits for is answered, however often the VM is paused meanwhile.
 */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/log.h"
#include "devices/virtio_rng.h"
#include "tests/unit/fake_guest.h"

#define SLOT	2
#define SIZE	8
#define DATA	0x200000ULL
#define TEST_US 700000

struct fixture {
	struct guest guest;
	pthread_rwlock_t run; /* a vCPU holds it while in its guest; main takes it to stop them */
	atomic_bool stop;
	atomic_uint answered;
	atomic_uint disturbed;
};

static void *io_thread(void *opaque)
{
	struct fixture *f = opaque;

	loop_run(f->guest.loop);
	return NULL;
}

static void enter(struct fixture *f)
{
	pthread_rwlock_rdlock(&f->run);
}

static void leave(struct fixture *f)
{
	pthread_rwlock_unlock(&f->run);
}

/* One request: kicked once, waited for. */
static void request(struct fixture *f)
{
	struct guest *g = &f->guest;
	uint16_t before, *used;
	gint64 begin = g_get_monotonic_time();

	enter(f);
	used = &guest_used(g, 0)[1];
	before = __atomic_load_n(used, __ATOMIC_ACQUIRE);
	guest_set_desc(g, 0, 0, DATA, 32, VRING_DESC_F_WRITE, 0);
	guest_avail(g, 0)[2 + before % SIZE] = 0;
	__atomic_store_n(&guest_avail(g, 0)[1], before + 1, __ATOMIC_RELEASE);
	/* As a driver does: no kick where none is asked for. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!(__atomic_load_n(&used[-1], __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY))
		guest_kick(g, SLOT, 0);
	leave(f);
	while (__atomic_load_n(used, __ATOMIC_ACQUIRE) == before) {
		g_assert_cmpint(g_get_monotonic_time() - begin, <, 20000000);
		g_usleep(1);
		/* A vCPU that is stopped meanwhile. */
		enter(f);
		leave(f);
	}
	atomic_fetch_add(&f->answered, 1);
}

static void start(struct fixture *f)
{
	struct guest *g = &f->guest;

	enter(f);
	memset(ram_ptr(g->ram, GUEST_QUEUE_GPA(0), 0x10000), 0, 0x10000);
	guest_start_virtio(g, SLOT, VIRTIO_F_VERSION_1, 1, SIZE);
	g_assert_cmphex(guest_status(g, SLOT), ==, 15);
	leave(f);
}

/* Uses the device, and resets it every now and then. */
static void *user_vcpu(void *opaque)
{
	struct fixture *f = opaque;

	while (!atomic_load(&f->stop)) {
		start(f);
		for (unsigned int i = 0; i < 20; i++)
			request(f);
		enter(f);
		guest_set_status(&f->guest, SLOT, 0);
		/* Nothing stays in flight for long. */
		while (guest_status(&f->guest, SLOT))
			;
		leave(f);
	}
	return NULL;
}

/* Reads everything, masks and unmasks, never kicks: a kick that is lost must not be made good by it. */
static void *nosy_vcpu(void *opaque)
{
	struct fixture *f = opaque;
	struct guest *g = &f->guest;
	unsigned int n = 0;

	while (!atomic_load(&f->stop)) {
		enter(f);
		guest_config_read(g, SLOT, n % 256, 4);
		guest_common_read(g, SLOT, n % 64, 4);
		guest_read(g, guest_bar(g, SLOT, 1) + 2048, 8);
		guest_set_vector(g, SLOT, 1, 0xfee00000, n, n % 2);
		/* Bus mastering goes off and on: what waits is done afterwards. */
		if (n % 64 == 0) {
			guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
			guest_enable_pci(g, SLOT);
		}
		leave(f);
		n++;
	}
	return NULL;
}

static void migrate_to_itself(struct fixture *f)
{
	struct device_list *devices = &f->guest.devices;
	struct state_set *set;
	struct buf buf;

	buf_init(&buf, 1 << 20);
	g_assert_cmpint(device_list_pause(devices), ==, 0);
	g_assert_cmpint(device_list_save(devices, &buf), ==, 0);
	device_list_reset(devices);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(device_list_load(devices, set), ==, 0);
	g_assert_cmpint(state_set_all_used(set), ==, 0);
	device_list_resume(devices);
	state_set_free(set);
	buf_fini(&buf);
}

static void storm(void)
{
	struct fixture f = {};
	pthread_rwlockattr_t attr;
	pthread_t io, user, nosy;
	struct device *device;
	gint64 begin = g_get_monotonic_time();

	g_assert_cmpint(guest_init(&f.guest), ==, 0);
	g_assert_cmpint(virtio_rng_new(&device, &f.guest.env, "rng0", SLOT), ==, 0);
	g_assert_cmpint(device_list_add(&f.guest.devices, device), ==, 0);
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&f.run, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_create(&io, NULL, io_thread, &f);
	pthread_create(&user, NULL, user_vcpu, &f);
	pthread_create(&nosy, NULL, nosy_vcpu, &f);
	while (g_get_monotonic_time() - begin < TEST_US) {
		g_usleep(500);
		pthread_rwlock_wrlock(&f.run);
		migrate_to_itself(&f);
		pthread_rwlock_unlock(&f.run);
		atomic_fetch_add(&f.disturbed, 1);
	}
	atomic_store(&f.stop, true);
	pthread_join(user, NULL);
	pthread_join(nosy, NULL);
	g_test_message("%u requests answered, %u pauses", atomic_load(&f.answered),
		       atomic_load(&f.disturbed));
	g_assert_cmpuint(atomic_load(&f.answered), >=, 20);
	g_assert_cmpuint(atomic_load(&f.disturbed), >=, 5);
	/* Freed while the loop runs: its watches go on the loop's thread. */
	device_list_free(&f.guest.devices);
	loop_stop(f.guest.loop);
	pthread_join(io, NULL);
	pthread_rwlock_destroy(&f.run);
	guest_fini(&f.guest);
}

int main(int argc, char **argv)
{
	log_level = LOG_ERROR;
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio-threads/storm", storm);
	return g_test_run();
}
