// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which images a saved VM's memory belongs to (docs/snapshot.md, section `disk`). A guest's memory remembers its file
 * systems: on an image that somebody else has written to since, it would destroy them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "devices/virtio_blk.h"
#include "vmm/machine_internal.h"

#define DISK_FILE	  0
#define DISK_BLOCK_DEVICE 1
#define DISK_PATH_MAX	  4095

#define DISK_STATE(T, F, A, V)     \
	F(T, 1, u8, kind)          \
	F(T, 2, u64, size_bytes)   \
	F(T, 3, u64, changed_ns)   \
	F(T, 4, u64, device)       \
	F(T, 5, u64, inode)        \
	F(T, 6, u64, block_number) \
	V(T, 7, u8, path, DISK_PATH_MAX)
STATE_STRUCT(disk, DISK_STATE);
STATE_TABLE(disk, 1, DISK_STATE);
const struct state_table *const machine_disk_table = &disk_table;

/* The device of disk `index` of the configuration. */
static struct virtio_blk *find_disk(struct machine *machine, unsigned int index)
{
	char id[32];

	snprintf(id, sizeof(id), "disk%u", index);
	for (unsigned int i = 0; i < machine->devices.n; i++)
		if (!strcmp(machine->devices.device[i]->id, id))
			return virtio_blk_of(machine->devices.device[i]);
	return NULL;
}

static int read_disk(struct machine *machine, unsigned int index, bool sync, struct disk *disk)
{
	const char *path = machine->config.disk[index].path;
	struct virtio_blk *blk = find_disk(machine, index);
	struct blk_identity identity = {};
	int error = blk ? virtio_blk_identify(blk, sync, &identity)
			: fail(-ENOENT, "machine: no disk%u", index);

	if (error)
		return error;
	*disk = (struct disk){
		.kind = identity.block_device ? DISK_BLOCK_DEVICE : DISK_FILE,
		.size_bytes = identity.size_bytes,
		.changed_ns = identity.changed_ns,
		.device = identity.device,
		.inode = identity.inode,
		.block_number = identity.block_number,
		.n_path = (uint32_t)strnlen(path, DISK_PATH_MAX),
	};
	memcpy(disk->path, path, disk->n_path);
	return 0;
}

int machine_save_disks(struct machine *machine, bool sync, struct buf *out)
{
	int error = 0;

	for (unsigned int i = 0; i < machine->config.ndisks && !error; i++) {
		struct disk disk;

		if (machine->config.disk[i].readonly)
			continue;
		error = read_disk(machine, i, sync, &disk);
		if (!error)
			error = state_save(&disk_table, i, &disk, out);
	}
	return error;
}

/* Appends what differs, "size 1 then, 2 now". */
static void add_difference(char *text, size_t room, const char *what, uint64_t then, uint64_t now)
{
	const size_t len = strlen(text);

	if (then != now)
		snprintf(text + len, room - len, "%s%s %" PRIu64 " then, %" PRIu64 " now",
			 len ? "; " : "", what, then, now);
}

static int compare_disk(unsigned int index, const struct disk *then, const struct disk *now,
			bool as_they_are)
{
	char text[384] = "";

	add_difference(text, sizeof(text), "kind (1: block device)", then->kind, now->kind);
	add_difference(text, sizeof(text), "bytes", then->size_bytes, now->size_bytes);
	add_difference(text, sizeof(text), "changed at ns", then->changed_ns, now->changed_ns);
	add_difference(text, sizeof(text), "inode", then->inode, now->inode);
	add_difference(text, sizeof(text), "device", then->device, now->device);
	add_difference(text, sizeof(text), "block device", then->block_number, now->block_number);
	if (!*text)
		return 0;
	if (!as_they_are)
		return fail(-ESTALE,
			    "machine: disk%u %.*s is not what it was when the VM was saved: %s",
			    index, (int)now->n_path, (const char *)now->path, text);
	log_warn("machine: disk%u %.*s is taken as it is: %s", index, (int)now->n_path,
		 (const char *)now->path, text);
	return 0;
}

static int check_disk(struct machine *machine, unsigned int index, struct state_set *saved,
		      bool as_they_are)
{
	struct disk then, now;
	int error = state_load(saved, &disk_table, index, &then);

	if (error == -ENOENT)
		return fail(-EBADMSG, "machine: disk%u was not saved", index);
	if (!error)
		error = read_disk(machine, index, false, &now);
	return error ? error : compare_disk(index, &then, &now, as_they_are);
}

int machine_check_disks(struct machine *machine, const void *bytes, size_t len, bool as_they_are)
{
	struct state_set *saved;
	int error = state_set_parse(&saved, bytes, len);

	if (error)
		return error;
	for (unsigned int i = 0; i < machine->config.ndisks && !error; i++)
		if (!machine->config.disk[i].readonly)
			error = check_disk(machine, i, saved, as_they_are);
	if (!error)
		error = state_set_all_used(saved);
	state_set_free(saved);
	return error;
}
