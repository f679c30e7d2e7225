// SPDX-License-Identifier: GPL-2.0-or-later
/* A peer's records: whatever bytes come, heads are read within their bounds, and a batch that is accepted stays in RAM. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "migration/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_head(uint32_t type, const uint8_t *head, size_t len)
{
	union {
		struct wire_hello hello;
		struct wire_hello_ok ok;
		struct wire_config config;
		struct wire_state state;
		struct wire_data_hello data;
		struct wire_round round;
		struct wire_answer answer;
		char text[WIRE_TEXT_MAX + 1];
	} out;

	if (!wire_get_hello(head, len, &out.hello))
		assert(strlen(out.hello.text) <= WIRE_TEXT_MAX);
	if (!wire_get_hello_ok(head, len, &out.ok))
		assert(strlen(out.ok.text) <= WIRE_TEXT_MAX);
	if (!wire_get_config(head, len, &out.config)) {
		assert(out.config.nregions <= RAM_REGIONS_MAX);
		assert(out.config.config_bytes + out.config.told_bytes <= len);
	}
	if (!wire_get_state(head, len, &out.state) && !wire_get_round(head, len, &out.round))
		assert(!"no head is both");
	if (!wire_get_data_hello(head, len, &out.data))
		assert(len == 8 + WIRE_SESSION_BYTES + 4);
	if (!wire_get_answer(head, len, type, &out.answer))
		assert(len >= WIRE_SESSION_BYTES);
	if (!wire_get_text(head, len, out.text))
		assert(strlen(out.text) <= WIRE_TEXT_MAX);
}

static void read_pages(const struct wire_header *header, const uint8_t *head)
{
	static struct wire_batch batch;
	const struct wire_channel channel = {.npages = 4096, .channel = 1, .nchannels = 3};
	uint64_t pages = 0;

	if (wire_get_pages(&channel, header, head, &batch))
		return;
	for (uint32_t i = 0; i < batch.nruns; i++) {
		const struct wire_run *run = &batch.run[i];

		assert(run->npages && run->first + run->npages <= channel.npages);
		assert(run->first / WIRE_CHUNK_PAGES % 3 == 1);
		pages += run->kind == WIRE_DATA ? run->npages : 0;
	}
	assert(pages == batch.npages && pages <= WIRE_BATCH_PAGES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_header header;
	uint8_t *head;

	log_level = LOG_NONE;
	if (size < WIRE_HEADER_BYTES)
		return 0;
	if (wire_parse_header(data, get_le64(data + 16), "fuzz", &header))
		return 0;
	if (header.head_bytes > size - WIRE_HEADER_BYTES)
		header.head_bytes = (uint32_t)(size - WIRE_HEADER_BYTES);
	/* A copy of just that length: what is read beyond it is seen. */
	head = malloc(header.head_bytes ? header.head_bytes : 1);
	if (!head)
		return 0;
	memcpy(head, data + WIRE_HEADER_BYTES, header.head_bytes);
	read_head(header.type, head, header.head_bytes);
	read_pages(&header, head);
	free(head);
	return 0;
}
