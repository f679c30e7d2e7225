// SPDX-License-Identifier: GPL-2.0-or-later
/* Where RAM and device windows lie on x86-64, machine version 1 (the map stands in x86.h), and what the guest is told. */
#include "vmm/x86.h"

#include <errno.h>

#include "base/log.h"

#define RAM_UNIT_2M (2ULL << 20)
#define RAM_UNIT_1G (1ULL << 30)
/* The lowest limit among hosts with hardware virtualization; a named CPU level states it, --cpu host the host's own. */
#define X86_PHYS_BITS_MIN 39

static uint64_t align_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static uint64_t backing_unit(enum ram_backing backing)
{
	switch (backing) {
	case RAM_HUGETLB_1G:
		return RAM_UNIT_1G;
	case RAM_HUGETLB_2M:
		return RAM_UNIT_2M;
	default:
		return RAM_PAGE_BYTES;
	}
}

static void place_ram(struct ram_layout *ram, uint64_t memory_bytes)
{
	uint64_t low = memory_bytes < X86_HOLE ? memory_bytes : X86_HOLE;

	ram->range[ram->nranges++] = (struct ram_range){.gpa = 0, .size_bytes = low};
	if (memory_bytes > low)
		ram->range[ram->nranges++] =
			(struct ram_range){.gpa = X86_4G, .size_bytes = memory_bytes - low};
}

int arch_get_layout(const struct config *config, const struct kvm_host *host,
		    struct arch_layout *out)
{
	const uint64_t limit = 1ULL << X86_PHYS_BITS_MIN;
	uint64_t memory_bytes = config->memory_bytes, end;

	if (memory_bytes < 16ULL << 20)
		return fail(-EINVAL, "memory: %llu bytes: a guest needs at least 16 MiB",
			    (unsigned long long)memory_bytes);
	if (memory_bytes % backing_unit(config->backing))
		return fail(-EINVAL, "memory: %llu bytes: not a multiple of its %llu KiB pages",
			    (unsigned long long)memory_bytes,
			    (unsigned long long)backing_unit(config->backing) / 1024);
	*out = (struct arch_layout){
		.ram = {.backing = config->backing, .prealloc = config->prealloc},
		.ecam = X86_ECAM,
		.ecam_bytes = X86_ECAM_BYTES,
		.mmio32 = X86_MMIO32,
		.mmio32_bytes = X86_MMIO32_BYTES,
		.mmio64_bytes = X86_MMIO64_BYTES,
		.io_pio = true,
		.serial = X86_PORT_SERIAL,
		.serial_gsi = X86_GSI_SERIAL,
		.vmgenid = X86_VMGENID,
		.nlines = X86_IOAPIC_PINS,
	};
	place_ram(&out->ram, memory_bytes);
	end = memory_bytes <= X86_HOLE ? X86_4G : X86_4G + memory_bytes - X86_HOLE;
	out->mmio64 = align_up(end, X86_MMIO64_BYTES);
	if (memory_bytes > limit || out->mmio64 + out->mmio64_bytes > limit)
		return fail(-EINVAL,
			    "memory: %llu MiB do not fit with the device windows below the guest's "
			    "limit of %d "
			    "address bits",
			    (unsigned long long)memory_bytes >> 20, X86_PHYS_BITS_MIN);
	return 0;
}

unsigned long arch_vm_type(const struct kvm_host *host)
{
	return 0;
}

static void map_add(struct x86_map *map, uint64_t gpa, uint64_t size_bytes, uint32_t type)
{
	map->entry[map->n++] =
		(struct x86_map_entry){.gpa = gpa, .size_bytes = size_bytes, .type = type};
}

void x86_map_fill(struct x86_map *map, const struct arch_layout *layout)
{
	uint64_t low_end = layout->ram.range[0].size_bytes;

	*map = (struct x86_map){};
	map_add(map, 0, X86_LOW_RAM_END, X86_MAP_RAM);
	map_add(map, X86_LOW_RAM_END, X86_HIGH_RAM - X86_LOW_RAM_END, X86_MAP_RESERVED);
	map_add(map, X86_HIGH_RAM, low_end - X86_HIGH_RAM, X86_MAP_RAM);
	map_add(map, layout->ecam, layout->ecam_bytes, X86_MAP_RESERVED);
	if (layout->ram.nranges > 1)
		map_add(map, layout->ram.range[1].gpa, layout->ram.range[1].size_bytes,
			X86_MAP_RAM);
}
