// SPDX-License-Identifier: GPL-2.0-or-later
/* Interrupt routes, irqfds and doorbells. The table here is the truth; the kernel gets a copy at each commit. */
#include "kvm/irq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"

int kvm_irq_init(struct kvm_irq *irq, struct kvm_vm *vm)
{
	*irq = (struct kvm_irq){.vm = vm};
	irq->table = calloc(1, sizeof(*irq->table) +
				       KVM_IRQ_ROUTES_MAX * sizeof(irq->table->entries[0]));
	if (!irq->table)
		return fail(-ENOMEM, "kvm: no memory for interrupt routes");
	pthread_mutex_init(&irq->lock, NULL);
	return 0;
}

void kvm_irq_fini(struct kvm_irq *irq)
{
	if (!irq->table)
		return;
	pthread_mutex_destroy(&irq->lock);
	free(irq->table);
	irq->table = NULL;
}

static bool gsi_is_used(const struct kvm_irq *irq, uint32_t gsi)
{
	return irq->gsi_used[gsi / 64] & (1ULL << (gsi % 64));
}

/* With the lock held. -ENOSPC for want of a row. */
static int add_route(struct kvm_irq *irq, const struct kvm_irq_routing_entry *entry)
{
	if (irq->table->nr == KVM_IRQ_ROUTES_MAX)
		return fail(-ENOSPC, "kvm: more than %u interrupt routes", KVM_IRQ_ROUTES_MAX);
	irq->table->entries[irq->table->nr++] = *entry;
	return 0;
}

static int commit_locked(struct kvm_irq *irq)
{
	if (ioctl(irq->vm->fd, KVM_SET_GSI_ROUTING, irq->table) < 0)
		return fail(-errno, "kvm: set %u interrupt routes: %s", irq->table->nr,
			    strerror(errno));
	return 0;
}

int kvm_irq_add_line(struct kvm_irq *irq, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	struct kvm_irq_routing_entry entry = {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
	int error;

	if (gsi >= KVM_IRQ_ROUTES_MAX)
		return fail(-EINVAL, "kvm: interrupt line %u", gsi);
	pthread_mutex_lock(&irq->lock);
	error = add_route(irq, &entry);
	if (!error)
		irq->gsi_used[gsi / 64] |= 1ULL << (gsi % 64);
	if (!error && gsi >= irq->nlines)
		irq->nlines = gsi + 1;
	pthread_mutex_unlock(&irq->lock);
	return error;
}

int kvm_irq_commit(struct kvm_irq *irq)
{
	int error;

	pthread_mutex_lock(&irq->lock);
	error = commit_locked(irq);
	pthread_mutex_unlock(&irq->lock);
	return error;
}

static int irqfd(struct kvm_irq *irq, uint32_t gsi, int eventfd, int resample, uint32_t flags)
{
	struct kvm_irqfd request = {.fd = eventfd, .gsi = gsi, .flags = flags};

	if (resample >= 0) {
		request.flags |= KVM_IRQFD_FLAG_RESAMPLE;
		request.resamplefd = resample;
	}
	if (ioctl(irq->vm->fd, KVM_IRQFD, &request) < 0)
		return fail(-errno, "kvm: irqfd for interrupt %u: %s", gsi, strerror(errno));
	return 0;
}

int kvm_irq_bind_line(struct kvm_irq *irq, uint32_t gsi, int eventfd, int resample)
{
	return irqfd(irq, gsi, eventfd, resample, 0);
}

int kvm_irq_bind(struct kvm_irq *irq, uint32_t gsi, int eventfd)
{
	return irqfd(irq, gsi, eventfd, -1, 0);
}

int kvm_irq_unbind(struct kvm_irq *irq, uint32_t gsi, int eventfd)
{
	return irqfd(irq, gsi, eventfd, -1, KVM_IRQFD_FLAG_DEASSIGN);
}

int kvm_irq_msi_alloc(struct kvm_irq *irq, uint32_t *gsi)
{
	int error = -ENOSPC;

	pthread_mutex_lock(&irq->lock);
	for (uint32_t i = irq->nlines; i < KVM_IRQ_ROUTES_MAX; i++) {
		if (gsi_is_used(irq, i))
			continue;
		irq->gsi_used[i / 64] |= 1ULL << (i % 64);
		*gsi = i;
		error = 0;
		break;
	}
	pthread_mutex_unlock(&irq->lock);
	return error ? fail(error, "kvm: all %u interrupts are in use", KVM_IRQ_ROUTES_MAX) : 0;
}

static struct kvm_irq_routing_entry *find_msi(struct kvm_irq *irq, uint32_t gsi)
{
	for (uint32_t i = 0; i < irq->table->nr; i++) {
		struct kvm_irq_routing_entry *entry = &irq->table->entries[i];

		if (entry->gsi == gsi && entry->type == KVM_IRQ_ROUTING_MSI)
			return entry;
	}
	return NULL;
}

void kvm_irq_msi_free(struct kvm_irq *irq, uint32_t gsi)
{
	struct kvm_irq_routing_entry *entry;

	pthread_mutex_lock(&irq->lock);
	entry = find_msi(irq, gsi);
	/* The kernel's copy keeps the row until the next commit; nothing is bound to it any more. */
	if (entry)
		*entry = irq->table->entries[--irq->table->nr];
	irq->gsi_used[gsi / 64] &= ~(1ULL << (gsi % 64));
	pthread_mutex_unlock(&irq->lock);
}

static bool same_message(const struct kvm_irq_routing_entry *a,
			 const struct kvm_irq_routing_entry *b)
{
	return a->flags == b->flags && a->u.msi.address_lo == b->u.msi.address_lo &&
	       a->u.msi.address_hi == b->u.msi.address_hi && a->u.msi.data == b->u.msi.data &&
	       a->u.msi.devid == b->u.msi.devid;
}

int kvm_irq_msi_route(struct kvm_irq *irq, uint32_t gsi, uint64_t address, uint32_t data,
		      int64_t devid)
{
	struct kvm_irq_routing_entry entry = {
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.flags = devid >= 0 ? KVM_MSI_VALID_DEVID : 0,
		.u.msi = {.address_lo = (uint32_t)address,
			  .address_hi = address >> 32,
			  .data = data,
			  .devid = devid >= 0 ? (uint32_t)devid : 0},
	};
	struct kvm_irq_routing_entry *old, before;
	uint32_t nr;
	int error = 0;

	pthread_mutex_lock(&irq->lock);
	nr = irq->table->nr;
	old = find_msi(irq, gsi);
	if (old && same_message(old, &entry))
		goto out;
	if (old) {
		before = *old;
		*old = entry;
	} else {
		error = add_route(irq, &entry);
	}
	if (!error)
		error = commit_locked(irq);
	/* The message is the guest's: one that the kernel refuses must not spoil every later commit. */
	if (error && old)
		*old = before;
	else if (error)
		irq->table->nr = nr;
out:
	pthread_mutex_unlock(&irq->lock);
	return error;
}

static int ioeventfd(struct kvm_vm *vm, uint64_t address, uint32_t len, uint32_t flags, int eventfd)
{
	struct kvm_ioeventfd request = {.addr = address, .len = len, .fd = eventfd, .flags = flags};

	if (ioctl(vm->fd, KVM_IOEVENTFD, &request) < 0)
		return fail(-errno, "kvm: doorbell at %#llx: %s", (unsigned long long)address,
			    strerror(errno));
	return 0;
}

int kvm_doorbell_add(struct kvm_vm *vm, uint64_t address, uint32_t len, bool pio, int eventfd)
{
	return ioeventfd(vm, address, len, pio ? KVM_IOEVENTFD_FLAG_PIO : 0, eventfd);
}

int kvm_doorbell_remove(struct kvm_vm *vm, uint64_t address, uint32_t len, bool pio, int eventfd)
{
	return ioeventfd(vm, address, len,
			 KVM_IOEVENTFD_FLAG_DEASSIGN | (pio ? KVM_IOEVENTFD_FLAG_PIO : 0), eventfd);
}
