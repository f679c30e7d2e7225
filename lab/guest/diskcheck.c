// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * disk-check DEVICE [MIB [AT_MIB [SEED]]]: overwrites a part of a disk with numbers made from a seed, past the page cache,
 * flushes, reads it back, also past it, and compares. Ends with "disk-check: ok" and 0, or says which block is wrong.
 *
 * disk-zero DEVICE MIB [AT_MIB]: asks the disk for zeroes, without sending any.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools.h"

#define BLOCK_BYTES (64u << 10)
#define BLOCK_WORDS (BLOCK_BYTES / sizeof(uint64_t))

/* Every word of every block differs from its neighbours, and from those of another seed. */
static void fill(uint64_t *words, uint64_t block, uint64_t seed)
{
	uint64_t value = (block + 1) * 0x9e3779b97f4a7c15u ^ seed << 48;

	for (size_t i = 0; i < BLOCK_WORDS; i++, value += 0xd1342543de82ef95u)
		words[i] = value;
}

static int fail_at(const char *what, uint64_t block)
{
	printf("disk-check: %s block %llu: %s\n", what, (unsigned long long)block, strerror(errno));
	return 1;
}

static int write_all(int fd, uint64_t *words, uint64_t first, uint64_t nblocks, uint64_t seed)
{
	for (uint64_t block = first; block < first + nblocks; block++) {
		fill(words, block, seed);
		if (pwrite(fd, words, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
			return fail_at("writing", block);
	}
	return fdatasync(fd) < 0 ? fail_at("flushing", first) : 0;
}

static int compare_all(int fd, uint64_t *words, uint64_t first, uint64_t nblocks, uint64_t seed)
{
	static uint64_t expected[BLOCK_WORDS];

	for (uint64_t block = first; block < first + nblocks; block++) {
		if (pread(fd, words, BLOCK_BYTES, (off_t)(block * BLOCK_BYTES)) != BLOCK_BYTES)
			return fail_at("reading", block);
		fill(expected, block, seed);
		for (size_t i = 0; i < BLOCK_WORDS; i++) {
			if (words[i] == expected[i])
				continue;
			printf("disk-check: block %llu word %zu is %016llx, should be %016llx\n",
			       (unsigned long long)block, i, (unsigned long long)words[i],
			       (unsigned long long)expected[i]);
			return 1;
		}
	}
	return 0;
}

int diskcheck_main(int argc, char **argv)
{
	uint64_t number[3] = {8, 0, 1}, first, nblocks;
	uint64_t *words;
	int fd;

	if (argc < 2 || argc > 5) {
		fprintf(stderr, "usage: disk-check DEVICE [MIB [AT_MIB [SEED]]]\n");
		return 2;
	}
	for (int i = 2; i < argc; i++)
		number[i - 2] = strtoull(argv[i], NULL, 10);
	nblocks = (number[0] << 20) / BLOCK_BYTES;
	first = (number[1] << 20) / BLOCK_BYTES;
	words = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fd = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || words == MAP_FAILED) {
		printf("disk-check: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	if (write_all(fd, words, first, nblocks, number[2]) ||
	    compare_all(fd, words, first, nblocks, number[2]))
		return 1;
	close(fd);
	printf("disk-check: ok\n");
	return 0;
}

int diskzero_main(int argc, char **argv)
{
	uint64_t range[2];
	int fd;

	if (argc < 3 || argc > 4) {
		fprintf(stderr, "usage: disk-zero DEVICE MIB [AT_MIB]\n");
		return 2;
	}
	range[0] = argc > 3 ? strtoull(argv[3], NULL, 10) << 20 : 0;
	range[1] = strtoull(argv[2], NULL, 10) << 20;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKZEROOUT, range) < 0 || fsync(fd) < 0) {
		printf("disk-zero: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	close(fd);
	return 0;
}
