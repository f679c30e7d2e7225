// SPDX-License-Identifier: GPL-2.0-or-later
/* The file of a saved VM, printed for `tern inspect`. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/inspect.h"
#include "migration/snapshot_file.h"

static void print_time(uint64_t ns)
{
	const time_t seconds = (time_t)(ns / 1000000000);
	struct tm tm;
	char text[64];

	if (gmtime_r(&seconds, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm))
		printf("created   %s\n", text);
	else
		printf("created   %" PRIu64 " ns\n", ns);
}

static void print_header(const struct snapshot_header *header)
{
	page_t page = 0;

	printf("format    version %u, readable from version %u on\n", header->version,
	       header->readable);
	printf("id        ");
	inspect_hex(header->id, sizeof(header->id));
	print_time(header->created_ns);
	printf("writer    %s\n", header->text);
	printf("arch      %s\n", header->arch == SNAPSHOT_X86_64 ? "x86-64" : "arm64");
	printf("memory    %" PRIu64 " pages of 4096 bytes\n", header->npages);
	for (uint32_t i = 0; i < header->nregions; i++) {
		const uint64_t npages = header->region[i].size_bytes >> RAM_PAGE_SHIFT;

		printf("region%u   %#" PRIx64 " + %#" PRIx64 ", pages %" PRIu64 " to %" PRIu64
		       " at byte %" PRIu64 "\n",
		       i, header->region[i].gpa, header->region[i].size_bytes, page,
		       page + npages - 1, (uint64_t)(SNAPSHOT_PAGES_AT + page * RAM_PAGE_BYTES));
		page += npages;
	}
}

static void print_parts(const struct snapshot *snapshot)
{
	const struct snapshot_part *parts;
	unsigned int n;

	parts = snapshot_get_parts(snapshot, &n);
	for (unsigned int i = 0; i < n; i++) {
		const char *name = snapshot_kind_name(parts[i].kind);

		printf("part      %s (%#" PRIx32 "): %" PRIu64 " bytes at %" PRIu64
		       ", checksum %016" PRIx64 "\n",
		       name ? name : "not known", parts[i].kind, parts[i].bytes, parts[i].offset,
		       parts[i].hash);
	}
}

static int print_sections(const struct snapshot *snapshot, enum snapshot_kind kind)
{
	size_t len;
	const void *bytes = snapshot_get_part(snapshot, kind, &len);

	printf("\n%s\n", snapshot_kind_name(kind));
	return inspect_sections(snapshot_kind_name(kind), bytes, len);
}

static int verify_pages(struct snapshot *snapshot)
{
	uint64_t damaged, data;
	int error = snapshot_read_hashes(snapshot);

	if (!error)
		error = snapshot_verify_pages(snapshot, &damaged, &data);
	if (error)
		return error;
	printf("\npages     %" PRIu64 " hold data, %" PRIu64 " of them damaged\n", data, damaged);
	return damaged ? -EBADMSG : 0;
}

int inspect_snapshot(int fd, const char *path, bool verify)
{
	struct snapshot *snapshot;
	struct stat stat = {};
	const void *config;
	size_t len;
	int error = snapshot_open(&snapshot, fd, path);

	if (error)
		return CLI_INPUT;
	fstat(fd, &stat);
	printf("file      saved VM, %" PRIu64 " bytes, %" PRIu64 " of them on the disk\n",
	       (uint64_t)stat.st_size, (uint64_t)stat.st_blocks * 512);
	print_header(snapshot_get_header(snapshot));
	print_parts(snapshot);
	puts("\nconfig");
	config = snapshot_get_part(snapshot, SNAPSHOT_CONFIG, &len);
	error = inspect_config(config, len);
	if (!error)
		error = print_sections(snapshot, SNAPSHOT_TOLD);
	if (!error)
		error = print_sections(snapshot, SNAPSHOT_DISKS);
	if (!error)
		error = print_sections(snapshot, SNAPSHOT_STATE);
	if (!error && verify)
		error = verify_pages(snapshot);
	snapshot_free(snapshot);
	return error ? CLI_FAILED : CLI_OK;
}
