/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts that never pass through user space: eventfds bound to interrupt lines and MSI messages (KVM_IRQFD,
 * KVM_SET_GSI_ROUTING), and doorbells bound to eventfds (KVM_IOEVENTFD).
 *
 * Routes: KVM replaces the whole table at each change, so it is kept here, behind a mutex of its own. It guards the
 * table and nothing else. Any thread.
 */
#ifndef KVM_IRQ_H
#define KVM_IRQ_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "kvm/vm.h"

#define KVM_IRQ_ROUTES_MAX 1024

struct kvm_irq {
	struct kvm_vm *vm;
	pthread_mutex_t lock;
	unsigned int nlines; /* GSIs 0..nlines-1 are wired lines, given at creation */
	unsigned int nroutes;
	uint64_t gsi_used[KVM_IRQ_ROUTES_MAX / 64];
	struct kvm_irq_routing *table;
};

/*
 * The wired lines: x86: pass the 24 IOAPIC pins (and PIC where used); arm64: SPIs. The architecture's code adds
 * them by kvm_irq_add_line() before the first commit.
 */
int kvm_irq_init(struct kvm_irq *irq, struct kvm_vm *vm) must_check;
void kvm_irq_fini(struct kvm_irq *irq);
/* A wired line: GSI gsi is pin `pin` of in-kernel chip `chip` (KVM_IRQCHIP_*; arm64: 0). Not yet given to the kernel. */
int kvm_irq_add_line(struct kvm_irq *irq, uint32_t gsi, uint32_t chip, uint32_t pin) must_check;
int kvm_irq_commit(struct kvm_irq *irq) must_check;

/* Binds an eventfd to a wired line: a write to it is an edge. resample < 0: none. */
int kvm_irq_bind_line(struct kvm_irq *irq, uint32_t gsi, int eventfd, int resample) must_check;

/* Reserves a GSI for one MSI vector; -ENOSPC. Freed with kvm_irq_msi_free. */
int kvm_irq_msi_alloc(struct kvm_irq *irq, uint32_t *gsi) must_check;
void kvm_irq_msi_free(struct kvm_irq *irq, uint32_t gsi);
/* Points the GSI at an MSI message. devid: requester id for an ITS, -1 for none. Commits. */
int kvm_irq_msi_route(struct kvm_irq *irq, uint32_t gsi, uint64_t address, uint32_t data,
		      int64_t devid) must_check;
/* Connects or disconnects an eventfd and a GSI. */
int kvm_irq_bind(struct kvm_irq *irq, uint32_t gsi, int eventfd) must_check;
int kvm_irq_unbind(struct kvm_irq *irq, uint32_t gsi, int eventfd) must_check;

/* A doorbell: a guest write of len (0: any) bytes at gpa (pio: port) signals the eventfd instead of exiting. */
int kvm_doorbell_add(struct kvm_vm *vm, uint64_t address, uint32_t len, bool pio,
		     int eventfd) must_check;
int kvm_doorbell_remove(struct kvm_vm *vm, uint64_t address, uint32_t len, bool pio,
			int eventfd) must_check;

#endif
