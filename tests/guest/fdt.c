// SPDX-License-Identifier: GPL-2.0-or-later
/* See fdt.h. It trusts the tree's structure: the VMM that built it is under test, but by others. */
#include "fdt.h"

#define FDT_MAGIC      0xd00dfeed
#define FDT_BEGIN_NODE 1
#define FDT_END_NODE   2
#define FDT_PROP       3
#define FDT_NOP	       4

/* Header fields, in words. */
enum { AT_MAGIC, AT_TOTAL, AT_STRUCT, AT_STRINGS };

static uint32_t be32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

uint64_t fdt_cells(const uint8_t *value, unsigned int ncells)
{
	uint64_t number = 0;

	while (ncells--) {
		number = number << 32 | be32(value);
		value += 4;
	}
	return number;
}

bool fdt_lists(const struct fdt_property *property, const char *text)
{
	size_t n = strlen(text) + 1;

	for (uint32_t at = 0; at < property->length;) {
		size_t length = strlen((const char *)property->value + at) + 1;

		if (length == n && memcmp(property->value + at, text, n) == 0)
			return true;
		at += (uint32_t)length;
	}
	return false;
}

uint32_t fdt_size(const void *fdt)
{
	return be32((const uint32_t *)fdt + AT_TOTAL);
}

static void take_property(struct fdt_node *node, const char *name, const uint8_t *value,
			  uint32_t length)
{
	const struct {
		const char *name;
		struct fdt_property *property;
	} wanted[] = {
		{"compatible", &node->compatible},
		{"device_type", &node->device_type},
		{"reg", &node->reg},
		{"bootargs", &node->bootargs},
		{"method", &node->method},
		{"ranges", &node->ranges},
		{"reg-shift", &node->reg_shift},
		{"bus-range", &node->bus_range},
		{"#address-cells", &node->address_cells},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(wanted); i++)
		if (strlen(name) == strlen(wanted[i].name) &&
		    memcmp(name, wanted[i].name, strlen(name)) == 0)
			*wanted[i].property = (struct fdt_property){value, length};
}

bool fdt_walk(const void *fdt, void (*each)(const struct fdt_node *node))
{
	const uint32_t *header = fdt;
	const uint8_t *p;
	const char *strings;
	struct fdt_node node = {.name = NULL};
	unsigned int depth = 0;

	if (be32(&header[AT_MAGIC]) != FDT_MAGIC)
		return false;
	p = (const uint8_t *)fdt + be32(&header[AT_STRUCT]);
	strings = (const char *)fdt + be32(&header[AT_STRINGS]);
	for (;;) {
		uint32_t token = be32(p);

		p += 4;
		/* A node's own properties end where a child or its end begins. */
		if ((token == FDT_BEGIN_NODE || token == FDT_END_NODE) && node.name) {
			each(&node);
			node.name = NULL;
		}
		switch (token) {
		case FDT_BEGIN_NODE:
			node = (struct fdt_node){.name = (const char *)p, .depth = depth++};
			p += (strlen((const char *)p) + 4) & ~3ul;
			break;
		case FDT_END_NODE:
			depth--;
			break;
		case FDT_PROP:
			take_property(&node, strings + be32(p + 4), p + 8, be32(p));
			p += 8 + ((be32(p) + 3) & ~3u);
			break;
		case FDT_NOP:
			break;
		default: /* FDT_END */
			return true;
		}
	}
}
