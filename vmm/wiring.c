// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices' interrupts and doorbells, backed by KVM.
 *
 * A vector's GSI is reserved for the device's life; its irqfd exists while the vector is unmasked. A masked vector's
 * writes stay in the eventfd, and KVM delivers them when the irqfd is made again: an eventfd that is readable when it is
 * bound raises its interrupt at once.
 */
#include "vmm/wiring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"

static int msi_open(void *opaque, int eventfd_, uint32_t *handle)
{
	struct wiring_kvm *wiring = opaque;
	int error = kvm_irq_msi_alloc(wiring->irq, handle);

	if (error)
		return error;
	pthread_mutex_lock(&wiring->lock);
	wiring->vector[*handle] = (struct wiring_vector){.eventfd = eventfd_};
	pthread_mutex_unlock(&wiring->lock);
	return 0;
}

/* With the lock held. */
static int unbind(struct wiring_kvm *wiring, uint32_t handle)
{
	struct wiring_vector *vector = &wiring->vector[handle];
	int error = 0;

	if (vector->bound)
		error = kvm_irq_unbind(wiring->irq, handle, vector->eventfd);
	vector->bound = false;
	return error;
}

static void msi_close(void *opaque, uint32_t handle)
{
	struct wiring_kvm *wiring = opaque;

	assert(handle < KVM_IRQ_ROUTES_MAX);
	pthread_mutex_lock(&wiring->lock);
	if (unbind(wiring, handle))
		log_warn("wiring: vector %u stays bound", handle);
	pthread_mutex_unlock(&wiring->lock);
	kvm_irq_msi_free(wiring->irq, handle);
}

static int msi_set(void *opaque, uint32_t handle, const struct msi_message *message)
{
	struct wiring_kvm *wiring = opaque;
	struct wiring_vector *vector;
	int error;

	assert(handle < KVM_IRQ_ROUTES_MAX);
	vector = &wiring->vector[handle];
	pthread_mutex_lock(&wiring->lock);
	if (!message) {
		error = unbind(wiring, handle);
	} else {
		error = kvm_irq_msi_route(wiring->irq, handle, message->address, message->data,
					  message->requester);
		if (!error && !vector->bound) {
			error = kvm_irq_bind(wiring->irq, handle, vector->eventfd);
			vector->bound = !error;
		}
	}
	pthread_mutex_unlock(&wiring->lock);
	return error;
}

static int doorbell_add(void *opaque, uint64_t gpa, uint32_t len, int eventfd_)
{
	struct wiring_kvm *wiring = opaque;

	return kvm_doorbell_add(wiring->vm, gpa, len, false, eventfd_);
}

static void doorbell_remove(void *opaque, uint64_t gpa, uint32_t len, int eventfd_)
{
	struct wiring_kvm *wiring = opaque;

	if (kvm_doorbell_remove(wiring->vm, gpa, len, false, eventfd_))
		log_warn("wiring: the doorbell at %#llx stays", (unsigned long long)gpa);
}

void wiring_init(struct wiring_kvm *wiring, struct kvm_vm *vm, struct kvm_irq *irq)
{
	*wiring = (struct wiring_kvm){.vm = vm, .irq = irq};
	pthread_mutex_init(&wiring->lock, NULL);
}

void wiring_fini(struct wiring_kvm *wiring)
{
	if (!wiring->vm)
		return;
	for (unsigned int i = 0; i < wiring->nlines; i++)
		close_fd(&wiring->line[i]);
	wiring->nlines = 0;
	pthread_mutex_destroy(&wiring->lock);
	wiring->vm = NULL;
}

struct wiring wiring_for_devices(struct wiring_kvm *wiring)
{
	return (struct wiring){.opaque = wiring,
			       .msi_open = msi_open,
			       .msi_close = msi_close,
			       .msi_set = msi_set,
			       .doorbell_add = doorbell_add,
			       .doorbell_remove = doorbell_remove};
}

int wiring_add_line(struct wiring_kvm *wiring, uint32_t gsi, int *eventfd_)
{
	AUTO_FD fd = -1;
	int error;

	if (wiring->nlines == WIRING_LINES_MAX)
		return fail(-ENOSPC, "wiring: more than %d wired lines", WIRING_LINES_MAX);
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return fail(-errno, "wiring: eventfd: %s", strerror(errno));
	error = kvm_irq_bind_line(wiring->irq, gsi, fd, -1);
	if (error)
		return error;
	*eventfd_ = wiring->line[wiring->nlines++] = take_fd(&fd);
	return 0;
}
