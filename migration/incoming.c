// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM's half of receiving a VM.
 *
 * Theory of operation. The mover listens and talks to the source; its questions are served on the main loop. What it puts
 * into the mailbox came from the peer: it is copied out, so that it cannot change under us, and then checked.
 */
#include "migration/incoming.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "base/log.h"
#include "migration/address.h"
#include "migration/control.h"
#include "migration/link.h"
#include "migration/mover.h"
#include "vmm/config_wire.h"

#define LISTEN_WAIT_MS 5000

struct incoming {
	struct loop *loop;
	struct incoming_owner owner;
	struct migration_progress progress;
	int link_fd, rearm_fd, mailbox_fd;
	struct loop_watch *watch;
	void *mailbox;
	struct machine *machine; /* the owner's */
	bool taken;
	char address[MIGRATION_TEXT_BYTES]; /* "": does not listen yet */
};

static void set_phase(struct incoming *incoming, enum migration_phase phase)
{
	if (incoming->progress.phase == phase)
		return;
	incoming->progress.phase = phase;
	incoming->owner.phase(incoming->owner.opaque, phase);
}

/* The end of an attempt, or of all of them. */
static void set_end(struct incoming *incoming, enum migration_phase phase, const char *why)
{
	snprintf(incoming->progress.text, sizeof(incoming->progress.text), "%s", why);
	set_phase(incoming, phase);
}

/* Nothing of an earlier one. */
static void begin_attempt(struct incoming *incoming)
{
	const enum migration_phase phase = incoming->progress.phase;

	incoming->progress =
		(struct migration_progress){.phase = phase, .expected_downtime_us = UINT64_MAX};
	set_phase(incoming, PHASE_CONNECT);
}

/* ---- Questions ---- */

static int check_regions(struct machine *machine, const struct wire_config *config)
{
	const struct ram *ram = machine_ram(machine);
	bool same = ram->nregions == config->nregions;

	for (unsigned int i = 0; same && i < ram->nregions; i++)
		same = ram->region[i].gpa == config->region[i].gpa &&
		       ram->region[i].size_bytes == config->region[i].size_bytes;
	return same ? 0
		    : fail(-ENOTSUP,
			   "config: this host would lay out the guest's memory differently");
}

static int build(struct incoming *incoming, const uint8_t *head, size_t len)
{
	struct wire_config wire;
	struct config config;
	int error;

	if (wire_get_config(head, len, &wire))
		return fail(-EBADMSG, "config: the record is malformed");
	error = config_from_json(&config, wire.config, wire.config_bytes);
	if (!error)
		error = incoming->owner.build(incoming->owner.opaque, &config, &incoming->machine);
	config_fini(&config);
	if (!error)
		error = check_regions(incoming->machine, &wire);
	if (!error)
		error = machine_check_told(incoming->machine, wire.told, wire.told_bytes);
	return error;
}

/* What a mover left in the mailbox, where it can no longer change it. The caller's; NULL: no memory. */
static uint8_t *copy_out(const struct incoming *incoming, uint64_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (copy)
		memcpy(copy, incoming->mailbox, len);
	return copy;
}

static int serve_build(struct incoming *incoming, struct link_message *message)
{
	bool in_place = message->value <= WIRE_HEAD_MAX && !incoming->machine;
	uint8_t *head;
	int error;

	if (!in_place)
		return fail(-EPROTO, "migration: a configuration out of place");
	begin_attempt(incoming);
	head = copy_out(incoming, message->value);
	error = head ? build(incoming, head, message->value)
		     : fail(-ENOMEM, "migration: no memory for a configuration");
	free(head);
	if (!error)
		message->value = machine_ram(incoming->machine)->npages;
	message->text[0] = '\0';
	return error;
}

static int serve_load(struct incoming *incoming, struct link_message *message)
{
	bool in_place = incoming->machine && message->value <= LINK_MAILBOX_BYTES;
	uint64_t begin = now_us();
	uint8_t *state;
	int error;

	if (!in_place)
		return fail(-EPROTO, "migration: state out of place");
	state = copy_out(incoming, message->value);
	error = state ? machine_load(incoming->machine, state, message->value, CLOCK_MIGRATE)
		      : fail(-ENOMEM, "migration: no memory for the machine's state");
	free(state);
	message->value = now_us() - begin;
	return error;
}

static int serve_take(struct incoming *incoming, struct link_message *message)
{
	uint64_t begin = now_us();
	int error;

	if (!incoming->machine || incoming->taken)
		return fail(-EPROTO, "migration: a hand-over out of place");
	/* Before it may run: a log without this line proves that it never ran here. */
	log_info("migration: %s was given up by the source and is taken here",
		 machine_config(incoming->machine)->name);
	error = message->value ? machine_adopt(incoming->machine)
			       : machine_start(incoming->machine);
	incoming->taken = !error;
	message->value = now_us() - begin;
	return error;
}

static int serve_drop(struct incoming *incoming, struct link_message *message)
{
	if (incoming->taken)
		return fail(-EPROTO, "migration: the VM runs here");
	if (incoming->machine)
		incoming->owner.drop(incoming->owner.opaque, message->text);
	incoming->machine = NULL;
	set_end(incoming, message->value ? PHASE_WOULD_WORK : PHASE_FAILED, message->text);
	return 0;
}

static const struct question {
	enum link_op op;
	int (*serve)(struct incoming *incoming, struct link_message *message);
} questions[] = {
	{LINK_BUILD, serve_build},
	{LINK_LOAD, serve_load},
	{LINK_TAKE, serve_take},
	{LINK_DROP, serve_drop},
};

/* ---- The link ---- */

static void answer(struct incoming *incoming, struct link_message *message)
{
	bool was_taken = incoming->taken, memory;
	int fd = -1;

	message->error = -EPROTO;
	fail_clear();
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
		if (questions[i].op == message->op)
			message->error = questions[i].serve(incoming, message);
	if (message->error)
		snprintf(message->text, sizeof(message->text), "%s", fail_text());
	memory = message->op == LINK_BUILD && !message->error;
	if (memory)
		fd = machine_ram(incoming->machine)->memfd;
	if (link_send(incoming->link_fd, message, &fd, memory ? 1 : 0))
		log_debug("migration: an answer that nobody waits for");
	if (!was_taken && incoming->taken) {
		incoming->progress.phase = PHASE_COMPLETED; /* `taken` says it */
		incoming->owner.taken(incoming->owner.opaque);
	}
}

/* The mover's end: after the VM was taken it is what is expected, before it there is nobody left to receive. */
static void lose_mover(struct incoming *incoming, const char *why)
{
	loop_watch_free(incoming->watch);
	incoming->watch = NULL;
	close_fd(&incoming->link_fd);
	if (incoming->taken)
		return;
	log_error("migration: %s", why);
	set_end(incoming, PHASE_FAILED, why);
	incoming->machine = NULL;
	incoming->owner.over(incoming->owner.opaque, why);
}

static void take_listening(struct incoming *incoming, const struct link_message *message)
{
	snprintf(incoming->address, sizeof(incoming->address), "%s", message->text);
	incoming->owner.listening(incoming->owner.opaque, message->text);
	begin_attempt(incoming);
}

/* Of its later phases the mover's questions tell. */
static void take_progress(struct incoming *incoming, const struct migration_progress *progress)
{
	const enum migration_phase phase = incoming->progress.phase;

	if (phase != PHASE_CONNECT && phase != PHASE_ROUNDS)
		return;
	incoming->progress = *progress;
	incoming->progress.phase = phase;
	incoming->progress.ring_full = (struct ring_full){0}; /* not the mover's to say */
	if (progress->phase == PHASE_ROUNDS)
		set_phase(incoming, PHASE_ROUNDS);
}

static void on_link(void *opaque, int fd, uint32_t events)
{
	struct incoming *incoming = opaque;
	struct link_message message;
	int got = link_receive(fd, &message, NULL, false);

	if (got < 0) {
		lose_mover(incoming, "the process that receives the VM has died");
	} else if (got) {
		switch (message.op) {
		case LINK_PROGRESS:
			take_progress(incoming, &message.progress);
			break;
		case LINK_LISTENING:
			take_listening(incoming, &message);
			break;
		case LINK_LOST:
			incoming->progress.phase = PHASE_DOUBT; /* `doubt` says it */
			incoming->owner.doubt(incoming->owner.opaque, message.text);
			break;
		case LINK_OVER:
			lose_mover(incoming, message.progress.text);
			break;
		default:
			answer(incoming, &message);
			break;
		}
	}
}

/* ---- What the owner calls ---- */

static int start_mover(struct incoming *incoming, struct broker *broker,
		       const struct mover_request *request)
{
	struct link_message start = {.op = LINK_START, .params = request->params};
	int ends[2], error = broker_spawn(broker, request, sizeof(*request), ends);

	if (error)
		return error;
	incoming->link_fd = ends[0];
	incoming->rearm_fd = ends[1];
	error = link_share("tern-mailbox", LINK_MAILBOX_BYTES, &incoming->mailbox_fd,
			   &incoming->mailbox);
	if (error)
		return error;
	error = link_start(incoming->link_fd, &start, &incoming->mailbox_fd, 1);
	if (error)
		return error;
	return loop_add_fd(incoming->loop, incoming->link_fd, EPOLLIN, on_link, incoming,
			   &incoming->watch);
}

int incoming_new(struct incoming **out, const char *uri, const char *tls,
		 const struct migration_params *params, struct loop *loop, struct broker *broker,
		 const struct incoming_owner *owner)
{
	struct mover_request request = {.role = MOVER_TARGET, .params = *params};
	struct incoming *incoming;
	struct address address;
	int error = address_parse(uri, &address);

	if (!error && strlen(tls) >= sizeof(request.tls))
		error = fail(-EINVAL, "migration: the path of the keys is too long");
	if (error)
		return error;
	snprintf(request.tls, sizeof(request.tls), "%s", tls);
	incoming = calloc(1, sizeof(*incoming));
	if (!incoming)
		return fail(-ENOMEM, "migration: no memory");
	*incoming = (struct incoming){
		.loop = loop, .owner = *owner, .link_fd = -1, .rearm_fd = -1, .mailbox_fd = -1};
	snprintf(request.uri, sizeof(request.uri), "%s", uri);
	error = start_mover(incoming, broker, &request);
	if (error) {
		incoming_free(incoming);
		return error;
	}
	*out = incoming;
	return 0;
}

/* Before the loop runs: what comes first on the link is the word about listening. */
static int wait_listening(struct incoming *incoming)
{
	struct pollfd link = {.fd = incoming->link_fd, .events = POLLIN};
	struct link_message message;
	int got = poll(&link, 1, LISTEN_WAIT_MS) == 1
			  ? link_receive(incoming->link_fd, &message, NULL, false)
			  : 0;

	if (got == 1 && message.op == LINK_LISTENING) {
		take_listening(incoming, &message);
		return 0;
	}
	if (got == 1 && message.op == LINK_OVER)
		return fail_again(-EADDRNOTAVAIL, message.progress.text);
	return fail(got < 0 ? got : -ETIMEDOUT, "migration: the process that receives the VM %s",
		    got < 0 ? "has died" : "does not answer");
}

int incoming_listen(struct incoming **out, const char *uri, const char *tls,
		    const struct migration_params *params, struct loop *loop, struct broker *broker,
		    const struct incoming_owner *owner)
{
	int error = incoming_new(out, uri, tls, params, loop, broker, owner);

	if (error) {
		*out = NULL;
		return error;
	}
	error = wait_listening(*out);
	if (error) {
		incoming_free(*out);
		*out = NULL;
	}
	return error;
}

void incoming_free(struct incoming *incoming)
{
	if (!incoming)
		return;
	loop_watch_free(incoming->watch);
	close_fd(&incoming->link_fd);
	close_fd(&incoming->rearm_fd);
	close_fd(&incoming->mailbox_fd);
	if (incoming->mailbox)
		munmap(incoming->mailbox, LINK_MAILBOX_BYTES);
	free(incoming);
}

int incoming_resolve(struct incoming *incoming, bool own)
{
	struct link_message resolve = {.op = LINK_RESOLVE, .value = own};

	if (incoming->progress.phase != PHASE_DOUBT || incoming->link_fd < 0)
		return fail(-EBUSY, "migration: there is no doubt to be resolved");
	return link_send(incoming->link_fd, &resolve, NULL, 0);
}

const struct migration_progress *incoming_progress(const struct incoming *incoming)
{
	return &incoming->progress;
}

const char *incoming_address(const struct incoming *incoming)
{
	return incoming->address;
}
