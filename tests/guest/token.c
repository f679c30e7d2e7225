// SPDX-License-Identifier: GPL-2.0-or-later
/* Where tokens go; see token.h. */
#include "token.h"

struct token token = {.next = UINT64_MAX};

static uint64_t value, period;

void token_start(void)
{
	if (!param_lists("token", "serial"))
		return;
	period = ms_to_ticks(param_ms("token_ms", 10));
	token.next = clock_now() + period;
}

void token_emit(uint64_t now)
{
	token.next += period;
	if (token.next < now)
		token.next = now + period;
	say("token: %lu\n", ++value);
}
