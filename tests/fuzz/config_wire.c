// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the configuration that a peer sends. What is accepted is in bounds, can be mapped, and is written again as it was
 * read: two writings in a row are the same bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/config_map.h"
#include "vmm/config_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check_bounds(const struct config *config)
{
	if (config->cpus < 1 || config->cpus > CONFIG_CPUS_MAX || !config->memory_bytes ||
	    config->ndisks > CONFIG_DISKS_MAX || config->nnets > CONFIG_NETS_MAX || !config->name ||
	    !config_name_ok(config->name) || !config->kernel || !config->cmdline || !config->cpu ||
	    config->control_path)
		abort();
	for (unsigned int i = 0; i < config->ndisks; i++)
		if (!config->disk[i].path || !config->disk[i].nqueues ||
		    !config->disk[i].block_bytes || !config->disk[i].size_bytes ||
		    !memchr(config->disk[i].serial, 0, sizeof(config->disk[i].serial)))
			abort();
	for (unsigned int i = 0; i < config->nnets; i++)
		if ((config->net[i].kind == NET_TAP) != (config->net[i].tap != NULL) ||
		    !config->net[i].npairs || config->net[i].offloads == OFFLOADS_OF_KIND)
			abort();
}

static void check_map(struct config *config)
{
	static const char *const entries[] = {"disk0=/mapped", "net0=tap9", "serial=pty"};
	struct config_map map;

	config_map_init(&map);
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		if (config_map_add(&map, entries[i]))
			abort();
	if (config_map_apply(&map, config) == 0)
		check_bounds(config);
	config_map_fini(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct config config, again;
	struct buf once, twice;

	log_level = LOG_NONE;
	if (config_from_json(&config, bytes, n)) {
		config_fini(&config);
		return 0;
	}
	check_bounds(&config);
	buf_init(&once, 2 * CONFIG_WIRE_BYTES);
	buf_init(&twice, 2 * CONFIG_WIRE_BYTES);
	if (config_to_json(&config, &once))
		abort();
	/* Escapes may have made it longer than a peer may send. */
	if (once.len <= CONFIG_WIRE_BYTES) {
		if (config_from_json(&again, once.bytes, once.len) ||
		    config_to_json(&again, &twice) || once.len != twice.len ||
		    memcmp(once.bytes, twice.bytes, once.len) != 0)
			abort();
		config_fini(&again);
	}
	check_map(&config);
	config_fini(&config);
	buf_fini(&once);
	buf_fini(&twice);
	return 0;
}
