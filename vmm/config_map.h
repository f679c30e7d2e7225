/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's means for a VM that comes from elsewhere: what a user says here about its disks, networks and serial port, laid
 * over the configuration that was received. Nothing that the guest can observe can be changed so. What is not mapped keeps
 * the path that the source used, as a hint, unless the map says that it is to be all there is.
 */
#ifndef VMM_CONFIG_MAP_H
#define VMM_CONFIG_MAP_H

#include "vmm/config.h"

#define CONFIG_MAP_MAX (CONFIG_DISKS_MAX + CONFIG_NETS_MAX + 3)

struct config_map {
	unsigned int n;
	char *entry[CONFIG_MAP_MAX]; /* "disk0=PATH", as given */
	char *name;		     /* NULL: the source's */
	char *control_path;	     /* NULL: the default */
	bool only; /* what is not mapped is refused: no file is opened at a source's word */
	enum config_sandbox sandbox;
	struct dirty_request dirty;
};

/* No entries, and the defaults of config_init(). */
void config_map_init(struct config_map *map);
void config_map_fini(struct config_map *map);
/*
 * "disk0=PATH", "net0=TAP", "net0=passt", "serial=stdio|pty|file=PATH|off", "kernel=PATH", "initrd=PATH". -EINVAL,
 * logged: not one of these, or given before.
 */
int config_map_add(struct config_map *map, const char *entry) must_check;
/*
 * Lays the map over a received configuration (config_from_json()). -EINVAL, logged: an entry for what the VM does not
 * have, or one that would change what its guest sees; config is then partly mapped and good only for config_fini().
 */
int config_map_apply(const struct config_map *map, struct config *config) must_check;

#endif
