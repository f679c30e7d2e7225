// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which dirty tracking a VM gets, decided once, when it is created. The rule is pure and stands apart from the
 * mechanism in dirty.c so that every kind of host can be tried in a test.
 */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "memory/dirty.h"

#define RING_DEFAULT_ENTRIES 65536

static uint32_t default_entries(const struct kvm_host *host)
{
	uint32_t most = host->ring_max_bytes / sizeof(struct kvm_dirty_gfn);

	return most < RING_DEFAULT_ENTRIES ? most : RING_DEFAULT_ENTRIES;
}

/* Why this host cannot track by ring without losing pages; NULL when it can. */
static const char *ring_obstacle(const struct kvm_host *host, bool has_its)
{
	if (!host->ring_max_bytes)
		return "the kernel offers no dirty ring";
	if (!host->ring_acq_rel)
		return "the kernel's dirty ring lacks acquire/release ordering";
	if (has_its && !host->ring_with_bitmap)
		return "a ring without bitmap would drop what the interrupt controller writes";
	return NULL;
}

static void choose_bitmap(const struct kvm_host *host, const char *reason, struct dirty_choice *out)
{
	*out = (struct dirty_choice){
		.mode = DIRTY_BITMAP,
		.manual_protect = host->manual_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
	};
	snprintf(out->reason, sizeof(out->reason), "%s", reason);
}

int dirty_choose(const struct kvm_host *host, const struct dirty_request *request, bool has_its,
		 struct dirty_choice *out)
{
	const char *obstacle = ring_obstacle(host, has_its);

	if (request->mode == DIRTY_BITMAP) {
		choose_bitmap(host, "asked for", out);
		return 0;
	}
	if (obstacle && request->mode == DIRTY_RING)
		return fail(-ENOTSUP, "dirty tracking: ring: %s", obstacle);
	if (obstacle) {
		choose_bitmap(host, obstacle, out);
		return 0;
	}
	*out = (struct dirty_choice){
		.mode = DIRTY_RING,
		.ring_entries = request->ring_entries ? request->ring_entries
						      : default_entries(host),
		.ring_bitmap = has_its,
	};
	snprintf(out->reason, sizeof(out->reason), "%s",
		 request->mode == DIRTY_RING ? "asked for"
					     : "the host offers it with safe ordering");
	return 0;
}
