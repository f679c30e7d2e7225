// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Building the CPUID table: `host` and the levels. The bits by name are in x86_cpuid_features.c.
 *
 * Theory of operation. A level's table starts empty. Feature registers get the bits that the feature table gives to the
 * level; descriptive leaves get the constants below; the topology follows from the number of vCPUs. Then the feature
 * registers are compared with what the host supports, and the first bit that it lacks is the refusal. Nothing of the
 * host's own table gets in, so the same name means the same bytes on every host.
 *
 * `host` starts with the host's table, loses the bits that never reach a guest and the leaves that describe those, and
 * gets the same treatment of topology and KVM leaves. In both, a leaf that is not listed reads as zero.
 */
#include "vmm/x86_cpuid.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "vmm/x86_cpuid_features.h"

#define HYPERVISOR_BIT	 (1U << 31)
#define HTT_BIT		 (1U << 28)
#define CMP_LEGACY_BIT	 (1U << 1)
#define XSAVE_BIT	 (1U << 26)
#define TSC_DEADLINE_BIT (1U << 24)

#define XSAVE_LEGACY_BYTES 576 /* x87, SSE and the header */
/* User states that Tern saves: x87, SSE, AVX, AVX-512 (three), protection keys. Not: MPX, tiles. */
#define XCR0_OFFERED 0x2e7ULL

#define MAX_BASIC_LEVEL	   0xd
#define MAX_EXTENDED_LEVEL 0x80000008
#define MAX_KVM		   0x40000001

static const struct {
	const char *name;
	enum x86_level level;
	char brand[48];
} levels[] = {
	{"x86-64-v2", X86_LEVEL_2, "Tern virtual CPU x86-64-v2"},
	{"x86-64-v3", X86_LEVEL_3, "Tern virtual CPU x86-64-v3"},
	{"x86-64-v4", X86_LEVEL_4, "Tern virtual CPU x86-64-v4"},
};

/* What the levels say of themselves: vendor, family and caches, the same on every host. */
static const struct kvm_cpuid_entry2 level_constants[] = {
	{.function = 0x0,
	 .eax = MAX_BASIC_LEVEL,
	 .ebx = 0x68747541,
	 .edx = 0x69746e65,
	 .ecx = 0x444d4163},
	/* Family 0x17, model 0x31, stepping 0; CLFLUSH of 64 bytes. */
	{.function = 0x1, .eax = 0x00830f10, .ebx = 0x00000800, .ecx = HYPERVISOR_BIT},
	{.function = 0x80000000,
	 .eax = MAX_EXTENDED_LEVEL,
	 .ebx = 0x68747541,
	 .edx = 0x69746e65,
	 .ecx = 0x444d4163},
	{.function = 0x80000001, .eax = 0x00830f10},
	/* TLBs; 32 KiB of each L1, 8 ways; 512 KiB of L2, 8 ways; 16 MiB of L3. */
	{.function = 0x80000005,
	 .eax = 0xff40ff40,
	 .ebx = 0xff40ff40,
	 .ecx = 0x20080140,
	 .edx = 0x20080140},
	{.function = 0x80000006,
	 .eax = 0x48002200,
	 .ebx = 0x68004200,
	 .ecx = 0x02006140,
	 .edx = 0x00809140},
	/* 39 bits of physical address, 48 of linear: what every host of the level has. */
	{.function = 0x80000008, .eax = 0x00003027},
};

/* The XSAVE layout of the levels: component, offset, size. Version 4 follows AMD's, whose vendor the levels state. */
static const struct {
	enum x86_level level;
	uint8_t component;
	uint32_t offset, size_bytes;
} level_xsave[] = {
	{X86_LEVEL_3, 2, 0x240, 0x100},
	{X86_LEVEL_4, 5, 0x340, 0x040},
	{X86_LEVEL_4, 6, 0x380, 0x200},
	{X86_LEVEL_4, 7, 0x580, 0x400},
};

/* Leaves that KVM wants to be asked with an index. */
static bool has_index(uint32_t function)
{
	return function == 0x4 || function == 0x7 || function == 0xb || function == 0xd ||
	       function == 0x1f || function == 0x8000001d;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		if (entry->function == function &&
		    (entry->index == index || !(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return entry;
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *x86_cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function,
					      uint32_t index)
{
	return find((struct kvm_cpuid2 *)cpuid, function, index);
}

/* The entry, made if need be. The tables below never need more than X86_CPUID_MAX. */
static struct kvm_cpuid_entry2 *need(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, function, index);

	if (entry)
		return entry;
	assert(cpuid->nent < X86_CPUID_MAX);
	entry = &cpuid->entries[cpuid->nent++];
	*entry = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = has_index(function) ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0};
	return entry;
}

static void drop(struct kvm_cpuid2 *cpuid, uint32_t first, uint32_t last)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < cpuid->nent; i++) {
		uint32_t function = cpuid->entries[i].function;

		if (function < first || function > last)
			cpuid->entries[kept++] = cpuid->entries[i];
	}
	cpuid->nent = kept;
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *entry, enum x86_reg reg)
{
	switch (reg) {
	case X86_EAX:
		return &entry->eax;
	case X86_EBX:
		return &entry->ebx;
	case X86_ECX:
		return &entry->ecx;
	default:
		return &entry->edx;
	}
}

bool x86_cpuid_is_amd(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *leaf = x86_cpuid_find(cpuid, 0, 0);

	return leaf && (leaf->ebx == 0x68747541 || leaf->ebx == 0x6f677948);
}

uint64_t x86_cpuid_xcr0(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *leaf = x86_cpuid_find(cpuid, 0x1, 0);

	if (!leaf || !(leaf->ecx & XSAVE_BIT))
		return 0;
	leaf = x86_cpuid_find(cpuid, 0xd, 0);
	return leaf ? (uint64_t)leaf->edx << 32 | leaf->eax : 0;
}

bool x86_cpuid_xsave_component(const struct kvm_cpuid2 *cpuid, unsigned int component,
			       uint32_t *offset, uint32_t *size_bytes)
{
	const struct kvm_cpuid_entry2 *leaf = x86_cpuid_find(cpuid, 0xd, component);

	if (component < 2 || component > 62 || !leaf || !leaf->eax ||
	    !(x86_cpuid_xcr0(cpuid) & 1ULL << component))
		return false;
	*offset = leaf->ebx;
	*size_bytes = leaf->eax;
	return true;
}

void x86_cpuid_prepare_supported(struct kvm_cpuid2 *supported, bool tsc_deadline)
{
	struct kvm_cpuid_entry2 *leaf = find(supported, 0x1, 0);

	/* KVM emulates it with its local APIC and leaves saying so to us. */
	if (leaf && tsc_deadline)
		leaf->ecx |= TSC_DEADLINE_BIT;
}

/* ---- What both kinds have in common ---- */

/* How many bits of an APIC id number the vCPUs of the one package. */
static unsigned int topology_bits(unsigned int ncpus)
{
	unsigned int bits = 0;

	while (1U << bits < ncpus)
		bits++;
	return bits;
}

/* One package, each vCPU a core of it with one thread, APIC id = index. */
static void set_topology(struct kvm_cpuid2 *cpuid, unsigned int ncpus)
{
	struct kvm_cpuid_entry2 *leaf = need(cpuid, 0x1, 0);
	unsigned int bits = topology_bits(ncpus);
	bool amd = x86_cpuid_is_amd(cpuid);

	leaf->ebx = (leaf->ebx & 0x0000ffff) | (1U << bits) << 16;
	leaf->edx = ncpus > 1 ? leaf->edx | HTT_BIT : leaf->edx & ~HTT_BIT;
	leaf = need(cpuid, 0x80000008, 0);
	leaf->ecx = amd ? bits << 12 | (ncpus - 1) : 0;
	leaf = need(cpuid, 0x80000001, 0);
	leaf->ecx &= ~CMP_LEGACY_BIT;
	if (amd && ncpus > 1)
		leaf->ecx |= CMP_LEGACY_BIT;
	drop(cpuid, 0xb, 0xb);
	drop(cpuid, 0x1f, 0x1f);
	if (amd)
		return;
	leaf = need(cpuid, 0xb, 0); /* threads of a core */
	leaf->ebx = 1;
	leaf->ecx = 0x100;
	leaf = need(cpuid, 0xb, 1); /* cores of the package */
	leaf->eax = bits;
	leaf->ebx = ncpus;
	leaf->ecx = 0x201;
	need(cpuid, 0xb, 2)->ecx = 2;
}

void x86_cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, uint32_t apic_id)
{
	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];

		if (leaf->function == 0x1)
			leaf->ebx = (leaf->ebx & 0x00ffffff) | apic_id << 24;
		else if (leaf->function == 0xb)
			leaf->edx = apic_id;
	}
}

/* KVM's leaves; eax of the second comes from the feature table. */
static void set_kvm_leaves(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *leaf = need(cpuid, 0x40000000, 0);

	leaf->eax = MAX_KVM;
	leaf->ebx = 0x4b4d564b; /* KVMKVMKVM */
	leaf->ecx = 0x564b4d56;
	leaf->edx = 0x4d;
	need(cpuid, 0x40000001, 0)->edx = 0;
}

/* Leaf 0xd, index 0: sizes. ebx is for the XCR0 of the moment, which KVM keeps up to date. */
static void set_xsave_sizes(struct kvm_cpuid2 *cpuid)
{
	uint64_t xcr0 = x86_cpuid_xcr0(cpuid);
	struct kvm_cpuid_entry2 *leaf;
	uint32_t end = XSAVE_LEGACY_BYTES, offset, size_bytes;

	for (unsigned int i = 2; i < 63; i++) {
		if (x86_cpuid_xsave_component(cpuid, i, &offset, &size_bytes) &&
		    offset + size_bytes > end)
			end = offset + size_bytes;
	}
	if (!xcr0)
		return;
	leaf = need(cpuid, 0xd, 0);
	leaf->ebx = XSAVE_LEGACY_BYTES;
	leaf->ecx = end;
}

/* ---- Levels ---- */

static void set_brand(struct kvm_cpuid2 *cpuid, const char brand[48])
{
	for (unsigned int i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *leaf = need(cpuid, 0x80000002 + i, 0);

		leaf->eax = get_le32(brand + 16 * i);
		leaf->ebx = get_le32(brand + 16 * i + 4);
		leaf->ecx = get_le32(brand + 16 * i + 8);
		leaf->edx = get_le32(brand + 16 * i + 12);
	}
}

static void build_level(struct kvm_cpuid2 *cpuid, enum x86_level level, const char brand[48],
			unsigned int ncpus)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_constants); i++)
		cpuid->entries[cpuid->nent++] = level_constants[i];
	/* Every leaf below the maxima is there, so that none is answered by what KVM makes up for a missing one. */
	for (uint32_t f = 0; f <= MAX_BASIC_LEVEL; f++)
		need(cpuid, f, 0);
	for (uint32_t f = 0x80000000; f <= MAX_EXTENDED_LEVEL; f++)
		need(cpuid, f, 0);
	set_brand(cpuid, brand);
	set_kvm_leaves(cpuid);
	for (size_t i = 0; i < x86_nfeatures; i++) {
		const struct x86_feature *f = &x86_features[i];

		if (f->level >= X86_LEVEL_2 && f->level <= level)
			*reg_of(need(cpuid, f->function, f->index), f->reg) |= 1U << f->bit;
	}
	for (size_t i = 0; i < ARRAY_SIZE(level_xsave); i++) {
		if (level_xsave[i].level <= level) {
			struct kvm_cpuid_entry2 *leaf = need(cpuid, 0xd, level_xsave[i].component);

			leaf->eax = level_xsave[i].size_bytes;
			leaf->ebx = level_xsave[i].offset;
		}
	}
	set_topology(cpuid, ncpus);
	set_xsave_sizes(cpuid);
}

/* ---- Host ---- */

static void mask_never(struct kvm_cpuid2 *cpuid)
{
	for (size_t i = 0; i < x86_nfeatures; i++) {
		const struct x86_feature *f = &x86_features[i];
		struct kvm_cpuid_entry2 *leaf = find(cpuid, f->function, f->index);

		if (leaf && f->level == X86_LEVEL_NEVER)
			*reg_of(leaf, f->reg) &= ~(1U << f->bit);
	}
}

/* KVM's features that are in no row are not known here, so not offered. */
static void limit_kvm_features(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *leaf = need(cpuid, 0x40000001, 0);
	uint32_t known = 0;

	for (size_t i = 0; i < x86_nfeatures; i++) {
		if (x86_features[i].function == 0x40000001 && x86_features[i].level == X86_LEVEL_2)
			known |= 1U << x86_features[i].bit;
	}
	leaf->eax &= known;
	leaf->ebx = leaf->ecx = leaf->edx = 0;
}

/* Instructions on registers that XCR0 cannot switch on: a host may still list them (emulators do). */
static const struct {
	uint64_t xcr0; /* all of these states */
	uint32_t function, index;
	enum x86_reg reg;
	uint32_t bits;
} state_users[] = {
	/* AVX and what computes in its registers */
	{0x06, 0x1, 0, X86_ECX, 1U << 12 | 1U << 28 | 1U << 29},
	{0x06, 0x7, 0, X86_EBX, 1U << 5},
	{0x06, 0x7, 0, X86_ECX, 1U << 9 | 1U << 10},
	{0x06, 0x7, 1, X86_EAX, 1U << 0 | 1U << 1 | 1U << 2 | 1U << 4 | 1U << 23},
	{0x06, 0x7, 1, X86_EDX, 1U << 4 | 1U << 5 | 1U << 10},
	{0x06, 0x80000001, 0, X86_ECX, 1U << 11 | 1U << 16},
	/* AVX-512 */
	{0xe6, 0x7, 0, X86_EBX,
	 1U << 16 | 1U << 17 | 1U << 21 | 1U << 26 | 1U << 27 | 1U << 28 | 1U << 30 | 1U << 31},
	{0xe6, 0x7, 0, X86_ECX, 1U << 1 | 1U << 6 | 1U << 11 | 1U << 12 | 1U << 14},
	{0xe6, 0x7, 0, X86_EDX, 1U << 2 | 1U << 3 | 1U << 8 | 1U << 23},
	{0xe6, 0x7, 1, X86_EAX, 1U << 5},
	/* protection keys */
	{0x200, 0x7, 0, X86_ECX, 1U << 3},
};

static void drop_state_users(struct kvm_cpuid2 *cpuid)
{
	uint64_t xcr0 = x86_cpuid_xcr0(cpuid);

	for (size_t i = 0; i < ARRAY_SIZE(state_users); i++) {
		struct kvm_cpuid_entry2 *leaf =
			find(cpuid, state_users[i].function, state_users[i].index);

		if (leaf && (xcr0 & state_users[i].xcr0) != state_users[i].xcr0)
			*reg_of(leaf, state_users[i].reg) &= ~state_users[i].bits;
	}
}

static void limit_xsave(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *leaf = find(cpuid, 0xd, 0);
	uint64_t xcr0 = x86_cpuid_xcr0(cpuid) & XCR0_OFFERED;

	if (!xcr0) {
		drop(cpuid, 0xd, 0xd);
		return;
	}
	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

		/* Components that are not offered, the supervisor's among them. */
		if (entry->function == 0xd && entry->index >= 2 && !(xcr0 & 1ULL << entry->index))
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
	}
	leaf->eax = (uint32_t)xcr0;
	leaf->edx = xcr0 >> 32;
	leaf = find(cpuid, 0xd, 1);
	if (leaf)
		leaf->ebx = leaf->ecx = leaf->edx = 0; /* no supervisor states */
	set_xsave_sizes(cpuid);
}

/* Who shares a cache: nobody the first two levels, all vCPUs the others. Fields as in leaf 4 (Intel). */
static void share_caches(struct kvm_cpuid2 *cpuid, unsigned int ncpus)
{
	uint32_t all = (1U << topology_bits(ncpus)) - 1;

	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];

		if (leaf->function != 0x4 || !(leaf->eax & 0x1f))
			continue;
		leaf->eax = (leaf->eax & 0x3fff) | (all > 0x3f ? 0x3f : all) << 26;
		if ((leaf->eax >> 5 & 7) > 2)
			leaf->eax |= all << 14;
	}
}

/* Leaves of things that are masked, or that say what the host is. */
static void drop_host_leaves(struct kvm_cpuid2 *cpuid)
{
	static const uint32_t gone[] = {
		0x2,	    0x3,	/* legacy cache descriptors, serial number */
		0x5,	    0xa,	/* monitor, performance counters */
		0x12,	    0x14,	/* enclaves, traces */
		0x16,	    0x1c,	/* frequencies, branch records */
		0x1d,	    0x1e,	/* tiles */
		0x23,			/* performance counters */
		0x8000000a, 0x8000001b, /* nested virtualization, samples */
		0x8000001d, 0x8000001e, /* topology */
		0x8000001f, 0x80000022, /* encrypted guests, performance counters */
		0x80000026,
	};

	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		drop(cpuid, gone[i], gone[i]);
	/* Other hypervisors' interfaces. */
	drop(cpuid, 0x40000002, 0x4fffffff);
}

static void build_host(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid2 *supported,
		       unsigned int ncpus)
{
	struct kvm_cpuid_entry2 *leaf;

	memcpy(cpuid->entries, supported->entries, supported->nent * sizeof(cpuid->entries[0]));
	cpuid->nent = supported->nent;
	drop_host_leaves(cpuid);
	mask_never(cpuid);
	need(cpuid, 0x1, 0)->ecx |= HYPERVISOR_BIT;
	leaf = find(cpuid, 0x6, 0);
	if (leaf) {
		leaf->eax &=
			1U << 2; /* the timer's; temperatures and power limits are the host's */
		leaf->ebx = leaf->ecx = leaf->edx = 0;
	}
	set_kvm_leaves(cpuid);
	limit_kvm_features(cpuid);
	limit_xsave(cpuid);
	drop_state_users(cpuid);
	share_caches(cpuid, ncpus);
	set_topology(cpuid, ncpus);
}

/* ---- Checking ---- */

static int refuse_bit(const struct x86_feature_reg *reg, uint32_t missing)
{
	static const char *const reg_names[] = {"EAX", "EBX", "ECX", "EDX"};
	uint8_t bit = __builtin_ctz(missing);
	const char *name = x86_feature_name(reg->function, reg->index, reg->reg, bit);

	return fail(-ENOTSUP, "cpu: this host does not offer %s (CPUID %#x.%u %s bit %u)",
		    name ? name : "a feature", reg->function, reg->index, reg_names[reg->reg], bit);
}

static int check_xsave(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported)
{
	for (unsigned int i = 2; i < 63; i++) {
		uint32_t offset, size_bytes, host_offset = 0, host_size_bytes = 0;

		if (!x86_cpuid_xsave_component(wanted, i, &offset, &size_bytes))
			continue;
		if (!x86_cpuid_xsave_component(supported, i, &host_offset, &host_size_bytes) ||
		    host_offset != offset || host_size_bytes != size_bytes)
			return fail(-ENOTSUP,
				    "cpu: this host keeps XSAVE component %u at %#x (%u bytes), "
				    "not at %#x (%u "
				    "bytes)",
				    i, host_offset, host_size_bytes, offset, size_bytes);
	}
	return 0;
}

static int check_phys_bits(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported)
{
	const struct kvm_cpuid_entry2 *want = x86_cpuid_find(wanted, 0x80000008, 0);
	const struct kvm_cpuid_entry2 *have = x86_cpuid_find(supported, 0x80000008, 0);

	if (want && have && (want->eax & 0xff) > (have->eax & 0xff))
		return fail(-ENOTSUP, "cpu: this host has %u bits of physical address, not %u",
			    have->eax & 0xff, want->eax & 0xff);
	return 0;
}

int x86_cpuid_check(const struct kvm_cpuid2 *wanted, const struct kvm_cpuid2 *supported)
{
	int error;

	for (size_t i = 0; i < x86_nfeature_regs; i++) {
		const struct x86_feature_reg *reg = &x86_feature_regs[i];
		const struct kvm_cpuid_entry2 *want =
			x86_cpuid_find(wanted, reg->function, reg->index);
		const struct kvm_cpuid_entry2 *have =
			x86_cpuid_find(supported, reg->function, reg->index);
		uint32_t missing = 0;

		if (want)
			missing = *reg_of((struct kvm_cpuid_entry2 *)want, reg->reg) & ~reg->ignore;
		if (have)
			missing &= ~*reg_of((struct kvm_cpuid_entry2 *)have, reg->reg);
		if (missing)
			return refuse_bit(reg, missing);
	}
	error = check_xsave(wanted, supported);
	return error ? error : check_phys_bits(wanted, supported);
}

static int unknown_name(const char *name)
{
	char known[128] = "host";

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		size_t len = strlen(known);

		snprintf(known + len, sizeof(known) - len, ", %s", levels[i].name);
	}
	return fail(-EINVAL, "cpu: %s: not one of %s", name, known);
}

int x86_cpuid_build(const char *name, const struct kvm_cpuid2 *supported, unsigned int ncpus,
		    struct kvm_cpuid2 **out)
{
	struct kvm_cpuid2 *cpuid = NULL;
	size_t level = 0;
	int error = 0;

	while (level < ARRAY_SIZE(levels) && strcmp(levels[level].name, name) != 0)
		level++;
	if (level == ARRAY_SIZE(levels) && strcmp(name, "host") != 0)
		return unknown_name(name);
	if (supported->nent > X86_CPUID_MAX - 16)
		return fail(-ENOTSUP, "cpu: KVM reports %u CPUID entries", supported->nent);
	cpuid = calloc(1, sizeof(*cpuid) + X86_CPUID_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return fail(-ENOMEM, "cpu: no memory for CPUID");
	if (level < ARRAY_SIZE(levels)) {
		build_level(cpuid, levels[level].level, levels[level].brand, ncpus);
		error = x86_cpuid_check(cpuid, supported);
	} else {
		build_host(cpuid, supported, ncpus);
	}
	if (error) {
		free(cpuid);
		return error;
	}
	*out = cpuid;
	return 0;
}
