// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a VM really is on this host, as x-tern-status and `tern status` tell it: the choices that were made and why,
 * not the defaults that were asked for. docs/control.md lists the members.
 */
#include <stdio.h>
#include <unistd.h>

#include "cli/qmp_table.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_net.h"
#include "vmm/machine.h"

static json_t *memory_status(struct machine *machine)
{
	const struct config *config = machine_config(machine);
	struct ram_residency residency = {};
	json_t *memory = json_pack(
		"{s:I, s:s, s:b}", "size-bytes", (json_int_t)config->memory_bytes, "hugetlb",
		config_backing_name(config->backing), "prealloc", config->prealloc);

	if (ram_get_residency(machine_ram(machine), &residency))
		return memory;
	json_object_set_new(memory, "resident-bytes",
			    json_integer((json_int_t)residency.resident_bytes));
	json_object_set_new(memory, "huge-bytes", json_integer((json_int_t)residency.huge_bytes));
	json_object_set_new(memory, "huge-page-bytes",
			    json_integer((json_int_t)residency.huge_page_bytes));
	return memory;
}

static json_t *dirty_status(struct machine *machine)
{
	const struct dirty_choice *choice = machine_dirty_choice(machine);

	return json_pack("{s:s, s:I, s:b, s:b, s:s}", "mode",
			 choice->mode == DIRTY_RING ? "ring" : "bitmap", "ring-entries",
			 (json_int_t)choice->ring_entries, "ring-with-bitmap", choice->ring_bitmap,
			 "manual-protect", choice->manual_protect, "reason", choice->reason);
}

static json_t *disk_row(struct virtio_blk *disk)
{
	struct virtio_blk_info info;

	virtio_blk_get_info(disk, &info);
	return json_pack(
		"{s:s, s:b, s:b, s:s, s:s, s:i, s:I, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"path", info.path, "readonly", info.readonly, "direct", info.direct, "engine",
		info.engine, "serial", info.serial, "queues", (int)info.nqueues, "size-bytes",
		(json_int_t)info.size_bytes, "block-bytes", (int)info.block_bytes, "in-flight",
		(int)info.in_flight, "reads", (json_int_t)info.reads, "read-bytes",
		(json_int_t)info.read_bytes, "writes", (json_int_t)info.writes, "written-bytes",
		(json_int_t)info.written_bytes, "flushes", (json_int_t)info.flushes, "discards",
		(json_int_t)info.discards, "errors", (json_int_t)info.errors);
}

static json_t *disk_status(struct machine *machine)
{
	const struct device_list *devices = machine_devices(machine);
	json_t *list = json_array();

	for (unsigned int i = 0; i < devices->n; i++) {
		struct virtio_blk *disk = virtio_blk_of(devices->device[i]);

		if (disk)
			json_array_append_new(list, disk_row(disk));
	}
	return list;
}

static json_t *net_row(struct virtio_net *net)
{
	struct virtio_net_info info;
	char mac[18];
	json_t *row;

	virtio_net_get_info(net, &info);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", info.mac[0], info.mac[1],
		 info.mac[2], info.mac[3], info.mac[4], info.mac[5]);
	row = json_pack(
		"{s:s, s:s, s:b, s:i, s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "backend",
		info.kind, "mac", mac, "link", info.link_up, "queue-pairs", (int)info.npairs,
		"active-pairs", (int)info.current_pairs, "vhost", info.vhost, "offloads",
		info.offloads, "received", (json_int_t)info.received, "received-bytes",
		(json_int_t)info.received_bytes, "receive-dropped",
		(json_int_t)info.receive_dropped, "sent", (json_int_t)info.sent, "sent-bytes",
		(json_int_t)info.sent_bytes, "send-dropped", (json_int_t)info.send_dropped);
	if (info.connections_end)
		json_object_set_new(row, "note",
				    json_string("its connections end when the VM migrates"));
	return row;
}

/* Cards are made in the configuration's order, which knows the names of taps. */
static json_t *net_status(struct machine *machine)
{
	const struct config *config = machine_config(machine);
	const struct device_list *devices = machine_devices(machine);
	json_t *list = json_array();
	unsigned int card = 0;

	for (unsigned int i = 0; i < devices->n && card < config->nnets; i++) {
		struct virtio_net *net = virtio_net_of(devices->device[i]);
		json_t *row = net ? net_row(net) : NULL;

		if (!net)
			continue;
		if (config->net[card].kind == NET_TAP)
			json_object_set_new(row, "tap", json_string(config->net[card].tap));
		json_array_append_new(list, row);
		card++;
	}
	return list;
}

static json_t *serial_status(struct machine *machine)
{
	const struct config *config = machine_config(machine);
	json_t *serial = json_pack("{s:s}", "kind", config_serial_name(config->serial));

	if (config->serial == SERIAL_FILE)
		json_object_set_new(serial, "path", json_string(config->serial_path));
	if (config->serial == SERIAL_PTY)
		json_object_set_new(serial, "pty", json_string(machine_pty_path(machine)));
	return serial;
}

static json_t *device_status(struct machine *machine)
{
	const struct device_list *devices = machine_devices(machine);
	json_t *list = json_array();

	for (unsigned int i = 0; i < devices->n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "id", devices->device[i]->id,
						      "type", devices->device[i]->ops->type));
	return list;
}

json_t *qmp_status_waiting(const struct qmp_owner *owner)
{
	json_t *status = json_pack("{s:s, s:i}", "status", machine_status_name(MACHINE_INMIGRATE),
				   "pid", (int)getpid());

	if (owner->name)
		json_object_set_new(status, "name", json_string(owner->name));
	return status;
}

json_t *qmp_status(struct machine *machine)
{
	const struct config *config = machine_config(machine);

	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "name",
			 config->name, "status", machine_status_name(machine_get_status(machine)),
			 "pid", (int)getpid(), "cpus", (int)machine_nvcpus(machine), "cpu",
			 config->cpu, "memory", memory_status(machine), "dirty-tracking",
			 dirty_status(machine), "disks", disk_status(machine), "nets",
			 net_status(machine), "serial", serial_status(machine), "sandbox",
			 config_sandbox_name(config->sandbox), "devices", device_status(machine));
}
