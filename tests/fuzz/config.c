// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes the configuration: the input as a file, and, line by line, as options "key value". What is accepted must be
 * consistent: a copy is equal and frees cleanly, and bounds hold.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check(const struct config *config)
{
	struct config copy;

	if (config->cpus < 1 || config->cpus > CONFIG_CPUS_MAX ||
	    config->ndisks > CONFIG_DISKS_MAX || config->nnets > CONFIG_NETS_MAX ||
	    (config->name && !config_name_ok(config->name)))
		abort();
	if (config_check(config) || config_copy(&copy, config))
		return;
	for (unsigned int i = 0; i < copy.ndisks; i++)
		if (!copy.disk[i].path || copy.disk[i].path == config->disk[i].path ||
		    strlen(copy.disk[i].serial) > 20)
			abort();
	for (unsigned int i = 0; i < copy.nnets; i++)
		if ((copy.net[i].kind == NET_TAP) != (copy.net[i].tap != NULL))
			abort();
	config_fini(&copy);
}

static void as_file(const uint8_t *bytes, size_t n)
{
	int fd = memfd_create("config", 0);
	struct config config;
	char path[40];

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	config_init(&config);
	if (config_load_file(&config, path) == 0)
		check(&config);
	config_fini(&config);
	close(fd);
}

static void as_options(const uint8_t *bytes, size_t n)
{
	char *text = strndup((const char *)bytes, n), *next = text, *line;
	struct config config;

	config_init(&config);
	while ((line = strsep(&next, "\n"))) {
		char *value = strchr(line, ' ');

		if (value)
			*value++ = '\0';
		if (config_set(&config, line, value))
			break; /* tern ends there */
		check(&config);
	}
	config_fini(&config);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	log_level = LOG_NONE;
	as_file(bytes, n);
	as_options(bytes, n);
	return 0;
}
