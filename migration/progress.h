/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a migration wants and what it has done so far: plain values that travel from the mover to the VMM (link.h) and
 * from there to whoever watches (QMP, the command line). Times in microseconds, unless their names say otherwise.
 */
#ifndef MIGRATION_PROGRESS_H
#define MIGRATION_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define MIGRATION_CHANNELS_MAX 16
#define MIGRATION_TEXT_BYTES   512

struct migration_params {
	uint64_t max_downtime_us; /* default 30,000 */
	uint64_t deadline_us;	  /* of the whole; 0: none. Default none */
	bool force;		  /* at the deadline: finish with the downtime that comes */
	uint64_t bandwidth_bytes; /* a second, over all channels; 0: unlimited */
	uint32_t channels;	  /* data channels, 1 to MIGRATION_CHANNELS_MAX; default 1 */
	uint32_t silence_us;	  /* a peer silent for so long is lost; default 5 s */
	bool dry_run;		  /* hello and config only */
	bool verify_ram;	  /* test mode: compare hashes of all RAM at hand-over */
};
void migration_params_init(struct migration_params *params);

/* What becomes of a VM that was saved to a file. */
enum save_after {
	SAVE_RUN_ON, /* saved live, with one short pause */
	SAVE_PAUSE,  /* paused first, and stays so */
	SAVE_QUIT,   /* paused first, and ends when the file is whole */
};

/* In the order in which they come; the last four end a migration. */
enum migration_phase {
	PHASE_NONE,
	PHASE_CONNECT,	/* connections, hello, configuration */
	PHASE_ROUNDS,	/* the guest runs */
	PHASE_SWITCH,	/* paused: last pages and state, up to READY */
	PHASE_HANDOVER, /* OWN may have been sent */
	PHASE_DOUBT,	/* OWN was sent, the answer is lost; asked for again and again */
	PHASE_COMPLETED,
	PHASE_FAILED,
	PHASE_CANCELLED,
	PHASE_WOULD_WORK, /* a dry run that found nothing against it */
};
const char *migration_phase_name(enum migration_phase phase);

/* How often vCPUs were held up by their full dirty ring, for how long in all and at most. */
struct ring_full {
	bool in_use; /* false: not in ring mode, the rest says nothing */
	uint64_t waits, wait_us, longest_us;
};

struct migration_progress {
	enum migration_phase phase;
	uint32_t round;			 /* the one being sent, from 0 */
	uint64_t pages_total;		 /* of the VM */
	uint64_t pages_left;		 /* of this round */
	uint64_t pages_data, pages_zero; /* sent so far, each time they were */
	uint64_t pages_again;		 /* of these, sent after round 0 */
	uint64_t bytes;			 /* written to connections so far */
	uint64_t send_rate;		 /* bytes a second, measured over the last round */
	uint64_t dirty_rate;		 /* pages a second, same */
	uint64_t expected_downtime_us;	 /* if it switched over now; UINT64_MAX: not known yet */
	uint64_t elapsed_us;
	/* The downtime and its parts; 0 until there. */
	uint64_t downtime_us, pause_us, harvest_us, pages_us, state_us, handover_us, resume_us;
	/*
	 * What the guest felt. Standstill: from the moment when its vCPUs began to be stopped to the word that they run
	 * again, so at most that; 0: until there, of a VM that was paused, and where nobody can know. Early stops:
	 * switch-overs that were taken back because the rest was too much.
	 */
	uint64_t standstill_us, early_stops, early_stops_us;
	struct ring_full ring_full;	 /* the VMM's, not the mover's */
	char text[MIGRATION_TEXT_BYTES]; /* FAILED, DOUBT: why; CONNECT: warnings of the target */
};

#endif
