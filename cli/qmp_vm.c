// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The QMP commands about the VM and its lifecycle, each as QEMU means it; where one differs, docs/control.md says how.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/qmp_table.h"
#include "vmm/machine.h"

static int run_query_status(struct qmp_call *call)
{
	enum machine_status status = call->machine ? machine_get_status(call->machine)
						   : MACHINE_INMIGRATE;

	call->result = json_pack("{s:s, s:b}", "status", machine_status_name(status), "running",
				 status == MACHINE_RUNNING);
	return 0;
}

static int run_query_name(struct qmp_call *call)
{
	if (call->machine)
		call->result = json_pack("{s:s}", "name", machine_config(call->machine)->name);
	else if (call->owner->name)
		call->result = json_pack("{s:s}", "name", call->owner->name);
	return 0;
}

static int run_query_uuid(struct qmp_call *call)
{
	const uint8_t *u = machine_config(call->machine)->uuid;
	char text[37];

	snprintf(text, sizeof(text),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
	call->result = json_pack("{s:s}", "UUID", text);
	return 0;
}

static int run_query_kvm(struct qmp_call *call)
{
	call->result = json_pack("{s:b, s:b}", "enabled", 1, "present", 1);
	return 0;
}

#ifdef TERN_ARCH_arm64
#define QMP_TARGET "aarch64"
#else
#define QMP_TARGET "x86_64"
#endif

static int run_query_cpus_fast(struct qmp_call *call)
{
	unsigned int n = machine_nvcpus(call->machine);

	call->result = json_array();
	for (unsigned int i = 0; i < n; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
		json_array_append_new(
			call->result,
			json_pack("{s:i, s:i, s:s, s:s, s:{s:i}}", "cpu-index", (int)i, "thread-id",
				  (int)machine_vcpu_tid(call->machine, i), "qom-path", path,
				  "target", QMP_TARGET, "props", "core-id", (int)i));
	}
	return 0;
}

static json_t *block_row(const struct config_disk *disk, unsigned int index)
{
	char device[16], path[32];
	json_t *inserted;

	snprintf(device, sizeof(device), "disk%u", index);
	snprintf(path, sizeof(path), "/machine/disk%u", index);
	inserted = json_pack("{s:s, s:b, s:s, s:b, s:{s:b, s:b, s:b}, s:{s:s, s:s}}", "file",
			     disk->path, "ro", disk->readonly, "drv", "raw", "encrypted", 0,
			     "cache", "writeback", 1, "direct", !disk->cached, "no-flush", 0,
			     "image", "filename", disk->path, "format", "raw");
	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:o}", "device", device, "qdev", path, "type",
			 "hd", "removable", 0, "locked", 0, "inserted", inserted);
}

static int run_query_block(struct qmp_call *call)
{
	const struct config *config = machine_config(call->machine);

	call->result = json_array();
	for (unsigned int i = 0; i < config->ndisks; i++)
		json_array_append_new(call->result, block_row(&config->disk[i], i));
	return 0;
}

static int run_stop(struct qmp_call *call)
{
	int error = qmp_check_not_moving(call);

	return error ? error : machine_pause(call->machine);
}

static int run_cont(struct qmp_call *call)
{
	int error = qmp_check_not_moving(call);

	return error ? error : machine_resume(call->machine);
}

static int run_powerdown(struct qmp_call *call)
{
	int error = qmp_check_not_moving(call);

	return error ? error : machine_powerdown(call->machine);
}

static int run_reset(struct qmp_call *call)
{
	int error = qmp_check_not_moving(call);

	return error ? error : machine_reset(call->machine);
}

static int run_quit(struct qmp_call *call)
{
	call->owner->quit(call->owner->opaque, "host-qmp-quit");
	return 0;
}

static int run_tern_status(struct qmp_call *call)
{
	json_t *migration = qmp_migration_status(call->owner->migration);

	call->result = call->machine ? qmp_status(call->machine) : qmp_status_waiting(call->owner);
	if (migration)
		json_object_set_new(call->result, "migration", migration);
	return 0;
}

const struct qmp_command qmp_vm_commands[] = {
	{"query-status", run_query_status, .waiting = true},
	{"query-name", run_query_name, .waiting = true},
	{"query-uuid", run_query_uuid},
	{"query-kvm", run_query_kvm, .waiting = true},
	{"query-cpus-fast", run_query_cpus_fast},
	{"query-block", run_query_block},
	{"stop", run_stop},
	{"cont", run_cont},
	{"system_powerdown", run_powerdown},
	{"system_reset", run_reset},
	{"quit", run_quit, .waiting = true},
	{"x-tern-status", run_tern_status, .waiting = true},
	{},
};
