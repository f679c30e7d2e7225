// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * memory/dirty on real KVM: a tiny guest writes one byte in each page of a range, round after round, under each
 * mechanism; every page that it wrote is harvested, none is invented, and full rings and Tern's own writes are counted.
 * The guest's vCPU is put straight into 64-bit user mode: there it runs natively on every kind of host, and leaves when
 * its ring is full (a host that emulates kernel mode overruns the ring in there).
 * SKIP without /dev/kvm.
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "kvm/x86_vcpu.h"
#include "memory/dirty.h"

#define RAM_BYTES  (16ULL << 20)
#define FIRST_PAGE 16
#define CODE_GPA   0x1000

#define PML4_GPA 0x2000
#define PDPT_GPA 0x3000
#define PD_GPA	 0x4000
#define EXIT_GPA 0x3fe00000 /* nobody answers there */

/* RDI: first byte, RCX: pages, RSI: where a store ends the round.
 *	again: incb (%rdi); add $4096,%rdi; dec %rcx; jnz again; mov %al,(%rsi); 1: jmp 1b
 */
static const uint8_t guest_code[] = {0xfe, 0x07, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,
				     0x48, 0xff, 0xc9, 0x75, 0xf2, 0x88, 0x06, 0xeb, 0xfe};

/* Identity-maps the first GiB for user mode, accessed and dirty already: page walks write nothing. */
static void write_page_tables(struct ram *ram)
{
	uint64_t *pd = ram_ptr(ram, PD_GPA, 4096);

	*(uint64_t *)ram_ptr(ram, PML4_GPA, 8) = PDPT_GPA | 0x67;
	*(uint64_t *)ram_ptr(ram, PDPT_GPA, 8) = PD_GPA | 0x67;
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = i << 21 | 0xe7;
}

struct world {
	struct kvm_host host;
	struct kvm_vm vm;
	struct ram *ram;
	struct kvm_vcpu vcpu;
	struct kvm_vcpu *vcpus[1];
	struct dirty_choice choice;
	struct dirty *dirty;
	uint64_t map[RAM_BYTES / 4096 / 64];
};

static void enter_user_mode(struct world *world)
{
	struct kvm_segment code = {.selector = 0x1b,
				   .limit = 0xffffffff,
				   .type = 11,
				   .present = 1,
				   .dpl = 3,
				   .s = 1,
				   .l = 1,
				   .g = 1};
	struct kvm_segment data = {.selector = 0x23,
				   .limit = 0xffffffff,
				   .type = 3,
				   .present = 1,
				   .dpl = 3,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_sregs sregs;

	g_assert_cmpint(kvm_x86_get_sregs(&world->vcpu, &sregs), ==, 0);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = data;
	sregs.cr0 = 0x80050033;
	sregs.cr3 = PML4_GPA;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	g_assert_cmpint(kvm_x86_set_sregs(&world->vcpu, &sregs), ==, 0);
}

static void open_world(struct world *world, const struct dirty_request *request)
{
	struct ram_layout layout = {.nranges = 1, .range = {{0, RAM_BYTES}}};

	g_assert_cmpint(kvm_host_open(&world->host, -1), ==, 0);
	g_assert_cmpint(kvm_vm_new(&world->vm, &world->host, 0), ==, 0);
	g_assert_cmpint(dirty_choose(&world->host, request, false, &world->choice), ==, 0);
	g_assert_cmpint(dirty_enable(&world->vm, &world->choice), ==, 0);
	g_assert_cmpint(kvm_x86_set_tss_addr(&world->vm, 0xfffbd000), ==, 0);
	g_assert_cmpint(kvm_x86_set_identity_map_addr(&world->vm, 0xfffbc000), ==, 0);
	g_assert_cmpint(ram_new(&world->ram, &layout), ==, 0);
	g_assert_cmpint(ram_attach(world->ram, &world->vm), ==, 0);
	g_assert_cmpint(kvm_vcpu_new(&world->vcpu, &world->vm, 0), ==, 0);
	world->vcpus[0] = &world->vcpu;
	g_assert_cmpint(
		dirty_new(&world->dirty, &world->vm, world->ram, &world->choice, world->vcpus, 1),
		==, 0);
	write_page_tables(world->ram);
	enter_user_mode(world);
	g_assert_cmpint(ram_write(world->ram, CODE_GPA, guest_code, sizeof(guest_code)), ==, 0);
}

static void close_world(struct world *world)
{
	dirty_free(world->dirty);
	kvm_vcpu_fini(&world->vcpu);
	kvm_vm_fini(&world->vm);
	ram_free(world->ram);
	kvm_host_close(&world->host);
}

/* The guest writes pages [first, first + n) once; full rings are served as a vCPU thread would. */
static void guest_writes(struct world *world, page_t first, unsigned int n)
{
	struct kvm_regs regs = {
		.rip = CODE_GPA, .rflags = 2, .rdi = first * 4096, .rcx = n, .rsi = EXIT_GPA};

	g_assert_cmpint(kvm_x86_set_regs(&world->vcpu, &regs), ==, 0);
	for (;;) {
		g_assert_cmpint(kvm_vcpu_run(&world->vcpu), ==, 0);
		if (world->vcpu.run->exit_reason == KVM_EXIT_MMIO)
			break;
		g_assert_cmpint(world->vcpu.run->exit_reason, ==, KVM_EXIT_DIRTY_RING_FULL);
		g_assert_cmpint(dirty_ring_full(world->dirty), ==, 0);
	}
	/* Completes the store. */
	kvm_vcpu_request_exit(&world->vcpu, true);
	g_assert_cmpint(kvm_vcpu_run(&world->vcpu), ==, -EINTR);
	kvm_vcpu_request_exit(&world->vcpu, false);
}

static unsigned int harvest(struct world *world, bool final)
{
	memset(world->map, 0, sizeof(world->map));
	int64_t fresh = dirty_harvest(world->dirty, world->map, final);

	g_assert_cmpint(fresh, >=, 0);
	return fresh;
}

static bool is_dirty(const struct world *world, page_t page)
{
	return world->map[page / 64] >> (page % 64) & 1;
}

static void check_round(struct world *world, page_t first, unsigned int n)
{
	guest_writes(world, first, n);
	g_assert_cmpuint(harvest(world, false), ==, n);
	for (page_t page = 0; page < world->ram->npages; page++)
		g_assert_cmpint(is_dirty(world, page), ==, page >= first && page < first + n);
	g_assert_cmpint(dirty_rearm(world->dirty, 0, world->ram->npages), ==, 0);
}

static void run_rounds(const struct dirty_request *request, unsigned int npages, bool expect_full)
{
	static struct world world;
	struct dirty_stats stats;

	world = (struct world){};
	open_world(&world, request);
	guest_writes(&world, FIRST_PAGE,
		     npages); /* mapped writable before logging: the case that loses pages */
	g_assert_cmpint(dirty_start(world.dirty), ==, 0);
	g_assert_cmpuint(harvest(&world, false), ==, 0);
	for (int round = 0; round < 3; round++)
		check_round(&world, FIRST_PAGE + round, npages);
	/* Tern's own write is in the same map. */
	g_assert_cmpint(ram_write(world.ram, 8 * 4096, "x", 1), ==, 0);
	g_assert_cmpuint(harvest(&world, true), ==, 1);
	g_assert_true(is_dirty(&world, 8));
	dirty_get_stats(world.dirty, &stats);
	g_assert_cmpint(stats.ring_full_exits > 0, ==, expect_full);
	/* Several waits: the longest is less than all of them, and more than most. */
	g_assert_cmpint(stats.ring_full_longest_ns > 0, ==, expect_full);
	g_assert_cmpint(stats.ring_full_longest_ns < stats.ring_full_ns, ==, expect_full);
	g_assert_cmpuint(stats.ring_full_longest_ns * stats.ring_full_exits, >=,
			 stats.ring_full_ns);
	g_assert_cmpint(dirty_stop(world.dirty), ==, 0);
	/* And a second migration attempt starts clean. */
	g_assert_cmpint(dirty_start(world.dirty), ==, 0);
	dirty_get_stats(world.dirty, &stats);
	g_assert_cmpuint(stats.ring_full_exits + stats.ring_full_ns + stats.ring_full_longest_ns,
			 ==, 0);
	check_round(&world, FIRST_PAGE, 10);
	g_assert_cmpint(dirty_stop(world.dirty), ==, 0);
	close_world(&world);
}

static bool skip_without(bool need_ring)
{
	struct kvm_host host;
	bool ring;

	if (access("/dev/kvm", R_OK | W_OK) || kvm_host_open(&host, -1)) {
		g_test_skip("no /dev/kvm");
		return true;
	}
	ring = host.ring_acq_rel;
	kvm_host_close(&host);
	if (need_ring && !ring)
		g_test_skip("this kernel offers no dirty ring");
	return need_ring && !ring;
}

static void test_ring(void)
{
	struct dirty_request request = {.mode = DIRTY_RING, .ring_entries = 65536};

	if (!skip_without(true))
		run_rounds(&request, 3000, false);
}

/* 1,024 entries for 3,000 pages: the ring fills, and its index wraps. */
static void test_ring_full(void)
{
	struct dirty_request request = {.mode = DIRTY_RING, .ring_entries = 1024};

	if (!skip_without(true))
		run_rounds(&request, 3000, true);
}

static void test_bitmap(void)
{
	struct dirty_request request = {.mode = DIRTY_BITMAP};

	if (!skip_without(false))
		run_rounds(&request, 3000, false);
}

/* A page written between harvest and re-arming is in the next harvest too, never lost. */
static void test_write_before_rearm(void)
{
	struct dirty_request request = {.mode = DIRTY_BITMAP};
	static struct world world;

	if (skip_without(false))
		return;
	world = (struct world){};
	open_world(&world, &request);
	guest_writes(&world, 100, 10);
	g_assert_cmpint(dirty_start(world.dirty), ==, 0);
	guest_writes(&world, 100, 10);
	g_assert_cmpuint(harvest(&world, false), ==, 10);
	guest_writes(&world, 100, 10);
	g_assert_cmpint(dirty_rearm(world.dirty, 64, 64), ==, 0);
	guest_writes(&world, 105, 1);
	harvest(&world, false);
	g_assert_true(is_dirty(&world, 105));
	g_assert_cmpint(dirty_stop(world.dirty), ==, 0);
	close_world(&world);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory/dirty/ring", test_ring);
	g_test_add_func("/memory/dirty/ring-full", test_ring_full);
	g_test_add_func("/memory/dirty/bitmap", test_bitmap);
	g_test_add_func("/memory/dirty/write-before-rearm", test_write_before_rearm);
	return g_test_run();
}
