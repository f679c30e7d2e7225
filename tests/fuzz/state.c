// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A saved VM's sections, as a peer or a file sends them, read into a state of every field kind. What loads must save
 * again, and load equal.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/state.h"

#define FUZZ_STATE(T, F, A, V) \
	F(T, 1, u8, mode)      \
	F(T, 2, u64, count)    \
	A(T, 3, u16, entry, 4) \
	V(T, 4, u8, text, 16)  \
	F(T, STATE_OPTIONAL + 5, u32, later)
STATE_STRUCT(fuzzed, FUZZ_STATE);
STATE_TABLE(fuzzed, 1, FUZZ_STATE);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_round_trip(const struct fuzzed *object)
{
	struct fuzzed again;
	struct state_set *set;
	struct buf buf;

	buf_init(&buf, 4096);
	if (state_save(&fuzzed_table, 0, object, &buf) || state_set_parse(&set, buf.bytes, buf.len))
		abort();
	if (state_load(set, &fuzzed_table, 0, &again) || memcmp(&again, object, sizeof(again)))
		abort();
	state_set_free(set);
	buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fuzzed object;
	struct state_set *set;

	log_level = LOG_NONE;
	if (state_set_parse(&set, bytes, size))
		return 0;
	for (uint32_t instance = 0; instance < 4; instance++) {
		if (!state_load(set, &fuzzed_table, instance, &object))
			check_round_trip(&object);
	}
	if (state_set_all_used(set))
		fail_clear();
	state_set_free(set);
	return 0;
}
