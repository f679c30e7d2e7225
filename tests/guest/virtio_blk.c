// SPDX-License-Identifier: GPL-2.0-or-later
/* See virtio_blk.h. */
#include "virtio_blk.h"

#define FEATURE_FLUSH (1ul << 9)
#define LIMIT_MS      5000

bool virtio_blk_open(struct virtio_blk *blk, unsigned int nth)
{
	memset(blk, 0, sizeof(*blk));
	if (!virtio_find(&blk->virtio, VIRTIO_ID_BLOCK, nth) || !blk->virtio.device)
		return false;
	if (!virtio_start(&blk->virtio, FEATURE_FLUSH))
		return false;
	blk->can_flush = blk->virtio.features & FEATURE_FLUSH;
	blk->capacity_512 = *(volatile uint32_t *)blk->virtio.device |
			    (uint64_t) * (volatile uint32_t *)(blk->virtio.device + 4) << 32;
	return true;
}

void virtio_blk_submit(struct virtio_blk *blk, enum virtio_blk_op op, uint64_t sector_512,
		       void *data, uint32_t bytes)
{
	struct virtio_buffer buffers[3] = {
		{.data = &blk->header, .length = sizeof(blk->header)},
		{.data = data, .length = bytes, .device_writes = op == VIRTIO_BLK_READ},
		{.data = (void *)&blk->status, .length = 1, .device_writes = true},
	};

	blk->header.type = op;
	blk->header.sector_512 = sector_512;
	blk->status = 0xff;
	if (!bytes)
		buffers[1] = buffers[2];
	virtio_submit(&blk->virtio, buffers, bytes ? 3 : 2);
}

bool virtio_blk_done(struct virtio_blk *blk, bool *ok)
{
	uint32_t length;

	if (!virtio_done(&blk->virtio, &length))
		return false;
	*ok = blk->status == 0;
	return true;
}

bool virtio_blk_do(struct virtio_blk *blk, enum virtio_blk_op op, uint64_t sector_512, void *data,
		   uint32_t bytes)
{
	uint64_t start = clock_now();
	bool ok = false;

	virtio_blk_submit(blk, op, sector_512, data, bytes);
	while (!virtio_blk_done(blk, &ok)) {
		if (clock_now() - start > ms_to_ticks(LIMIT_MS))
			return false;
		cpu_relax();
	}
	return ok;
}
