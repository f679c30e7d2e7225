// SPDX-License-Identifier: GPL-2.0-or-later
/* The host's means for a VM that comes from elsewhere: what may be said, and what it changes. */
#include "vmm/config_map.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

void config_map_init(struct config_map *map)
{
	*map = (struct config_map){.sandbox = SANDBOX_ON, .dirty = {.mode = DIRTY_AUTO}};
}

void config_map_fini(struct config_map *map)
{
	for (unsigned int i = 0; i < map->n; i++)
		free(map->entry[i]);
	free(map->name);
	free(map->control_path);
	config_map_init(map);
}

/* "disk12" -> 12; false: not this kind, or no such number. */
static bool index_of(const char *key, const char *kind, unsigned int max, unsigned int *index)
{
	size_t len = strlen(kind);
	int end = 0;

	if (strncmp(key, kind, len) != 0 || key[len] < '0' || key[len] > '9' ||
	    (key[len] == '0' && key[len + 1]) || strlen(key + len) > 2)
		return false;
	// NOLINTNEXTLINE(cert-err34-c): at most two digits
	return sscanf(key + len, "%u%n", index, &end) == 1 && !key[len + end] && *index < max;
}

static int replace(char **to, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return fail(-ENOMEM, "map: no memory");
	free(*to);
	*to = copy;
	return 0;
}

static int map_disk(struct config *config, unsigned int index, const char *value)
{
	if (index >= config->ndisks)
		return fail(-EINVAL, "map: disk%u: the VM has %u disks, from disk0", index,
			    config->ndisks);
	return replace(&config->disk[index].path, value);
}

static int map_net(struct config *config, unsigned int index, const char *value)
{
	struct config_net *net = &config->net[index];

	if (index >= config->nnets)
		return fail(-EINVAL, "map: net%u: the VM has %u networks, from net0", index,
			    config->nnets);
	if (!strcmp(value, "passt")) {
		net->kind = NET_PASST;
		free(net->tap);
		net->tap = NULL;
		return 0;
	}
	net->kind = NET_TAP;
	return replace(&net->tap, value);
}

/* A port that comes or goes would be seen. */
static int map_serial(struct config *config, const char *value)
{
	bool had = config->serial != SERIAL_OFF;
	int error = config_set(config, "serial", value);

	if (!error && had != (config->serial != SERIAL_OFF))
		return fail(-EINVAL, "map: serial=%.80s: the VM %s a serial port", value,
			    had ? "has" : "has not got");
	return error;
}

static int try_serial(const char *value)
{
	struct config config;
	int error;

	config_init(&config);
	error = config_set(&config, "serial", value);
	config_fini(&config);
	return error;
}

/* config NULL: only whether it can be an entry. */
static int apply_entry(const char *entry, struct config *config)
{
	const char *equals = strchr(entry, '=');
	const char *value = equals ? equals + 1 : "";
	size_t len = equals ? (size_t)(equals - entry) : 0;
	unsigned int index;
	char key[16] = "";

	if (len > 0 && len < sizeof(key))
		memcpy(key, entry, len);
	if (!*key || !*value)
		return fail(-EINVAL, "map: %.80s: it is to be NAME=WHAT, as disk0=PATH", entry);
	if (index_of(key, "disk", CONFIG_DISKS_MAX, &index))
		return config ? map_disk(config, index, value) : 0;
	if (index_of(key, "net", CONFIG_NETS_MAX, &index)) {
		if (strlen(value) > 15 || strchr(value, '/'))
			return fail(-EINVAL, "map: %.80s: neither passt nor the name of a tap",
				    entry);
		return config ? map_net(config, index, value) : 0;
	}
	if (!strcmp(key, "serial"))
		return config ? map_serial(config, value) : try_serial(value);
	if (!strcmp(key, "kernel"))
		return config ? replace(&config->kernel, value) : 0;
	if (!strcmp(key, "initrd")) {
		if (config && !config->initrd)
			return fail(-EINVAL, "map: initrd: the VM has none");
		return config ? replace(&config->initrd, value) : 0;
	}
	return fail(-EINVAL, "map: %.80s: \"%.20s\" is none of diskN, netN, serial, kernel, initrd",
		    entry, key);
}

int config_map_add(struct config_map *map, const char *entry)
{
	const char *equals = strchr(entry, '=');
	int error = apply_entry(entry, NULL);

	if (error)
		return error;
	for (unsigned int i = 0; i < map->n; i++)
		if (!strncmp(map->entry[i], entry, (size_t)(equals + 1 - entry)))
			return fail(-EINVAL, "map: %.80s: mapped before, to %.80s", entry,
				    map->entry[i]);
	/* As many as there are names, each once. */
	map->entry[map->n] = strdup(entry);
	if (!map->entry[map->n])
		return fail(-ENOMEM, "map: no memory");
	map->n++;
	return 0;
}

static bool is_mapped(const struct config_map *map, const char *key)
{
	size_t len = strlen(key);

	for (unsigned int i = 0; i < map->n; i++)
		if (!strncmp(map->entry[i], key, len) && map->entry[i][len] == '=')
			return true;
	return false;
}

static int need(const struct config_map *map, const char *key, unsigned int index)
{
	char name[24];

	if (index == UINT_MAX)
		snprintf(name, sizeof(name), "%s", key);
	else
		snprintf(name, sizeof(name), "%s%u", key, index);
	if (is_mapped(map, name))
		return 0;
	return fail(-EINVAL,
		    "map: %s is not mapped here, and nothing is opened at the source's word", name);
}

/* Everything that names something of a host. */
static int check_only(const struct config_map *map, const struct config *config)
{
	int error = need(map, "kernel", UINT_MAX);

	if (!error && config->initrd)
		error = need(map, "initrd", UINT_MAX);
	for (unsigned int i = 0; i < config->ndisks && !error; i++)
		error = need(map, "disk", i);
	for (unsigned int i = 0; i < config->nnets && !error; i++)
		if (config->net[i].kind == NET_TAP)
			error = need(map, "net", i);
	return error;
}

int config_map_apply(const struct config_map *map, struct config *config)
{
	enum config_serial serial = config->serial;
	int error = map->only ? check_only(map, config) : 0;

	for (unsigned int i = 0; i < map->n && !error; i++)
		error = apply_entry(map->entry[i], config);
	/* It would be written, whatever it is. */
	if (!error && serial == SERIAL_FILE && !is_mapped(map, "serial"))
		error = fail(-EINVAL,
			     "map: the source writes the serial port to %.200s: say where here "
			     "(--map serial=...)",
			     config->serial_path);
	if (!error && map->name)
		error = replace(&config->name, map->name);
	if (!error && map->control_path)
		error = replace(&config->control_path, map->control_path);
	config->sandbox = map->sandbox;
	config->dirty = map->dirty;
	return error ? error : config_check(config);
}
