/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the arm64 parts of the guest say to one another. */
#ifndef GUEST_ARM64_BOOT_H
#define GUEST_ARM64_BOOT_H

#include "guest.h"

/* Called by arm64_entry.S. */
_Noreturn void arm64_boot_main(const void *fdt);
_Noreturn void arm64_ap_main(uint64_t number);
_Noreturn void arm64_exception(uint64_t esr, uint64_t elr, uint64_t far);

struct arm64 {
	uint64_t mpidr[GUEST_VCPUS]; /* of machine.nvcpus vCPUs */
	bool psci_by_smc;
	uint64_t gicd, gicr, its; /* distributor, first redistributor, ITS; 0: none */
};

extern struct arm64 arm64;

#endif
