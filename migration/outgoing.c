// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMM's half of moving a VM away.
 *
 * Theory of operation. A migration is a mover process and the descriptors and memory shared with it (`struct attempt`).
 * The mover's questions are served on the main loop, each by one function of a table, in the order in which they come. What
 * they have changed (tracking on, VM held and paused, disks given up) is noted, so that undo() can put it back when the
 * mover says that it is over or is gone.
 *
 * A mover that is gone after LINK_RELEASE leaves a doubt that nobody can ask about any more: the VM stays paused, and the
 * operator decides (outgoing_resolve).
 */
#include "migration/outgoing.h"

#include <assert.h>
#include <errno.h>
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

struct outgoing {
	struct machine *machine;
	struct loop *loop;
	struct broker *broker;
	struct outgoing_events events;
	struct migration_params params;
	struct migration_progress progress;

	/* The attempt under way. */
	bool active;
	bool saving; /* to a file */
	int link_fd, rearm_fd, mailbox_fd, map_fd;
	struct loop_watch *link_watch, *rearm_watch;
	void *mailbox;
	uint64_t *map;
	size_t map_bytes;
	uint64_t map_pages; /* bits set */
	/* What it has changed. */
	bool tracking, held, was_paused, released, over;
};

static void set_phase(struct outgoing *outgoing, enum migration_phase phase)
{
	if (outgoing->progress.phase == phase)
		return;
	outgoing->progress.phase = phase;
	outgoing->events.phase(outgoing->events.opaque, phase);
}

/* ---- The end of an attempt ---- */

static void close_attempt(struct outgoing *outgoing)
{
	loop_watch_free(outgoing->link_watch);
	loop_watch_free(outgoing->rearm_watch);
	outgoing->link_watch = outgoing->rearm_watch = NULL;
	close_fd(&outgoing->link_fd);
	close_fd(&outgoing->rearm_fd);
	close_fd(&outgoing->mailbox_fd);
	close_fd(&outgoing->map_fd);
	if (outgoing->mailbox)
		munmap(outgoing->mailbox, LINK_MAILBOX_BYTES);
	if (outgoing->map)
		munmap(outgoing->map, outgoing->map_bytes);
	outgoing->mailbox = NULL;
	outgoing->map = NULL;
	outgoing->active = false;
}

/* What the vCPUs felt of the tracking so far. */
static void note_ring_full(struct outgoing *outgoing)
{
	struct dirty_stats stats;

	if (!outgoing->tracking || machine_dirty_choice(outgoing->machine)->mode != DIRTY_RING)
		return;
	dirty_get_stats(machine_dirty(outgoing->machine), &stats);
	outgoing->progress.ring_full = (struct ring_full){
		.in_use = true,
		.waits = stats.ring_full_exits,
		.wait_us = stats.ring_full_ns / 1000,
		.longest_us = stats.ring_full_longest_ns / 1000,
	};
}

static void stop_tracking(struct outgoing *outgoing)
{
	note_ring_full(outgoing);
	if (outgoing->tracking && dirty_stop(machine_dirty(outgoing->machine)))
		log_warn("migration: dirty tracking could not be switched off");
	outgoing->tracking = false;
}

/* Lets the VM run as it did before it was stopped for the switch-over. */
static int run_on(struct outgoing *outgoing)
{
	int error = 0;

	if (!outgoing->held)
		return 0;
	machine_hold(outgoing->machine, false);
	outgoing->held = false;
	if (!outgoing->was_paused)
		error = machine_resume(outgoing->machine);
	if (error)
		log_error("migration: the VM stays paused: %s", fail_text());
	return error;
}

/* Everything as it was before the attempt. */
static int undo(struct outgoing *outgoing)
{
	int error = 0;

	if (outgoing->released)
		error = machine_acquire_disks(outgoing->machine);
	if (error) {
		log_error("migration: the VM stays paused, its disks are not to be had back: %s",
			  fail_text());
		return error;
	}
	outgoing->released = false;
	stop_tracking(outgoing);
	return run_on(outgoing);
}

/* ---- Questions ---- */

static int serve_describe(struct outgoing *outgoing, struct link_message *message)
{
	const struct ram *ram = machine_ram(outgoing->machine);
	struct wire_config config = {.nregions = ram->nregions};
	struct buf json, told, head;
	int error;

	buf_init(&json, WIRE_CONFIG_MAX);
	buf_init(&told, WIRE_TOLD_MAX);
	buf_init(&head, WIRE_HEAD_MAX);
	for (unsigned int i = 0; i < ram->nregions; i++)
		config.region[i] = (struct ram_range){.gpa = ram->region[i].gpa,
						      .size_bytes = ram->region[i].size_bytes};
	error = config_to_json(machine_config(outgoing->machine), &json);
	if (!error)
		error = machine_save_told(outgoing->machine, &told);
	if (!error) {
		config.config = json.bytes;
		config.config_bytes = (uint32_t)json.len;
		config.told = told.bytes;
		config.told_bytes = (uint32_t)told.len;
		wire_put_config(&head, &config);
		error = head.error;
	}
	if (!error) {
		memcpy(outgoing->mailbox, head.bytes, head.len);
		message->value = head.len;
	}
	buf_fini(&json);
	buf_fini(&told);
	buf_fini(&head);
	return error;
}

static int serve_track(struct outgoing *outgoing, struct link_message *message)
{
	int error = dirty_start(machine_dirty(outgoing->machine));

	outgoing->tracking = !error;
	message->value = machine_dirty_choice(outgoing->machine)->manual_protect;
	if (!error)
		set_phase(outgoing, PHASE_ROUNDS);
	return error;
}

/* Adds to the map; what is in it has not been sent. */
static int harvest(struct outgoing *outgoing, bool final, uint64_t *pages)
{
	int64_t fresh;

	if (!outgoing->tracking)
		return fail(-EPROTO, "migration: a harvest without tracking");
	fresh = dirty_harvest(machine_dirty(outgoing->machine), outgoing->map, final);
	if (fresh < 0)
		return (int)fresh;
	outgoing->map_pages += (uint64_t)fresh;
	*pages = outgoing->map_pages;
	return 0;
}

static int serve_harvest(struct outgoing *outgoing, struct link_message *message)
{
	memset(outgoing->map, 0, outgoing->map_bytes);
	outgoing->map_pages = 0;
	return harvest(outgoing, false, &message->value);
}

static int save_state(struct outgoing *outgoing, uint64_t *bytes)
{
	struct buf state;
	int error;

	buf_init(&state, LINK_MAILBOX_BYTES);
	error = machine_save(outgoing->machine, &state);
	if (!error && state.error)
		error = fail(state.error, "migration: the machine's state is too large");
	if (!error) {
		memcpy(outgoing->mailbox, state.bytes, state.len);
		*bytes = state.len;
	}
	buf_fini(&state);
	return error;
}

/* Pause, save, last harvest: in this order, for saving writes guest memory too (dirty-tracking.md). */
static int serve_switch(struct outgoing *outgoing, struct link_message *message)
{
	uint64_t begin = now_us(), at;
	struct link_switched done = {.stopped_us = begin};
	int error;

	outgoing->was_paused = machine_get_status(outgoing->machine) == MACHINE_PAUSED;
	error = machine_pause(outgoing->machine);
	if (error)
		return error;
	machine_hold(outgoing->machine, true);
	outgoing->held = true;
	done.paused = outgoing->was_paused;
	at = now_us();
	done.pause_us = at - begin;
	error = save_state(outgoing, &done.state_bytes);
	done.save_us = now_us() - at;
	at = now_us();
	if (!error && (outgoing->tracking || !outgoing->saving))
		error = harvest(outgoing, true, &done.pages);
	done.harvest_us = now_us() - at;
	message->switched = done;
	if (error)
		run_on(outgoing);
	return error;
}

static int serve_run_on(struct outgoing *outgoing, struct link_message *message)
{
	return run_on(outgoing);
}

static int serve_release(struct outgoing *outgoing, struct link_message *message)
{
	int error;

	if (!outgoing->held)
		return fail(-EPROTO, "migration: a hand-over of a VM that runs");
	error = machine_release_disks(outgoing->machine);
	outgoing->released = !error;
	return error;
}

static int serve_gone(struct outgoing *outgoing, struct link_message *message)
{
	if (!outgoing->released)
		return fail(-EPROTO, "migration: a VM that was not handed over");
	stop_tracking(outgoing);
	machine_leave(outgoing->machine);
	outgoing->over = true;
	return 0;
}

static int serve_kept(struct outgoing *outgoing, struct link_message *message)
{
	return undo(outgoing);
}

static int serve_disks(struct outgoing *outgoing, struct link_message *message)
{
	struct buf disks;
	int error;

	if (!outgoing->held)
		return fail(-EPROTO, "migration: the disks of a VM that runs");
	buf_init(&disks, LINK_MAILBOX_BYTES);
	error = machine_save_disks(outgoing->machine, message->value, &disks);
	if (!error && disks.len)
		memcpy(outgoing->mailbox, disks.bytes, disks.len);
	message->value = disks.len;
	buf_fini(&disks);
	return error;
}

static int serve_saved(struct outgoing *outgoing, struct link_message *message)
{
	int error;

	outgoing->was_paused |= message->value == SAVE_PAUSE;
	error = run_on(outgoing);
	stop_tracking(outgoing); /* not while the guest waits */
	return error;
}

static const struct question {
	enum link_op op;
	int (*serve)(struct outgoing *outgoing, struct link_message *message);
} questions[] = {
	{LINK_DESCRIBE, serve_describe}, {LINK_TRACK, serve_track},   {LINK_HARVEST, serve_harvest},
	{LINK_SWITCH, serve_switch},	 {LINK_RUN_ON, serve_run_on}, {LINK_RELEASE, serve_release},
	{LINK_GONE, serve_gone},	 {LINK_KEPT, serve_kept},     {LINK_DISKS, serve_disks},
	{LINK_SAVED, serve_saved},
};

/* ---- The link ---- */

static void take_progress(struct outgoing *outgoing, const struct migration_progress *progress)
{
	const struct migration_progress before = outgoing->progress;

	outgoing->progress = *progress;
	outgoing->progress.phase = before.phase;
	outgoing->progress.ring_full = before.ring_full;
	note_ring_full(outgoing);
	/* The ends, and the switch, are told when they have happened here, too. */
	if (progress->phase > PHASE_NONE && progress->phase <= PHASE_DOUBT &&
	    (progress->phase != PHASE_SWITCH || outgoing->held))
		set_phase(outgoing, progress->phase);
}

static void say_failed(const struct outgoing *outgoing, const char *why)
{
	const bool runs = machine_get_status(outgoing->machine) == MACHINE_RUNNING;

	log_error("%s: failed, the VM %s: %s", outgoing->saving ? "save" : "migration",
		  runs ? "runs on" : "is here", why);
}

static void end_attempt(struct outgoing *outgoing, enum migration_phase phase)
{
	bool gone = outgoing->over;

	close_attempt(outgoing);
	if (!gone && undo(outgoing)) {
		/* Disks that are not to be had back: somebody has them, perhaps the target. */
		phase = outgoing->released ? PHASE_DOUBT : PHASE_FAILED;
		if (outgoing->released)
			snprintf(outgoing->progress.text, sizeof(outgoing->progress.text),
				 "the VM waits, paused, its disks are not to be had back: %.400s",
				 fail_text());
	}
	outgoing->over = false;
	if (gone)
		outgoing->released = outgoing->held = false;
	if (phase == PHASE_FAILED)
		say_failed(outgoing, outgoing->progress.text);
	set_phase(outgoing, phase);
	if (gone)
		outgoing->events.gone(outgoing->events.opaque);
}

/* The mover ended without a word. */
static void lose_mover(struct outgoing *outgoing)
{
	if (outgoing->over) {
		end_attempt(outgoing, PHASE_COMPLETED);
	} else if (outgoing->released && !outgoing->saving) {
		close_attempt(outgoing);
		snprintf(outgoing->progress.text, sizeof(outgoing->progress.text),
			 "in doubt whether the target has the VM, and the mover has died");
		log_error("migration: %s: `tern resolve` decides", outgoing->progress.text);
		set_phase(outgoing, PHASE_DOUBT);
	} else {
		snprintf(outgoing->progress.text, sizeof(outgoing->progress.text),
			 outgoing->saving ? "the process that saves the VM has died; its file is "
					    "worth nothing"
					  : "the process that moves the VM has died");
		end_attempt(outgoing, PHASE_FAILED);
	}
}

static void answer(struct outgoing *outgoing, struct link_message *message)
{
	message->error = -EPROTO;
	fail_clear();
	for (size_t i = 0; i < ARRAY_SIZE(questions); i++)
		if (questions[i].op == message->op)
			message->error = questions[i].serve(outgoing, message);
	if (message->error)
		snprintf(message->text, sizeof(message->text), "%s", fail_text());
	/* A mover that is gone is noticed by the watch. */
	if (link_send(outgoing->link_fd, message, NULL, 0))
		log_debug("migration: an answer that nobody waits for");
	/* Only now, for the guest waits; and STOP comes first, as from QEMU. */
	if (message->op == LINK_SWITCH && outgoing->held)
		set_phase(outgoing, PHASE_SWITCH);
}

static void on_link(void *opaque, int fd, uint32_t events)
{
	struct outgoing *outgoing = opaque;
	struct link_message message;
	int got = link_receive(fd, &message, NULL, false);

	if (got < 0) {
		lose_mover(outgoing);
	} else if (got && message.op == LINK_PROGRESS) {
		take_progress(outgoing, &message.progress);
	} else if (got && message.op == LINK_OVER) {
		enum migration_phase phase = message.progress.phase;

		take_progress(outgoing, &message.progress);
		if (phase < PHASE_COMPLETED ||
		    ((phase == PHASE_COMPLETED) != outgoing->over && !outgoing->saving))
			phase = outgoing->over ? PHASE_COMPLETED : PHASE_FAILED;
		end_attempt(outgoing, phase);
	} else if (got) {
		answer(outgoing, &message);
	}
}

/* Pages that are about to be read; the mover's numbers are checked, it may have been taken over. */
static void on_rearm(void *opaque, int fd, uint32_t events)
{
	struct outgoing *outgoing = opaque;
	page_t npages = machine_ram(outgoing->machine)->npages;
	struct link_message message;
	int got = link_receive(fd, &message, NULL, false);

	if (got < 0) {
		loop_watch_free(outgoing->rearm_watch); /* the other watch ends the attempt */
		outgoing->rearm_watch = NULL;
	}
	if (got <= 0)
		return;
	if (!outgoing->tracking || message.value % 64 || message.value >= npages ||
	    message.value2 > npages - message.value)
		message.error = -EINVAL;
	else
		message.error = dirty_rearm(machine_dirty(outgoing->machine), message.value,
					    message.value2);
	if (link_send(fd, &message, NULL, 0))
		log_debug("migration: re-armed for nobody");
}

/* ---- What the owner calls ---- */

int outgoing_new(struct outgoing **out, struct machine *machine, struct loop *loop,
		 struct broker *broker, const struct outgoing_events *events)
{
	struct outgoing *outgoing = calloc(1, sizeof(*outgoing));

	if (!outgoing)
		return fail(-ENOMEM, "migration: no memory");
	*outgoing = (struct outgoing){
		.machine = machine,
		.loop = loop,
		.broker = broker,
		.events = *events,
		.link_fd = -1,
		.rearm_fd = -1,
		.mailbox_fd = -1,
		.map_fd = -1,
	};
	*out = outgoing;
	return 0;
}

void outgoing_free(struct outgoing *outgoing)
{
	if (!outgoing)
		return;
	if (outgoing->active)
		close_attempt(outgoing);
	free(outgoing);
}

static int share_memory(struct outgoing *outgoing)
{
	struct ram *ram = machine_ram(outgoing->machine);
	struct link_message start = {
		.op = LINK_START, .value = ram->npages, .params = outgoing->params};
	int fds[3], error;
	void *at;

	outgoing->map_bytes = ram->npages / 8;
	outgoing->map_pages = 0;
	error = link_share("tern-mailbox", LINK_MAILBOX_BYTES, &outgoing->mailbox_fd, &at);
	if (error)
		return error;
	outgoing->mailbox = at;
	error = link_share("tern-dirty-map", outgoing->map_bytes, &outgoing->map_fd, &at);
	if (error)
		return error;
	outgoing->map = at;
	fds[0] = outgoing->mailbox_fd;
	fds[1] = ram->memfd;
	fds[2] = outgoing->map_fd;
	return link_start(outgoing->link_fd, &start, fds, 3);
}

static int start_mover(struct outgoing *outgoing, const struct mover_request *request)
{
	int ends[2], error;

	error = broker_spawn(outgoing->broker, request, sizeof(*request), ends);
	if (error)
		return error;
	outgoing->link_fd = ends[0];
	outgoing->rearm_fd = ends[1];
	error = share_memory(outgoing);
	if (!error)
		error = loop_add_fd(outgoing->loop, outgoing->link_fd, EPOLLIN, on_link, outgoing,
				    &outgoing->link_watch);
	if (!error)
		error = loop_add_fd(outgoing->loop, outgoing->rearm_fd, EPOLLIN, on_rearm, outgoing,
				    &outgoing->rearm_watch);
	return error;
}

static int check_idle(const struct outgoing *outgoing)
{
	enum machine_status status = machine_get_status(outgoing->machine);

	if (outgoing->active || outgoing->progress.phase == PHASE_DOUBT)
		return fail(-EBUSY, "migration: one is under way");
	if (status != MACHINE_RUNNING && status != MACHINE_PAUSED)
		return fail(-EBUSY, "migration: the VM is in status %s",
			    machine_status_name(status));
	return 0;
}

static int begin(struct outgoing *outgoing, const struct mover_request *request)
{
	int error;

	outgoing->params = request->params;
	outgoing->progress = (struct migration_progress){};
	outgoing->saving = request->role == MOVER_SAVER;
	error = start_mover(outgoing, request);
	if (error) {
		close_attempt(outgoing);
		return error;
	}
	outgoing->active = true;
	outgoing->over = outgoing->released = outgoing->held = false;
	set_phase(outgoing, PHASE_CONNECT);
	return 0;
}

int outgoing_start(struct outgoing *outgoing, const char *uri, const char *tls,
		   const struct migration_params *params)
{
	struct mover_request request = {.role = MOVER_SOURCE, .params = *params};
	struct address address;
	int error = check_idle(outgoing);

	if (error)
		return error;
	if (params->channels < 1 || params->channels > MIGRATION_CHANNELS_MAX)
		return fail(-EINVAL, "migration: %u channels: 1 to %u are possible",
			    params->channels, MIGRATION_CHANNELS_MAX);
	error = address_parse(uri, &address);
	if (!error && strlen(tls) >= sizeof(request.tls))
		error = fail(-EINVAL, "migration: the path of the keys is too long");
	if (error)
		return error;
	snprintf(request.uri, sizeof(request.uri), "%s", uri);
	snprintf(request.tls, sizeof(request.tls), "%s", tls);
	return begin(outgoing, &request);
}

int outgoing_save(struct outgoing *outgoing, const char *path, enum save_after after,
		  const struct migration_params *params)
{
	struct mover_request request = {.role = MOVER_SAVER, .params = *params, .after = after};
	const size_t len = strlen(path);
	int error = check_idle(outgoing);

	if (error)
		return error;
	if (!len || len > MOVER_PATH_MAX)
		return fail(-EINVAL, "save: a path of 1 to %u bytes is needed", MOVER_PATH_MAX);
	request.paused = machine_get_status(outgoing->machine) == MACHINE_PAUSED;
	memcpy(request.path, path, len);
	return begin(outgoing, &request);
}

static void send_note(struct outgoing *outgoing, const struct link_message *note)
{
	if (link_send(outgoing->link_fd, note, NULL, 0))
		log_debug("migration: the mover is gone");
}

int outgoing_cancel(struct outgoing *outgoing)
{
	struct link_message cancel = {.op = LINK_CANCEL};

	if (outgoing->progress.phase == PHASE_DOUBT || outgoing->released)
		return fail(-EBUSY, "migration: too late to cancel: the target may have the VM");
	if (outgoing->active)
		send_note(outgoing, &cancel);
	return 0;
}

int outgoing_resolve(struct outgoing *outgoing, bool own)
{
	struct link_message resolve = {.op = LINK_RESOLVE, .value = own};

	if (outgoing->progress.phase != PHASE_DOUBT)
		return fail(-EBUSY, "migration: there is no doubt to be resolved");
	if (outgoing->active) {
		send_note(outgoing, &resolve);
		return 0;
	}
	/* The mover has died: nobody else is left to ask. */
	if (own) {
		int error = undo(outgoing);

		if (!error) {
			say_failed(outgoing, "kept by the operator");
			set_phase(outgoing, PHASE_FAILED);
		}
		return error;
	}
	log_info("migration: the VM is given up by the operator");
	stop_tracking(outgoing);
	machine_leave(outgoing->machine);
	set_phase(outgoing, PHASE_COMPLETED);
	outgoing->events.gone(outgoing->events.opaque);
	return 0;
}

bool outgoing_is_save(const struct outgoing *outgoing)
{
	return outgoing->saving;
}

const struct migration_progress *outgoing_progress(const struct outgoing *outgoing)
{
	return &outgoing->progress;
}

void outgoing_set_params(struct outgoing *outgoing, const struct migration_params *params)
{
	struct link_message note = {.op = LINK_PARAMS, .params = *params};

	outgoing->params = *params;
	if (outgoing->active)
		send_note(outgoing, &note);
}
