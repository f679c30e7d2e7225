// SPDX-License-Identifier: GPL-2.0-or-later
/* The virtio core on its PCI transport: negotiation, running, resets and pauses with work in flight, state. */
#include "devices/virtio.h"

#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

/*
 * A device that keeps the chains that it pops until it is told to complete them, like a disk, on queue 0, and answers at
 * once on queue 1.
 */
/* clang-format off */
#define SLOW_STATE(T, F, A, V) \
	F(T, 1, u32, level)
/* clang-format on */
STATE_STRUCT(slow_state, SLOW_STATE);
STATE_TABLE(slow_state, 1, SLOW_STATE);

#define SLOW_F_TURBO (1ULL << 3)

struct slow {
	struct virtio virtio;
	struct slow_state state;
	unsigned int nkept;
	uint16_t heads[64];
	GString *trace;
	unsigned int runs;
	bool takes_kicks; /* queue 1 goes to a backend outside */
};

static struct slow *slow_of(struct virtio *virtio)
{
	return CONTAINER_OF(virtio, struct slow, virtio);
}

static void slow_run(struct virtio *virtio, unsigned int queue)
{
	struct slow *slow = slow_of(virtio);
	struct virtq *q = virtio_q(virtio, queue);
	VIRTQ_CHAIN(chain, 16);

	slow->runs++;
	while (virtq_pop(q, &chain) > 0) {
		if (queue == 0)
			slow->heads[slow->nkept++] = chain.head;
		else
			virtq_push(q, &chain, 0);
	}
}

static void complete_one(struct slow *slow)
{
	struct virtq_chain chain = {.head = slow->heads[--slow->nkept]};

	virtio_lock(&slow->virtio);
	virtq_push(virtio_q(&slow->virtio, 0), &chain, 0);
	virtq_publish(virtio_q(&slow->virtio, 0));
	virtio_unlock(&slow->virtio);
}

static void slow_start(struct virtio *virtio)
{
	g_string_append(slow_of(virtio)->trace, "start ");
}
static void slow_stop(struct virtio *virtio)
{
	g_string_append(slow_of(virtio)->trace, "stop ");
}
static void slow_queue_start(struct virtio *virtio, unsigned int queue)
{
	g_string_append_printf(slow_of(virtio)->trace, "+%u ", queue);
	if (queue == 1 && slow_of(virtio)->takes_kicks)
		virtio_queue_outside(virtio, 1, true);
}
static void slow_queue_stop(struct virtio *virtio, unsigned int queue)
{
	g_string_append_printf(slow_of(virtio)->trace, "-%u ", queue);
	if (queue == 1 && slow_of(virtio)->takes_kicks)
		virtio_queue_outside(virtio, 1, false);
}
static void slow_queue_vector(struct virtio *virtio, unsigned int queue)
{
	g_string_append_printf(slow_of(virtio)->trace, "v%u ", queue);
}
static void slow_reset(struct virtio *virtio)
{
	slow_of(virtio)->state.level = 0;
	g_string_append(slow_of(virtio)->trace, "reset ");
}
static void slow_config_write(struct virtio *virtio, unsigned int offset, const void *data,
			      unsigned int len)
{
	memcpy(virtio->config + offset, data, len);
}
static int slow_load(struct virtio *virtio, const void *own_state, bool commit)
{
	const struct slow_state *loaded = own_state;

	if (loaded->level > 100)
		return -EBADMSG;
	if (commit)
		slow_of(virtio)->state = *loaded;
	return 0;
}
static void slow_free(struct virtio *virtio)
{
	struct slow *slow = slow_of(virtio);

	virtio_fini(virtio);
	g_string_free(slow->trace, TRUE);
	g_free(slow);
}

static const struct virtio_ops slow_ops = {
	.type = "virtio-slow",
	.device_id = 42,
	.class_code = 0x00ff00,
	.table = &slow_state_table,
	.queue_run = slow_run,
	.start = slow_start,
	.stop = slow_stop,
	.queue_start = slow_queue_start,
	.queue_stop = slow_queue_stop,
	.queue_vector = slow_queue_vector,
	.reset = slow_reset,
	.config_write = slow_config_write,
	.load = slow_load,
	.free = slow_free,
};

#define SLOT  4
#define SIZE  8
#define DATA  0x200000ULL
#define BASIC VIRTIO_F_VERSION_1

static struct slow *add_slow(struct guest *guest)
{
	struct slow *slow = g_new0(struct slow, 1);
	const struct virtio_shape shape = {
		.features = SLOW_F_TURBO,
		.nqueues = 2,
		.queue_size = 16,
		.config = "configuration",
		.config_bytes = 13,
		.own_state = &slow->state,
	};

	slow->trace = g_string_new("");
	g_assert_cmpint(virtio_init(&slow->virtio, &slow_ops, &guest->env, "slow0", SLOT, &shape),
			==, 0);
	g_assert_cmpint(device_list_add(&guest->devices, &slow->virtio.device), ==, 0);
	return slow;
}

struct fixture {
	struct guest guest;
	struct slow *slow;
};

static void set_up(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	f->slow = add_slow(&f->guest);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	guest_fini(&f->guest);
}

static void assert_trace(struct fixture *f, const char *expected)
{
	g_assert_cmpstr(f->slow->trace->str, ==, expected);
	g_string_truncate(f->slow->trace, 0);
}

static void start(struct fixture *f, uint64_t features)
{
	guest_start_virtio(&f->guest, SLOT, features, 2, SIZE);
	guest_run_loop(&f->guest);
	g_string_truncate(f->slow->trace, 0);
	f->slow->runs = 0;
}

/* Makes one buffer available on a queue and kicks. */
static void offer(struct fixture *f, unsigned int queue, uint16_t head)
{
	guest_set_desc(&f->guest, queue, head, DATA, 16, VRING_DESC_F_WRITE, 0);
	guest_make_available(&f->guest, queue, SIZE, head);
	guest_kick(&f->guest, SLOT, queue);
	guest_run_loop(&f->guest);
}

static uint64_t interrupts(struct fixture *f, unsigned int vector)
{
	return fake_delivered(&f->guest.wiring, f->slow->virtio.pci.msix.vector[vector].handle);
}

static void capabilities(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	unsigned int types = 0, at;

	g_assert_cmphex(guest_config_read(g, SLOT, 0, 4), ==, 0x106a1af4);
	for (unsigned int i = 0; (at = guest_find_capability(g, SLOT, PCI_CAP_ID_VNDR, i)); i++) {
		types |= 1U << guest_config_read(g, SLOT, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
		g_assert_cmpuint(guest_config_read(g, SLOT, at + VIRTIO_PCI_CAP_BAR, 1), ==, 0);
	}
	g_assert_cmphex(types, ==, 0x3e); /* common, notify, isr, device, window */
	guest_enable_pci(g, SLOT);
	g_assert_cmpuint(g->wiring.ndoorbells, ==, 2);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_NUMQ, 2), ==, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 16);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_NOFF, 2), ==, 1);
	/* A queue that is not there has size 0 and takes nothing. */
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 0);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	guest_config_write(g, SLOT, PCI_COMMAND, 0, 2);
	g_assert_cmpuint(g->wiring.ndoorbells, ==, 0);
}

static void negotiation(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	guest_enable_pci(g, SLOT);
	g_assert_cmphex(guest_offered(g, SLOT), ==, VIRTIO_CORE_FEATURES | SLOW_F_TURBO);
	/* Without VERSION_1, or with what was not offered: FEATURES_OK does not stick, and DRIVER_OK neither. */
	guest_set_status(g, SLOT, 3);
	guest_accept(g, SLOT, SLOW_F_TURBO);
	guest_set_status(g, SLOT, 11);
	g_assert_cmphex(guest_status(g, SLOT), ==, 3);
	guest_accept(g, SLOT, BASIC | 1);
	guest_set_status(g, SLOT, 11);
	g_assert_cmphex(guest_status(g, SLOT), ==, 3);
	guest_set_status(g, SLOT, 15);
	g_assert_cmphex(guest_status(g, SLOT), ==, 3);
	guest_accept(g, SLOT, BASIC | SLOW_F_TURBO);
	guest_set_status(g, SLOT, 11);
	g_assert_cmphex(guest_status(g, SLOT), ==, 11);
	/* Final now. */
	guest_accept(g, SLOT, BASIC);
	g_assert_true(virtio_has(&f->slow->virtio, SLOW_F_TURBO));
	/* Bits are only ever added, but by a reset. */
	guest_set_status(g, SLOT, 1);
	g_assert_cmphex(guest_status(g, SLOT), ==, 11);
	guest_set_status(g, SLOT, 64);
	g_assert_cmphex(guest_status(g, SLOT), ==, 11);
	guest_set_status(g, SLOT, 0);
	g_assert_cmphex(guest_status(g, SLOT), ==, 0);
	g_assert_false(virtio_has(&f->slow->virtio, SLOW_F_TURBO));
}

static void runs_and_resets(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	guest_start_virtio(g, SLOT, BASIC, 2, SIZE);
	assert_trace(f, "reset start +0 +1 ");
	guest_run_loop(g);
	g_assert_cmpuint(f->slow->runs, ==, 2); /* once, as if kicked */
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
	g_assert_cmpuint(interrupts(f, 2), ==, 1);
	g_assert_cmpuint(interrupts(f, 1), ==, 0);
	guest_set_status(g, SLOT, 0);
	assert_trace(f, "-0 -1 stop reset ");
	g_assert_cmphex(guest_status(g, SLOT), ==, 0);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 16);
	/* Kicks of a device that does not run go nowhere. */
	f->slow->runs = 0;
	offer(f, 1, 0);
	g_assert_cmpuint(f->slow->runs, ==, 0);
}

/* The reset register keeps its value until what is in flight is back; nothing new begins meanwhile. */
static void reset_waits(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC);
	offer(f, 0, 1);
	offer(f, 0, 2);
	g_assert_cmpuint(f->slow->nkept, ==, 2);
	guest_set_status(g, SLOT, 0);
	g_assert_cmphex(guest_status(g, SLOT), ==, 15);
	assert_trace(f, "-0 -1 stop ");
	offer(f, 1, 0);
	g_assert_cmpuint(f->slow->runs, ==, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_MSIX, 2, 2); /* too early: dropped */
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_MSIX, 2), ==, 0);
	complete_one(f->slow);
	g_assert_cmphex(guest_status(g, SLOT), ==, 15);
	complete_one(f->slow);
	g_assert_cmphex(guest_status(g, SLOT), ==, 0);
	assert_trace(f, "reset ");
	g_assert_cmpuint(guest_used_idx(g, 0), ==, 2);
}

static void one_queue_resets(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC | VIRTIO_F_RING_RESET);
	offer(f, 0, 1);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	assert_trace(f, "-0 ");
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 1);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2); /* too early */
	complete_one(f->slow);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_RESET, 2), ==, 0);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	/* The other queue never stopped. */
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
	/* And this one comes back, from the start. */
	memset(guest_avail(g, 0), 0, 64);
	memset(guest_used(g, 0), 0, 64);
	guest_setup_queue(g, SLOT, 0, SIZE, 1);
	assert_trace(f, "+0 ");
	offer(f, 0, 3);
	complete_one(f->slow);
	g_assert_cmpuint(guest_used_idx(g, 0), ==, 1);
}

static void queue_reset_not_negotiated(struct fixture *f, gconstpointer data)
{
	start(f, BASIC);
	guest_common_write(&f->guest, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	guest_common_write(&f->guest, SLOT, VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	g_assert_cmpuint(guest_common_read(&f->guest, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
	assert_trace(f, "");
}

static void bad_ring_needs_reset(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	uint64_t before;

	start(f, BASIC);
	before = interrupts(f, 0);
	guest_set_desc(g, 1, 0, GUEST_RAM, 16, VRING_DESC_F_WRITE, 0);
	guest_make_available(g, 1, SIZE, 0);
	guest_kick(g, SLOT, 1);
	guest_run_loop(g);
	g_assert_cmphex(guest_status(g, SLOT), ==, 15 | VIRTIO_STATUS_NEEDS_RESET);
	g_assert_cmpuint(interrupts(f, 0), ==, before + 1); /* told by a configuration interrupt */
	assert_trace(f, "-0 -1 stop ");
	/* It does nothing any more, until it is reset and all is well. */
	f->slow->runs = 0;
	offer(f, 0, 0);
	g_assert_cmpuint(f->slow->runs, ==, 0);
	memset(ram_ptr(g->ram, GUEST_QUEUE_GPA(0), 0x20000), 0, 0x20000);
	start(f, BASIC);
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
}

static void ring_outside_ram_needs_reset(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	guest_enable_pci(g, SLOT);
	guest_set_status(g, SLOT, 3);
	guest_accept(g, SLOT, BASIC);
	guest_set_status(g, SLOT, 11);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, GUEST_RAM, 8);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	g_assert_cmphex(guest_status(g, SLOT), ==, 11 | VIRTIO_STATUS_NEEDS_RESET);
	guest_set_status(g, SLOT, 15);
	assert_trace(f, "");
}

/* Registers keep what they may hold and no more. */
static void register_rules(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	static const uint16_t sizes[] = {0, 3, 32, 0x8000, 6};

	guest_enable_pci(g, SLOT);
	for (unsigned int i = 0; i < G_N_ELEMENTS(sizes); i++) {
		guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, sizes[i], 2);
		g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 16);
	}
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_MSIX, 3, 2); /* there are 0..2 */
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, 0xffff);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_MSIX, 3, 2);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_MSIX, 2), ==, 0xffff);
	/* Before FEATURES_OK a queue cannot be enabled. */
	guest_setup_queue(g, SLOT, 0, SIZE, 1);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	/* Parts of registers do not count; 64 bits at once do. */
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, 0xaa, 1);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO + 2, 0xaaaa, 2);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==,
			GUEST_DESC(0));
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCHI, 0x12, 4);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==,
			GUEST_DESC(0) | 0x12ULL << 32);
	/* Any select may be written; words of features beyond 63 are zero and take nothing. */
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_DFSELECT, UINT32_MAX, 4);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_DF, 4), ==, 0);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_GFSELECT, 2, 4);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_GF, UINT32_MAX, 4);
	g_assert_cmphex(f->slow->virtio.state.accepted, ==, 0);
	/* Once enabled, a queue's shape is fixed. */
	start(f, BASIC);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, 0, 4);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, SIZE);
	g_assert_cmphex(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==,
			GUEST_DESC(0));
	/* But for its vector, which the device is told of. */
	guest_common_write(g, SLOT, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	assert_trace(f, "v0 ");
	g_assert_cmpint(virtio_queue_call_fd(&f->slow->virtio, 0), ==,
			f->slow->virtio.pci.msix.vector[2].eventfd);
}

static void any_access(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	uint8_t bytes[8];

	guest_enable_pci(g, SLOT);
	memset(bytes, 0xff, sizeof(bytes));
	for (uint64_t at = 0; at < 0x4000; at++) {
		for (unsigned int len = 1; len <= 8; len++) {
			bus_read(&g->mmio, guest_bar(g, SLOT, 0) + at, bytes, len);
			if (at != VIRTIO_PCI_COMMON_STATUS)
				bus_write(&g->mmio, guest_bar(g, SLOT, 0) + at, bytes, len);
		}
	}
	guest_run_loop(g);
}

static void device_configuration(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	char bytes[9] = {};
	uint8_t generation;

	start(f, BASIC);
	bus_read(&g->mmio, GUEST_DEVCFG(g, SLOT) + 1, bytes, 8);
	g_assert_cmpstr(bytes, ==, "onfigura");
	g_assert_cmphex(guest_read(g, GUEST_DEVCFG(g, SLOT) + 12, 8), ==, 'n');
	guest_write(g, GUEST_DEVCFG(g, SLOT) + 12, UINT64_MAX, 8); /* clipped to what there is */
	g_assert_cmphex(f->slow->virtio.config[12], ==, 0xff);
	g_assert_cmphex(f->slow->virtio.config[13], ==, 0);
	generation = guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
	virtio_lock(&f->slow->virtio);
	virtio_config_changed(&f->slow->virtio);
	virtio_unlock(&f->slow->virtio);
	g_assert_cmpuint(guest_common_read(g, SLOT, VIRTIO_PCI_COMMON_CFGGENERATION, 1), ==,
			 generation + 1);
	g_assert_cmpuint(interrupts(f, 0), ==, 1);
	g_assert_cmphex(guest_read(g, GUEST_ISR(g, SLOT), 1), ==, 2);
	g_assert_cmphex(guest_read(g, GUEST_ISR(g, SLOT), 1), ==, 0); /* reading clears */
}

/* Without MSI-X the status register tells, for whoever polls it. */
static void without_msix(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC);
	guest_msix_control(g, SLOT, 0);
	offer(f, 1, 0);
	g_assert_cmphex(guest_read(g, GUEST_ISR(g, SLOT), 4), ==, 1);
	g_assert_cmphex(guest_read(g, GUEST_ISR(g, SLOT), 4), ==, 0);
}

static void without_a_doorbell(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC);
	guest_set_desc(g, 1, 0, DATA, 16, VRING_DESC_F_WRITE, 0);
	guest_make_available(g, 1, SIZE, 0);
	guest_write(g, GUEST_NOTIFY(g, SLOT, 1), 1, 2); /* as an exit */
	guest_run_loop(g);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
	/* Of a queue that is not there, or not at a doorbell. */
	guest_write(g, GUEST_NOTIFY(g, SLOT, 2), 1, 2);
	guest_write(g, GUEST_NOTIFY(g, SLOT, 1) + 1, 1, 2);
}

static void no_bus_mastering_no_work(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC);
	guest_config_write(g, SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_trace(f, "-0 -1 stop ");
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 0);
	guest_enable_pci(g, SLOT);
	assert_trace(f, "start +0 +1 ");
	guest_run_loop(g);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1); /* the kick was not lost */
}

static void window(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	unsigned int at = f->slow->virtio.window_capability;

	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_OFFSET, VIRTIO_PCI_COMMON_STATUS, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_LENGTH, 1, 4);
	guest_config_write(g, SLOT, at + 16, 3, 1);
	g_assert_cmphex(f->slow->virtio.state.status, ==, 3);
	g_assert_cmphex(guest_config_read(g, SLOT, at + 16, 4), ==, 3);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_OFFSET, VIRTIO_PCI_COMMON_NUMQ, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_LENGTH, 2, 4);
	g_assert_cmphex(guest_config_read(g, SLOT, at + 16, 2), ==, 2);
	/* Nonsense does nothing. */
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_LENGTH, 3, 4);
	guest_config_write(g, SLOT, at + 16, 0, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_OFFSET, 0x4000, 4);
	guest_config_write(g, SLOT, at + 16, 0, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_BAR, 2, 1);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_OFFSET, VIRTIO_PCI_COMMON_STATUS, 4);
	guest_config_write(g, SLOT, at + VIRTIO_PCI_CAP_LENGTH, 1, 4);
	guest_config_write(g, SLOT, at + 16, 0, 1);
	g_assert_cmphex(f->slow->virtio.state.status, ==, 3);
}

/* Pause and resume */

static void *complete_later(void *opaque)
{
	g_usleep(50000);
	complete_one(opaque);
	return NULL;
}

static void pause_waits(struct fixture *f, gconstpointer data)
{
	struct device *device = &f->slow->virtio.device;
	pthread_t thread;
	gint64 begin;

	start(f, BASIC);
	offer(f, 0, 1);
	pthread_create(&thread, NULL, complete_later, f->slow);
	begin = g_get_monotonic_time();
	g_assert_cmpint(device->ops->pause(device), ==, 0);
	g_assert_cmpint(g_get_monotonic_time() - begin, <, 2000000);
	pthread_join(thread, NULL);
	g_assert_cmpuint(f->slow->nkept, ==, 0);
	assert_trace(f, "-0 -1 stop ");
	/* A kick while paused is kept: resume runs the queue. */
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(&f->guest, 1), ==, 0);
	device->ops->resume(device);
	assert_trace(f, "start +0 +1 ");
	guest_run_loop(&f->guest);
	g_assert_cmpuint(guest_used_idx(&f->guest, 1), ==, 1);
}

static void pause_gives_up(struct fixture *f, gconstpointer data)
{
	struct device *device = &f->slow->virtio.device;

	start(f, BASIC);
	offer(f, 0, 1);
	g_assert_cmpint(device->ops->pause(device), ==, -ETIMEDOUT);
	assert_trace(f, "-0 -1 stop start +0 +1 "); /* it runs as before */
	complete_one(f->slow);
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(&f->guest, 1), ==, 1);
}

/* The interrupt of a queue whose used index the guest may not have been told of is raised again, once. */
static void resume_interrupts(struct fixture *f, gconstpointer data)
{
	struct device *device = &f->slow->virtio.device;
	uint64_t before;

	start(f, BASIC | VIRTIO_F_EVENT_IDX);
	offer(f, 1, 0);
	before = interrupts(f, 2);
	g_assert_cmpint(device->ops->pause(device), ==, 0);
	device->ops->resume(device);
	g_assert_cmpuint(interrupts(f, 2), ==, before + 1);
	g_assert_cmpuint(interrupts(f, 1), ==, 0); /* queue 0 has used nothing */
	guest_avail(&f->guest, 1)[2 + SIZE] = 1;   /* the guest has seen it */
	g_assert_cmpint(device->ops->pause(device), ==, 0);
	device->ops->resume(device);
	g_assert_cmpuint(interrupts(f, 2), ==, before + 1);
}

static void machine_reset(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;

	start(f, BASIC);
	offer(f, 1, 0);
	f->slow->state.level = 9;
	g_assert_cmpint(device_list_pause(&g->devices), ==, 0);
	device_list_reset(&g->devices);
	device_list_resume(&g->devices);
	g_assert_cmpuint(f->slow->state.level, ==, 0);
	g_assert_cmphex(guest_config_read(g, SLOT, PCI_COMMAND, 2), ==, 0);
	g_assert_cmpuint(g->wiring.ndoorbells, ==, 0);
	memset(ram_ptr(g->ram, GUEST_QUEUE_GPA(0), 0x20000), 0, 0x20000);
	start(f, BASIC);
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
}

/* A backend outside */

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void outside(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest;
	struct virtio *virtio = &f->slow->virtio;
	int kick = virtio_queue_kick_fd(virtio, 1);

	f->slow->takes_kicks = true;
	start(f, BASIC);
	g_assert_true(readable(kick)); /* for the backend: what is there already */
	fake_edges(kick);
	f->slow->runs = 0;
	guest_kick(g, SLOT, 1);
	guest_run_loop(g);
	g_assert_cmpuint(f->slow->runs, ==, 0);
	g_assert_true(readable(kick)); /* not taken here */
	/* It interrupts through the vector's own descriptor. */
	irq_raise(virtio_queue_call_fd(virtio, 1));
	g_assert_cmpuint(interrupts(f, 2), ==, 1);
	/* The device stops: kicks come here again. */
	g_assert_cmpint(virtio->device.ops->pause(&virtio->device), ==, 0);
	f->slow->takes_kicks = false;
	virtio->device.ops->resume(&virtio->device);
	f->slow->runs = 0;
	offer(f, 1, 0);
	g_assert_cmpuint(guest_used_idx(g, 1), ==, 1);
}

static void go_outside(void *opaque, int fd, uint32_t events)
{
	struct fixture *f = opaque;

	fake_edges(fd);
	virtio_lock(&f->slow->virtio);
	virtio_queue_outside(&f->slow->virtio, 1, true);
	virtio_unlock(&f->slow->virtio);
}

/* The loop has fetched a kick already when the queue goes outside: the backend must find it nevertheless. */
static void outside_race(struct fixture *f, gconstpointer data)
{
	int kick = virtio_queue_kick_fd(&f->slow->virtio, 1);
	int first = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct loop_watch *watch;

	start(f, BASIC);
	g_assert_cmpint(loop_add_fd(f->guest.loop, first, EPOLLIN, go_outside, f, &watch), ==, 0);
	irq_raise(first);
	guest_kick(&f->guest, SLOT, 1);
	g_assert_cmpint(loop_run_once(f->guest.loop, 0), ==,
			2); /* both in one batch, in this order */
	g_assert_cmpuint(f->slow->runs, ==, 0);
	g_assert_true(readable(kick));
	guest_run_loop(&f->guest);
	g_assert_true(readable(kick));
	virtio_lock(&f->slow->virtio);
	virtio_queue_outside(&f->slow->virtio, 1, false);
	virtio_unlock(&f->slow->virtio);
	loop_watch_free(watch);
	close(first);
}

/* State */

static void save_all(struct guest *g, struct buf *buf)
{
	buf_init(buf, 1 << 20);
	g_assert_cmpint(device_list_pause(&g->devices), ==, 0);
	g_assert_cmpint(device_list_save(&g->devices, buf), ==, 0);
}

static void migration(struct fixture *f, gconstpointer data)
{
	struct guest *g = &f->guest, there;
	struct fixture target = {};
	struct state_set *set;
	struct buf buf, again;

	start(f, BASIC | VIRTIO_F_EVENT_IDX);
	offer(f, 1, 0);
	offer(f, 0, 1);
	offer(f, 0, 2);
	complete_one(f->slow);
	complete_one(f->slow);
	f->slow->state.level = 7;
	/* One more, whose kick nobody has seen. */
	guest_set_desc(g, 1, 5, DATA, 16, VRING_DESC_F_WRITE, 0);
	guest_make_available(g, 1, SIZE, 5);
	save_all(g, &buf);

	g_assert_cmpint(guest_init(&there), ==, 0);
	memcpy(ram_ptr(there.ram, 0, GUEST_RAM), ram_ptr(g->ram, 0, GUEST_RAM), GUEST_RAM);
	target.slow = add_slow(&there);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(device_list_load(&there.devices, set), ==, 0);
	g_assert_cmpint(state_set_all_used(set), ==, 0);
	state_set_free(set);
	/* Nothing happens before resume. */
	guest_run_loop(&there);
	g_assert_cmpstr(target.slow->trace->str, ==, "");
	g_assert_cmpuint(target.slow->runs, ==, 0);
	g_assert_cmpuint(target.slow->state.level, ==, 7);
	g_assert_cmphex(target.slow->virtio.state.accepted, ==, BASIC | VIRTIO_F_EVENT_IDX);
	g_assert_true(virtio_q(&target.slow->virtio, 1)->event_idx);
	buf_init(&again, 1 << 20);
	g_assert_cmpint(device_list_save(&there.devices, &again), ==, 0);
	g_assert_cmpmem(buf.bytes, buf.len, again.bytes, again.len);
	device_list_resume(&there.devices);
	guest_run_loop(&there);
	g_assert_cmpuint(guest_used_idx(&there, 1), ==, 2);
	g_assert_cmpuint(guest_used_idx(&there, 0), ==, 2);
	g_assert_cmpuint(
		fake_delivered(&there.wiring, target.slow->virtio.pci.msix.vector[2].handle), >=,
		1);
	guest_fini(&there);
	buf_fini(&buf);
	buf_fini(&again);
}

/* Loading a state that `spoil` changed in f's own device; it must be refused and change nothing. */
static void refuse(struct fixture *f, void (*spoil)(struct slow *slow),
		   void (*mend)(struct slow *s))
{
	struct guest there;
	struct slow *twin;
	struct state_set *set;
	struct buf buf;

	spoil(f->slow);
	save_all(&f->guest, &buf);
	mend(f->slow);
	g_assert_cmpint(guest_init(&there), ==, 0);
	twin = add_slow(&there);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(device_list_load(&there.devices, set), ==, -EBADMSG);
	g_assert_cmphex(twin->virtio.state.status, ==, 0);
	g_assert_cmpuint(twin->virtio.queue[0].q.state.enabled, ==, 0);
	g_assert_false(pci_bus_master(&twin->virtio.pci));
	device_list_resume(&there.devices);
	g_assert_cmpstr(twin->trace->str, ==, "");
	state_set_free(set);
	guest_fini(&there);
	buf_fini(&buf);
	device_list_resume(&f->guest.devices);
}

static void mend_nothing(struct slow *slow)
{
}
static void spoil_type(struct slow *slow)
{
	slow->virtio.state.device_id = 1;
}
static void mend_type(struct slow *slow)
{
	slow->virtio.state.device_id = 42;
}
static void spoil_offered(struct slow *slow)
{
	slow->virtio.state.offered ^= SLOW_F_TURBO;
}
static void spoil_accepted(struct slow *slow)
{
	slow->virtio.state.accepted ^= 1;
}
static void spoil_status(struct slow *slow)
{
	slow->virtio.state.status ^= 16;
}
static void spoil_vector(struct slow *slow)
{
	slow->virtio.state.config_vector = 3;
}
static void mend_vector(struct slow *slow)
{
	slow->virtio.state.config_vector = 0;
}
static void spoil_ring(struct slow *slow)
{
	slow->virtio.queue[0].q.state.used_gpa = GUEST_RAM;
}
static void spoil_size(struct slow *slow)
{
	slow->virtio.queue[0].q.state.size = 32;
}
static void mend_queue(struct slow *slow)
{
	slow->virtio.queue[0].q.state.used_gpa = GUEST_USED(0);
	slow->virtio.queue[0].q.state.size = SIZE;
	slow->virtio.queue[0].q.state.vector = 1;
}
static void spoil_queue_vector(struct slow *slow)
{
	slow->virtio.queue[0].q.state.vector = 3;
}
static void spoil_own(struct slow *slow)
{
	slow->state.level = 101;
}
static void mend_own(struct slow *slow)
{
	slow->state.level = 0;
}

static void load_refuses(struct fixture *f, gconstpointer data)
{
	start(f, BASIC);
	refuse(f, spoil_type, mend_type);
	refuse(f, spoil_offered, spoil_offered);
	refuse(f, spoil_accepted, spoil_accepted);
	refuse(f, spoil_status, spoil_status);
	refuse(f, spoil_vector, mend_vector);
	refuse(f, spoil_ring, mend_queue);
	refuse(f, spoil_size, mend_queue);
	refuse(f, spoil_queue_vector, mend_queue);
	refuse(f, spoil_own, mend_own);
	mend_nothing(f->slow);
}

/* Creation that fails leaves nothing: the slot is free, no vector and no window stay. */
static void creation_fails(struct fixture *f, gconstpointer data)
{
	struct slow slow = {};
	const struct virtio_shape shape = {
		.nqueues = 2, .queue_size = 16, .own_state = &slow.state};

	g_assert_cmpint(virtio_init(&slow.virtio, &slow_ops, &f->guest.env, "twin", SLOT, &shape),
			==, -EEXIST);
	memset(&slow, 0, sizeof(slow));
	for (unsigned int i = 0; i < FAKE_VECTORS; i++)
		f->guest.wiring.vector[i].open = i != 100; /* one left, three wanted */
	g_assert_cmpint(virtio_init(&slow.virtio, &slow_ops, &f->guest.env, "poor", 7, &shape), ==,
			-ENOSPC);
	g_assert_false(f->guest.wiring.vector[100].open);
	g_assert_null(f->guest.pci->function[7]);
}

#define TEST(name, fn) g_test_add("/virtio/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	log_level = LOG_ERROR;
	g_test_init(&argc, &argv, NULL);
	TEST("capabilities", capabilities);
	TEST("negotiation", negotiation);
	TEST("runs-and-resets", runs_and_resets);
	TEST("reset-waits", reset_waits);
	TEST("one-queue-resets", one_queue_resets);
	TEST("queue-reset-not-negotiated", queue_reset_not_negotiated);
	TEST("bad-ring-needs-reset", bad_ring_needs_reset);
	TEST("ring-outside-ram-needs-reset", ring_outside_ram_needs_reset);
	TEST("register-rules", register_rules);
	TEST("any-access", any_access);
	TEST("device-configuration", device_configuration);
	TEST("without-msix", without_msix);
	TEST("without-a-doorbell", without_a_doorbell);
	TEST("no-bus-mastering-no-work", no_bus_mastering_no_work);
	TEST("window", window);
	TEST("pause-waits", pause_waits);
	TEST("pause-gives-up", pause_gives_up);
	TEST("resume-interrupts", resume_interrupts);
	TEST("machine-reset", machine_reset);
	TEST("outside", outside);
	TEST("outside-race", outside_race);
	TEST("migration", migration);
	TEST("load-refuses", load_refuses);
	TEST("creation-fails", creation_fails);
	return g_test_run();
}
