/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID feature bits by name: which level has them, which cannot migrate. One row a bit; the rows are in
 * x86_cpuid_features.c. Only x86_cpuid*.c and tests include this.
 */
#ifndef VMM_X86_CPUID_FEATURES_H
#define VMM_X86_CPUID_FEATURES_H

#include <stddef.h>
#include <stdint.h>

enum x86_reg { X86_EAX, X86_EBX, X86_ECX, X86_EDX };

/* From which level on the guest has the bit. */
enum x86_level {
	X86_LEVEL_NONE, /* named for messages only */
	X86_LEVEL_2,
	X86_LEVEL_3,
	X86_LEVEL_4,
	X86_LEVEL_NEVER, /* also masked for `host`: why is in the row */
};

struct x86_feature {
	uint32_t function, index;
	enum x86_reg reg;
	uint8_t bit;
	enum x86_level level;
	const char *name;
	const char *why; /* with X86_LEVEL_NEVER */
};
extern const struct x86_feature x86_features[];
extern const size_t x86_nfeatures;

/* A feature register: one whose bits a host either offers or does not. Every other register only describes. */
struct x86_feature_reg {
	uint32_t function, index;
	enum x86_reg reg;
	uint32_t ignore; /* bits that follow from the VM's shape or change at run time */
};
extern const struct x86_feature_reg x86_feature_regs[];
extern const size_t x86_nfeature_regs;

/* The name of a bit, or NULL. */
const char *x86_feature_name(uint32_t function, uint32_t index, enum x86_reg reg, uint8_t bit);

#endif
