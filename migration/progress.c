// SPDX-License-Identifier: GPL-2.0-or-later
/* The defaults of a migration, and the names of its phases. */
#include "migration/progress.h"

#include "base/auto.h"

void migration_params_init(struct migration_params *params)
{
	*params = (struct migration_params){
		.max_downtime_us = 30000,
		.channels = 1,
		.silence_us = 5000000,
	};
}

const char *migration_phase_name(enum migration_phase phase)
{
	static const char *const names[] = {
		[PHASE_NONE] = "none",		 [PHASE_CONNECT] = "connect",
		[PHASE_ROUNDS] = "rounds",	 [PHASE_SWITCH] = "switch",
		[PHASE_HANDOVER] = "hand-over",	 [PHASE_DOUBT] = "doubt",
		[PHASE_COMPLETED] = "completed", [PHASE_FAILED] = "failed",
		[PHASE_CANCELLED] = "cancelled", [PHASE_WOULD_WORK] = "would-work",
	};
	_Static_assert(ARRAY_SIZE(names) == PHASE_WOULD_WORK + 1, "every phase has a name");

	return (unsigned int)phase < ARRAY_SIZE(names) ? names[phase] : "?";
}
