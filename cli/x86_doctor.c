// SPDX-License-Identifier: GPL-2.0-or-later
/* Doctor's checks of the named x86 CPUs: the guest's table is built as for a VM, on what this host's KVM supports. */
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "cli/doctor.h"
#include "kvm/x86_vcpu.h"
#include "vmm/x86_cpuid.h"

static void try_level(struct doctor_result *result, const char *level)
{
	AUTO_FREE struct kvm_cpuid2 *supported = NULL;
	AUTO_FREE struct kvm_cpuid2 *built = NULL;
	struct kvm_host host;

	if (kvm_host_open(&host, -1) || kvm_x86_supported_cpuid(&host, &supported)) {
		doctor_note(result, DOCTOR_UNKNOWN, "%s", fail_text());
		return;
	}
	x86_cpuid_prepare_supported(supported,
				    kvm_host_extension(&host, KVM_CAP_TSC_DEADLINE_TIMER));
	if (x86_cpuid_build(level, supported, 1, &built))
		doctor_note(result, DOCTOR_NO, "%s", fail_text());
	else
		doctor_note(result, DOCTOR_YES, "guests can have it");
	kvm_host_close(&host);
}

static void try_v2(struct doctor_result *result)
{
	try_level(result, "x86-64-v2");
}

static void try_v3(struct doctor_result *result)
{
	try_level(result, "x86-64-v3");
}

static void try_v4(struct doctor_result *result)
{
	try_level(result, "x86-64-v4");
}

/* clang-format off */
const struct doctor_check doctor_cpu_checks[] = {
	{"cpu-x86-64-v2", try_v2, "--cpu x86-64-v2 is refused; --cpu host moves between equal hosts only", NULL},
	{"cpu-x86-64-v3", try_v3, "--cpu x86-64-v3 is refused", NULL},
	{"cpu-x86-64-v4", try_v4, "--cpu x86-64-v4 is refused", NULL},
	{NULL},
};
/* clang-format on */
