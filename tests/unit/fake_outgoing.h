/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migrations that only pretend, for tests of what stands above migration/: every function of outgoing.h and incoming.h,
 * and mover_main(), so that the real ones are not linked. Include after fake_machine.h.
 *
 * A fake migration does what the last word of its address says. Out: "moves", "refused", "works" (a dry run), "stays" (in
 * its rounds, until cancelled), "doubt" (until resolved). In: "comes", "dry", "fails" (once built), "sealed" (the
 * same, once loaded), "twice" (fails, then comes), "doubt", "over"; "taken" is an address in use, and "mute" one that is
 * found out later to be none.
 */
#ifndef TESTS_FAKE_OUTGOING_H
#define TESTS_FAKE_OUTGOING_H

#include <stdio.h>

#include "migration/incoming.h"
#include "migration/mover.h"
#include "migration/outgoing.h"
#include "tests/unit/fake_machine.h"

#define FAKE_STEP_US 5000

struct outgoing {
	struct machine *machine;
	struct loop_timer *timer;
	struct outgoing_events events;
	struct migration_progress progress;
	struct migration_params params;	 /* as of outgoing_start() */
	struct migration_params changed; /* as of outgoing_set_params() */
	char uri[200], word[20], tls[200];
	unsigned int starts, step;
	int resolved; /* 1: own, -1: drop */
	bool cancelled;
};

struct incoming {
	struct loop_timer *timer;
	struct incoming_owner owner;
	struct migration_progress progress;
	char uri[200], word[20];
	unsigned int step;
	int resolved;
};

static inline void fake_word(char word[20], const char *uri)
{
	const char *slash = strrchr(uri, '/');

	snprintf(word, 20, "%s", slash ? slash + 1 : uri);
}

static inline void fake_phase(struct outgoing *outgoing, enum migration_phase phase)
{
	outgoing->progress.phase = phase;
	outgoing->progress.elapsed_us += 1234567;
	if (outgoing->events.phase)
		outgoing->events.phase(outgoing->events.opaque, phase);
}

static inline void fake_gone(struct outgoing *outgoing)
{
	struct migration_progress *progress = &outgoing->progress;

	progress->downtime_us = 2600;
	progress->pause_us = 100;
	progress->harvest_us = 200;
	progress->pages_us = 1100;
	progress->state_us = 500;
	progress->handover_us = 400;
	progress->resume_us = 300;
	progress->standstill_us = 2500;
	progress->ring_full =
		(struct ring_full){.in_use = true, .waits = 12, .wait_us = 5200, .longest_us = 800};
	outgoing->machine->status = MACHINE_POSTMIGRATE;
	fake_phase(outgoing, PHASE_COMPLETED);
	outgoing->events.gone(outgoing->events.opaque);
}

static inline void fake_moves(struct outgoing *outgoing)
{
	static const enum migration_phase phases[] = {PHASE_ROUNDS, PHASE_ROUNDS, PHASE_SWITCH,
						      PHASE_HANDOVER};
	struct migration_progress *progress = &outgoing->progress;

	if (outgoing->step > ARRAY_SIZE(phases)) {
		fake_gone(outgoing);
		return;
	}
	progress->round = outgoing->step - 1;
	progress->pages_total = 1000;
	progress->pages_left = 1000 / outgoing->step;
	progress->pages_data += 900;
	progress->pages_zero += 100;
	progress->pages_again = progress->pages_data - 900;
	progress->bytes = progress->pages_data * 4096;
	progress->send_rate = 100 << 20;
	progress->dirty_rate = 1000;
	progress->expected_downtime_us = 2500;
	fake_phase(outgoing, phases[outgoing->step - 1]);
	loop_timer_arm(outgoing->timer, FAKE_STEP_US);
}

static inline void fake_outgoing_step(void *opaque)
{
	struct outgoing *outgoing = opaque;
	const char *word = outgoing->word;

	outgoing->step++;
	if (outgoing->cancelled) {
		fake_phase(outgoing, PHASE_CANCELLED);
	} else if (!strcmp(word, "refused")) {
		strcpy(outgoing->progress.text, "the target lacks AVX2 (CPUID 7:0 EBX bit 5)");
		fake_phase(outgoing, PHASE_FAILED);
	} else if (outgoing->params.dry_run) {
		fake_phase(outgoing, PHASE_WOULD_WORK);
	} else if (!strcmp(word, "stays")) {
		outgoing->progress.pages_total = 1000;
		fake_phase(outgoing, PHASE_ROUNDS);
	} else if (!strcmp(word, "doubt")) {
		strcpy(outgoing->progress.text, "connection lost");
		fake_phase(outgoing, PHASE_DOUBT);
	} else {
		fake_moves(outgoing);
	}
}

static inline void fake_incoming_phase(struct incoming *incoming, enum migration_phase phase)
{
	incoming->progress.phase = phase;
	if (incoming->owner.phase)
		incoming->owner.phase(incoming->owner.opaque, phase);
}

static inline void fake_incoming_build(struct incoming *incoming)
{
	struct machine *machine;
	struct config config;

	config_init(&config);
	config.name = strdup("guest");
	config.kernel = strdup("stay");
	config.serial = SERIAL_OFF;
	if (incoming->owner.build(incoming->owner.opaque, &config, &machine))
		strcpy(incoming->word, "refused");
	else
		machine->sealed = !strcmp(incoming->word, "sealed");
	config_fini(&config);
}

static inline void fake_incoming_step(void *opaque)
{
	struct incoming *incoming = opaque;
	const struct incoming_owner *owner = &incoming->owner;
	const char *word = incoming->word;

	if (!strcmp(word, "over")) {
		owner->over(owner->opaque, "the mover died");
		return;
	}
	if (++incoming->step == 1) {
		fake_incoming_phase(incoming, PHASE_CONNECT);
		fake_incoming_build(incoming);
		fake_incoming_phase(incoming, PHASE_ROUNDS);
		loop_timer_arm(incoming->timer, FAKE_STEP_US);
	} else if (!strcmp(word, "dry")) {
		owner->drop(owner->opaque, "");
		fake_incoming_phase(incoming, PHASE_WOULD_WORK);
	} else if (!strcmp(word, "fails") || !strcmp(word, "sealed")) {
		owner->drop(owner->opaque, "the source was lost");
		fake_incoming_phase(incoming, PHASE_FAILED);
	} else if (!strcmp(word, "twice")) {
		owner->drop(owner->opaque, "the source was lost");
		fake_incoming_phase(incoming, PHASE_FAILED);
		incoming->step = 0;
		strcpy(incoming->word, "comes");
		loop_timer_arm(incoming->timer, FAKE_STEP_US);
	} else if (!strcmp(word, "doubt") && !incoming->resolved) {
		incoming->progress.phase = PHASE_DOUBT;
		owner->doubt(owner->opaque, "the source is lost");
	} else if (!strcmp(word, "comes")) {
		incoming->progress.phase = PHASE_COMPLETED;
		owner->taken(owner->opaque);
	}
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
int mover_main(const void *request, size_t len, const int ends[2], const struct sandbox *sandbox)
{
	return 1;
}

int outgoing_new(struct outgoing **out, struct machine *machine, struct loop *loop,
		 struct broker *broker, const struct outgoing_events *events)
{
	struct outgoing *outgoing = calloc(1, sizeof(*outgoing));

	outgoing->machine = machine;
	if (events)
		outgoing->events = *events;
	outgoing->progress.expected_downtime_us = UINT64_MAX;
	*out = outgoing;
	return loop_timer_new(loop, fake_outgoing_step, outgoing, &outgoing->timer);
}

void outgoing_free(struct outgoing *outgoing)
{
	if (!outgoing)
		return;
	loop_timer_free(outgoing->timer);
	free(outgoing);
}

int outgoing_start(struct outgoing *outgoing, const char *uri, const char *tls,
		   const struct migration_params *params)
{
	memset(&outgoing->progress, 0, sizeof(outgoing->progress));
	outgoing->progress.expected_downtime_us = UINT64_MAX;
	outgoing->params = *params;
	snprintf(outgoing->tls, sizeof(outgoing->tls), "%s", tls);
	outgoing->starts++;
	outgoing->step = 0;
	outgoing->cancelled = false;
	snprintf(outgoing->uri, sizeof(outgoing->uri), "%s", uri);
	fake_word(outgoing->word, uri);
	fake_phase(outgoing, PHASE_CONNECT);
	loop_timer_arm(outgoing->timer, FAKE_STEP_US);
	return 0;
}

int outgoing_save(struct outgoing *outgoing, const char *path, enum save_after after,
		  const struct migration_params *params)
{
	return outgoing_start(outgoing, path, "", params);
}

bool outgoing_is_save(const struct outgoing *outgoing)
{
	return false;
}

int outgoing_cancel(struct outgoing *outgoing)
{
	if (outgoing->progress.phase >= PHASE_HANDOVER)
		return -EBUSY;
	outgoing->cancelled = true;
	loop_timer_arm(outgoing->timer, FAKE_STEP_US);
	return 0;
}

int outgoing_resolve(struct outgoing *outgoing, bool own)
{
	if (outgoing->progress.phase != PHASE_DOUBT)
		return -EBUSY;
	outgoing->resolved = own ? 1 : -1;
	if (own)
		fake_phase(outgoing, PHASE_FAILED);
	else
		fake_gone(outgoing);
	return 0;
}

const struct migration_progress *outgoing_progress(const struct outgoing *outgoing)
{
	return &outgoing->progress;
}

void outgoing_set_params(struct outgoing *outgoing, const struct migration_params *params)
{
	outgoing->changed = *params;
}

int incoming_new(struct incoming **out, const char *uri, const char *tls,
		 const struct migration_params *params, struct loop *loop, struct broker *broker,
		 const struct incoming_owner *owner)
{
	struct incoming *incoming = calloc(1, sizeof(*incoming));

	snprintf(incoming->uri, sizeof(incoming->uri), "%s", uri);
	fake_word(incoming->word, uri);
	incoming->owner = *owner;
	if (!strcmp(incoming->word, "taken")) {
		free(incoming);
		return fail(-EADDRINUSE, "fake: %s: in use", uri);
	}
	*out = incoming;
	owner->listening(owner->opaque, uri);
	if (loop_timer_new(loop, fake_incoming_step, incoming, &incoming->timer))
		abort();
	loop_timer_arm(incoming->timer, FAKE_STEP_US);
	return 0;
}

int incoming_listen(struct incoming **out, const char *uri, const char *tls,
		    const struct migration_params *params, struct loop *loop, struct broker *broker,
		    const struct incoming_owner *owner)
{
	int error;

	*out = NULL;
	error = incoming_new(out, uri, tls, params, loop, broker, owner);
	if (!error && !strcmp((*out)->word, "mute"))
		error = fail(-EADDRNOTAVAIL, "fake: %s: cannot be listened at", uri);
	if (!error) {
		fake_incoming_phase(*out, PHASE_CONNECT);
		return 0;
	}
	incoming_free(*out);
	*out = NULL;
	return error;
}

const char *incoming_address(const struct incoming *incoming)
{
	return incoming->uri;
}

void incoming_free(struct incoming *incoming)
{
	if (!incoming)
		return;
	loop_timer_free(incoming->timer);
	free(incoming);
}

int incoming_resolve(struct incoming *incoming, bool own)
{
	if (incoming->progress.phase != PHASE_DOUBT)
		return -EBUSY;
	incoming->resolved = own ? 1 : -1;
	incoming->progress.phase = own ? PHASE_COMPLETED : PHASE_FAILED;
	if (own)
		incoming->owner.taken(incoming->owner.opaque);
	else
		incoming->owner.drop(incoming->owner.opaque, "the operator's word");
	return 0;
}

const struct migration_progress *incoming_progress(const struct incoming *incoming)
{
	return &incoming->progress;
}
#pragma GCC diagnostic pop

#endif
