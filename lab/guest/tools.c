// SPDX-License-Identifier: GPL-2.0-or-later
/* Which of the guest's programs was called, by the name it was called by. */
#include "tools.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} tools[] = {
	{"memstress", memstress_main}, {"cpudump", cpudump_main},   {"disk-check", diskcheck_main},
	{"disk-zero", diskzero_main},  {"powerkey", powerkey_main}, {"vectors", vectors_main},
};

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];

	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (strcmp(name, tools[i].name) == 0)
			return tools[i].main(argc, argv);
	fprintf(stderr, "%s: no such tool\n", name);
	return 127;
}
