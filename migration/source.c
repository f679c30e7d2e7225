// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The source's stages, in the mover.
 *
 * Theory of operation. docs/migration.md has the walk, docs/lifecycle.md what each failure leaves behind. The stages run
 * in the order of the table at the end. Until LINK_RELEASE has succeeded any error leads to fail_attempt(): the target is
 * told, the VMM gets LINK_OVER and has the VM run on. From there on the mover is deaf to cancelling, and only TAKEN,
 * REFUSED_OWN, UNKNOWN or the operator end it: a connection that breaks is made again, and the question asked again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/mover.h"
#include "migration/pages_out.h"
#include "migration/policy.h"

#define CONNECT_MS     5000
#define CONFIG_WAIT_US 60000000 /* the target builds a machine, with huge pages perhaps */
#define READY_TIMES    2 /* the limit of silence: for the target to load, the guest standing still */
#define STALL_TIMES    3 /* the same: data that has not moved for so long is lost */
#define ASK_AGAIN_US   500000
#define FIXED_US       2000 /* of a switch-over, beside round trips, until one has been measured */
#define WHY_US	       300000
#define IDLE_PAGES     64
#define IDLE_US	       5000
#define SETTLE_TIMES   4
#define RATE_MIN_BYTES (1 << 20) /* less than that says nothing about the rate */

struct source {
	struct pages_out *pages;
	uint64_t *present;
	uint8_t session[WIRE_SESSION_BYTES];
	uint32_t rounds_done; /* ROUND_DONE has come for so many */
	uint64_t damaged;
	bool hello_ok, config_ok, ready, refused;
	bool told;			/* CANCEL is on its way */
	bool complete;			/* the target has been sent all that makes the VM */
	uint64_t arrived;		/* bytes of data that the target's kernel has */
	uint64_t moved_us, moved;	/* they last became more then, and were so many */
	char why[MIGRATION_TEXT_BYTES]; /* refused */
	uint32_t answer_type;		/* TAKEN, REFUSED_OWN or UNKNOWN; 0 none yet */
	struct wire_answer answer;
	uint32_t channels_limit;
	uint32_t round;
	bool cut; /* the last round, for the deadline: what it left out is in the map, and counted in rest */
	uint64_t rest;	  /* pages that are still to be sent, as of the last harvest */
	uint64_t surplus; /* see struct policy_input */
	struct policy_history history;
	uint64_t rtt_us, fixed_us;
	uint64_t harvest_us, switch_us; /* when the last harvest was; when the guest was stopped */
	struct link_switched switched;
};

static struct source *source_of(struct mover *mover)
{
	return mover->side;
}

/* ---- Records of the target ---- */

static int take_answer(struct source *source, const struct control_message *message)
{
	struct wire_answer answer;

	if (wire_get_answer(message->head, message->head_bytes, message->type, &answer) ||
	    memcmp(answer.session, source->session, WIRE_SESSION_BYTES) != 0)
		return fail(-EBADMSG, "the target answers another hand-over");
	source->answer = answer;
	if (message->type == WIRE_READY)
		source->ready = true;
	else
		source->answer_type = message->type;
	return 0;
}

static int on_record(struct mover *mover, const struct control_message *message)
{
	struct source *source = source_of(mover);
	struct wire_hello_ok ok;
	struct wire_round round;
	char text[WIRE_TEXT_MAX + 1];

	switch (message->type) {
	case WIRE_HELLO_OK:
		if (source->hello_ok ||
		    wire_get_hello_ok(message->head, message->head_bytes, &ok) ||
		    ok.version != WIRE_VERSION)
			break;
		source->hello_ok = true;
		source->channels_limit = ok.channels;
		log_info("migration: target: %.200s", ok.text);
		return 0;
	case WIRE_CONFIG_OK:
		if (!source->hello_ok || source->config_ok ||
		    wire_get_text(message->head, message->head_bytes, text))
			break;
		source->config_ok = true;
		snprintf(mover->progress.text, sizeof(mover->progress.text), "%.*s",
			 MIGRATION_TEXT_BYTES - 1, text);
		return 0;
	case WIRE_REFUSE:
		if ((source->ready && !mover->deaf) ||
		    wire_get_text(message->head, message->head_bytes, text))
			break;
		source->refused = true;
		snprintf(source->why, sizeof(source->why), "the target refuses: %.*s", 480, text);
		return fail(-ECONNREFUSED, "%s", source->why);
	case WIRE_ROUND_DONE:
		if (!source->pages || wire_get_round(message->head, message->head_bytes, &round) ||
		    round.round != source->rounds_done || round.round > source->round)
			break;
		source->rounds_done++;
		source->damaged = round.pages;
		return 0;
	case WIRE_READY:
		if (source->ready || !source->switch_us)
			break;
		return take_answer(source, message);
	case WIRE_TAKEN:
	case WIRE_REFUSED_OWN:
	case WIRE_UNKNOWN:
		if (source->answer_type || !mover->deaf)
			break;
		return take_answer(source, message);
	}
	return fail(-EBADMSG, "the target sent %s where it has no place",
		    wire_type_name(message->type));
}

/* ---- Conditions ---- */

static bool has_hello(struct mover *mover)
{
	return source_of(mover)->hello_ok;
}

static bool has_config(struct mover *mover)
{
	return source_of(mover)->config_ok;
}

static bool has_ready(struct mover *mover)
{
	return source_of(mover)->ready;
}

static bool has_answer(struct mover *mover)
{
	return source_of(mover)->answer_type != 0;
}

static void count(struct mover *mover)
{
	struct pages_out_stats stats;
	uint64_t round_pages = mover->progress.round ? source_of(mover)->rest : mover->npages;

	pages_out_get_stats(source_of(mover)->pages, &stats);
	mover->progress.pages_data = stats.data;
	mover->progress.pages_zero = stats.zero;
	mover->progress.bytes = stats.bytes;
	source_of(mover)->arrived = stats.bytes - stats.queued;
	mover->progress.pages_left =
		round_pages > stats.round_pages ? round_pages - stats.round_pages : 0;
	/* A first round that was cut short has not sent all of them even once. */
	if (mover->progress.round && stats.data + stats.zero > mover->npages)
		mover->progress.pages_again = stats.data + stats.zero - mover->npages;
	mover_tell(mover, false);
}

/* Heartbeats do not tell of a data connection that swallows what it is given. */
static bool has_stalled(struct mover *mover)
{
	struct source *source = source_of(mover);
	uint64_t now = now_us();

	if (source->arrived != source->moved) {
		source->moved = source->arrived;
		source->moved_us = now;
	}
	return now > source->moved_us + STALL_TIMES * (uint64_t)mover->params.silence_us;
}

/* A channel's error is found here, and in the end by its control connection too. */
static bool round_is_over(struct mover *mover)
{
	struct source *source = source_of(mover);
	int status = pages_out_status(source->pages);

	count(mover);
	return status < 0 || (status && source->rounds_done > source->round) || has_stalled(mover);
}

/* ---- Connect ---- */

static int send_record(struct mover *mover, enum wire_type type, const struct buf *head)
{
	return control_send(&mover->control, type, head, NULL, 0);
}

static int send_session(struct mover *mover, enum wire_type type)
{
	struct wire_answer answer = {};
	struct buf head;
	int error;

	memcpy(answer.session, source_of(mover)->session, WIRE_SESSION_BYTES);
	buf_init(&head, 64);
	wire_put_answer(&head, type, &answer);
	error = send_record(mover, type, &head);
	buf_fini(&head);
	return error;
}

/* The handshake waits for the peer, and not for ever. */
static int secure(struct mover *mover, int fd, struct tls_session **session)
{
	struct timeval limit = {.tv_sec = CONNECT_MS / 1000}, none = {};
	int shaken, error = tls_session_new(session, mover->tls, fd);

	if (error)
		return error;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	shaken = tls_handshake(*session);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	if (shaken == 1)
		return 0;
	tls_session_free(*session);
	*session = NULL;
	return shaken ? shaken : fail(-ETIMEDOUT, "tls: the target does not answer");
}

static int open_connection(struct mover *mover, struct transport *out)
{
	struct tls_session *session = NULL;
	char text[ADDRESS_TEXT_BYTES];
	int fd, error = address_connect(&mover->address, CONNECT_MS, &fd);

	address_text(&mover->address, text);
	if (error)
		return fail(error, "migration: %s: %s", text, strerror(-error));
	address_set_options(fd, mover->params.silence_us / 1000);
	error = mover->tls ? secure(mover, fd, &session) : 0;
	if (error)
		close(fd);
	else
		transport_init(out, fd, session, "connection");
	return error;
}

static int connect_control(struct mover *mover)
{
	struct transport transport = {.fd = -1};
	int error = open_connection(mover, &transport);

	if (error)
		return error;
	fcntl(transport.fd, F_SETFL, O_NONBLOCK);
	control_init(&mover->control, transport.fd, transport.tls, "target",
		     mover->params.silence_us);
	mover->connected = true;
	return 0;
}

static int stage_hello(struct mover *mover)
{
	struct source *source = source_of(mover);
	struct wire_hello hello = {.version = WIRE_VERSION,
				   .oldest = WIRE_VERSION,
				   .page_bytes = RAM_PAGE_BYTES,
				   .arch = wire_own_arch(),
				   .channels = mover->params.channels,
				   .flags = mover->params.dry_run ? WIRE_HELLO_DRY_RUN : 0};
	struct utsname host;
	uint64_t begin;
	struct buf head;
	int error = connect_control(mover);

	if (error)
		return error;
	if (getrandom(source->session, sizeof(source->session), 0) != sizeof(source->session))
		return fail(-errno, "migration: random bytes: %s", strerror(errno));
	memcpy(hello.session, source->session, sizeof(hello.session));
	uname(&host);
	snprintf(hello.text, sizeof(hello.text), "Tern %s, Linux %s", TERN_VERSION, host.release);
	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_hello(&head, &hello);
	begin = now_us();
	error = send_record(mover, WIRE_HELLO, &head);
	buf_fini(&head);
	if (!error)
		error = mover_wait(mover, has_hello, mover->params.silence_us,
				   "the target's hello");
	source->rtt_us = now_us() - begin;
	if (!error && source->channels_limit < mover->params.channels)
		error = fail(-EINVAL, "migration: the target takes %u channels, not %u",
			     source->channels_limit, mover->params.channels);
	return error;
}

static int stage_config(struct mover *mover)
{
	struct buf head;
	int error = mover_ask(mover, LINK_DESCRIBE, 0, NULL);

	if (error)
		return error;
	buf_init(&head, WIRE_HEAD_MAX);
	buf_put(&head, mover->mailbox, mover->answer.value);
	error = send_record(mover, WIRE_CONFIG, &head);
	buf_fini(&head);
	return error ? error
		     : mover_wait(mover, has_config, CONFIG_WAIT_US,
				  "the target's answer to the configuration");
}

static int stage_channels(struct mover *mover)
{
	struct source *source = source_of(mover);
	struct pages_out_env env = {.ram = mover->ram,
				    .npages = mover->npages,
				    .wake_fd = mover->wake_fd,
				    .opaque = mover};
	struct transport connections[MIGRATION_CHANNELS_MAX];
	int error = mover_ask(mover, LINK_TRACK, 0, NULL);
	unsigned int n = 0;

	if (error)
		return error;
	env.rearm = mover->answer.value ? mover_rearm : NULL;
	while (!error && n < mover->params.channels) {
		error = open_connection(mover, &connections[n]);
		n += !error;
	}
	if (error) {
		while (n)
			transport_close(&connections[--n]);
		return error;
	}
	error = pages_out_new(&source->pages, &env, connections, n, source->session);
	if (!error)
		pages_out_set_bandwidth(source->pages, mover->params.bandwidth_bytes);
	return error;
}

/* ---- Rounds ---- */

static void set_bits(uint64_t *map, page_t first, page_t end)
{
	for (page_t page = first; page < end; page++)
		map[page / 64] |= 1ULL << (page % 64);
}

/* Which pages the memory file holds at all. Without this, looking at one that it does not would make it hold it. */
static int find_present(struct mover *mover)
{
	struct source *source = source_of(mover);
	off_t end = (off_t)(mover->npages * RAM_PAGE_BYTES), data = 0, hole;

	source->present = calloc(mover->npages / 64, sizeof(uint64_t));
	if (!source->present)
		return fail(-ENOMEM, "migration: no memory for a page map");
	while ((data = lseek(mover->ram_fd, data, SEEK_DATA)) >= 0 && data < end) {
		hole = lseek(mover->ram_fd, data, SEEK_HOLE);
		if (hole < 0)
			hole = end;
		set_bits(source->present, (page_t)data / RAM_PAGE_BYTES,
			 ((page_t)hole + RAM_PAGE_BYTES - 1) / RAM_PAGE_BYTES);
		data = hole;
	}
	if (data < 0 && errno != ENXIO)
		memset(source->present, 0xff,
		       mover->npages / 8); /* a file system that cannot tell */
	return 0;
}

/* What a round takes besides its bytes is a round trip, and what threads need to wake up. The least seen is believed. */
static void note_overhead(struct source *source, uint64_t took, uint64_t bytes, uint64_t rate)
{
	uint64_t data_us = rate ? bytes * 1000000 / rate : 0;
	uint64_t overhead = took > data_us ? took - data_us : 0;

	if (bytes < RATE_MIN_BYTES && overhead < source->rtt_us)
		source->rtt_us = overhead;
}

/* How long a round may take, for the deadline: nobody is to wait for a long round's end. 0: as long as it does. */
static uint64_t round_limit_us(const struct mover *mover)
{
	const struct source *source = mover->side;
	const uint64_t elapsed = now_us() - mover->begin_us, deadline = mover->params.deadline_us;

	if (!deadline || source->switch_us)
		return 0;
	return elapsed < deadline ? deadline - elapsed : 1;
}

/* The deadline has come within a round: it is all over, or the round is left where it is and the guest has to wait for it. */
static int cut_round(struct mover *mover)
{
	struct source *source = source_of(mover);

	if (!mover->params.force)
		return fail(-ETIME,
			    "migration: given up: the deadline of %.1f s has passed, %" PRIu64
			    " pages before the end of round %u",
			    mover->params.deadline_us / 1e6, mover->progress.pages_left,
			    source->round);
	source->cut = true;
	pages_out_cut(source->pages);
	return mover_wait(mover, round_is_over, 0, NULL);
}

static int send_round(struct mover *mover, const uint64_t *map, const uint64_t *present)
{
	struct source *source = source_of(mover);
	uint64_t begin = now_us(), bytes = mover->progress.bytes, took;
	const uint64_t limit_us = round_limit_us(mover);
	int error;

	mover->progress.round = source->round;
	source->moved_us = begin;
	source->cut = false;
	pages_out_begin(source->pages, source->round, map, present);
	error = mover_wait(mover, round_is_over, limit_us, NULL);
	if (error == -ETIMEDOUT && limit_us && now_us() >= begin + limit_us)
		error = cut_round(mover);
	if (error)
		return error;
	/* What it says counts more than that its connections end. */
	if (source->refused)
		return fail_again(-ECONNREFUSED, source->why);
	if (pages_out_status(source->pages) < 0) {
		/* Why a data connection ended may be on its way on the control connection. */
		error = mover_pause(mover, WHY_US);
		return error == -ETIMEDOUT ? pages_out_status(source->pages) : error;
	}
	if (source->rounds_done <= source->round)
		return fail(-ETIMEDOUT, "the target has had no data for %" PRIu64 " ms",
			    (now_us() - source->moved_us) / 1000);
	took = now_us() - begin;
	took = took ? took : 1;
	bytes = mover->progress.bytes - bytes;
	if (bytes >= RATE_MIN_BYTES || !mover->progress.send_rate)
		mover->progress.send_rate = bytes * 1000000 / took;
	note_overhead(source, took, bytes, mover->progress.send_rate);
	source->round++;
	return 0;
}

static uint64_t fixed_us(const struct mover *mover)
{
	const struct source *source = mover->side;

	return source->fixed_us + 2 * source->rtt_us;
}

/* What the policy is asked with. */
static struct policy_input measurements(struct mover *mover)
{
	struct source *source = source_of(mover);

	return (struct policy_input){
		.round = source->round - 1,
		.dirty_pages = source->rest,
		.page_bytes = RAM_PAGE_BYTES,
		.send_rate = mover->progress.send_rate,
		.fixed_us = fixed_us(mover),
		.max_downtime_us = mover->params.max_downtime_us,
		.elapsed_us = now_us() - mover->begin_us,
		.deadline_us = mover->params.deadline_us,
		.force = mover->params.force,
		.surplus_pages = source->surplus,
		.history = source->history,
	};
}

/* A round that was cut short ends all rounds: what it left joins what the last harvest finds. */
static int harvest(struct mover *mover)
{
	struct source *source = source_of(mover);
	uint64_t now;
	int error;

	if (source->cut) {
		source->rest = pages_out_left(source->pages, mover->map);
		return 0;
	}
	error = mover_ask(mover, LINK_HARVEST, 0, NULL);
	if (error)
		return error;
	now = now_us();
	source->rest = mover->answer.value;
	policy_history_add(&source->history, &(struct policy_round){
						     .dirty_pages = source->rest,
						     .round_us = now - source->harvest_us,
						     .send_rate = mover->progress.send_rate,
					     });
	source->harvest_us = now;
	return 0;
}

/* ---- Switch-over ---- */

static int send_hash(struct mover *mover)
{
	struct wire_round hash = {.round = source_of(mover)->round};
	struct buf head;
	int error;

	hash.pages = hash_bytes(mover->ram, mover->npages * RAM_PAGE_BYTES);
	buf_init(&head, 64);
	wire_put_round(&head, &hash);
	error = send_record(mover, WIRE_RAM_HASH, &head);
	buf_fini(&head);
	return error;
}

static int send_state(struct mover *mover)
{
	struct source *source = source_of(mover);
	struct wire_state state = {.round = source->round,
				   .flags = source->switched.paused ? WIRE_STATE_PAUSED : 0};
	struct buf head;
	int error;

	if (source->switched.state_bytes > WIRE_STATE_MAX)
		return fail(-EMSGSIZE, "migration: state of %" PRIu64 " bytes",
			    source->switched.state_bytes);
	state.hash = hash_bytes(mover->mailbox, source->switched.state_bytes);
	buf_init(&head, 64);
	wire_put_state(&head, &state);
	error = control_send(&mover->control, WIRE_STATE, &head, mover->mailbox,
			     source->switched.state_bytes);
	buf_fini(&head);
	return error;
}

/* The VMM counts what it has harvested itself. */
static uint64_t count_bits(const uint64_t *map, page_t npages)
{
	uint64_t pages = 0;

	for (page_t word = 0; word < npages / 64; word++)
		pages += (unsigned int)__builtin_popcountll(map[word]);
	return pages;
}

/* Stops the guest. 1: the rest is too much after all, and it runs again. */
static int try_switch(struct mover *mover, bool forced)
{
	struct source *source = source_of(mover);
	struct policy_output verdict;
	struct policy_input input;
	uint64_t before = source->rest;
	int error;

	source->switch_us = now_us();
	mover->progress.phase = PHASE_SWITCH;
	mover_tell(mover, true);
	error = mover_ask(mover, LINK_SWITCH, 0, NULL);
	if (error)
		return error;
	source->switched = mover->answer.switched;
	source->rest = source->cut ? count_bits(mover->map, mover->npages) : source->switched.pages;
	input = measurements(mover);
	input.fixed_us += now_us() - source->switch_us;
	policy_after_pause(&input, forced, &verdict);
	if (verdict.verdict == POLICY_STOP)
		return 0;
	if (source->rest > before && source->rest - before > source->surplus)
		source->surplus = source->rest - before;
	mover->progress.phase = PHASE_ROUNDS;
	mover_tell(mover, true);
	source->switch_us = 0;
	error = mover_ask(mover, LINK_RUN_ON, 0, NULL);
	mover_note_early_stop(mover, &source->switched);
	return error ? error : 1;
}

static int finish_switch(struct mover *mover)
{
	struct source *source = source_of(mover);
	struct migration_progress *progress = &mover->progress;
	uint64_t begin = now_us();
	int error = mover->params.verify_ram ? send_hash(mover) : 0;

	progress->pause_us = source->switched.pause_us;
	progress->harvest_us = source->switched.harvest_us;
	if (!error)
		error = send_state(mover);
	if (!error)
		error = send_round(mover, mover->map, NULL);
	progress->pages_us = now_us() - begin;
	begin = now_us();
	source->complete = !error;
	if (!error)
		error = mover_wait(mover, has_ready,
				   mover->params.verify_ram
					   ? CONFIG_WAIT_US
					   : READY_TIMES * (uint64_t)mover->params.silence_us,
				   "the target's word that it is ready");
	progress->state_us = now_us() - begin + source->switched.save_us;
	return error;
}

/* Hardly anything to send, and yet it cannot switch over: what counts is time, and rounds without end cost the guest. */
static int let_it_gather(struct mover *mover)
{
	int error = mover_pause(mover, IDLE_US);

	return error == -ETIMEDOUT ? 0 : error;
}

static int stage_rounds(struct mover *mover)
{
	struct source *source = source_of(mover);
	struct policy_output verdict;
	struct policy_input input;
	int error = find_present(mover), again = 1;

	mover->progress.phase = PHASE_ROUNDS;
	source->harvest_us = now_us();
	source->rest = mover->npages;
	if (!error)
		error = send_round(mover, NULL, source->present);
	while (!error && again) {
		error = harvest(mover);
		if (error)
			return error;
		input = measurements(mover);
		policy_decide(&input, &verdict);
		mover->progress.dirty_rate = verdict.dirty_rate;
		mover->progress.expected_downtime_us = verdict.downtime_us;
		mover_tell(mover, true);
		if (verdict.verdict == POLICY_GIVE_UP)
			return fail(-ETIME, "migration: given up: %s", verdict.text);
		if (verdict.verdict == POLICY_STOP)
			again = try_switch(mover, verdict.forced);
		if (again < 0)
			return again;
		if (again && source->rest < IDLE_PAGES)
			error = let_it_gather(mover);
		if (again && !error)
			error = send_round(mover, mover->map, NULL);
	}
	return error;
}

/* ---- Hand-over ---- */

/* A VMM that has just given the disks up may be gone: the hand-over does not need it any more. */
static int stage_own(struct mover *mover)
{
	struct source *source = source_of(mover);
	uint64_t begin = now_us(), took;
	int error = mover_ask(mover, LINK_RELEASE, 0, NULL);

	if (error)
		return error;
	mover->deaf = true;
	mover->progress.phase = PHASE_HANDOVER;
	mover_tell(mover, true);
	/* What goes wrong here is doubt, not failure. */
	if (!send_session(mover, WIRE_OWN) &&
	    mover_wait(mover, has_answer, READY_TIMES * (uint64_t)mover->params.silence_us,
		       "the target's answer to OWN"))
		log_debug("migration: no answer to OWN");
	took = now_us() - begin;
	/* The target's word for what it took there; whatever it says, it is a part of that time. */
	mover->progress.resume_us = source->answer.us < took ? source->answer.us : took;
	mover->progress.handover_us = took - mover->progress.resume_us;
	mover->progress.downtime_us = now_us() - source->switch_us;
	/* Without an answer nobody here knows when it ran there. */
	if (source->answer_type == WIRE_TAKEN && !source->switched.paused)
		mover->progress.standstill_us = now_us() - source->switched.stopped_us;
	return 0;
}

/* -EPIPE: the VMM is gone, and with it what UNKNOWN would give back: the target must not be asked any more. */
static int ask_again(struct mover *mover)
{
	int error;

	mover_disconnect(mover);
	/* The pause between attempts; also where the VMM's words are heard. */
	error = mover_pause(mover, ASK_AGAIN_US);
	if (error != -ETIMEDOUT || mover->resolved)
		return error == -EPIPE ? error : 0;
	error = connect_control(mover);
	if (!error)
		error = send_session(mover, WIRE_ASK);
	if (!error)
		error = mover_wait(mover, has_answer, mover->params.silence_us, NULL);
	if (error && error != -ETIMEDOUT)
		log_debug("migration: asked in vain: %s", fail_text());
	return error == -EPIPE ? error : 0;
}

/* OWN was sent, and its answer did not come: asks until there is one, or the operator's word. */
static int resolve_doubt(struct mover *mover)
{
	struct source *source = source_of(mover);
	int error = 0;

	snprintf(mover->progress.text, sizeof(mover->progress.text),
		 "in doubt whether the target has the VM: %.*s", 400, fail_text());
	mover->progress.phase = PHASE_DOUBT;
	mover_tell(mover, true);
	log_warn("migration: %s; asking it again", mover->progress.text);
	while (!error && !source->answer_type && !mover->resolved)
		error = ask_again(mover);
	if (!error && !source->answer_type)
		source->answer_type = mover->resolved > 0 ? WIRE_UNKNOWN : WIRE_TAKEN;
	return error;
}

static int stage_answer(struct mover *mover)
{
	struct source *source = source_of(mover);
	bool taken;
	int error = source->answer_type ? 0 : resolve_doubt(mover);

	if (error)
		return error;
	taken = source->answer_type == WIRE_TAKEN;
	if (mover->connected && !send_session(mover, WIRE_DONE) && mover_drain(mover))
		log_debug("migration: the target will wait for a question");
	mover_disconnect(mover); /* both ends know now, or this one will not be asked again */
	mover->progress.phase = taken ? PHASE_COMPLETED : PHASE_FAILED;
	if (source->answer_type == WIRE_REFUSED_OWN)
		fail(-ECONNREFUSED, "the target could not take the VM: %s", source->answer.text);
	else if (!taken)
		fail(-ECONNRESET, "the target never took the VM");
	mover_tell(mover, true);
	error = mover_ask(mover, taken ? LINK_GONE : LINK_KEPT, 0, NULL);
	return error ? error : taken ? 0 : -ECONNREFUSED;
}

/* ---- The stages ---- */

static const struct stage {
	const char *name;
	int (*run)(struct mover *mover);
} stages[] = {
	{"hello", stage_hello},		      /* target: hello */
	{"config", stage_config},	      /* target: build */
	{"channels", stage_channels},	      /* target: channels */
	{"rounds", stage_rounds},	      /* target: rounds */
	{"last pages, state", finish_switch}, /* target: load */
	{"own", stage_own},		      /* target: take */
	{"answer", stage_answer},	      /* target: after */
};

static void fail_attempt(struct mover *mover, int error)
{
	struct source *source = source_of(mover);
	/* A VMM that has died runs nothing on: a target that has it all may hold the only copy, and keeps it if it is ready. */
	bool orphan = error == -EPIPE && source->complete;
	struct buf head;

	mover->progress.phase = error == -ECANCELED ? PHASE_CANCELLED : PHASE_FAILED;
	snprintf(mover->progress.text, sizeof(mover->progress.text), "%s",
		 error == -ECANCELED ? "cancelled" : fail_text());
	if (mover->connected && !mover->deaf && !source->refused && !orphan) {
		buf_init(&head, WIRE_HEAD_MAX);
		wire_put_text(&head, mover->progress.text);
		mover->cancelled = false;
		source->told = !mover->control.broken && !send_record(mover, WIRE_CANCEL, &head) &&
			       !mover_drain(mover);
		if (!source->told)
			log_debug("migration: the target may not know why");
		buf_fini(&head);
	}
	pages_out_free(source->pages);
	source->pages = NULL;
}

/*
 * The VM runs on here, and a target that may have said READY, unheard, would keep what it has for the operator. It is
 * asked, as for a doubt of this end: an ASK that comes before OWN settles that there will be none. The guest does not wait
 * for it.
 */
static void settle_target(struct mover *mover)
{
	struct source *source = source_of(mover);
	uint64_t until = now_us() + SETTLE_TIMES * (uint64_t)mover->params.silence_us;

	close_fd(&mover->link_fd);
	mover_unmap_ram(mover);
	mover->deaf = true;
	/* A target that reads CANCEL hangs up. */
	if (source->told && mover_pause(mover, mover->params.silence_us) != -ETIMEDOUT)
		return;
	while (!source->answer_type && now_us() < until)
		if (ask_again(mover))
			break;
	if (source->answer_type && !send_session(mover, WIRE_DONE) && mover_drain(mover))
		log_debug("migration: the target may not know that this is known");
}

int source_run(struct mover *mover)
{
	struct source source = {.fixed_us = FIXED_US};
	struct link_message over = {.op = LINK_OVER};
	bool unsettled;
	int error = 0;

	/* cppcheck-suppress autoVariables ; the mover ends with this function */
	mover->side = &source;
	mover->on_record = on_record;
	mover->progress.phase = PHASE_CONNECT;
	mover->progress.pages_total = mover->npages;
	mover->progress.expected_downtime_us = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(stages) && !error; i++) {
		log_debug("migration: stage %s", stages[i].name);
		error = stages[i].run(mover);
		if (!error && mover->params.dry_run && stages[i].run == stage_config) {
			mover->progress.phase = PHASE_WOULD_WORK;
			break;
		}
	}
	if (error)
		fail_attempt(mover, error);
	mover->progress.elapsed_us = now_us() - mover->begin_us;
	over.progress = mover->progress;
	unsettled = error && error != -EPIPE && source.complete && !source.refused && !mover->deaf;
	error = mover_note(mover, &over);
	pages_out_free(source.pages);
	source.pages = NULL;
	if (unsettled && !error)
		settle_target(mover);
	mover_disconnect(mover);
	free(source.present);
	return error ? 1 : 0;
}
