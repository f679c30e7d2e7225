// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VM generation ID: the bytes in guest RAM, and the word to the guest when they change. The tables that say where they are
 * are the machine's. Source: Microsoft, "Virtual Machine Generation ID", 2012.
 */
#include "devices/vmgenid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/state.h"

/* clang-format off */
#define VMGENID_STATE(T, F, A, V)        \
	A(T, 1, u8, guid, VMGENID_BYTES)     \
	F(T, 2, u64, gpa)
/* clang-format on */
STATE_STRUCT(vmgenid_state, VMGENID_STATE);
STATE_TABLE(vmgenid_state, 1, VMGENID_STATE);

struct vmgenid {
	struct device device;
	struct vmgenid_state state;
	struct ram *ram;
	void (*notify)(void *opaque);
	void *opaque;
};

static struct vmgenid *vmgenid_of(struct device *device)
{
	return CONTAINER_OF(device, struct vmgenid, device);
}

static int write_guid(struct vmgenid *vmgenid, gpa_t gpa)
{
	if (gpa % VMGENID_ALIGN)
		return fail(-EFAULT, "vmgenid: 0x%" PRIx64 " is misaligned", gpa);
	if (ram_write(vmgenid->ram, gpa, vmgenid->state.guid, VMGENID_BYTES) < 0)
		return fail(-EFAULT, "vmgenid: 0x%" PRIx64 " is not RAM", gpa);
	return 0;
}

int vmgenid_place(struct vmgenid *vmgenid, gpa_t gpa)
{
	int error = write_guid(vmgenid, gpa);

	if (!error)
		vmgenid->state.gpa = gpa;
	return error;
}

int vmgenid_renew(struct vmgenid *vmgenid, const uint8_t guid[VMGENID_BYTES])
{
	int error;

	memcpy(vmgenid->state.guid, guid, VMGENID_BYTES);
	error = write_guid(vmgenid, vmgenid->state.gpa);
	if (!error && vmgenid->notify)
		vmgenid->notify(vmgenid->opaque);
	return error;
}

const uint8_t *vmgenid_get(const struct vmgenid *vmgenid)
{
	return vmgenid->state.guid;
}

/* The id outlives a reset; the tables are written again, and place it. */
static void reset(struct device *device)
{
}

static int save(const struct device *device, struct buf *out)
{
	const struct vmgenid *vmgenid = (const struct vmgenid *)device;

	return state_save(&vmgenid_state_table, device->instance, &vmgenid->state, out);
}

static int load(struct device *device, struct state_set *in)
{
	struct vmgenid *vmgenid = vmgenid_of(device);
	struct vmgenid_state loaded;
	int error = state_load(in, &vmgenid_state_table, device->instance, &loaded);

	if (error)
		return error;
	/* RAM, which comes by itself, holds the bytes already; they must lie where a guest could have been told. */
	if (loaded.gpa % VMGENID_ALIGN || !ram_ptr(vmgenid->ram, loaded.gpa, VMGENID_BYTES))
		return fail(-EBADMSG, "vmgenid: 0x%" PRIx64 " is misaligned or not RAM",
			    loaded.gpa);
	vmgenid->state = loaded;
	return 0;
}

static void free_device(struct device *device)
{
	free(vmgenid_of(device));
}

static const struct device_ops vmgenid_device_ops = {
	.type = "vmgenid",
	.table = &vmgenid_state_table,
	.reset = reset,
	.save = save,
	.load = load,
	.free = free_device,
};

int vmgenid_new(struct vmgenid **out, struct ram *ram, const char *id,
		const uint8_t guid[VMGENID_BYTES], void (*notify)(void *opaque), void *opaque)
{
	struct vmgenid *vmgenid = calloc(1, sizeof(*vmgenid));

	_Static_assert(offsetof(struct vmgenid, device) == 0, "device is embedded first");
	if (!vmgenid)
		return fail(-ENOMEM, "vmgenid: no memory");
	device_init(&vmgenid->device, &vmgenid_device_ops, id, 0);
	memcpy(vmgenid->state.guid, guid, VMGENID_BYTES);
	vmgenid->ram = ram;
	vmgenid->notify = notify;
	vmgenid->opaque = opaque;
	*out = vmgenid;
	return 0;
}

struct device *vmgenid_device(struct vmgenid *vmgenid)
{
	return &vmgenid->device;
}
