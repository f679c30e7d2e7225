// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The PCI host bridge and its functions: configuration space through ECAM, placement of BARs, capabilities.
 * MSI-X is pci_msix.c; what is behind a BAR is the device's.
 *
 * Theory of operation. Configuration space is an array of bytes with a mask of the bits that the guest may change; a
 * write of any length and alignment goes through the mask byte by byte, and only then are the registers that it touched
 * looked at. BAR sizing (all ones read back as the size) falls out of the mask, because a BAR's low bits are not the
 * guest's. Where BARs answer is computed anew for all functions after each change of a BAR or of memory decoding: first
 * those that no longer belong are taken off the bus, then those that can be placed are, so that functions may swap
 * addresses in any order.
 */
#include "devices/pci.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "devices/pci_msix.h"

#define ECAM_FUNCTION_BYTES 4096
#define ECAM_BUS_BYTES	    (1U << 20)
#define COMMAND_WRITABLE                                                                   \
	(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | \
	 PCI_COMMAND_INTX_DISABLE)

STATE_TABLE(pci_state, 1, PCI_STATE);
const struct state_table *const pci_state_list = &pci_state_table;

/* Placement of BARs */

static gpa_t bar_address(const struct pci_function *function, unsigned int bar)
{
	const uint8_t *reg = &function->state.config[PCI_BASE_ADDRESS_0 + 8 * bar];

	return get_le64(reg) & PCI_BASE_ADDRESS_MEM_MASK;
}

static void set_bar_address(struct pci_function *function, unsigned int bar, gpa_t gpa)
{
	put_le64(&function->state.config[PCI_BASE_ADDRESS_0 + 8 * bar],
		 gpa | PCI_BASE_ADDRESS_MEM_TYPE_64);
}

static bool decodes_memory(const struct pci_function *function)
{
	return get_le16(&function->state.config[PCI_COMMAND]) & PCI_COMMAND_MEMORY;
}

static bool in_range(gpa_t gpa, uint64_t size, gpa_t start, uint64_t bytes)
{
	return gpa >= start && size <= bytes && gpa - start <= bytes - size;
}

static bool in_windows(const struct pci_host *host, gpa_t gpa, uint64_t size)
{
	const struct pci_windows *w = &host->windows;

	return in_range(gpa, size, w->mmio32, w->mmio32_bytes) ||
	       in_range(gpa, size, w->mmio64, w->mmio64_bytes);
}

/* Whether the BAR should answer, and where. */
static bool wants_place(const struct pci_bar *bar, gpa_t *gpa)
{
	const struct pci_function *function = bar->function;

	if (!bar->size_bytes || !decodes_memory(function))
		return false;
	*gpa = bar_address(function, bar->index);
	return in_windows(function->host, *gpa, bar->size_bytes);
}

static void bar_read(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct pci_bar *bar = opaque;
	struct pci_function *function = bar->function;

	if (function->msix.nvectors && bar->index == function->msix.bar)
		pci_msix_bar_read(function, offset, data, len);
	else if (function->ops->bar_read)
		function->ops->bar_read(function, bar->index, offset, data, len);
}

static void bar_write(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct pci_bar *bar = opaque;
	struct pci_function *function = bar->function;

	if (function->msix.nvectors && bar->index == function->msix.bar)
		pci_msix_bar_write(function, offset, data, len);
	else if (function->ops->bar_write)
		function->ops->bar_write(function, bar->index, offset, data, len);
}

static const struct bus_ops bar_bus_ops = {.read = bar_read, .write = bar_write};

static void unmap_bar(struct pci_bar *bar)
{
	struct pci_function *function = bar->function;

	if (!bar->mapped)
		return;
	bar->mapped = false;
	bus_remove(function->host->mmio, bar->mapped_gpa);
	if (function->ops->bar_unmapped)
		function->ops->bar_unmapped(function, bar->index, bar->mapped_gpa);
}

/* True when another BAR answers somewhere in the range. */
static bool is_taken(const struct pci_host *host, gpa_t gpa, uint64_t size)
{
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		const struct pci_function *function = host->function[slot];

		for (unsigned int i = 0; function && i < PCI_BARS; i++) {
			const struct pci_bar *bar = &function->bar[i];

			if (bar->mapped && bar->mapped_gpa < gpa + size &&
			    gpa < bar->mapped_gpa + bar->size_bytes)
				return true;
		}
	}
	return false;
}

static void map_bar(struct pci_bar *bar, gpa_t gpa)
{
	struct pci_function *function = bar->function;
	char name[24];

	if (is_taken(function->host, gpa, bar->size_bytes)) {
		if (log_limit_ok(&function->host->limit, 1))
			log_warn("pci: slot %u BAR %u: 0x%" PRIx64 " is another BAR's",
				 function->slot, bar->index, gpa);
		return;
	}
	snprintf(name, sizeof(name), "pci%u.bar%u", function->slot, bar->index);
	/* Cannot overlap: the windows hold nothing but BARs. */
	if (bus_add(function->host->mmio, name, gpa, bar->size_bytes, &bar_bus_ops, bar) < 0)
		return;
	bar->mapped = true;
	bar->mapped_gpa = gpa;
	if (function->ops->bar_mapped)
		function->ops->bar_mapped(function, bar->index, gpa);
}

/* Calls fn for every BAR of every function. */
static void for_each_bar(struct pci_host *host, void (*fn)(struct pci_bar *bar))
{
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned int i = 0; host->function[slot] && i < PCI_BARS; i++)
			fn(&host->function[slot]->bar[i]);
	}
}

static void unmap_if_moved(struct pci_bar *bar)
{
	gpa_t gpa;

	if (bar->mapped && (!wants_place(bar, &gpa) || gpa != bar->mapped_gpa))
		unmap_bar(bar);
}

static void map_if_wanted(struct pci_bar *bar)
{
	gpa_t gpa;

	if (!bar->mapped && wants_place(bar, &gpa))
		map_bar(bar, gpa);
}

static void place_bars(struct pci_host *host)
{
	for_each_bar(host, unmap_if_moved);
	for_each_bar(host, map_if_wanted);
}

/* Configuration space */

/* A function number other than 0 is nobody's, and so is a slot without a device. */
static struct pci_function *find_function(struct pci_host *host, unsigned int devfn)
{
	return devfn < PCI_SLOTS * 8 && devfn % 8 == 0 ? host->function[devfn / 8] : NULL;
}

void pci_config_read(struct pci_host *host, unsigned int devfn, unsigned int offset, void *data,
		     unsigned int len)
{
	struct pci_function *function;

	memset(data, 0xff, len);
	pthread_mutex_lock(&host->lock);
	function = find_function(host, devfn);
	if (function) {
		unsigned int n = 0;

		if (offset < PCI_CONFIG_BYTES)
			n = len < PCI_CONFIG_BYTES - offset ? len : PCI_CONFIG_BYTES - offset;
		memset(data, 0, len);
		if (n > 0 && function->ops->config_reading)
			function->ops->config_reading(function, offset, n);
		if (n > 0)
			memcpy(data, &function->state.config[offset], n);
	}
	pthread_mutex_unlock(&host->lock);
}

static bool touches(unsigned int offset, unsigned int len, unsigned int first, unsigned int bytes)
{
	return offset < first + bytes && first < offset + len;
}

/* Follows the command register: bus mastering changed or not. */
static bool sync_bus_master(struct pci_function *function)
{
	bool on = get_le16(&function->state.config[PCI_COMMAND]) & PCI_COMMAND_MASTER;

	return atomic_exchange(&function->bus_master, on) != on;
}

static void written(struct pci_function *function, unsigned int offset, unsigned int len)
{
	bool command = touches(offset, len, PCI_COMMAND, 2);
	bool master = command && sync_bus_master(function);

	if (master || (function->msix.nvectors &&
		       touches(offset, len, function->msix.capability + PCI_MSIX_FLAGS, 2)))
		pci_msix_control_changed(function);
	if (command || touches(offset, len, PCI_BASE_ADDRESS_0, 8 * PCI_BARS))
		place_bars(function->host);
	if (master && function->ops->bus_master)
		function->ops->bus_master(function, pci_bus_master(function));
	if (function->ops->config_written)
		function->ops->config_written(function, offset, len);
}

void pci_config_write(struct pci_host *host, unsigned int devfn, unsigned int offset,
		      const void *data, unsigned int len)
{
	struct pci_function *function;

	if (offset >= PCI_CONFIG_BYTES)
		return;
	if (len > PCI_CONFIG_BYTES - offset)
		len = PCI_CONFIG_BYTES - offset;
	pthread_mutex_lock(&host->lock);
	function = find_function(host, devfn);
	if (function) {
		for (unsigned int i = 0; i < len; i++) {
			uint8_t mask = function->writable[offset + i];
			uint8_t *byte = &function->state.config[offset + i];

			*byte = (*byte & ~mask) | (((const uint8_t *)data)[i] & mask);
		}
		written(function, offset, len);
	}
	pthread_mutex_unlock(&host->lock);
}

/* ECAM: bus, device, function and register are in the address; an access may reach into the next function's page. */
static void ecam_read(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	uint8_t *to = data;

	memset(data, 0xff, len);
	while (len > 0 && offset < ECAM_BUS_BYTES) {
		unsigned int reg = offset % ECAM_FUNCTION_BYTES;
		unsigned int n = len < ECAM_FUNCTION_BYTES - reg ? len : ECAM_FUNCTION_BYTES - reg;

		pci_config_read(opaque, offset / ECAM_FUNCTION_BYTES, reg, to, n);
		offset += n;
		to += n;
		len -= n;
	}
}

static void ecam_write(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	const uint8_t *from = data;

	while (len > 0 && offset < ECAM_BUS_BYTES) {
		unsigned int reg = offset % ECAM_FUNCTION_BYTES;
		unsigned int n = len < ECAM_FUNCTION_BYTES - reg ? len : ECAM_FUNCTION_BYTES - reg;

		pci_config_write(opaque, offset / ECAM_FUNCTION_BYTES, reg, from, n);
		offset += n;
		from += n;
		len -= n;
	}
}

static const struct bus_ops ecam_bus_ops = {.read = ecam_read, .write = ecam_write};

/* Functions */

int pci_function_init(struct pci_function *function, struct pci_host *host, unsigned int slot,
		      const struct pci_identity *identity, const struct pci_function_ops *ops)
{
	uint8_t *config = function->state.config;

	memset(function, 0, sizeof(*function));
	if (slot >= PCI_SLOTS)
		return fail(-EINVAL, "pci: slot %u: there are %d", slot, PCI_SLOTS);
	if (host->function[slot])
		return fail(-EEXIST, "pci: slot %u is taken", slot);
	function->host = host;
	function->slot = slot;
	function->ops = ops;
	function->config_used = PCI_STD_HEADER_SIZEOF;
	function->last_capability = PCI_CAPABILITY_LIST;
	pthread_mutex_init(&function->msix.lock, NULL);
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		function->bar[i].function = function;
		function->bar[i].index = i;
	}
	put_le16(&config[PCI_VENDOR_ID], identity->vendor);
	put_le16(&config[PCI_DEVICE_ID], identity->device);
	put_le16(&config[PCI_SUBSYSTEM_VENDOR_ID], identity->subsystem_vendor);
	put_le16(&config[PCI_SUBSYSTEM_ID], identity->subsystem);
	put_le32(&config[PCI_CLASS_REVISION], identity->class_code << 8 | identity->revision);
	put_le16(&function->writable[PCI_COMMAND], COMMAND_WRITABLE);
	function->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	function->writable[PCI_INTERRUPT_LINE] = 0xff;
	return 0;
}

/* The next free place of that size in a window, naturally aligned. */
static bool take_address(gpa_t *next, gpa_t start, uint64_t bytes, uint64_t size, gpa_t *gpa)
{
	gpa_t at = (*next + size - 1) & ~(size - 1);

	if (!in_range(at, size, start, bytes))
		return false;
	*gpa = at;
	*next = at + size;
	return true;
}

int pci_add_bar(struct pci_function *function, unsigned int bar, uint64_t size_bytes)
{
	struct pci_host *host = function->host;
	const struct pci_windows *w = &host->windows;
	struct pci_bar *b;

	if (bar >= PCI_BARS || size_bytes < 4096 || size_bytes > PCI_BAR_BYTES_MAX ||
	    size_bytes & (size_bytes - 1) || function->bar[bar].size_bytes)
		return fail(-EINVAL, "pci: slot %u BAR %u: %" PRIu64 " bytes", function->slot, bar,
			    size_bytes);
	b = &function->bar[bar];
	if (!take_address(&host->next32, w->mmio32, w->mmio32_bytes, size_bytes, &b->reset_gpa) &&
	    !take_address(&host->next64, w->mmio64, w->mmio64_bytes, size_bytes, &b->reset_gpa))
		return fail(-ENOSPC, "pci: slot %u BAR %u: no room for %" PRIu64 " KiB",
			    function->slot, bar, size_bytes >> 10);
	b->size_bytes = size_bytes;
	set_bar_address(function, bar, b->reset_gpa);
	put_le64(&function->writable[PCI_BASE_ADDRESS_0 + 8 * bar], ~(size_bytes - 1));
	return 0;
}

int pci_add_capability(struct pci_function *function, uint8_t id, const void *body,
		       const void *writable, unsigned int len)
{
	unsigned int at = (function->config_used + 3) & ~3U;
	uint8_t *config = function->state.config;

	if (at + 2 + len > PCI_CONFIG_BYTES)
		return fail(-ENOSPC, "pci: slot %u: no room for capability 0x%x", function->slot,
			    id);
	config[at] = id;
	memcpy(&config[at + 2], body, len);
	if (writable)
		memcpy(&function->writable[at + 2], writable, len);
	/* The list's head and each capability's next pointer are one byte: where the last one is. */
	config[function->last_capability] = at;
	function->last_capability = at + PCI_CAP_LIST_NEXT;
	config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	function->config_used = at + 2 + len;
	return at;
}

int pci_function_publish(struct pci_function *function)
{
	struct pci_host *host = function->host;
	int error = 0;

	memcpy(function->initial, function->state.config, sizeof(function->initial));
	pthread_mutex_lock(&host->lock);
	if (host->function[function->slot])
		error = fail(-EEXIST, "pci: slot %u is taken", function->slot);
	else
		host->function[function->slot] = function;
	pthread_mutex_unlock(&host->lock);
	return error;
}

void pci_function_fini(struct pci_function *function)
{
	struct pci_host *host = function->host;

	if (!host)
		return;
	pthread_mutex_lock(&host->lock);
	for (unsigned int i = 0; i < PCI_BARS; i++)
		unmap_bar(&function->bar[i]);
	if (host->function[function->slot] == function)
		host->function[function->slot] = NULL;
	pci_msix_fini(function);
	pthread_mutex_unlock(&host->lock);
	pthread_mutex_destroy(&function->msix.lock);
	function->host = NULL;
}

void pci_function_reset(struct pci_function *function)
{
	struct pci_host *host = function->host;

	pthread_mutex_lock(&host->lock);
	memcpy(function->state.config, function->initial, sizeof(function->initial));
	sync_bus_master(function);
	pci_msix_reset(function);
	place_bars(host);
	pthread_mutex_unlock(&host->lock);
}

int pci_function_save(const struct pci_function *function, uint32_t instance, struct buf *out)
{
	struct pci_state state = function->state;

	pci_msix_save(function, &state);
	return state_save(&pci_state_table, instance, &state, out);
}

int pci_function_load(struct pci_function *function, uint32_t instance, struct state_set *in,
		      struct pci_state *loaded)
{
	int error = state_load(in, &pci_state_table, instance, loaded);

	if (error)
		return error;
	for (unsigned int i = 0; i < PCI_CONFIG_BYTES; i++) {
		uint8_t differs = loaded->config[i] ^ function->initial[i];

		if (differs & ~function->writable[i])
			return fail(-EBADMSG,
				    "pci: slot %u: configuration byte 0x%x is 0x%02x, 0x%02x here",
				    function->slot, i, loaded->config[i], function->initial[i]);
	}
	return pci_msix_check(function, loaded);
}

void pci_function_commit(struct pci_function *function, const struct pci_state *loaded)
{
	struct pci_host *host = function->host;

	pthread_mutex_lock(&host->lock);
	memcpy(function->state.config, loaded->config, sizeof(loaded->config));
	sync_bus_master(function);
	pci_msix_commit(function, loaded);
	place_bars(host);
	pthread_mutex_unlock(&host->lock);
}

/* The host bridge */

static struct pci_host *host_of(struct device *device)
{
	return CONTAINER_OF(device, struct pci_host, device);
}

static void host_reset(struct device *device)
{
	pci_function_reset(&host_of(device)->bridge);
}

static int host_save(const struct device *device, struct buf *out)
{
	const struct pci_host *host = (const struct pci_host *)device;

	return pci_function_save(&host->bridge, device->instance, out);
}

static int host_load(struct device *device, struct state_set *in)
{
	struct pci_host *host = host_of(device);
	struct pci_state loaded;
	int error = pci_function_load(&host->bridge, device->instance, in, &loaded);

	if (error)
		return error;
	pci_function_commit(&host->bridge, &loaded);
	return 0;
}

static void host_free(struct device *device)
{
	struct pci_host *host = host_of(device);

	bus_remove(host->mmio, host->windows.ecam);
	pci_function_fini(&host->bridge);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

static const struct device_ops host_device_ops = {
	.type = "pci-host",
	.table = &pci_state_table,
	.reset = host_reset,
	.save = host_save,
	.load = host_load,
	.free = host_free,
};

/* The generic PCI Express host bridge's identity: Linux has no quirks for it. */
static const struct pci_identity bridge_identity = {
	.vendor = 0x1b36,
	.device = 0x0008,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
	.class_code = 0x060000,
};
static const struct pci_function_ops bridge_ops = {};

int pci_host_new(struct pci_host **out, struct bus *mmio, const struct wiring *wiring,
		 const struct pci_windows *windows)
{
	struct pci_host *host;
	int error;

	_Static_assert(offsetof(struct pci_host, device) == 0, "device is embedded first");
	if (windows->ecam_bytes < ECAM_BUS_BYTES)
		return fail(-EINVAL, "pci: configuration space of %" PRIu64 " bytes",
			    windows->ecam_bytes);
	host = calloc(1, sizeof(*host));
	if (!host)
		return fail(-ENOMEM, "pci: no memory");
	device_init(&host->device, &host_device_ops, "pci", 0);
	pthread_mutex_init(&host->lock, NULL);
	host->mmio = mmio;
	host->wiring = *wiring;
	host->windows = *windows;
	host->next32 = windows->mmio32;
	host->next64 = windows->mmio64;
	error = bus_add(mmio, "pci.ecam", windows->ecam, windows->ecam_bytes, &ecam_bus_ops, host);
	if (error) {
		pthread_mutex_destroy(&host->lock);
		free(host);
		return error;
	}
	error = pci_function_init(&host->bridge, host, 0, &bridge_identity, &bridge_ops);
	if (!error)
		error = pci_function_publish(&host->bridge);
	if (error) {
		host_free(&host->device);
		return error;
	}
	*out = host;
	return 0;
}
