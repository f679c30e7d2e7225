/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fuzzer's input taken apart: numbers from its front, zeros when it has ended. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *bytes;
	size_t left;
};

static inline size_t input_take(struct input *input, void *to, size_t len)
{
	size_t n = len < input->left ? len : input->left;

	memset(to, 0, len);
	memcpy(to, input->bytes, n);
	input->bytes += n;
	input->left -= n;
	return n;
}

static inline uint8_t input_u8(struct input *input)
{
	uint8_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

static inline uint16_t input_u16(struct input *input)
{
	uint16_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

static inline uint32_t input_u32(struct input *input)
{
	uint32_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

static inline uint64_t input_u64(struct input *input)
{
	uint64_t value;

	input_take(input, &value, sizeof(value));
	return value;
}

/* 1..8: the length of an access. */
static inline unsigned int input_len(struct input *input)
{
	return 1 + input_u8(input) % 8;
}

#endif
