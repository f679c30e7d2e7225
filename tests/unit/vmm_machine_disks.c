// SPDX-License-Identifier: GPL-2.0-or-later
/* The state table of disks' identities; state_table.h has the tests. What is compared: tests/live/test_snapshot.py. */
#include "vmm/machine_internal.h"

#include "state_table.h"

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	if (!g_test_verbose())
		log_level = LOG_NONE;
	add(machine_disk_table);
	return g_test_run();
}
