// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzes what a peer says that the guest's CPUID is: any table, compared with any that a host may support. The answer is one
 * of three, the same each time, and nothing beyond a table's end is read.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tests/fuzz/input.h"
#include "vmm/x86_cpuid.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* Leaves that somebody looks at are likely; others are possible. */
static uint32_t take_function(struct input *input)
{
	static const uint32_t known[] = {0,	     1,		 4,	     6,
					 7,	     0xb,	 0xd,	     0x14,
					 0x1f,	     0x40000000, 0x40000001, 0x80000000,
					 0x80000001, 0x80000007, 0x80000008, 0x80000021};
	uint8_t which = input_u8(input);

	return which < 0xf0 ? known[which % ARRAY_SIZE(known)] : input_u32(input);
}

static struct kvm_cpuid2 *take_table(struct input *input)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + X86_CPUID_MAX * sizeof(cpuid->entries[0]));

	/* As many as there are, and no room behind the last: a walk beyond it is seen. */
	cpuid->nent = input_u8(input);
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		entry->function = take_function(input);
		entry->index = input_u8(input);
		entry->flags = input_u8(input) & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		entry->eax = input_u32(input);
		entry->ebx = input_u32(input);
		entry->ecx = input_u32(input);
		entry->edx = input_u32(input);
	}
	return realloc(cpuid, sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct input input = {bytes, n};
	struct kvm_cpuid2 *supported = take_table(&input), *wanted = take_table(&input);
	uint32_t offset, size_bytes;
	int error;

	log_level = LOG_NONE;
	error = x86_cpuid_check(wanted, supported);
	if (error != 0 && error != -ENOTSUP && error != -EBADMSG)
		abort();
	if (x86_cpuid_check(wanted, supported) != error)
		abort();
	(void)x86_cpuid_xcr0(wanted);
	(void)x86_cpuid_is_amd(wanted);
	for (unsigned int component = 2; component < 63; component++)
		(void)x86_cpuid_xsave_component(wanted, component, &offset, &size_bytes);
	x86_cpuid_set_apic_id(wanted, 255);
	free(wanted);
	free(supported);
	return 0;
}
