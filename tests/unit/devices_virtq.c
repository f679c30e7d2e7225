// SPDX-License-Identifier: GPL-2.0-or-later
/* Virtqueues: what a driver may do, what a hostile one does, suppression both ways, and dirty marks. */
#include "devices/virtq.h"

#include <errno.h>
#include <glib.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

#define SIZE 8
#define DATA 0x200000ULL

struct fixture {
	struct guest guest;
	struct virtq q;
	unsigned int interrupts, breaks;
	const char *why;
};

static void on_interrupt(void *opaque, struct virtq *q)
{
	((struct fixture *)opaque)->interrupts++;
}

static void on_broken(void *opaque, struct virtq *q, const char *why)
{
	struct fixture *f = opaque;

	f->breaks++;
	f->why = why;
}

static const struct virtq_owner owner = {.interrupt = on_interrupt, .broken = on_broken};

static void enable(struct fixture *f, bool event_idx, bool indirect)
{
	f->q.state.size = SIZE;
	f->q.state.desc_gpa = GUEST_DESC(0);
	f->q.state.avail_gpa = GUEST_AVAIL(0);
	f->q.state.used_gpa = GUEST_USED(0);
	g_assert_cmpint(virtq_enable(&f->q, event_idx, indirect), ==, 0);
}

static void set_up(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	virtq_init(&f->q, f->guest.ram, 0, 16, &owner, f);
	enable(f, false, false);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	guest_fini(&f->guest);
}

static void set_desc(struct fixture *f, unsigned int i, uint64_t gpa, uint32_t len, uint16_t flags,
		     uint16_t next)
{
	guest_set_desc(&f->guest, 0, i, gpa, len, flags, next);
}

static void make_available(struct fixture *f, uint16_t head)
{
	guest_make_available(&f->guest, 0, SIZE, head);
}

#define W VRING_DESC_F_WRITE
#define N VRING_DESC_F_NEXT
#define I VRING_DESC_F_INDIRECT

static void chain_of_three(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);
	char bytes[32] = {};
	uint32_t id, len;

	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 0);
	g_assert_false(virtq_has_avail(&f->q));
	set_desc(f, 5, DATA, 4, N, 2);
	set_desc(f, 2, DATA + 0x100, 3, N | W, 7);
	set_desc(f, 7, DATA + 0x2000, 6, W, 0);
	memcpy(ram_ptr(f->guest.ram, DATA, 4), "ping", 4);
	make_available(f, 5);
	g_assert_true(virtq_has_avail(&f->q));
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.nread, ==, 1);
	g_assert_cmpuint(chain.nwrite, ==, 2);
	g_assert_cmpuint(chain.read_bytes, ==, 4);
	g_assert_cmpuint(chain.write_bytes, ==, 9);
	g_assert_cmpuint(virtq_chain_read(&chain, 1, bytes, sizeof(bytes)), ==, 3);
	g_assert_cmpstr(bytes, ==, "ing");
	g_assert_cmpuint(virtq_chain_write(&chain, 1, "abcdefghijkl", 12), ==, 8);
	g_assert_cmpmem(ram_ptr(f->guest.ram, DATA + 0x101, 2), 2, "ab", 2);
	g_assert_cmpmem(ram_ptr(f->guest.ram, DATA + 0x2000, 6), 6, "cdefgh", 6);
	virtq_push(&f->q, &chain, 9);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 0); /* not before publish */
	virtq_publish(&f->q);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 1);
	guest_used_elem(&f->guest, 0, 0, &id, &len);
	g_assert_cmpuint(id, ==, 5);
	g_assert_cmpuint(len, ==, 9);
	g_assert_cmpuint(f->interrupts, ==, 1);
	virtq_publish(&f->q); /* nothing new */
	g_assert_cmpuint(f->interrupts, ==, 1);
	g_assert_cmpuint(f->q.inflight, ==, 0);
}

/* 16-bit indices wrap; chains come back in any order. */
static void wraps(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(a, SIZE);
	VIRTQ_CHAIN(b, SIZE);

	for (unsigned int i = 0; i < SIZE; i++)
		set_desc(f, i, DATA, 16, W, 0);
	for (unsigned int i = 0; i < 40000; i++) {
		make_available(f, 2 * i % SIZE);
		make_available(f, (2 * i + 1) % SIZE);
		g_assert_cmpint(virtq_pop(&f->q, &a), ==, 1);
		g_assert_cmpint(virtq_pop(&f->q, &b), ==, 1);
		g_assert_cmpuint(a.head, ==, 2 * i % SIZE);
		virtq_push(&f->q, &b, 1);
		virtq_push(&f->q, &a, 1);
		virtq_publish(&f->q);
	}
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, (uint16_t)80000);
	g_assert_cmpuint(f->interrupts, ==, 40000);
	g_assert_cmpuint(f->breaks, ==, 0);
}

static void unpop(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	set_desc(f, 3, DATA, 16, W, 0);
	make_available(f, 3);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	virtq_unpop(&f->q, &chain);
	g_assert_cmpuint(f->q.inflight, ==, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.head, ==, 3);
	virtq_push(&f->q, &chain, 0);
}

static void indirect(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);
	/* At an odd address: the specification asks for no alignment. */
	struct vring_desc table[3] = {
		{DATA, 8, N, 2},
		{0, 0, 0, 0},
		{DATA + 0x1000, 8, W, 0},
	};

	virtq_reset(&f->q);
	enable(f, false, true);
	g_assert_cmpint(ram_write(f->guest.ram, DATA + 0x3001, table, sizeof(table)), ==, 0);
	set_desc(f, 1, DATA + 0x3001, sizeof(table), I | W, 77); /* W and next mean nothing here */
	make_available(f, 1);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.head, ==, 1);
	g_assert_cmpuint(chain.nread, ==, 1);
	g_assert_cmpuint(chain.nwrite, ==, 1);
	virtq_push(&f->q, &chain, 8);
	/* A direct descriptor may lead to an indirect one. */
	set_desc(f, 0, DATA + 0x100, 2, N, 1);
	make_available(f, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.nread, ==, 2);
	virtq_push(&f->q, &chain, 8);
	g_assert_cmpuint(f->breaks, ==, 0);
}

static void empty_descriptors_are_passed_over(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	set_desc(f, 0, UINT64_MAX, 0, N, 1);
	set_desc(f, 1, DATA, 5, 0, 0);
	make_available(f, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.nread, ==, 1);
	g_assert_cmpuint(chain.read_bytes, ==, 5);
	virtq_push(&f->q, &chain, 0);
}

/* Each breaks one rule; the table is descriptors 0..3, head 0 is made available. */
struct bad {
	const char *name, *why;
	struct vring_desc desc[4];
	uint16_t head;
	bool indirect;		    /* negotiated */
	struct vring_desc table[4]; /* at DATA + 0x3000 */
	unsigned int capacity;
};

#define TABLE (DATA + 0x3000)

/* clang-format off */
static const struct bad bads[] = {
	{"outside-ram", "outside RAM", {{GUEST_RAM, 1, 0, 0}}},
	{"across-the-end", "outside RAM", {{GUEST_RAM - 4, 8, 0, 0}}},
	{"wraps", "outside RAM", {{UINT64_MAX - 3, 8, 0, 0}}},
	{"head", "index outside", {{DATA, 1, 0, 0}}, .head = SIZE},
	{"head-far", "index outside", {{DATA, 1, 0, 0}}, .head = 0xffff},
	{"next", "index outside", {{DATA, 1, N, SIZE}}},
	{"self-loop", "loop", {{DATA, 1, N, 0}}},
	{"loop", "loop", {{DATA, 1, N, 1}, {DATA, 1, N, 0}}},
	{"empty-loop", "loop", {{DATA, 0, N, 1}, {DATA, 0, N, 0}}},
	{"read-after-write", "readable descriptor after", {{DATA, 1, W | N, 1}, {DATA, 1, 0, 0}}},
	{"too-many", "more segments", {{DATA, 1, N, 1}, {DATA, 1, N, 2}, {DATA, 1, 0, 0}}, .capacity = 2},
	{"indirect-not-negotiated", "not negotiated", {{TABLE, 16, I, 0}}},
	{"indirect-and-next", "goes on", {{TABLE, 16, I | N, 1}}, .indirect = true},
	{"indirect-empty", "length", {{TABLE, 0, I, 0}}, .indirect = true},
	{"indirect-odd", "length", {{TABLE, 24, I, 0}}, .indirect = true},
	{"indirect-outside", "outside RAM", {{GUEST_RAM, 16, I, 0}}, .indirect = true},
	{"indirect-twice", "in an indirect table", {{TABLE, 16, I, 0}}, .indirect = true, .table = {{TABLE, 16, I, 0}}},
	{"indirect-next", "index outside", {{TABLE, 32, I, 0}}, .indirect = true, .table = {{DATA, 1, N, 2}}},
	{"indirect-loop", "loop", {{TABLE, 32, I, 0}}, .indirect = true, .table = {{DATA, 1, N, 1}, {DATA, 1, N, 0}}},
	{"four-gigabytes", "4 GiB", {{DATA, 16, N, 1}, {DATA, 0xffffffff, 0, 0}}},
};
/* clang-format on */

static void hostile(struct fixture *f, gconstpointer data)
{
	const struct bad *bad = data;
	VIRTQ_CHAIN(chain, SIZE);

	if (bad->capacity)
		chain.capacity = bad->capacity;
	virtq_reset(&f->q);
	enable(f, false, bad->indirect);
	for (unsigned int i = 0; i < 4; i++)
		*guest_desc(&f->guest, 0, i) = bad->desc[i];
	g_assert_cmpint(ram_write(f->guest.ram, TABLE, bad->table, sizeof(bad->table)), ==, 0);
	make_available(f, bad->head);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, -EBADMSG);
	g_assert_cmpuint(f->breaks, ==, 1);
	g_assert_nonnull(strstr(f->why, bad->why));
	/* And stays broken, said once, with nothing in flight, until it is reset. */
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, -EBADMSG);
	g_assert_false(virtq_has_avail(&f->q));
	g_assert_cmpuint(f->breaks, ==, 1);
	g_assert_cmpuint(f->q.inflight, ==, 0);
	virtq_reset(&f->q);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 0);
}

/* Lengths whose sum is more than there is RAM: a chain may name the same bytes twice. */
static void sum_of_lengths(struct fixture *f, gconstpointer data)
{
	struct vring_desc *table = ram_ptr(f->guest.ram, TABLE, 16 * 2048);
	VIRTQ_CHAIN(chain, 16);

	virtq_reset(&f->q);
	f->q.state.size = 16;
	f->q.state.desc_gpa = GUEST_DESC(0);
	f->q.state.avail_gpa = GUEST_AVAIL(0);
	f->q.state.used_gpa = GUEST_USED(0);
	g_assert_cmpint(virtq_enable(&f->q, false, true), ==, 0);
	for (unsigned int i = 0; i < 16; i++)
		table[i] = (struct vring_desc){0, GUEST_RAM, i < 15 ? N : 0, i + 1};
	set_desc(f, 0, TABLE, 16 * 16, I, 0);
	guest_make_available(&f->guest, 0, 16, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	g_assert_cmpuint(chain.read_bytes, ==, 16 * GUEST_RAM);
	virtq_push(&f->q, &chain, 0);
	/* 17 of them are a chain longer than the queue. */
	table[15].flags = N;
	table[16] = (struct vring_desc){0, 1, 0, 0};
	set_desc(f, 0, TABLE, 17 * 16, I, 0);
	guest_make_available(&f->guest, 0, 16, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, -EBADMSG);
}

static void index_runs_ahead(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	guest_avail(&f->guest, 0)[1] = SIZE + 1;
	g_assert_true(virtq_has_avail(&f->q));
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, -EBADMSG);
	g_assert_nonnull(strstr(f->why, "ran ahead"));
}

/* A driver that offers descriptors again that it has not had back. */
static void too_many_in_flight(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	set_desc(f, 0, DATA, 1, W, 0);
	for (unsigned int i = 0; i < SIZE; i++) {
		make_available(f, 0);
		g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	}
	make_available(f, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, -EBADMSG);
	/* What was popped is pushed all the same. */
	for (unsigned int i = 0; i < SIZE; i++)
		virtq_push(&f->q, &chain, 0);
	virtq_publish(&f->q);
	g_assert_cmpuint(f->q.inflight, ==, 0);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, SIZE);
}

static void bad_rings(struct fixture *f, gconstpointer data)
{
	static const uint64_t gpas[][3] = {
		{GUEST_DESC(0) + 8, GUEST_AVAIL(0), GUEST_USED(0)},
		{GUEST_DESC(0), GUEST_AVAIL(0) + 1, GUEST_USED(0)},
		{GUEST_DESC(0), GUEST_AVAIL(0), GUEST_USED(0) + 2},
		{GUEST_RAM - 16, GUEST_AVAIL(0), GUEST_USED(0)},
		{GUEST_DESC(0), GUEST_RAM - 4, GUEST_USED(0)},
		{GUEST_DESC(0), GUEST_AVAIL(0), GUEST_RAM - 4},
		{~15ULL, GUEST_AVAIL(0), GUEST_USED(0)},
		/* The event index behind the ring must be RAM too. */
		{GUEST_DESC(0), GUEST_RAM - 4 - 2 * SIZE, GUEST_USED(0)},
	};

	for (unsigned int i = 0; i < G_N_ELEMENTS(gpas); i++) {
		virtq_reset(&f->q);
		f->q.state.size = SIZE;
		f->q.state.desc_gpa = gpas[i][0];
		f->q.state.avail_gpa = gpas[i][1];
		f->q.state.used_gpa = gpas[i][2];
		g_assert_cmpint(virtq_enable(&f->q, false, false), ==, -EBADMSG);
		g_assert_cmpuint(f->q.state.enabled, ==, 0);
		g_assert_null(f->q.used);
	}
	f->q.state.used_gpa = GUEST_USED(0);
	f->q.state.avail_gpa = GUEST_RAM - 4 - 2 * SIZE - 2;
	g_assert_cmpint(virtq_enable(&f->q, false, false), ==, 0);
}

/* Uses one buffer; whether the guest was interrupted. */
static bool use_one(struct fixture *f)
{
	unsigned int before = f->interrupts;
	VIRTQ_CHAIN(chain, SIZE);

	set_desc(f, 0, DATA, 1, W, 0);
	make_available(f, 0);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	virtq_push(&f->q, &chain, 1);
	virtq_publish(&f->q);
	return f->interrupts > before;
}

static void interrupts_by_flag(struct fixture *f, gconstpointer data)
{
	g_assert_true(use_one(f));
	guest_avail(&f->guest, 0)[0] = VRING_AVAIL_F_NO_INTERRUPT;
	g_assert_false(use_one(f));
	guest_avail(&f->guest, 0)[0] = 0;
	g_assert_true(use_one(f));
}

static void interrupts_by_event(struct fixture *f, gconstpointer data)
{
	uint16_t *used_event;

	virtq_reset(&f->q);
	enable(f, true, false);
	used_event = &guest_avail(&f->guest, 0)[2 + SIZE];
	guest_avail(&f->guest, 0)[0] = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing now */
	*used_event = 100;
	g_assert_true(
		use_one(f)); /* the first after a start is not held back: history is unknown */
	g_assert_false(use_one(f));
	*used_event = 2;
	g_assert_true(use_one(f)); /* index 3: past 2 */
	g_assert_false(use_one(f));
	*used_event = 5;
	g_assert_false(use_one(f)); /* 5: not past it */
	g_assert_true(use_one(f));  /* 6 */
}

/* A batch asks once, by where the index ends up. */
static void interrupts_by_event_batch(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	virtq_reset(&f->q);
	enable(f, true, false);
	use_one(f);
	f->interrupts = 0;
	guest_avail(&f->guest, 0)[2 + SIZE] = 2;
	for (unsigned int i = 0; i < 4; i++)
		make_available(f, 0);
	while (virtq_pop(&f->q, &chain) > 0)
		virtq_push(&f->q, &chain, 1);
	virtq_publish(&f->q);
	g_assert_cmpuint(f->interrupts, ==, 1);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 5);
}

static void kicks_by_flag(struct fixture *f, gconstpointer data)
{
	uint16_t *flags = guest_used(&f->guest, 0);

	virtq_kicks_off(&f->q);
	g_assert_cmphex(*flags, ==, VRING_USED_F_NO_NOTIFY);
	make_available(f, 0);
	g_assert_true(virtq_kicks_on(&f->q)); /* arrived meanwhile: look again */
	g_assert_cmphex(*flags, ==, 0);
}

static void kicks_by_event(struct fixture *f, gconstpointer data)
{
	const uint8_t *avail_event;

	virtq_reset(&f->q);
	enable(f, true, false);
	avail_event = (const uint8_t *)(guest_used(&f->guest, 0) + 2) + 8 * SIZE;
	use_one(f);
	use_one(f);
	virtq_kicks_off(&f->q);
	g_assert_false(virtq_kicks_on(&f->q));
	g_assert_cmpuint(get_le16(avail_event), ==, 2);
	g_assert_cmphex(guest_used(&f->guest, 0)[0], ==, 0);
}

static bool dirty(struct fixture *f, gpa_t gpa)
{
	page_t page = gpa >> RAM_PAGE_SHIFT;

	return f->guest.ram->written[page / 64] >> (page % 64) & 1;
}

static void clean(struct fixture *f)
{
	memset(f->guest.ram->written, 0, f->guest.ram->npages / 8);
}

/* What the device wrote is marked, and nothing else. */
static void dirty_marks(struct fixture *f, gconstpointer data)
{
	VIRTQ_CHAIN(chain, SIZE);

	set_desc(f, 0, DATA, 0x1000, N, 1);
	set_desc(f, 1, DATA + 0x10ff0, 0x20, N | W, 2); /* across a page */
	set_desc(f, 2, DATA + 0x20000, 0x2000, W, 0);
	make_available(f, 0);
	clean(f);
	g_assert_cmpint(virtq_pop(&f->q, &chain), ==, 1);
	virtq_push(&f->q, &chain, 0x20 + 0x1000);
	g_assert_true(dirty(f, DATA + 0x10000));
	g_assert_true(dirty(f, DATA + 0x11000));
	g_assert_true(dirty(f, DATA + 0x20000));
	g_assert_false(dirty(f, DATA + 0x21000)); /* not written that far */
	g_assert_false(dirty(f, DATA));		  /* read only */
	g_assert_true(dirty(f, GUEST_USED(0)));
	g_assert_false(dirty(f, GUEST_AVAIL(0)));
	g_assert_false(dirty(f, GUEST_DESC(0)));
	clean(f);
	virtq_publish(&f->q);
	g_assert_true(dirty(f, GUEST_USED(0)));
	clean(f);
	virtq_kicks_off(&f->q);
	g_assert_true(dirty(f, GUEST_USED(0)));
	virtq_chain_mark(&f->q, &chain, 0x20 + 0x1000, 1);
	g_assert_true(dirty(f, DATA + 0x21000));
}

static void resume_interrupt(struct fixture *f, gconstpointer data)
{
	uint16_t *used_event;

	use_one(f);
	f->interrupts = 0;
	virtq_resume_interrupt(&f->q);
	g_assert_cmpuint(f->interrupts, ==, 1);
	guest_avail(&f->guest, 0)[0] = VRING_AVAIL_F_NO_INTERRUPT;
	virtq_resume_interrupt(&f->q);
	g_assert_cmpuint(f->interrupts, ==, 1);

	memset(guest_avail(&f->guest, 0), 0, 64);
	virtq_reset(&f->q);
	virtq_resume_interrupt(&f->q); /* not enabled */
	enable(f, true, false);
	f->interrupts = 0;
	used_event = &guest_avail(&f->guest, 0)[2 + SIZE];
	virtq_resume_interrupt(&f->q); /* nothing used yet: 0 is not past 0 */
	g_assert_cmpuint(f->interrupts, ==, 0);
	use_one(f);
	use_one(f);
	f->interrupts = 0;
	*used_event = 1;
	virtq_resume_interrupt(&f->q); /* 2 is past 1 */
	g_assert_cmpuint(f->interrupts, ==, 1);
	*used_event = 2;
	virtq_resume_interrupt(&f->q);
	g_assert_cmpuint(f->interrupts, ==, 1);
}

static void outside_base(struct fixture *f, gconstpointer data)
{
	guest_used(&f->guest, 0)[1] = 6;
	guest_avail(&f->guest, 0)[1] = 7;
	virtq_set_base(&f->q, 7);
	g_assert_false(virtq_has_avail(&f->q));
	use_one(f);
	g_assert_cmpuint(guest_used_idx(&f->guest, 0), ==, 7);
}

#define TEST(name, fn) g_test_add("/virtq/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST("chain-of-three", chain_of_three);
	TEST("wraps", wraps);
	TEST("unpop", unpop);
	TEST("indirect", indirect);
	TEST("empty-descriptors", empty_descriptors_are_passed_over);
	for (unsigned int i = 0; i < G_N_ELEMENTS(bads); i++) {
		g_autofree char *path = g_strdup_printf("/virtq/hostile/%s", bads[i].name);

		g_test_add(path, struct fixture, &bads[i], set_up, hostile, tear_down);
	}
	TEST("sum-of-lengths", sum_of_lengths);
	TEST("index-runs-ahead", index_runs_ahead);
	TEST("too-many-in-flight", too_many_in_flight);
	TEST("bad-rings", bad_rings);
	TEST("interrupts-by-flag", interrupts_by_flag);
	TEST("interrupts-by-event", interrupts_by_event);
	TEST("interrupts-by-event-batch", interrupts_by_event_batch);
	TEST("kicks-by-flag", kicks_by_flag);
	TEST("kicks-by-event", kicks_by_event);
	TEST("dirty-marks", dirty_marks);
	TEST("resume-interrupt", resume_interrupt);
	TEST("outside-base", outside_base);
	return g_test_run();
}
