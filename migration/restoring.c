// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a saved VM's file to a machine that can start. The file's bytes are snapshot_reader.c's; this is the order in which
 * they are used: what is small and can refuse first, then the memory, then the state.
 *
 * Pages have fixed places and a hash each, so threads read them side by side: each takes the next stretch of pages until
 * there are no more, or one has failed.
 */
#include "migration/restoring.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "migration/control.h"
#include "migration/snapshot_file.h"
#include "vmm/config_wire.h"

#define READERS_MAX   4
#define STRETCH_PAGES 4096

struct restoring {
	int fd;
	char *path;
	struct snapshot *snapshot;
};

static int read_config(struct restoring *restoring, struct config *config)
{
	const struct snapshot_header *header;
	const void *json;
	size_t len;
	int error = snapshot_open(&restoring->snapshot, restoring->fd, restoring->path);

	if (error)
		return error;
	header = snapshot_get_header(restoring->snapshot);
	if (header->arch != snapshot_own_arch())
		return fail(-ENOTSUP, "restore: %s: a VM of the other architecture",
			    restoring->path);
	json = snapshot_get_part(restoring->snapshot, SNAPSHOT_CONFIG, &len);
	return config_from_json(config, json, len);
}

int restoring_open(struct restoring **out, const char *path, struct config *config)
{
	struct restoring *restoring = calloc(1, sizeof(*restoring));
	int error = -ENOMEM;

	if (!restoring)
		return fail(-ENOMEM, "restore: no memory");
	restoring->path = strdup(path);
	/* O_NONBLOCK: a named pipe is refused, not waited for. */
	restoring->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (restoring->fd < 0)
		error = fail(-errno, "restore: %s: %s", path, strerror(errno));
	else if (restoring->path)
		error = read_config(restoring, config);
	if (error) {
		restoring_free(restoring);
		return error;
	}
	*out = restoring;
	return 0;
}

void restoring_free(struct restoring *restoring)
{
	if (!restoring)
		return;
	snapshot_free(restoring->snapshot);
	close_fd(&restoring->fd);
	free(restoring->path);
	free(restoring);
}

/* ---- Memory ---- */

struct reading {
	const struct snapshot *snapshot;
	struct ram *ram;
	_Atomic uint64_t next;
	_Atomic int error;
};

static void *read_stretches(void *opaque)
{
	struct reading *reading = opaque;
	page_t first;

	while (!atomic_load(&reading->error) &&
	       (first = atomic_fetch_add(&reading->next, STRETCH_PAGES)) < reading->ram->npages) {
		const uint64_t left = reading->ram->npages - first;
		int error = snapshot_read_pages(reading->snapshot, reading->ram, first,
						left < STRETCH_PAGES ? left : STRETCH_PAGES);

		if (error)
			atomic_store(&reading->error, error);
	}
	return NULL;
}

/* As many as there are CPUs; if one cannot be made, the others do its work. */
static unsigned int start_readers(struct reading *reading, pthread_t *thread)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int n = 0;

	while (n + 1 < READERS_MAX && n + 1 < cpus &&
	       !pthread_create(&thread[n], NULL, read_stretches, reading))
		n++;
	return n;
}

static int read_memory(struct restoring *restoring, struct ram *ram)
{
	struct reading reading = {.snapshot = restoring->snapshot, .ram = ram};
	pthread_t thread[READERS_MAX];
	const uint64_t begin = now_us();
	unsigned int n;
	int error = snapshot_check_ram(restoring->snapshot, ram);

	if (!error)
		error = snapshot_read_hashes(restoring->snapshot);
	if (error)
		return error;
	n = start_readers(&reading, thread);
	read_stretches(&reading);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	log_debug("restore: %zu MiB of memory in %" PRIu64 " us by %u threads",
		  ram->size_bytes >> 20, now_us() - begin, n + 1);
	return reading.error;
}

int restoring_fill(struct restoring *restoring, struct machine *machine, bool disks_as_they_are)
{
	const void *bytes;
	size_t len;
	int error;

	bytes = snapshot_get_part(restoring->snapshot, SNAPSHOT_TOLD, &len);
	error = machine_check_told(machine, bytes, len);
	if (!error)
		error = read_memory(restoring, machine_ram(machine));
	if (error)
		return error;
	bytes = snapshot_get_part(restoring->snapshot, SNAPSHOT_STATE, &len);
	error = machine_load(machine, bytes, len, CLOCK_RESTORE);
	/* Whose lock is held, nobody else changes while it is looked at. */
	if (!error)
		error = machine_acquire_disks(machine);
	if (error)
		return error;
	bytes = snapshot_get_part(restoring->snapshot, SNAPSHOT_DISKS, &len);
	return machine_check_disks(machine, bytes, len, disks_as_they_are);
}
