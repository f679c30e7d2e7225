// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * MSI-X: a function's vector table and pending bits, and what connects its vectors to the machine.
 *
 * Theory of operation. Each vector is an eventfd. A vector that may fire (MSI-X on, neither it nor the function masked,
 * bus mastering on) is *connected*: whoever writes the eventfd, this process or a kernel backend, injects the message
 * with no further code of ours. A vector that may not fire is disconnected, and what is written then simply stays in the
 * eventfd: its readability *is* the pending bit, and connecting it again delivers it. So masking costs the data path
 * nothing, loses nothing, and needs no second descriptor for kernel backends.
 *
 * Sources: PCI Local Bus 3.0 section 6.8.2.
 */
#include "devices/pci_msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

#define WORDS	    4 /* of a table entry: address low, high, data, control */
#define WORD_CTRL   3
#define ENTRY_BYTES 16

static bool is_pending(const struct pci_vector *vector)
{
	struct pollfd fd = {.fd = vector->eventfd, .events = POLLIN};

	return !vector->connected && poll(&fd, 1, 0) == 1 && (fd.revents & POLLIN);
}

static void drain(struct pci_vector *vector)
{
	uint64_t count;
	ssize_t n = read(vector->eventfd, &count, sizeof(count));

	(void)n;
}

static void disconnect(struct pci_function *function, struct pci_vector *vector)
{
	struct wiring *wiring = &function->host->wiring;

	if (!vector->connected)
		return;
	wiring->msi_set(wiring->opaque, vector->handle, NULL);
	vector->connected = false;
}

/* Makes the connection what the table says. msix.lock held. */
static void sync_vector(struct pci_function *function, unsigned int index)
{
	struct pci_msix *msix = &function->msix;
	struct pci_vector *vector = &msix->vector[index];
	const uint32_t *entry = &function->state.msix_table[WORDS * index];
	struct wiring *wiring = &function->host->wiring;
	struct msi_message message = {
		.address = entry[0] | (uint64_t)entry[1] << 32,
		.data = entry[2],
		.requester = function->slot << 3,
	};
	bool live = atomic_load(&msix->enabled) && !msix->masked && pci_bus_master(function) &&
		    !(entry[WORD_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT);

	if (!live) {
		disconnect(function, vector);
		return;
	}
	if (vector->connected && vector->message.address == message.address &&
	    vector->message.data == message.data)
		return;
	if (wiring->msi_set(wiring->opaque, vector->handle, &message) < 0) {
		/* A message that the host cannot send: the guest's interrupt stays pending. */
		if (log_limit_ok(&function->host->limit, 1))
			log_warn("pci: slot %u vector %u: message 0x%llx/0x%x refused",
				 function->slot, index, (unsigned long long)message.address,
				 message.data);
		disconnect(function, vector);
		return;
	}
	vector->message = message;
	vector->connected = true;
}

static void sync_all(struct pci_function *function)
{
	for (unsigned int i = 0; i < function->msix.nvectors; i++)
		sync_vector(function, i);
}

void pci_msix_control_changed(struct pci_function *function)
{
	struct pci_msix *msix = &function->msix;
	uint16_t control;
	bool enabled;

	if (!msix->nvectors)
		return;
	control = get_le16(&function->state.config[msix->capability + PCI_MSIX_FLAGS]);
	enabled = control & PCI_MSIX_FLAGS_ENABLE;
	pthread_mutex_lock(&msix->lock);
	/* What a kernel backend wrote while MSI-X was off was never an interrupt. */
	if (enabled && !atomic_load(&msix->enabled)) {
		for (unsigned int i = 0; i < msix->nvectors; i++)
			drain(&msix->vector[i]);
	}
	msix->masked = control & PCI_MSIX_FLAGS_MASKALL;
	atomic_store(&msix->enabled, enabled);
	sync_all(function);
	pthread_mutex_unlock(&msix->lock);
}

void pci_msix_reset(struct pci_function *function)
{
	struct pci_msix *msix = &function->msix;

	if (!msix->nvectors)
		return;
	pthread_mutex_lock(&msix->lock);
	atomic_store(&msix->enabled, false);
	msix->masked = false;
	memset(function->state.msix_table, 0, sizeof(function->state.msix_table));
	for (unsigned int i = 0; i < msix->nvectors; i++)
		function->state.msix_table[WORDS * i + WORD_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	sync_all(function);
	for (unsigned int i = 0; i < msix->nvectors; i++)
		drain(&msix->vector[i]);
	pthread_mutex_unlock(&msix->lock);
}

static uint64_t pending_word(const struct pci_msix *msix, unsigned int word)
{
	uint64_t bits = 0;

	for (unsigned int i = word * 64; i < msix->nvectors && i < word * 64 + 64; i++) {
		if (is_pending(&msix->vector[i]))
			bits |= 1ULL << (i % 64);
	}
	return bits;
}

void pci_msix_bar_read(struct pci_function *function, uint64_t offset, void *data, unsigned int len)
{
	struct pci_msix *msix = &function->msix;
	uint64_t pending[PCI_MSIX_MAX / 64] = {};

	pthread_mutex_lock(&msix->lock);
	if (offset + len > MSIX_PBA_OFFSET) {
		for (unsigned int i = 0; i < ARRAY_SIZE(pending); i++)
			pending[i] = pending_word(msix, i);
	}
	for (unsigned int i = 0; i < len; i++) {
		uint64_t at = offset + i;
		uint8_t byte = 0;

		if (at < (uint64_t)msix->nvectors * ENTRY_BYTES)
			byte = ((const uint8_t *)function->state.msix_table)[at];
		else if (at >= MSIX_PBA_OFFSET && at - MSIX_PBA_OFFSET < sizeof(pending))
			byte = ((const uint8_t *)pending)[at - MSIX_PBA_OFFSET];
		((uint8_t *)data)[i] = byte;
	}
	pthread_mutex_unlock(&msix->lock);
}

static void write_word(struct pci_function *function, unsigned int word, uint32_t value)
{
	uint32_t mask = UINT32_MAX;

	if (word % WORDS == 0)
		mask = ~3U;
	else if (word % WORDS == WORD_CTRL)
		mask = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	function->state.msix_table[word] = value & mask;
}

void pci_msix_bar_write(struct pci_function *function, uint64_t offset, const void *data,
			unsigned int len)
{
	struct pci_msix *msix = &function->msix;

	/* Whole aligned words, one or two of one entry; anything else is undefined by the specification: dropped. */
	if ((len != 4 && len != 8) || offset % len ||
	    offset >= (uint64_t)msix->nvectors * ENTRY_BYTES)
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < len / 4; i++)
		write_word(function, offset / 4 + i, get_le32((const uint8_t *)data + 4 * i));
	sync_vector(function, offset / ENTRY_BYTES);
	pthread_mutex_unlock(&msix->lock);
}

static int open_vector(struct pci_function *function, struct pci_vector *vector)
{
	struct wiring *wiring = &function->host->wiring;
	int error;

	vector->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vector->eventfd < 0)
		return fail(-errno, "pci: eventfd: %s", strerror(errno));
	error = wiring->msi_open(wiring->opaque, vector->eventfd, &vector->handle);
	if (error) {
		close_fd(&vector->eventfd);
		return error;
	}
	return 0;
}

int pci_add_msix(struct pci_function *function, unsigned int bar, unsigned int nvectors)
{
	struct pci_msix *msix = &function->msix;
	uint8_t body[10], writable[10] = {};
	int ret;

	if (nvectors == 0 || nvectors > PCI_MSIX_MAX)
		return fail(-EINVAL, "pci: slot %u: %u vectors", function->slot, nvectors);
	ret = pci_add_bar(function, bar, MSIX_BAR_BYTES);
	if (ret < 0)
		return ret;
	put_le16(body, nvectors - 1);
	put_le32(body + 2, 0 | bar * 2);
	put_le32(body + 6, MSIX_PBA_OFFSET | bar * 2);
	put_le16(writable, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	ret = pci_add_capability(function, PCI_CAP_ID_MSIX, body, writable, sizeof(body));
	if (ret < 0)
		return ret;
	msix->capability = ret;
	msix->bar = bar;
	msix->vector = calloc(nvectors, sizeof(*msix->vector));
	if (!msix->vector)
		return fail(-ENOMEM, "pci: no memory for %u vectors", nvectors);
	function->state.n_msix_table = WORDS * nvectors;
	/* nvectors grows with what is open, so that fini closes exactly that. */
	while (msix->nvectors < nvectors) {
		ret = open_vector(function, &msix->vector[msix->nvectors]);
		if (ret < 0)
			return ret;
		msix->nvectors++;
	}
	pci_msix_reset(function);
	return 0;
}

void pci_msix_fini(struct pci_function *function)
{
	struct pci_msix *msix = &function->msix;
	struct wiring *wiring = &function->host->wiring;

	for (unsigned int i = 0; i < msix->nvectors; i++) {
		disconnect(function, &msix->vector[i]);
		wiring->msi_close(wiring->opaque, msix->vector[i].handle);
		close_fd(&msix->vector[i].eventfd);
	}
	free(msix->vector);
	msix->vector = NULL;
	msix->nvectors = 0;
}

void pci_msix_raise(struct pci_function *function, unsigned int vector)
{
	if (vector < function->msix.nvectors && atomic_load(&function->msix.enabled))
		irq_raise(function->msix.vector[vector].eventfd);
}

int pci_msix_eventfd(const struct pci_function *function, unsigned int vector)
{
	return vector < function->msix.nvectors ? function->msix.vector[vector].eventfd : -1;
}

void pci_msix_save(const struct pci_function *function, struct pci_state *out)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(out->msix_pending); i++)
		out->msix_pending[i] = pending_word(&function->msix, i);
}

int pci_msix_check(const struct pci_function *function, const struct pci_state *loaded)
{
	unsigned int nvectors = function->msix.nvectors;

	if (loaded->n_msix_table != WORDS * nvectors)
		return fail(-EBADMSG, "pci: slot %u: %u MSI-X words saved, %u here", function->slot,
			    loaded->n_msix_table, WORDS * nvectors);
	for (unsigned int i = 0; i < nvectors; i++) {
		if (loaded->msix_table[WORDS * i] & 3 ||
		    loaded->msix_table[WORDS * i + WORD_CTRL] & ~PCI_MSIX_ENTRY_CTRL_MASKBIT)
			return fail(-EBADMSG, "pci: slot %u: reserved bits in vector %u",
				    function->slot, i);
	}
	for (unsigned int i = nvectors; i < PCI_MSIX_MAX; i++) {
		if (loaded->msix_pending[i / 64] & 1ULL << (i % 64))
			return fail(-EBADMSG, "pci: slot %u: vector %u of %u pends", function->slot,
				    i, nvectors);
	}
	return 0;
}

void pci_msix_commit(struct pci_function *function, const struct pci_state *loaded)
{
	struct pci_msix *msix = &function->msix;

	if (!msix->nvectors)
		return;
	pci_msix_reset(function);
	pthread_mutex_lock(&msix->lock);
	memcpy(function->state.msix_table, loaded->msix_table, sizeof(loaded->msix_table));
	pthread_mutex_unlock(&msix->lock);
	pci_msix_control_changed(function);
	/* After the connections: what pends goes into an eventfd, and a vector that fires now fires at once. */
	for (unsigned int i = 0; i < msix->nvectors; i++) {
		if (loaded->msix_pending[i / 64] & 1ULL << (i % 64))
			irq_raise(msix->vector[i].eventfd);
	}
}
