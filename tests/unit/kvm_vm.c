// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kvm/vm: the set-up order. Every ordered pair of steps is tried against a list written out here by hand, apart from the
 * table under test; a refused step must not have reached the kernel (there is none behind these VMs: fd is -1).
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "kvm/vm.h"

/* second after first is refused */
static const struct {
	enum vm_step first, second;
} refused[] = {
	{VM_STEP_VCPU, VM_STEP_IRQCHIP},
	{VM_STEP_MEMSLOT, VM_STEP_EAGER_SPLIT},
	{VM_STEP_MEMSLOT, VM_STEP_MANUAL_PROTECT},
	{VM_STEP_RING, VM_STEP_MANUAL_PROTECT},
	{VM_STEP_MANUAL_PROTECT, VM_STEP_RING},
	{VM_STEP_MEMSLOT, VM_STEP_RING},
	{VM_STEP_VCPU, VM_STEP_RING},
	{VM_STEP_MEMSLOT, VM_STEP_RING_BITMAP},
	{VM_STEP_VCPU, VM_STEP_RING_BITMAP},
	{VM_STEP_VCPU, VM_STEP_VM_CAP},
	{VM_STEP_IRQ_INIT, VM_STEP_VCPU},
	{VM_STEP_RUN, VM_STEP_VCPU},
	{VM_STEP_IRQ_INIT, VM_STEP_VCPU_INIT},
	{VM_STEP_RUN, VM_STEP_VCPU_INIT},
	{VM_STEP_RUN, VM_STEP_IRQ_INIT},
	/* twice */
	{VM_STEP_IRQCHIP, VM_STEP_IRQCHIP},
	{VM_STEP_EAGER_SPLIT, VM_STEP_EAGER_SPLIT},
	{VM_STEP_MANUAL_PROTECT, VM_STEP_MANUAL_PROTECT},
	{VM_STEP_RING, VM_STEP_RING},
	{VM_STEP_RING_BITMAP, VM_STEP_RING_BITMAP},
	{VM_STEP_IRQ_INIT, VM_STEP_IRQ_INIT},
};
/* needed: second without first is refused */
static const struct {
	enum vm_step first, second;
} needed[] = {
	{VM_STEP_RING, VM_STEP_RING_BITMAP}, {VM_STEP_MEMSLOT, VM_STEP_VCPU},
	{VM_STEP_VCPU, VM_STEP_VCPU_INIT},   {VM_STEP_VCPU, VM_STEP_IRQ_INIT},
	{VM_STEP_VCPU, VM_STEP_RUN},
};

static uint32_t needs_of(enum vm_step step)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
		if (needed[i].second == step)
			mask |= 1U << needed[i].first;
	}
	return mask;
}

static bool is_refused(enum vm_step first, enum vm_step second)
{
	for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
		if (refused[i].first == first && refused[i].second == second)
			return true;
	}
	return false;
}

static void test_every_pair(void)
{
	for (enum vm_step first = 0; first < VM_STEPS; first++) {
		for (enum vm_step second = 0; second < VM_STEPS; second++) {
			struct kvm_vm vm = {.fd = -1, .done = 1U << first | needs_of(second)};
			uint32_t before = vm.done;
			bool clash = is_refused(first, second);

			/* What the second needs may itself be refused before it; skip no pair for that. */
			for (enum vm_step need = 0; need < VM_STEPS; need++)
				clash |= (needs_of(second) >> need & 1) && is_refused(need, second);
			g_test_message("%d then %d", first, second);
			g_assert_cmpint(kvm_vm_step(&vm, second), ==, clash ? -EPROTO : 0);
			g_assert_cmpuint(vm.done, ==, clash ? before : before | 1U << second);
		}
	}
}

static void test_needs(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
		struct kvm_vm vm = {.fd = -1};

		g_assert_cmpint(kvm_vm_step(&vm, needed[i].second), ==, -EPROTO);
		g_assert_cmpuint(vm.done, ==, 0);
	}
}

static void test_right_order(void)
{
	static const enum vm_step order[] = {
		VM_STEP_IRQCHIP, VM_STEP_EAGER_SPLIT, VM_STEP_RING,	 VM_STEP_RING_BITMAP,
		VM_STEP_VM_CAP,	 VM_STEP_MEMSLOT,     VM_STEP_MEMSLOT,	 VM_STEP_VCPU,
		VM_STEP_VCPU,	 VM_STEP_VCPU_INIT,   VM_STEP_VCPU_INIT, VM_STEP_IRQ_INIT,
		VM_STEP_RUN,	 VM_STEP_MEMSLOT,     VM_STEP_RUN,
	};
	struct kvm_vm vm = {.fd = -1};

	for (size_t i = 0; i < G_N_ELEMENTS(order); i++)
		g_assert_cmpint(kvm_vm_step(&vm, order[i]), ==, 0);
}

/* The typed calls refuse before they reach the kernel: with fd -1 it would be EBADF. */
static void test_calls_refuse(void)
{
	struct kvm_host host = {.ring_max_bytes = 1 << 20, .ring_acq_rel = true};
	struct kvm_vm vm = {.fd = -1, .host = &host, .done = 1U << VM_STEP_MEMSLOT};

	g_assert_cmpint(kvm_vm_enable_ring(&vm, 65536), ==, -EPROTO);
	g_assert_cmpint(kvm_vm_enable_ring_bitmap(&vm), ==, -EPROTO);
	g_assert_cmpint(kvm_vm_enable_manual_protect(&vm), ==, -EPROTO);
	vm.done = 0;
	g_assert_cmpint(kvm_vm_enable_ring(&vm, 65537), ==, -EINVAL);
	g_assert_cmpint(kvm_vm_enable_ring(&vm, 131072), ==, -EINVAL);
	g_assert_cmpint(kvm_vm_enable_ring(&vm, 16), ==, -EINVAL);
	host.ring_max_bytes = 0;
	g_assert_cmpint(kvm_vm_enable_ring(&vm, 65536), ==, -ENOTSUP);
	g_assert_cmpuint(vm.done, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/kvm/vm/every-pair", test_every_pair);
	g_test_add_func("/kvm/vm/needs", test_needs);
	g_test_add_func("/kvm/vm/right-order", test_right_order);
	g_test_add_func("/kvm/vm/calls-refuse", test_calls_refuse);
	return g_test_run();
}
