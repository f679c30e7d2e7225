// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The arm64 kernel image, plain or gzipped, into guest RAM.
 * Source: Documentation/arch/arm64/booting.rst (header, placement); the PE format (sections of a kernel with an EFI
 * stub); RFC 1952 (gzip, read by zlib).
 *
 * Hostile: nothing that the header says is used before it is checked against what RAM there is, and a gzip stream is
 * inflated straight into guest RAM up to a bound, never into memory of its own size.
 */
#include "vmm/arm64_boot.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "base/log.h"

#define HEADER_BYTES	 64
#define MAGIC		 0x644d5241 /* "ARM\x64" at 56 */
#define FLAG_BIG_ENDIAN	 1
#define TEXT_OFFSET_OLD	 0x80000 /* before 3.17 image_size was zero and this was meant */
#define CHUNK_BYTES	 65536
#define PE_OFFSET_AT	 60
#define PE_MAGIC	 0x4550 /* "PE\0\0" */
#define PE_HEADER_BYTES	 24	/* with the magic */
#define PE_SECTION_BYTES 40
/* zlib: the largest window, and a gzip header is required */
#define INFLATE_GZIP (15 + 16)

struct header {
	uint64_t text_offset;
	uint64_t image_size; /* with bss */
};

static int parse_header(const struct image *kernel, const uint8_t *bytes, struct header *out)
{
	uint64_t flags = get_le64(bytes + 24);

	if (get_le32(bytes + 56) != MAGIC)
		return image_bad(kernel, "neither an arm64 Image nor a gzipped one");
	*out = (struct header){.text_offset = get_le64(bytes + 8),
			       .image_size = get_le64(bytes + 16)};
	if (out->image_size == 0)
		out->text_offset = TEXT_OFFSET_OLD;
	if (flags & FLAG_BIG_ENDIAN)
		return image_bad(kernel, "a big-endian kernel");
	if (out->text_offset >= 2ULL << 20)
		return image_bad(kernel, "text offset %#llx", (unsigned long long)out->text_offset);
	return 0;
}

/* Checks that [ARM64_KERNEL + text_offset, + size) is RAM. */
static int check_room(const struct image *kernel, const struct ram *ram,
		      const struct header *header, uint64_t file_bytes, gpa_t *entry, gpa_t *end)
{
	uint64_t size = header->image_size > file_bytes ? header->image_size : file_bytes;

	*entry = ARM64_KERNEL + header->text_offset;
	if (!ram_ptr(ram, *entry, size))
		return image_bad(kernel, "%llu KiB do not fit into %llu MiB of memory",
				 (unsigned long long)size / 1024,
				 (unsigned long long)ram->size_bytes >> 20);
	*end = *entry + size;
	return 0;
}

/*
 * The header does not tell how long the file is, for image_size counts memory that is not in it. A kernel that EFI can
 * start says it as a PE file does: by its sections. One without a PE header is taken as it is.
 */
static int check_whole(const struct image *kernel, const uint8_t *header)
{
	uint64_t pe = get_le32(header + PE_OFFSET_AT), at;
	uint8_t bytes[PE_SECTION_BYTES];
	unsigned int nsections;
	int error = 0;

	if (pe == 0)
		return 0;
	if (pe + PE_HEADER_BYTES > kernel->size_bytes)
		return image_bad(kernel, "truncated: its PE header is missing");
	error = image_read(kernel, pe, bytes, PE_HEADER_BYTES);
	if (error || get_le32(bytes) != PE_MAGIC)
		return error;
	nsections = get_le16(bytes + 6);
	at = pe + PE_HEADER_BYTES + get_le16(bytes + 20);
	for (unsigned int i = 0; i < nsections && !error; i++, at += PE_SECTION_BYTES) {
		uint64_t end = at + PE_SECTION_BYTES;

		if (end <= kernel->size_bytes) {
			error = image_read(kernel, at, bytes, PE_SECTION_BYTES);
			end = (uint64_t)get_le32(bytes + 20) + get_le32(bytes + 16);
		}
		if (!error && end > kernel->size_bytes)
			error = image_bad(kernel, "truncated: %llu bytes, of at least %llu",
					  (unsigned long long)kernel->size_bytes,
					  (unsigned long long)end);
	}
	return error;
}

static int load_plain(const struct image *kernel, struct ram *ram, gpa_t *entry, gpa_t *end)
{
	uint8_t bytes[HEADER_BYTES];
	struct header header;
	int error = image_read(kernel, 0, bytes, sizeof(bytes));

	if (!error)
		error = parse_header(kernel, bytes, &header);
	if (!error)
		error = check_whole(kernel, bytes);
	if (!error)
		error = check_room(kernel, ram, &header, kernel->size_bytes, entry, end);
	return error ? error : image_load(kernel, 0, kernel->size_bytes, ram, *entry);
}

/* Inflates from *offset on until the output is full, the stream ends (*ended) or fails. */
static int inflate_some(const struct image *kernel, z_stream *stream, uint64_t *offset,
			uint8_t *input, bool *ended)
{
	while (stream->avail_out && !*ended) {
		int result;

		if (stream->avail_in == 0) {
			uint64_t left = kernel->size_bytes - *offset;
			size_t n = left < CHUNK_BYTES ? left : CHUNK_BYTES;
			int error = n ? image_read(kernel, *offset, input, n)
				      : image_bad(kernel, "gzip stream is truncated");

			if (error)
				return error;
			stream->next_in = input;
			stream->avail_in = n;
			*offset += n;
		}
		result = inflate(stream, Z_NO_FLUSH);
		if (result == Z_STREAM_END)
			*ended = true;
		else if (result != Z_OK)
			return image_bad(kernel, "gzip: %s", stream->msg ? stream->msg : "corrupt");
	}
	return 0;
}

static int inflate_kernel(const struct image *kernel, struct ram *ram, z_stream *stream,
			  uint8_t *input, gpa_t *entry, gpa_t *end)
{
	uint8_t bytes[HEADER_BYTES];
	struct header header;
	uint64_t offset = 0, room;
	bool ended = false;
	uint8_t *to;
	int error;

	stream->next_out = bytes;
	stream->avail_out = sizeof(bytes);
	error = inflate_some(kernel, stream, &offset, input, &ended);
	if (!error && (ended || stream->avail_out))
		error = image_bad(kernel, "gzip stream of less than a header");
	if (!error)
		error = parse_header(kernel, bytes, &header);
	if (!error)
		error = check_room(kernel, ram, &header, sizeof(bytes), entry, end);
	if (error)
		return error;
	/* image_size covers the file's bytes too; a kernel too old to say may fill what RAM there is. */
	room = header.image_size ? header.image_size
				 : ram->region[0].gpa + ram->region[0].size_bytes - *entry;
	if (room > UINT32_MAX)
		room = UINT32_MAX;
	to = ram_ptr(ram, *entry, room);
	memcpy(to, bytes, sizeof(bytes));
	stream->next_out = to + sizeof(bytes);
	stream->avail_out = room - sizeof(bytes);
	error = inflate_some(kernel, stream, &offset, input, &ended);
	if (error)
		return error;
	if (!ended)
		return image_bad(kernel,
				 "inflates to more than the %llu KiB that its header states",
				 (unsigned long long)room / 1024);
	if (!header.image_size)
		*end = *entry + room - stream->avail_out;
	ram_mark_dirty(ram, *entry, *end - *entry);
	return 0;
}

static int load_gzip(const struct image *kernel, struct ram *ram, gpa_t *entry, gpa_t *end)
{
	AUTO_FREE uint8_t *input = malloc(CHUNK_BYTES);
	z_stream stream = {};
	int error;

	if (!input || inflateInit2(&stream, INFLATE_GZIP) != Z_OK)
		return fail(-ENOMEM, "kernel: no memory to inflate it");
	error = inflate_kernel(kernel, ram, &stream, input, entry, end);
	inflateEnd(&stream);
	return error;
}

int arm64_image_load(const struct image *kernel, struct ram *ram, gpa_t *entry, gpa_t *end)
{
	uint8_t magic[2];
	int error = image_read(kernel, 0, magic, sizeof(magic));

	if (error)
		return error;
	if (magic[0] == 0x1f && magic[1] == 0x8b)
		return load_gzip(kernel, ram, entry, end);
	return load_plain(kernel, ram, entry, end);
}
