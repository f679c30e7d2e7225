// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a VM really is on this host, as x-tern-status and `tern status` tell it: the choices that were made and why,
 * not the defaults that were asked for. docs/control.md lists the members.
 */
#include <stdio.h>
#include <unistd.h>

#include "cli/qmp_table.h"
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

static json_t *disk_status(const struct config *config)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < config->ndisks; i++) {
		const struct config_disk *disk = &config->disk[i];

		json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s, s:i}", "path",
						      disk->path, "readonly", disk->readonly,
						      "direct", !disk->cached, "serial",
						      disk->serial, "queues", (int)disk->nqueues));
	}
	return list;
}

static json_t *net_status(const struct config *config)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < config->nnets; i++) {
		const struct config_net *net = &config->net[i];
		bool tap = net->kind == NET_TAP;
		json_t *row;
		char mac[18];

		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", net->mac[0],
			 net->mac[1], net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
		row = json_pack("{s:s, s:s, s:i, s:b}", "backend", tap ? "tap" : "passt", "mac",
				mac, "queue-pairs", (int)net->npairs, "vhost", tap && net->vhost);
		if (tap)
			json_object_set_new(row, "tap", json_string(net->tap));
		else
			json_object_set_new(
				row, "note",
				json_string("its connections end when the VM migrates"));
		json_array_append_new(list, row);
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

json_t *qmp_status(struct machine *machine)
{
	const struct config *config = machine_config(machine);

	return json_pack("{s:s, s:s, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:o}", "name",
			 config->name, "status", machine_status_name(machine_get_status(machine)),
			 "pid", (int)getpid(), "cpus", (int)machine_nvcpus(machine), "cpu",
			 config->cpu, "memory", memory_status(machine), "dirty-tracking",
			 dirty_status(machine), "disks", disk_status(config), "nets",
			 net_status(config), "serial", serial_status(machine), "sandbox",
			 config_sandbox_name(config->sandbox), "devices", device_status(machine));
}
