/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device tree (Devicetree Specification 0.4, chapter 5) read front to back, node by node. */
#ifndef GUEST_FDT_H
#define GUEST_FDT_H

#include "guest.h"

struct fdt_property {
	const uint8_t *value; /* NULL: the node does not have it */
	uint32_t length;
};

/* One node, once all of its own properties have been seen: those that anybody asks for. */
struct fdt_node {
	const char *name;
	unsigned int depth; /* 0: the root */
	struct fdt_property compatible, device_type, reg, bootargs, method, ranges, reg_shift,
		bus_range, address_cells;
};

/* Calls each(node) for every node, parents first. False: this is no device tree. */
bool fdt_walk(const void *fdt, void (*each)(const struct fdt_node *node));
uint32_t fdt_size(const void *fdt);

uint64_t fdt_cells(const uint8_t *value, unsigned int ncells);
/* Is this one of the strings in the list? */
bool fdt_lists(const struct fdt_property *property, const char *text);

#endif
