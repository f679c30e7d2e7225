/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What devices/wiring.h promises to devices, backed by KVM: MSI vectors by routes and irqfds, doorbells by ioeventfds,
 * and wired lines. Any thread; locks inside.
 */
#ifndef VMM_WIRING_H
#define VMM_WIRING_H

#include <pthread.h>

#include "devices/wiring.h"
#include "kvm/irq.h"

#define WIRING_LINES_MAX 8

struct wiring_kvm {
	struct kvm_vm *vm;
	struct kvm_irq *irq;
	pthread_mutex_t lock; /* vector[]; taken before kvm_irq's own */
	struct wiring_vector {
		int eventfd;
		bool bound;	      /* irqfd is in place */
	} vector[KVM_IRQ_ROUTES_MAX]; /* by GSI, which is the handle */
	unsigned int nlines;
	int line[WIRING_LINES_MAX];
};

void wiring_init(struct wiring_kvm *wiring, struct kvm_vm *vm, struct kvm_irq *irq);
void wiring_fini(struct wiring_kvm *wiring); /* after all devices */
/* The table to give to devices. */
struct wiring wiring_for_devices(struct wiring_kvm *wiring);
/* A wired, edge-triggered line: *eventfd stays the wiring's, until wiring_fini(). -errno, -ENOSPC. */
int wiring_add_line(struct wiring_kvm *wiring, uint32_t gsi, int *eventfd) must_check;

#endif
