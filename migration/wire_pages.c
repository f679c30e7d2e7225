// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The head of PAGES: which pages follow, in runs, and a checksum for each. What a peer names is checked here in full:
 * whoever uses a batch from wire_get_pages() may index guest RAM by it.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "migration/wire.h"

size_t wire_put_pages(uint8_t *head, const struct wire_batch *batch)
{
	uint8_t *at = head + 8;

	put_le32(head, batch->round);
	put_le32(head + 4, batch->nruns);
	for (uint32_t i = 0; i < batch->nruns; i++, at += 16) {
		put_le64(at, batch->run[i].first);
		put_le32(at + 8, batch->run[i].npages);
		put_le32(at + 12, batch->run[i].kind);
	}
	for (uint32_t i = 0; i < batch->npages; i++, at += 8)
		put_le64(at, batch->hash[i]);
	return (size_t)(at - head);
}

static int check_run(const struct wire_channel *channel, const struct wire_run *run)
{
	uint64_t chunk = run->first / WIRE_CHUNK_PAGES;

	if (run->npages == 0 || run->npages > WIRE_CHUNK_PAGES || run->first >= channel->npages ||
	    run->npages > channel->npages - run->first)
		return fail(-EBADMSG, "data %u: %u pages from %" PRIu64 " of %" PRIu64,
			    channel->channel, run->npages, run->first, channel->npages);
	if ((run->first + run->npages - 1) / WIRE_CHUNK_PAGES != chunk ||
	    chunk % channel->nchannels != channel->channel)
		return fail(-EBADMSG, "data %u: %u pages from %" PRIu64 " are not this channel's",
			    channel->channel, run->npages, run->first);
	if (run->kind > WIRE_DISCARDED)
		return fail(-EBADMSG, "data %u: pages of unknown kind %u", channel->channel,
			    run->kind);
	return 0;
}

int wire_get_pages(const struct wire_channel *channel, const struct wire_header *header,
		   const uint8_t *head, struct wire_batch *out)
{
	struct reader in;

	reader_init(&in, head, header->head_bytes);
	out->round = reader_u32(&in);
	out->nruns = reader_u32(&in);
	out->npages = 0;
	if (in.error || out->round != channel->round || out->nruns > WIRE_BATCH_RUNS)
		return fail(-EBADMSG, "data %u: %u runs of round %u in round %u", channel->channel,
			    out->nruns, out->round, channel->round);
	for (uint32_t i = 0; i < out->nruns; i++) {
		struct wire_run *run = &out->run[i];

		run->first = reader_u64(&in);
		run->npages = reader_u32(&in);
		run->kind = reader_u32(&in);
		if (in.error || check_run(channel, run))
			return -EBADMSG;
		if (run->kind == WIRE_DATA)
			out->npages += run->npages;
		if (out->npages > WIRE_BATCH_PAGES)
			return fail(-EBADMSG, "data %u: more than %u pages in a record",
				    channel->channel, WIRE_BATCH_PAGES);
	}
	for (uint32_t i = 0; i < out->npages; i++)
		out->hash[i] = reader_u64(&in);
	if (in.error || in.left || header->body_bytes != out->npages * RAM_PAGE_BYTES)
		return fail(-EBADMSG, "data %u: a record of %u pages with %u and %" PRIu64 " bytes",
			    channel->channel, out->npages, header->head_bytes, header->body_bytes);
	return 0;
}
