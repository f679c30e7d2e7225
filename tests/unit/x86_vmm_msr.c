// SPDX-License-Identifier: GPL-2.0-or-later
/* Which MSRs are saved, and as how much. */
#include <glib.h>
#include <stdlib.h>

#include "vmm/x86_msr.h"

static struct kvm_cpuid2 *vendor(const char *name)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + sizeof(cpuid->entries[0]));

	cpuid->nent = 1;
	memcpy(&cpuid->entries[0].ebx, name, 4);
	memcpy(&cpuid->entries[0].edx, name + 4, 4);
	memcpy(&cpuid->entries[0].ecx, name + 8, 4);
	return cpuid;
}

static void test_sysenter_is_as_wide_as_the_vendor_has_it(void)
{
	AUTO_FREE struct kvm_cpuid2 *amd = vendor("AuthenticAMD");
	AUTO_FREE struct kvm_cpuid2 *intel = vendor("GenuineIntel");
	const uint64_t stack = 0xfffffe4d0d2c4000;

	g_assert_cmphex(x86_msr_held(amd, X86_MSR_SYSENTER_ESP, stack), ==, 0x0d2c4000);
	g_assert_cmphex(x86_msr_held(amd, X86_MSR_SYSENTER_EIP, stack), ==, 0x0d2c4000);
	g_assert_cmphex(x86_msr_held(intel, X86_MSR_SYSENTER_ESP, stack), ==, stack);
	g_assert_cmphex(x86_msr_held(intel, X86_MSR_SYSENTER_EIP, stack), ==, stack);
	g_assert_cmphex(x86_msr_held(amd, 0xc0000082, stack), ==, stack);
}

static void test_what_does_not_migrate_is_not_saved(void)
{
	static const uint32_t refused[] = {0x186, 0xc1,	      0x480,	  0x3a,	      0x40000000,
					   0x9e,  0x4b564d02, 0x4b564d06, 0xc0010114, 0xc0000080};
	static const uint32_t kept[] = {0x174, 0x277, 0x4b564d01, 0xc0000081, 0x48, 0x3b};

	for (size_t i = 0; i < G_N_ELEMENTS(refused); i++)
		g_assert_false(x86_msr_is_saved(refused[i]));
	for (size_t i = 0; i < G_N_ELEMENTS(kept); i++)
		g_assert_true(x86_msr_is_saved(kept[i]));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/msr/sysenter", test_sysenter_is_as_wide_as_the_vendor_has_it);
	g_test_add_func("/msr/saved", test_what_does_not_migrate_is_not_saved);
	return g_test_run();
}
