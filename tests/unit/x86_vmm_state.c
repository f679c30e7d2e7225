// SPDX-License-Identifier: GPL-2.0-or-later
/* The state tables of x86 vCPUs and VMs; state_table.h has the tests. */
#include "vmm/x86_state.h"

#include "state_table.h"

static void add_all(const struct state_table *const *tables)
{
	for (; *tables; tables++)
		add(*tables);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	if (!g_test_verbose())
		log_level = LOG_NONE;
	add_all(x86_register_tables);
	add_all(x86_fpu_tables);
	add_all(x86_clock_tables);
	return g_test_run();
}
