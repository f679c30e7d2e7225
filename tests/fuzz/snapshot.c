// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The file of a saved VM, made by somebody who means harm: input is the front of the header, the front of the seal, and
 * the bytes after the pages; checksums are made to fit here, for a search would not get past them. What opens must be
 * readable to its end, as `tern inspect` and a restore read it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "migration/snapshot_layout.h"
#include "tests/fuzz/input.h"

#define HEADER_BYTES 256
#define SEAL_BYTES   (SEAL_PARTS + SNAPSHOT_PARTS_MAX * SEAL_PART_BYTES)
#define FILE_MAX     (8ULL << 20)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void put_block(int fd, uint8_t *block, uint64_t at)
{
	put_le64(block + CHECKSUM_AT, hash_bytes(block, CHECKSUM_AT));
	if (snapshot_pwrite(fd, block, SNAPSHOT_BLOCK, at))
		abort();
}

/* Where a part lies in the file, its checksum is made right, unless its lowest bit says not to. */
static void fix_parts(int fd, uint8_t *seal, uint64_t file_bytes)
{
	for (unsigned int i = 0; i < SNAPSHOT_PARTS_MAX; i++) {
		uint8_t *part = seal + SEAL_PARTS + (size_t)i * SEAL_PART_BYTES;
		const uint64_t offset = get_le64(part + 8), len = get_le64(part + 16);
		AUTO_FREE uint8_t *content = NULL;

		if (offset > file_bytes || len > file_bytes - offset || (part[24] & 1))
			continue;
		content = malloc(len + 1);
		if (!content || snapshot_pread(fd, content, len, offset))
			abort();
		put_le64(part + 24, hash_bytes(content, len));
	}
}

static void read_all(int fd)
{
	struct snapshot *snapshot;
	uint64_t damaged, data, sum = 0;
	size_t len;

	if (snapshot_open(&snapshot, fd, "fuzzed"))
		return;
	for (unsigned int kind = SNAPSHOT_CONFIG; kind < SNAPSHOT_HASHES; kind++) {
		const uint8_t *part = snapshot_get_part(snapshot, kind, &len);

		for (size_t i = 0; i < len; i++)
			sum += part[i];
	}
	sum += strlen(snapshot_get_header(snapshot)->text);
	if (!snapshot_read_hashes(snapshot) && !snapshot_verify_pages(snapshot, &damaged, &data) &&
	    (damaged > data || data > snapshot_get_header(snapshot)->npages))
		abort();
	/* So that the reads above are not left out. */
	if (sum == UINT64_MAX)
		abort();
	snapshot_free(snapshot);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input input = {bytes, size};
	uint8_t header[SNAPSHOT_BLOCK] = {}, seal[SNAPSHOT_BLOCK] = {};
	uint64_t npages, tail_at, file_bytes;
	AUTO_FD fd = memfd_create("fuzz", MFD_CLOEXEC);

	log_level = LOG_NONE;
	input_take(&input, header, HEADER_BYTES);
	input_take(&input, seal, SEAL_BYTES);
	npages = get_le64(header + 24);
	tail_at = snapshot_page_at(npages < 512 ? npages : 512);
	if (fd < 0 || (input.left && snapshot_pwrite(fd, input.bytes, input.left, tail_at)))
		abort();
	file_bytes = get_le64(seal + 24);
	if (file_bytes < SNAPSHOT_BLOCK || file_bytes > FILE_MAX)
		file_bytes = tail_at + input.left;
	if (ftruncate(fd, file_bytes))
		abort();
	fix_parts(fd, seal, file_bytes);
	put_block(fd, header, HEADER_AT);
	if (file_bytes >= SEAL_AT + SNAPSHOT_BLOCK)
		put_block(fd, seal, SEAL_AT);
	read_all(fd);
	return 0;
}
