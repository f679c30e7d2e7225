// SPDX-License-Identifier: GPL-2.0-or-later
/* Where RAM and device windows lie on arm64, machine version 1; the map stands in arm64.h. */
#include "vmm/arm64.h"

#include <errno.h>
#include <linux/kvm.h>

#include "base/log.h"

static int ipa_bits(const struct kvm_host *host)
{
	int most = kvm_host_extension(host, KVM_CAP_ARM_VM_IPA_SIZE);

	return most && most < ARM64_IPA_BITS ? most : ARM64_IPA_BITS;
}

unsigned long arch_vm_type(const struct kvm_host *host)
{
	/* Hosts without the capability know only the default of 40 bits. */
	if (!kvm_host_extension(host, KVM_CAP_ARM_VM_IPA_SIZE))
		return 0;
	return KVM_VM_TYPE_ARM_IPA_SIZE(ipa_bits(host));
}

int arch_get_layout(const struct config *config, const struct kvm_host *host,
		    struct arch_layout *out)
{
	const uint64_t limit = 1ULL << ipa_bits(host);
	uint64_t memory_bytes = config->memory_bytes, end = ARM64_RAM + memory_bytes;

	if (memory_bytes < 32ULL << 20)
		return fail(-EINVAL, "memory: %llu bytes: a guest needs at least 32 MiB",
			    (unsigned long long)memory_bytes);
	*out = (struct arch_layout){
		.ram = {.nranges = 1,
			.range = {{.gpa = ARM64_RAM, .size_bytes = memory_bytes}},
			.backing = config->backing,
			.prealloc = config->prealloc},
		.ecam = ARM64_ECAM,
		.ecam_bytes = ARM64_ECAM_BYTES,
		.mmio32 = ARM64_MMIO32,
		.mmio32_bytes = ARM64_MMIO32_BYTES,
		.mmio64 = (end + ARM64_MMIO64_BYTES - 1) / ARM64_MMIO64_BYTES * ARM64_MMIO64_BYTES,
		.mmio64_bytes = ARM64_MMIO64_BYTES,
		.io_pio = false,
		.serial = ARM64_SERIAL,
		.serial_gsi = ARM64_GSI_SERIAL,
		.nlines = ARM64_NLINES,
		.vmgenid = ARM64_VMGENID,
		.has_its = true,
	};
	if (memory_bytes > limit || out->mmio64 + out->mmio64_bytes > limit)
		return fail(-EINVAL,
			    "memory: %llu MiB do not fit with the device windows below this host's "
			    "limit of %d "
			    "address bits",
			    (unsigned long long)memory_bytes >> 20, ipa_bits(host));
	return 0;
}
