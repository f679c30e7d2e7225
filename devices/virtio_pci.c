// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The modern PCI transport (virtio 1.2 section 4.1): registers in BAR 0, MSI-X in BAR 1, and the capabilities that say so.
 * What the registers mean is virtio.c's.
 *
 *	BAR 0:	0x0000 common configuration	0x1000 interrupt status
 *		0x2000 device configuration	0x3000 doorbells, 4 bytes for each queue
 *
 * Doorbells are eventfds that the kernel signals without an exit; a doorbell that could not be bound, and the
 * configuration access window, end in notify_write(). Reads of the common configuration are taken from a picture of all of
 * its registers, so any length and alignment will do; a write counts only when it covers exactly one register, or two
 * that make up 64 bits.
 */
#include "devices/virtio_internal.h"

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"

#define BAR_REGISTERS 0
#define BAR_MSIX      1
#define BAR_BYTES     0x4000

#define COMMON_OFFSET 0x0000
#define COMMON_BYTES  64
#define ISR_OFFSET    0x1000
#define ISR_BYTES     4
#define DEVICE_OFFSET 0x2000
#define NOTIFY_OFFSET 0x3000
#define NOTIFY_STRIDE 4
#define AREA_BYTES    0x1000

_Static_assert(VIRTIO_QUEUES_MAX *NOTIFY_STRIDE <= AREA_BYTES, "doorbells fit");
_Static_assert(VIRTIO_CONFIG_MAX <= AREA_BYTES, "device configuration fits");

static struct virtio *virtio_of(struct pci_function *function)
{
	return CONTAINER_OF(function, struct virtio, pci);
}

/* The queue that queue_select names; NULL: there is none, its registers read as zero and take nothing. */
static struct virtio_queue *selected(struct virtio *virtio)
{
	uint16_t select = virtio->state.queue_select;

	return select < virtio->nqueues ? &virtio->queue[select] : NULL;
}

/* Common configuration, reading */

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void picture_queue(const struct virtio_queue *queue, uint8_t *to)
{
	const struct virtq_state *state = &queue->q.state;

	put_le16(to + VIRTIO_PCI_COMMON_Q_SIZE, state->size);
	put_le16(to + VIRTIO_PCI_COMMON_Q_MSIX, state->vector);
	put_le16(to + VIRTIO_PCI_COMMON_Q_ENABLE, state->enabled);
	put_le16(to + VIRTIO_PCI_COMMON_Q_NOFF, queue->q.index);
	put_le64(to + VIRTIO_PCI_COMMON_Q_DESCLO, state->desc_gpa);
	put_le64(to + VIRTIO_PCI_COMMON_Q_AVAILLO, state->avail_gpa);
	put_le64(to + VIRTIO_PCI_COMMON_Q_USEDLO, state->used_gpa);
	put_le16(to + VIRTIO_PCI_COMMON_Q_NDATA, queue->q.index);
	put_le16(to + VIRTIO_PCI_COMMON_Q_RESET, queue->reset_asked);
}

static void picture_common(struct virtio *virtio, uint8_t to[COMMON_BYTES])
{
	const struct virtio_state *state = &virtio->state;

	memset(to, 0, COMMON_BYTES);
	put_le32(to + VIRTIO_PCI_COMMON_DFSELECT, state->offered_select);
	put_le32(to + VIRTIO_PCI_COMMON_DF, feature_word(state->offered, state->offered_select));
	put_le32(to + VIRTIO_PCI_COMMON_GFSELECT, state->accepted_select);
	put_le32(to + VIRTIO_PCI_COMMON_GF, feature_word(state->accepted, state->accepted_select));
	put_le16(to + VIRTIO_PCI_COMMON_MSIX, state->config_vector);
	put_le16(to + VIRTIO_PCI_COMMON_NUMQ, virtio->nqueues);
	to[VIRTIO_PCI_COMMON_STATUS] = state->status;
	to[VIRTIO_PCI_COMMON_CFGGENERATION] = state->generation;
	put_le16(to + VIRTIO_PCI_COMMON_Q_SELECT, state->queue_select);
	if (selected(virtio))
		picture_queue(selected(virtio), to);
}

/* Copies what an access sees of an area; what lies beyond its end reads as zero. */
static void copy_out(const uint8_t *area, unsigned int area_bytes, uint64_t offset, void *data,
		     unsigned int len)
{
	if (offset < area_bytes)
		memcpy(data, area + offset, len < area_bytes - offset ? len : area_bytes - offset);
}

/* Common configuration, writing */

static uint16_t usable_vector(const struct virtio *virtio, uint32_t value)
{
	/* A vector that is not there reads back as none (4.1.5.1.2). */
	return value < virtio->pci.msix.nvectors ? value : VIRTQ_NO_VECTOR;
}

static void write_offered_select(struct virtio *virtio, uint32_t value)
{
	virtio->state.offered_select = value;
}

static void write_accepted_select(struct virtio *virtio, uint32_t value)
{
	virtio->state.accepted_select = value;
}

static void write_accepted(struct virtio *virtio, uint32_t value)
{
	struct virtio_state *state = &virtio->state;
	unsigned int shift = 32 * state->accepted_select;

	if (state->accepted_select > 1 || state->status & VIRTIO_STATUS_FEATURES_OK)
		return;
	state->accepted &= ~((uint64_t)UINT32_MAX << shift);
	state->accepted |= (uint64_t)value << shift;
}

static void write_config_vector(struct virtio *virtio, uint32_t value)
{
	virtio->state.config_vector = usable_vector(virtio, value);
}

static void write_status(struct virtio *virtio, uint32_t value)
{
	virtio_write_status(virtio, value);
}

static void write_queue_select(struct virtio *virtio, uint32_t value)
{
	virtio->state.queue_select = value;
}

/* The selected queue while the guest may still shape it; NULL otherwise. */
static struct virtio_queue *shapeable(struct virtio *virtio)
{
	struct virtio_queue *queue = selected(virtio);

	return queue && !queue->q.state.enabled && !queue->reset_asked ? queue : NULL;
}

static void write_queue_size(struct virtio *virtio, uint32_t value)
{
	struct virtio_queue *queue = shapeable(virtio);

	if (queue && value && value <= queue->q.size_max && !(value & (value - 1)))
		queue->q.state.size = value;
}

static void write_queue_vector(struct virtio *virtio, uint32_t value)
{
	struct virtio_queue *queue = selected(virtio);

	if (!queue)
		return;
	queue->q.state.vector = usable_vector(virtio, value);
	if (queue->started && virtio->ops->queue_vector)
		virtio->ops->queue_vector(virtio, queue->q.index);
}

static void write_queue_enable(struct virtio *virtio, uint32_t value)
{
	if (selected(virtio) && value == 1)
		virtio_enable_queue(virtio, virtio->state.queue_select);
}

static void write_queue_reset(struct virtio *virtio, uint32_t value)
{
	if (selected(virtio) && value == 1)
		virtio_reset_queue(virtio, virtio->state.queue_select);
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
	put_le32((uint8_t *)address + (high ? 4 : 0), value);
}

#define WRITE_ADDRESS(name, member, high)                              \
	static void name(struct virtio *virtio, uint32_t value)        \
	{                                                              \
		struct virtio_queue *queue = shapeable(virtio);        \
                                                                       \
		if (queue)                                             \
			set_half(&queue->q.state.member, high, value); \
	}
WRITE_ADDRESS(write_desc_low, desc_gpa, false)
WRITE_ADDRESS(write_desc_high, desc_gpa, true)
WRITE_ADDRESS(write_avail_low, avail_gpa, false)
WRITE_ADDRESS(write_avail_high, avail_gpa, true)
WRITE_ADDRESS(write_used_low, used_gpa, false)
WRITE_ADDRESS(write_used_high, used_gpa, true)

/* clang-format off */
static const struct common_register {
	uint8_t offset, bytes;
	void (*write)(struct virtio *virtio, uint32_t value);
} common_registers[] = {
	{VIRTIO_PCI_COMMON_DFSELECT,  4, write_offered_select},
	{VIRTIO_PCI_COMMON_GFSELECT,  4, write_accepted_select},
	{VIRTIO_PCI_COMMON_GF,        4, write_accepted},
	{VIRTIO_PCI_COMMON_MSIX,      2, write_config_vector},
	{VIRTIO_PCI_COMMON_STATUS,    1, write_status},
	{VIRTIO_PCI_COMMON_Q_SELECT,  2, write_queue_select},
	{VIRTIO_PCI_COMMON_Q_SIZE,    2, write_queue_size},
	{VIRTIO_PCI_COMMON_Q_MSIX,    2, write_queue_vector},
	{VIRTIO_PCI_COMMON_Q_ENABLE,  2, write_queue_enable},
	{VIRTIO_PCI_COMMON_Q_DESCLO,  4, write_desc_low},
	{VIRTIO_PCI_COMMON_Q_DESCHI,  4, write_desc_high},
	{VIRTIO_PCI_COMMON_Q_AVAILLO, 4, write_avail_low},
	{VIRTIO_PCI_COMMON_Q_AVAILHI, 4, write_avail_high},
	{VIRTIO_PCI_COMMON_Q_USEDLO,  4, write_used_low},
	{VIRTIO_PCI_COMMON_Q_USEDHI,  4, write_used_high},
	{VIRTIO_PCI_COMMON_Q_RESET,   2, write_queue_reset},
};
/* clang-format on */

static void write_register(struct virtio *virtio, uint64_t offset, const uint8_t *data,
			   unsigned int len)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(common_registers); i++) {
		const struct common_register *reg = &common_registers[i];

		if (reg->offset != offset || reg->bytes != len)
			continue;
		memcpy(&value, data, len);
		/* Under way, a reset leaves nothing to set up; what is written to status meanwhile is early. */
		if (!virtio->reset_asked)
			reg->write(virtio, value);
		return;
	}
}

static void common_write(struct virtio *virtio, uint64_t offset, const uint8_t *data,
			 unsigned int len)
{
	if (len == 8 && offset % 8 == 0) {
		write_register(virtio, offset, data, 4);
		write_register(virtio, offset + 4, data + 4, 4);
	} else if (len <= 4) {
		write_register(virtio, offset, data, len);
	}
}

/* The other areas */

static void isr_read(struct virtio *virtio, uint64_t offset, uint8_t *data)
{
	if (offset != 0)
		return;
	data[0] = virtio->state.isr;
	virtio->state.isr = 0;
}

static void device_write(struct virtio *virtio, uint64_t offset, const void *data, unsigned int len)
{
	if (!virtio->ops->config_write || offset >= virtio->config_bytes)
		return;
	if (len > virtio->config_bytes - offset)
		len = virtio->config_bytes - offset;
	virtio->ops->config_write(virtio, offset, data, len);
}

static void notify_write(struct virtio *virtio, uint64_t offset)
{
	if (offset % NOTIFY_STRIDE == 0 && offset / NOTIFY_STRIDE < virtio->nqueues)
		virtio_queue_kick(virtio, offset / NOTIFY_STRIDE);
}

static void bar_read(struct pci_function *function, unsigned int bar, uint64_t offset, void *data,
		     unsigned int len)
{
	struct virtio *virtio = virtio_of(function);
	uint64_t inside = offset % AREA_BYTES;
	uint8_t common[COMMON_BYTES];

	virtio_lock(virtio);
	switch (offset - inside) {
	case COMMON_OFFSET:
		picture_common(virtio, common);
		copy_out(common, sizeof(common), inside, data, len);
		break;
	case ISR_OFFSET:
		isr_read(virtio, inside, data);
		break;
	case DEVICE_OFFSET:
		copy_out(virtio->config, virtio->config_bytes, inside, data, len);
		break;
	default:
		break;
	}
	virtio_unlock(virtio);
}

static void bar_write(struct pci_function *function, unsigned int bar, uint64_t offset,
		      const void *data, unsigned int len)
{
	struct virtio *virtio = virtio_of(function);
	uint64_t inside = offset % AREA_BYTES;

	virtio_lock(virtio);
	switch (offset - inside) {
	case COMMON_OFFSET:
		common_write(virtio, inside, data, len);
		break;
	case DEVICE_OFFSET:
		device_write(virtio, inside, data, len);
		break;
	case NOTIFY_OFFSET:
		notify_write(virtio, inside);
		break;
	default:
		break;
	}
	virtio_unlock(virtio);
}

/* Doorbells follow the BAR */

static void bar_mapped(struct pci_function *function, unsigned int bar, gpa_t gpa)
{
	struct virtio *virtio = virtio_of(function);
	struct wiring *wiring = &function->host->wiring;

	for (unsigned int i = 0; bar == BAR_REGISTERS && i < virtio->nqueues; i++) {
		gpa_t doorbell = gpa + NOTIFY_OFFSET + (gpa_t)i * NOTIFY_STRIDE;

		if (wiring->doorbell_add(wiring->opaque, doorbell, 0, virtio->queue[i].kick) < 0)
			log_warn("virtio: %s: queue %u: no doorbell: each kick exits",
				 virtio->device.id, i);
	}
}

static void bar_unmapped(struct pci_function *function, unsigned int bar, gpa_t gpa)
{
	struct virtio *virtio = virtio_of(function);
	struct wiring *wiring = &function->host->wiring;

	for (unsigned int i = 0; bar == BAR_REGISTERS && i < virtio->nqueues; i++)
		wiring->doorbell_remove(wiring->opaque,
					gpa + NOTIFY_OFFSET + (gpa_t)i * NOTIFY_STRIDE, 0,
					virtio->queue[i].kick);
}

static void bus_master(struct pci_function *function, bool on)
{
	struct virtio *virtio = virtio_of(function);

	/* Settles: the device starts or stops. */
	virtio_lock(virtio);
	virtio_unlock(virtio);
}

/* The configuration access window (4.1.4.9): the BAR through configuration space, for a guest that cannot map it. */

static bool window_access(const struct virtio *virtio, unsigned int offset, unsigned int len,
			  uint32_t *bar_offset, uint32_t *bytes)
{
	const uint8_t *cap = &virtio->pci.state.config[virtio->window_capability];
	unsigned int data = virtio->window_capability + sizeof(struct virtio_pci_cap);

	*bar_offset = get_le32(cap + VIRTIO_PCI_CAP_OFFSET);
	*bytes = get_le32(cap + VIRTIO_PCI_CAP_LENGTH);
	return offset < data + 4 && data < offset + len && cap[VIRTIO_PCI_CAP_BAR] == 0 &&
	       (*bytes == 1 || *bytes == 2 || *bytes == 4) && *bar_offset % *bytes == 0 &&
	       *bar_offset < BAR_BYTES;
}

static uint8_t *window_data(struct virtio *virtio)
{
	return &virtio->pci.state.config[virtio->window_capability + sizeof(struct virtio_pci_cap)];
}

static void config_reading(struct pci_function *function, unsigned int offset, unsigned int len)
{
	struct virtio *virtio = virtio_of(function);
	uint32_t at, bytes;

	if (!window_access(virtio, offset, len, &at, &bytes))
		return;
	memset(window_data(virtio), 0, bytes);
	bar_read(function, BAR_REGISTERS, at, window_data(virtio), bytes);
}

static void config_written(struct pci_function *function, unsigned int offset, unsigned int len)
{
	struct virtio *virtio = virtio_of(function);
	uint32_t at, bytes;

	if (window_access(virtio, offset, len, &at, &bytes))
		bar_write(function, BAR_REGISTERS, at, window_data(virtio), bytes);
}

static const struct pci_function_ops function_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_mapped = bar_mapped,
	.bar_unmapped = bar_unmapped,
	.config_reading = config_reading,
	.config_written = config_written,
	.bus_master = bus_master,
};

/* Capabilities */

/* clang-format off */
static const struct {
	uint8_t type;
	uint32_t offset, bytes;
} areas[] = {
	{VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, COMMON_BYTES},
	{VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET, AREA_BYTES},
	{VIRTIO_PCI_CAP_ISR_CFG,    ISR_OFFSET,    ISR_BYTES},
	{VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET, AREA_BYTES},
};
/* clang-format on */

/* A virtio capability without its first two bytes, which pci.c writes. `tail`: 4 bytes more. */
static int add_capability(struct virtio *virtio, uint8_t type, uint32_t offset, uint32_t bytes,
			  bool tail, uint32_t multiplier, const uint8_t *writable)
{
	uint8_t cap[sizeof(struct virtio_pci_notify_cap)] = {};
	unsigned int len = sizeof(struct virtio_pci_cap) + (tail ? 4 : 0);

	cap[VIRTIO_PCI_CAP_LEN] = len;
	cap[VIRTIO_PCI_CAP_CFG_TYPE] = type;
	cap[VIRTIO_PCI_CAP_BAR] = 2 * BAR_REGISTERS;
	put_le32(cap + VIRTIO_PCI_CAP_OFFSET, offset);
	put_le32(cap + VIRTIO_PCI_CAP_LENGTH, bytes);
	put_le32(cap + VIRTIO_PCI_NOTIFY_CAP_MULT, multiplier);
	return pci_add_capability(&virtio->pci, PCI_CAP_ID_VNDR, cap + 2, writable, len - 2);
}

static int add_capabilities(struct virtio *virtio)
{
	uint8_t writable[sizeof(struct virtio_pci_cfg_cap)] = {};
	int at;

	for (unsigned int i = 0; i < ARRAY_SIZE(areas); i++) {
		bool notify = areas[i].type == VIRTIO_PCI_CAP_NOTIFY_CFG;

		at = add_capability(virtio, areas[i].type, areas[i].offset, areas[i].bytes, notify,
				    notify ? NOTIFY_STRIDE : 0, NULL);
		if (at < 0)
			return at;
	}
	writable[VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(writable + VIRTIO_PCI_CAP_OFFSET, 0xff, 12); /* offset, length, data */
	at = add_capability(virtio, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, true, 0, writable + 2);
	if (at < 0)
		return at;
	virtio->window_capability = at;
	return 0;
}

int virtio_pci_init(struct virtio *virtio, struct pci_host *host, unsigned int slot)
{
	const struct pci_identity identity = {
		.vendor = 0x1af4,
		.device = 0x1040 + virtio->ops->device_id,
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.revision = 1,
		.class_code = virtio->ops->class_code,
	};
	int error = pci_function_init(&virtio->pci, host, slot, &identity, &function_ops);

	if (!error)
		error = pci_add_bar(&virtio->pci, BAR_REGISTERS, BAR_BYTES);
	if (!error)
		error = add_capabilities(virtio);
	if (!error)
		error = pci_add_msix(&virtio->pci, BAR_MSIX, virtio->nqueues + 1);
	if (!error)
		error = pci_function_publish(&virtio->pci);
	return error;
}
