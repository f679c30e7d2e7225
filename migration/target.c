// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The target's stages, in the mover.
 *
 * Theory of operation. docs/migration.md has the walk. One attempt is served at a time, from the control connection's
 * first record to DONE; a second source is told so. Until READY an attempt that fails is forgotten: the VMM drops the
 * machine, and the next source is listened for. From READY on the machine is kept, for it may be the only one: if the
 * source is lost then, only the source that comes back (ASK), a new attempt, or the operator ends the waiting.
 *
 * What a session was answered stays the answer: `outcome`. An ASK that overtakes its OWN settles it as "never".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/greeting.h"
#include "migration/mover.h"
#include "migration/pages_in.h"

#define WHY_US	300000
#define LONG_US 10000000 /* for the channels of a source that has begun */

struct target {
	struct greetings greetings;

	/* Of this attempt. */
	bool has_hello, has_config, has_state, has_hash, has_own, has_done;
	struct wire_hello hello;
	struct transport data[MIGRATION_CHANNELS_MAX]; /* fd -1: has not come */
	unsigned int ndata;
	struct pages_in *pages;
	uint32_t rounds_told;
	struct wire_state state;
	uint64_t state_bytes;
	struct wire_round hash;
	uint64_t own_us;

	/* What this session was told: 0 nothing yet, READY, TAKEN, REFUSED_OWN or UNKNOWN. */
	uint32_t outcome;
	struct wire_answer answer;
	bool asked; /* an ASK has come on the connection that is now control */
};

static struct target *target_of(struct mover *mover)
{
	return mover->side;
}

/* ---- Sending ---- */

static int send_head(struct mover *mover, enum wire_type type, struct buf *head)
{
	int error = control_send(&mover->control, type, head, NULL, 0);

	buf_fini(head);
	return error;
}

static int send_text(struct mover *mover, enum wire_type type, const char *text)
{
	struct buf head;

	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_text(&head, text);
	return send_head(mover, type, &head);
}

static int send_answer(struct mover *mover, enum wire_type type)
{
	struct buf head;

	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_answer(&head, type, &target_of(mover)->answer);
	return send_head(mover, type, &head);
}

/* What this end decided about its own session stays untouched by another's question. */
static int send_unknown(struct mover *mover, const struct control_message *message)
{
	struct wire_answer answer = {};
	struct buf head;

	if (message->head_bytes == WIRE_SESSION_BYTES)
		memcpy(answer.session, message->head, WIRE_SESSION_BYTES);
	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_answer(&head, WIRE_UNKNOWN, &answer);
	return send_head(mover, WIRE_UNKNOWN, &head);
}

static void hang_up(struct mover *mover)
{
	if (!mover->connected)
		return;
	if (mover_drain(mover))
		log_debug("migration: the source did not read to the end");
	mover_disconnect(mover);
}

/* ---- New connections ---- */

/* The connection is somebody else's from now on. */
static struct transport take_transport(struct greeting *greeting)
{
	struct transport taken = greeting->transport;

	greeting->transport.fd = -1;
	greeting->transport.tls = NULL;
	return taken;
}

static void accept_data(struct mover *mover, struct greeting *greeting)
{
	struct target *target = target_of(mover);
	struct wire_header header;
	struct wire_data_hello hello;

	if (wire_parse_header(greeting->bytes, 0, "data", &header) ||
	    wire_verify(greeting->bytes, &header, "data") ||
	    wire_get_data_hello(greeting->bytes + WIRE_HEADER_BYTES, header.head_bytes, &hello))
		return;
	if (!target->has_config || target->pages || hello.channel >= target->hello.channels ||
	    target->data[hello.channel].fd >= 0 ||
	    memcmp(hello.session, target->hello.session, WIRE_SESSION_BYTES) != 0) {
		log_warn("migration: a data connection that belongs to no migration");
		return;
	}
	fcntl(greeting->transport.fd, F_SETFL, 0); /* blocking from here on */
	target->data[hello.channel] = take_transport(greeting);
	target->ndata++;
}

/* Somebody else while an attempt is under way. */
static void turn_away(struct greeting *greeting)
{
	struct transport transport = take_transport(greeting);
	struct control busy;
	struct buf head;

	control_init(&busy, transport.fd, transport.tls, "source", 1000000);
	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_text(&head, "another migration is under way here");
	if (control_send(&busy, WIRE_REFUSE, &head, NULL, 0))
		log_debug("migration: turned away without a word");
	buf_fini(&head);
	control_fini(&busy);
}

static void accept_control(struct mover *mover, struct greeting *greeting, uint32_t type)
{
	struct target *target = target_of(mover);
	struct transport transport;

	/* A new attempt of a source that was lost after READY: it is alive, so what it left here is not the VM. */
	if (mover->connected) {
		turn_away(greeting);
		return;
	}
	transport = take_transport(greeting);
	control_init(&mover->control, transport.fd, transport.tls, "source",
		     mover->params.silence_us);
	if (buf_put(&mover->control.in, greeting->bytes, greeting->have)) {
		control_fini(&mover->control);
		return;
	}
	target->asked = type == WIRE_ASK;
	mover->connected = true;
}

static void on_arrival(void *opaque, struct greeting *greeting, uint32_t type)
{
	if (type == WIRE_DATA_HELLO)
		accept_data(opaque, greeting);
	else
		accept_control(opaque, greeting, type);
}

static int on_accept(struct mover *mover)
{
	struct target *target = target_of(mover);

	greetings_work(&target->greetings);
	mover->naccept = greetings_fds(&target->greetings, mover->accept_fd);
	return 0;
}

/* ---- Records of the source ---- */

static int out_of_place(const struct control_message *message)
{
	return fail(-EBADMSG, "the source sent %s where it has no place",
		    wire_type_name(message->type));
}

static int take_hello(struct mover *mover, const struct control_message *message)
{
	struct target *target = target_of(mover);
	struct wire_hello *hello = &target->hello;

	if (target->has_hello)
		return out_of_place(message);
	if (wire_get_hello(message->head, message->head_bytes, hello))
		return fail(-EBADMSG, "the source's hello is not one");
	target->has_hello = true;
	return 0;
}

static int take_state(struct mover *mover, const struct control_message *message)
{
	struct target *target = target_of(mover);

	if (!target->pages || target->has_state)
		return out_of_place(message);
	if (wire_get_state(message->head, message->head_bytes, &target->state) ||
	    message->body_bytes > LINK_MAILBOX_BYTES ||
	    target->state.hash != hash_bytes(message->body, message->body_bytes))
		return fail(-EBADMSG, "the machine's state was damaged on its way");
	memcpy(mover->mailbox, message->body, message->body_bytes);
	target->state_bytes = message->body_bytes;
	target->has_state = true;
	return 0;
}

static bool same_session(const struct target *target, const struct control_message *message)
{
	return message->head_bytes == WIRE_SESSION_BYTES &&
	       !memcmp(message->head, target->hello.session, WIRE_SESSION_BYTES);
}

/* OWN, DONE and ASK: what is asked is answered by what was decided, and by nothing else. */
static int take_session(struct mover *mover, const struct control_message *message)
{
	struct target *target = target_of(mover);

	if (!same_session(target, message)) {
		if (message->type != WIRE_ASK)
			return fail(-EBADMSG, "the source speaks of another hand-over");
		return send_unknown(mover, message);
	}
	switch (message->type) {
	case WIRE_OWN:
		if (target->outcome != WIRE_READY || target->has_own)
			return out_of_place(message);
		target->has_own = true;
		target->own_us = now_us();
		return 0;
	case WIRE_ASK:
		/* The connection that OWN came on is gone, or it never came: then it must not come any more. */
		if (target->outcome == WIRE_READY && !target->has_own)
			target->outcome = WIRE_UNKNOWN;
		return target->outcome == WIRE_READY ? 0 : send_answer(mover, target->outcome);
	default:
		target->has_done = true;
		return 0;
	}
}

static int on_record(struct mover *mover, const struct control_message *message)
{
	struct target *target = target_of(mover);
	char text[WIRE_TEXT_MAX + 1];

	switch (message->type) {
	case WIRE_HELLO:
		return take_hello(mover, message);
	case WIRE_CONFIG:
		if (!target->has_hello || target->has_config)
			return out_of_place(message);
		memcpy(mover->mailbox, message->head, message->head_bytes);
		target->state_bytes = message->head_bytes;
		target->has_config = true;
		return 0;
	case WIRE_RAM_HASH:
		if (!target->pages || target->has_hash ||
		    wire_get_round(message->head, message->head_bytes, &target->hash))
			return out_of_place(message);
		target->has_hash = true;
		return 0;
	case WIRE_STATE:
		return take_state(mover, message);
	case WIRE_CANCEL:
		if (wire_get_text(message->head, message->head_bytes, text) || target->has_own)
			return out_of_place(message);
		/* The source lives and says that it is the VM. */
		target->outcome = 0;
		return fail(-ECANCELED, "the source gave up: %s", text);
	case WIRE_OWN:
	case WIRE_DONE:
	case WIRE_ASK:
		return take_session(mover, message);
	}
	return out_of_place(message);
}

/* ---- Stages ---- */

static bool is_connected(struct mover *mover)
{
	return mover->connected;
}

static bool is_connected_or_resolved(struct mover *mover)
{
	return mover->connected || mover->resolved;
}

static bool has_hello(struct mover *mover)
{
	return target_of(mover)->has_hello || target_of(mover)->asked;
}

static bool has_config(struct mover *mover)
{
	return target_of(mover)->has_config;
}

static bool has_channels(struct mover *mover)
{
	return target_of(mover)->ndata == target_of(mover)->hello.channels;
}

static bool has_own(struct mover *mover)
{
	return target_of(mover)->has_own || target_of(mover)->outcome == WIRE_UNKNOWN;
}

static bool has_done(struct mover *mover)
{
	return target_of(mover)->has_done;
}

static int check_hello(struct mover *mover)
{
	const struct wire_hello *hello = &target_of(mover)->hello;

	if (hello->oldest > WIRE_VERSION || hello->version < WIRE_VERSION)
		return fail(-ENOTSUP,
			    "this end speaks version %u of the format, the source %u to %u",
			    WIRE_VERSION, hello->oldest, hello->version);
	if (hello->arch != wire_own_arch())
		return fail(-ENOTSUP, "this host is of another architecture");
	if (hello->page_bytes != RAM_PAGE_BYTES)
		return fail(-ENOTSUP, "pages of %u bytes", hello->page_bytes);
	if (hello->channels < 1 || hello->channels > MIGRATION_CHANNELS_MAX)
		return fail(-ENOTSUP, "%u channels: 1 to %u are taken", hello->channels,
			    MIGRATION_CHANNELS_MAX);
	return 0;
}

static int stage_hello(struct mover *mover)
{
	struct wire_hello_ok ok = {.version = WIRE_VERSION, .channels = MIGRATION_CHANNELS_MAX};
	struct utsname host;
	struct buf head;
	int error = mover_wait(mover, has_hello, mover->params.silence_us, "the source's hello");

	if (!error)
		error = check_hello(mover);
	if (error)
		return error;
	mover->begin_us = now_us(); /* before it, it listened */
	log_info("migration: source: %.200s", target_of(mover)->hello.text);
	uname(&host);
	snprintf(ok.text, sizeof(ok.text), "Tern %s, Linux %s", TERN_VERSION, host.release);
	buf_init(&head, WIRE_HEAD_MAX);
	wire_put_hello_ok(&head, &ok);
	return send_head(mover, WIRE_HELLO_OK, &head);
}

static int stage_build(struct mover *mover)
{
	struct target *target = target_of(mover);
	bool dry = target->hello.flags & WIRE_HELLO_DRY_RUN;
	int error = mover_wait(mover, has_config, LONG_US, "the source's configuration");

	if (!error)
		error = mover_ask(mover, LINK_BUILD, target->state_bytes, NULL);
	if (!error && (mover->answer_fds[0] < 0 || !mover->answer.value))
		error = fail(-EPROTO, "migration: the VMM gave no memory");
	if (!error)
		error = mover_map_ram(mover, take_fd(&mover->answer_fds[0]), mover->answer.value);
	if (!error)
		error = send_text(mover, WIRE_CONFIG_OK, mover->answer.text);
	if (!error && dry)
		error = -ESHUTDOWN; /* nothing went wrong, and nothing is to follow */
	return error;
}

static int stage_channels(struct mover *mover)
{
	struct target *target = target_of(mover);
	struct pages_in_env env = {.ram = mover->ram,
				   .ram_fd = mover->ram_fd,
				   .npages = mover->npages,
				   .wake_fd = mover->wake_fd};
	int error = mover_wait(mover, has_channels, LONG_US, "the source's data connections");
	unsigned int n = target->ndata;

	if (error)
		return error;
	target->ndata = 0;
	return pages_in_new(&target->pages, &env, target->data, n);
}

/* Tells the source of rounds that have ended; true when the last one has, and the state is there. */
static bool has_everything(struct mover *mover)
{
	struct target *target = target_of(mover);
	int64_t rounds = pages_in_rounds(target->pages);
	struct wire_round done;
	struct buf head;

	mover->progress.bytes = pages_in_bytes(target->pages);
	mover->progress.round = target->rounds_told;
	mover_tell(mover, false);
	if (rounds < 0)
		return true;
	while (target->rounds_told < rounds) {
		done = (struct wire_round){.round = target->rounds_told,
					   .pages = pages_in_damaged(target->pages)};
		buf_init(&head, 64);
		wire_put_round(&head, &done);
		/* A connection that breaks here is noticed by the wait. */
		if (send_head(mover, WIRE_ROUND_DONE, &head))
			break;
		target->rounds_told++;
	}
	return target->has_state && target->rounds_told > target->state.round;
}

static int check_memory(struct mover *mover)
{
	struct target *target = target_of(mover);
	uint64_t damaged = pages_in_damaged(target->pages);

	if (damaged)
		return fail(-EBADMSG, "%" PRIu64 " pages were damaged on their way", damaged);
	if (target->has_hash &&
	    (target->hash.round != target->state.round ||
	     target->hash.pages != hash_bytes(mover->ram, mover->npages * RAM_PAGE_BYTES)))
		return fail(-EBADMSG, "guest memory differs from the source's");
	if (target->has_hash)
		log_info("migration: guest memory is the source's, page for page");
	return 0;
}

static int stage_rounds(struct mover *mover)
{
	struct target *target = target_of(mover);
	int error;
	int64_t rounds;

	mover->progress.phase = PHASE_ROUNDS;
	mover_tell(mover, true); /* also of one that is over at once */
	error = mover_wait(mover, has_everything, 0, "the source's state");
	if (error)
		return error;
	rounds = pages_in_rounds(target->pages);
	if (rounds < 0 && (!target->has_state || target->rounds_told <= target->state.round)) {
		/* Why a data connection ended may be on its way on the control connection. */
		error = mover_pause(mover, WHY_US);
		return error == -ETIMEDOUT ? (int)pages_in_rounds(target->pages) : error;
	}
	return check_memory(mover);
}

static int stage_load(struct mover *mover)
{
	struct target *target = target_of(mover);
	int error = mover_ask(mover, LINK_LOAD, target->state_bytes, NULL);

	if (error)
		return error;
	memcpy(target->answer.session, target->hello.session, WIRE_SESSION_BYTES);
	target->answer.us = mover->answer.value;
	target->outcome = WIRE_READY;
	mover->progress.phase = PHASE_HANDOVER;
	return send_answer(mover, WIRE_READY);
}

/* The source was lost before OWN was read. It may come back and ask; a new attempt or the operator may settle it. */
static int wait_in_doubt(struct mover *mover)
{
	struct target *target = target_of(mover);
	struct link_message lost = {.op = LINK_LOST};
	int error;

	snprintf(lost.text, sizeof(lost.text), "ready, but the source is lost: %.*s", 400,
		 fail_text());
	log_warn("migration: %s; waiting for it or for the operator", lost.text);
	mover->progress.phase = PHASE_DOUBT;
	if (mover_note(mover, &lost))
		return -EPIPE;
	for (;;) {
		mover_disconnect(mover);
		error = mover_wait(mover, is_connected_or_resolved, 0, NULL);
		if (mover->resolved || error)
			break;
		/* It may be any VM's source: it does not settle whose this one is. */
		if (!target->asked) {
			if (!send_text(mover, WIRE_REFUSE,
				       "a VM that came earlier waits here in doubt for `tern "
				       "resolve`"))
				hang_up(mover);
			continue;
		}
		error = mover_wait(mover, has_own, mover->params.silence_us, NULL);
		if (!error)
			break;
	}
	if (mover->resolved < 0)
		return fail(-ECANCELED, "dropped by the operator");
	target->has_own |= mover->resolved > 0;
	return mover->resolved > 0 ? 0 : error;
}

static int stage_take(struct mover *mover)
{
	struct target *target = target_of(mover);
	int error = mover_wait(mover, has_own, 0, "OWN");

	if (error == -EPIPE || (error && !target->outcome))
		return error; /* the VMM is gone, or the source has taken its word back */
	if (error)
		error = wait_in_doubt(mover);
	if (error)
		return error;
	if (target->outcome == WIRE_UNKNOWN)
		return fail(-ECANCELED, "the source asked before it gave the VM up");
	mover->deaf = true;
	error = mover_ask(mover, LINK_TAKE, target->state.flags & WIRE_STATE_PAUSED ? 1 : 0, NULL);
	if (error == -EPIPE) /* the VMM is gone, and what it did before is not known */
		return error;
	target->outcome = error ? WIRE_REFUSED_OWN : WIRE_TAKEN;
	target->answer.us = mover->answer.value;
	if (error)
		snprintf(target->answer.text, sizeof(target->answer.text), "%s", fail_text());
	else
		mover->progress.phase = PHASE_COMPLETED;
	if (mover->connected && send_answer(mover, target->outcome))
		log_warn("migration: the source will have to ask");
	return 0;
}

/* The answer stays available until the source has said that it knows. */
static int stage_after(struct mover *mover)
{
	bool taken = target_of(mover)->outcome == WIRE_TAKEN;
	int error;

	for (;;) {
		error = mover_wait(mover, has_done, taken ? 0 : mover->params.silence_us, NULL);
		if (!error || error == -EPIPE)
			break;
		/* Who has forgotten a session answers UNKNOWN, which means the same as REFUSED_OWN to the source. */
		if (!taken)
			break;
		mover_disconnect(mover);
		do {
			error = mover_wait(mover, is_connected, 0, NULL);
		} while (error && error != -EPIPE);
		if (error)
			break;
	}
	if (!taken && error != -EPIPE)
		return fail_again(-ECONNREFUSED, target_of(mover)->answer.text);
	return error;
}

static const struct stage {
	const char *name;
	int (*run)(struct mover *mover);
} stages[] = {
	{"hello", stage_hello},	  {"config", stage_build}, {"channels", stage_channels},
	{"rounds", stage_rounds}, {"load", stage_load},	   {"own", stage_take},
	{"answer", stage_after},
};

/* ---- One attempt ---- */

static void begin_attempt(struct mover *mover)
{
	struct target *target = target_of(mover);

	/* Greetings stay: they are whoever comes next. */
	target->has_hello = target->has_config = target->has_state = target->has_hash = false;
	target->has_own = target->has_done = target->asked = false;
	for (unsigned int i = 0; i < MIGRATION_CHANNELS_MAX; i++)
		target->data[i] = (struct transport){.fd = -1};
	target->ndata = target->rounds_told = 0;
	target->outcome = 0;
	memset(&target->hello, 0, sizeof(target->hello));
	memset(&target->answer, 0, sizeof(target->answer));
	mover->on_accept = on_accept;
	mover->begin_us = now_us();
	mover->deaf = mover->cancelled = false;
	mover->resolved = 0;
	mover->progress = (struct migration_progress){.phase = PHASE_CONNECT,
						      .expected_downtime_us = UINT64_MAX};
}

static void end_attempt(struct mover *mover, int error)
{
	struct target *target = target_of(mover);
	char why[MIGRATION_TEXT_BYTES];

	snprintf(why, sizeof(why), "%s", error == -ESHUTDOWN ? "" : fail_text());
	mover->on_accept = NULL; /* who comes now is the next attempt's */
	if (mover->connected && !target->outcome && error != -ESHUTDOWN && error != -ECANCELED &&
	    send_text(mover, WIRE_REFUSE, why))
		log_debug("migration: the source may not know why");
	pages_in_free(target->pages);
	target->pages = NULL;
	for (unsigned int i = 0; i < MIGRATION_CHANNELS_MAX; i++)
		transport_close(&target->data[i]);
	hang_up(mover);
	mover_unmap_ram(mover);
	mover->deaf = true;
	if (error && target->has_config && mover_ask(mover, LINK_DROP, error == -ESHUTDOWN, why))
		log_debug("migration: the VMM did not answer");
	if (error && error != -ESHUTDOWN)
		log_warn("migration: not taken: %s", why);
}

static int serve(struct mover *mover)
{
	struct target *target = target_of(mover);
	int error = mover_wait(mover, is_connected, 0, NULL);

	if (error)
		return error;
	/* Somebody asks about a session that nobody here knows: on_record() has answered. */
	if (target->asked) {
		error = mover_wait(mover, has_done, mover->params.silence_us, NULL);
		hang_up(mover);
		return error == -EPIPE ? error : -ESTALE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(stages) && !error; i++) {
		log_debug("migration: stage %s", stages[i].name);
		error = stages[i].run(mover);
	}
	end_attempt(mover, error);
	return error;
}

int target_run(struct mover *mover)
{
	struct target target = {};
	struct link_message listening = {.op = LINK_LISTENING};
	int error;

	greetings_init(&target.greetings, mover->listen_fd, mover->tls, mover->params.silence_us);
	target.greetings.opaque = mover;
	target.greetings.arrived = on_arrival;
	/* cppcheck-suppress autoVariables ; the mover ends with this function */
	mover->side = &target;
	mover->on_record = on_record;
	address_text(&mover->address, listening.text);
	if (mover_note(mover, &listening))
		return 1;
	do {
		begin_attempt(mover);
		error = serve(mover);
	} while (error && error != -EPIPE);
	if (mover->address.any.sa_family == AF_UNIX)
		unlink(mover->address.un.sun_path);
	return error ? 1 : 0;
}
