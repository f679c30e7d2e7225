// SPDX-License-Identifier: GPL-2.0-or-later
/* See virtio.h; section numbers are those of virtio 1.2. */
#include "virtio.h"

#define VENDOR_VIRTIO  0x1af4
#define DEVICE_MODERN  0x1040
#define FEATURE_V1     (1ul << 32)
#define NO_VECTOR      0xffff
#define DESC_NEXT      1
#define DESC_WRITE     2
#define DEVICES	       4
#define RESET_LIMIT_MS 1000

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };
enum { STATUS_ACKNOWLEDGE = 1, STATUS_DRIVER = 2, STATUS_DRIVER_OK = 4, STATUS_FEATURES_OK = 8 };

/* 4.1.4.3 */
struct common_config {
	uint32_t device_feature_select, device_feature;
	uint32_t driver_feature_select, driver_feature;
	uint16_t config_msix_vector, num_queues;
	uint8_t device_status, config_generation;
	uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
	uint32_t queue_desc_low, queue_desc_high;
	uint32_t queue_driver_low, queue_driver_high;
	uint32_t queue_device_low, queue_device_high;
};

/* 2.7; one page each, so that a device that writes beyond its part is seen by nobody else. */
struct virtio_ring {
	struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags, next;
	} desc[VIRTIO_QUEUE_SIZE] __attribute__((aligned(4096)));
	struct {
		uint16_t flags, index, ring[VIRTIO_QUEUE_SIZE];
	} avail __attribute__((aligned(4096)));
	struct {
		uint16_t flags, index;
		struct {
			uint32_t id, length;
		} ring[VIRTIO_QUEUE_SIZE];
	} used __attribute__((aligned(4096)));
};

static struct virtio_ring rings[DEVICES] NOINIT;
static unsigned int rings_used;

/* Registers of the common configuration, by their names above. */
#define COMMON_AT(v, field) ((v)->common + offsetof(struct common_config, field))

static void read_capabilities(struct virtio *v)
{
	for (unsigned int cap = 0; (cap = pci_find_capability(v->function, PCI_CAP_VENDOR, cap));) {
		unsigned int bar = pci_read(v->function, cap + 4, 1);
		uint64_t at = bar < PCI_BARS && v->bars[bar].size
				      ? v->bars[bar].base + pci_read(v->function, cap + 8, 4)
				      : 0;

		switch (pci_read(v->function, cap + 3, 1)) {
		case CAP_COMMON:
			v->common = at;
			break;
		case CAP_NOTIFY:
			v->notify = at;
			v->notify_multiplier = pci_read(v->function, cap + 16, 4);
			break;
		case CAP_ISR:
			v->isr = at;
			break;
		case CAP_DEVICE:
			v->device = at;
			break;
		}
	}
}

bool virtio_probe(struct virtio *v, unsigned int function, unsigned int *device_id)
{
	uint32_t id = pci_read(function, PCI_VENDOR, 4);

	if ((id & 0xffff) != VENDOR_VIRTIO || id >> 16 < 0x1000 || id >> 16 > 0x107f)
		return false;
	/* Transitional devices (0x1000 ..) name their kind in the subsystem id. */
	*device_id = id >> 16 >= DEVICE_MODERN ? (id >> 16) - DEVICE_MODERN
					       : pci_read(function, PCI_SUBSYSTEM + 2, 2);
	memset(v, 0, sizeof(*v));
	v->function = function;
	pci_enable(function, v->bars);
	read_capabilities(v);
	return v->common && v->notify;
}

bool virtio_find(struct virtio *v, unsigned int device_id, unsigned int nth)
{
	for (unsigned int function = 0; function < PCI_FUNCTIONS; function++) {
		unsigned int id;

		if (pci_present(function) && virtio_probe(v, function, &id) && id == device_id &&
		    nth-- == 0)
			return true;
	}
	return false;
}

static bool device_reset(const struct virtio *v)
{
	uint64_t start = clock_now();

	mmio_write8(COMMON_AT(v, device_status), 0);
	while (mmio_read8(COMMON_AT(v, device_status)) != 0)
		if (clock_now() - start > ms_to_ticks(RESET_LIMIT_MS))
			return false;
	return true;
}

static void set_address(uint64_t at, const void *p)
{
	mmio_write32(at, (uint32_t)(uint64_t)p);
	mmio_write32(at + 4, (uint32_t)((uint64_t)p >> 32));
}

static bool queue_start(struct virtio *v)
{
	mmio_write16(COMMON_AT(v, queue_select), 0);
	if (mmio_read16(COMMON_AT(v, queue_size)) < VIRTIO_QUEUE_SIZE)
		return false;
	if (!v->ring) {
		if (rings_used == DEVICES)
			return false;
		v->ring = &rings[rings_used++];
	}
	memset(v->ring, 0, sizeof(*v->ring));
	v->next_avail = v->seen_used = 0;
	mmio_write16(COMMON_AT(v, queue_size), VIRTIO_QUEUE_SIZE);
	mmio_write16(COMMON_AT(v, queue_msix_vector), NO_VECTOR);
	set_address(COMMON_AT(v, queue_desc_low), v->ring->desc);
	set_address(COMMON_AT(v, queue_driver_low), &v->ring->avail);
	set_address(COMMON_AT(v, queue_device_low), &v->ring->used);
	v->doorbell = v->notify +
		      (uint64_t)mmio_read16(COMMON_AT(v, queue_notify_off)) * v->notify_multiplier;
	mmio_write16(COMMON_AT(v, queue_enable), 1);
	return true;
}

bool virtio_start(struct virtio *v, uint64_t wanted)
{
	uint64_t offered;
	uint8_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

	/* 3.1.1, in order */
	if (!device_reset(v))
		return false;
	mmio_write8(COMMON_AT(v, device_status), STATUS_ACKNOWLEDGE);
	mmio_write8(COMMON_AT(v, device_status), status);
	mmio_write32(COMMON_AT(v, device_feature_select), 0);
	offered = mmio_read32(COMMON_AT(v, device_feature));
	mmio_write32(COMMON_AT(v, device_feature_select), 1);
	offered |= (uint64_t)mmio_read32(COMMON_AT(v, device_feature)) << 32;
	v->features = offered & (wanted | FEATURE_V1);
	if (!(v->features & FEATURE_V1))
		return false;
	mmio_write32(COMMON_AT(v, driver_feature_select), 0);
	mmio_write32(COMMON_AT(v, driver_feature), (uint32_t)v->features);
	mmio_write32(COMMON_AT(v, driver_feature_select), 1);
	mmio_write32(COMMON_AT(v, driver_feature), (uint32_t)(v->features >> 32));
	status |= STATUS_FEATURES_OK;
	mmio_write8(COMMON_AT(v, device_status), status);
	if (!(mmio_read8(COMMON_AT(v, device_status)) & STATUS_FEATURES_OK))
		return false;
	if (!queue_start(v))
		return false;
	mmio_write8(COMMON_AT(v, device_status), status | STATUS_DRIVER_OK);
	return true;
}

void virtio_submit(struct virtio *v, const struct virtio_buffer *buffers, unsigned int nbuffers)
{
	volatile struct virtio_ring *ring = v->ring;

	for (unsigned int i = 0; i < nbuffers; i++) {
		ring->desc[i].address = (uint64_t)buffers[i].data;
		ring->desc[i].length = buffers[i].length;
		ring->desc[i].flags = (uint16_t)((i + 1 < nbuffers ? DESC_NEXT : 0) |
						 (buffers[i].device_writes ? DESC_WRITE : 0));
		ring->desc[i].next = (uint16_t)(i + 1);
	}
	ring->avail.ring[v->next_avail % VIRTIO_QUEUE_SIZE] = 0;
	io_barrier(); /* the entry before the index (2.7.13.3) */
	ring->avail.index = ++v->next_avail;
	io_barrier(); /* the index before the kick */
	mmio_write16(v->doorbell, 0);
}

bool virtio_done(struct virtio *v, uint32_t *length)
{
	volatile struct virtio_ring *ring = v->ring;

	if (ring->used.index == v->seen_used)
		return false;
	io_barrier(); /* the index before the entry and the data */
	*length = ring->used.ring[v->seen_used++ % VIRTIO_QUEUE_SIZE].length;
	return true;
}
