// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saving a VM to a file: the third thing that a mover does. It asks the VMM what a source's mover asks it, and writes a file
 * (snapshot_file.h) instead of connections.
 *
 * Theory of operation. A VM that is to run on is saved live: all pages are written, then again and again those that it has
 * written since, to the same places, until the policy says that the rest fits the downtime; then it is paused for that
 * rest and its state, runs on, and the file is sealed behind its back. The file never grows beyond the VM's memory, however
 * many rounds there are. A VM that is paused already, or is not to run on, is paused first and each page is written once.
 *
 * It is a process of its own so that a slow disk holds up neither guest nor control socket. One thread: after each window
 * of pages it looks whether the VMM has something to say. Until the file is sealed every error removes it, and the VM
 * goes on as it was.
 */
#include "migration/saver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "migration/policy.h"
#include "migration/snapshot_file.h"

#define WINDOW_PAGES   2048 /* re-armed, written and paced at once */
#define RATE_MIN_PAGES 256  /* fewer say nothing about the rate */
/* Of a pause, beside the pages, until one has been measured. One that was taken back is believed half as much after each: */
#define FIXED_US  3000
#define FORGET_US 300000
/* A rest that is written so soon is as good as none; if the guest cannot be paused all the same, rounds need not hurry. */
#define REST_US 1000
#define NAP_US	20000

struct saver {
	struct mover *mover;
	struct saver_file file;
	enum save_after after;
	struct ram ram; /* as the mover has it mapped */
	struct snapshot_writer *writer;
	bool live, rearm;
	uint64_t paced_us; /* when what was written so far was due at the latest */
	uint64_t rest, surplus, harvest_us, paused_us;
	page_t broken_at; /* see write_round() */
	uint64_t extra_us,
		extra_at_us; /* what the last pause that was taken back cost beyond FIXED_US, and when */
	struct link_switched switched;
	struct policy_history history;
};

/* The directory that names the file; -1 where it cannot be read: then its name may be lost with the host's power. */
static int open_parent(const char *path)
{
	char parent[MOVER_PATH_MAX + 1];
	const char *slash = strrchr(path, '/');
	const size_t len = slash ? (size_t)(slash - path) + 1 : 0;

	memcpy(parent, path, len);
	parent[len] = '\0';
	return open(len ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int saver_open_file(const char *path, struct saver_file *file)
{
	/* Over a limit on files' sizes is an error like a full disk. */
	signal(SIGXFSZ, SIG_IGN);
	*file = (struct saver_file){
		.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600),
		.parent_fd = -1,
	};
	if (file->fd < 0)
		return fail(-errno, "save: %s: %s", path, strerror(errno));
	file->parent_fd = open_parent(path);
	return 0;
}

/* ---- The VMM, between two windows ---- */

static int nap(struct mover *mover, uint64_t us)
{
	int error = mover_pause(mover, us);

	return error == -ETIMEDOUT ? 0 : error;
}

static int look_up(struct mover *mover)
{
	struct pollfd link = {.fd = mover->link_fd, .events = POLLIN};

	mover_tell(mover, false);
	if (poll(&link, 1, 0) == 1) {
		int error = nap(mover, 1);

		if (error)
			return error;
	}
	return mover->cancelled ? -ECANCELED : 0;
}

/* Until the deadline; UINT64_MAX: there is none, or the guest is paused already. */
static uint64_t time_left(const struct saver *saver)
{
	const struct mover *mover = saver->mover;
	const uint64_t elapsed = now_us() - mover->begin_us;

	if (!mover->params.deadline_us || saver->paused_us)
		return UINT64_MAX;
	return mover->params.deadline_us > elapsed ? mover->params.deadline_us - elapsed : 0;
}

/* Not faster than the user wants. */
static int pace(struct saver *saver, uint64_t bytes)
{
	const uint64_t rate = saver->mover->params.bandwidth_bytes, now = now_us();
	uint64_t left = time_left(saver), us;

	if (!rate || saver->paused_us)
		return 0;
	if (saver->paced_us < now)
		saver->paced_us = now;
	saver->paced_us += bytes * 1000000 / rate;
	us = saver->paced_us - now;
	return us > 1000 && left ? nap(saver->mover, us < left ? us : left) : 0;
}

/* ---- Rounds ---- */

static bool is_set(const uint64_t *map, page_t page)
{
	return map[page / 64] >> (page % 64) & 1;
}

/* The pages of [first, end) that are set in the map. */
static int write_set(struct saver *saver, const uint64_t *map, page_t first, page_t end,
		     uint64_t *written)
{
	int error = 0;

	for (page_t page = first; !error && page < end;) {
		page_t from;

		if (page % 64 == 0 && !map[page / 64]) {
			page += 64;
			continue;
		}
		if (!is_set(map, page)) {
			page++;
			continue;
		}
		for (from = page; page < end && is_set(map, page); page++)
			;
		error = snapshot_write_pages(saver->writer, from, page - from);
		*written += page - from;
	}
	return error;
}

static bool any_set(const uint64_t *map, page_t first, page_t end)
{
	for (page_t word = first / 64; word < end / 64; word++)
		if (map[word])
			return true;
	return false;
}

/* Returns the bytes that these pages were. */
static uint64_t count_pages(struct saver *saver, uint64_t written)
{
	struct migration_progress *progress = &saver->mover->progress;
	const uint64_t before = progress->bytes;
	struct snapshot_stats stats;

	snapshot_writer_get_stats(saver->writer, &stats);
	progress->pages_data = stats.data_pages;
	progress->pages_zero = stats.zero_pages;
	progress->bytes = stats.bytes;
	if (progress->round)
		progress->pages_again += written;
	progress->pages_left = progress->pages_left > written ? progress->pages_left - written : 0;
	return stats.bytes - before;
}

/* map NULL: all pages. */
static int write_window(struct saver *saver, const uint64_t *map, page_t first, page_t end)
{
	uint64_t written = 0, bytes;
	int error = 0;

	if (map && !any_set(map, first, end))
		return 0;
	/* Before it is read: what the guest writes from now on counts again. */
	if (saver->rearm && !saver->paused_us)
		error = mover_rearm(saver->mover, first, end - first);
	if (error)
		return error;
	if (map)
		error = write_set(saver, map, first, end, &written);
	else
		error = snapshot_write_pages(saver->writer, first, written = end - first);
	bytes = count_pages(saver, written);
	if (!error)
		error = pace(saver, bytes);
	return error ? error : look_up(saver->mover);
}

/* 1: the deadline has passed on the way; pages from saver->broken_at on have not been written. */
static int write_round(struct saver *saver, const uint64_t *map)
{
	struct mover *mover = saver->mover;
	const uint64_t pages = map ? saver->rest : mover->npages, begin = now_us();
	uint64_t took;
	int error = 0;

	mover->progress.pages_left = pages;
	for (page_t first = 0; first < mover->npages && !error; first += WINDOW_PAGES) {
		const page_t end = first + WINDOW_PAGES;

		saver->broken_at = first;
		error = time_left(saver) ? write_window(saver, map, first,
							end < mover->npages ? end : mover->npages)
					 : 1;
	}
	if (error)
		return error;
	took = now_us() - begin;
	if (pages >= RATE_MIN_PAGES || !mover->progress.send_rate)
		mover->progress.send_rate = pages * RAM_PAGE_BYTES * 1000000 / (took ? took : 1);
	mover->progress.round++;
	return 0;
}

/* One bad pause may be the host's mood: it is tried again, but not at once. */
static uint64_t fixed_us(const struct saver *saver)
{
	const uint64_t halvings = (now_us() - saver->extra_at_us) / FORGET_US;

	return FIXED_US + (halvings < 32 ? saver->extra_us >> halvings : 0);
}

static struct policy_input measurements(struct saver *saver)
{
	const struct mover *mover = saver->mover;

	return (struct policy_input){
		.round = mover->progress.round - 1,
		.dirty_pages = saver->rest,
		.page_bytes = RAM_PAGE_BYTES,
		.send_rate = mover->progress.send_rate,
		.fixed_us = fixed_us(saver),
		.max_downtime_us = mover->params.max_downtime_us,
		.elapsed_us = now_us() - mover->begin_us,
		.deadline_us = mover->params.deadline_us,
		.force = mover->params.force,
		.surplus_pages = saver->surplus,
		.history = saver->history,
	};
}

static int harvest(struct saver *saver)
{
	int error = mover_ask(saver->mover, LINK_HARVEST, 0, NULL);
	const uint64_t now = now_us();

	if (error)
		return error;
	saver->rest = saver->mover->answer.value;
	policy_history_add(&saver->history, &(struct policy_round){
						    .dirty_pages = saver->rest,
						    .round_us = now - saver->harvest_us,
						    .send_rate = saver->mover->progress.send_rate,
					    });
	saver->harvest_us = now;
	return 0;
}

/* ---- The pause ---- */

static int pause_guest(struct saver *saver)
{
	struct mover *mover = saver->mover;
	const uint64_t begin = now_us();
	int error;

	mover->progress.phase = PHASE_SWITCH;
	mover_tell(mover, true);
	error = mover_ask(mover, LINK_SWITCH, 0, NULL);
	if (error)
		return error;
	saver->paused_us = begin;
	saver->switched = mover->answer.switched;
	if (saver->switched.state_bytes > SNAPSHOT_STATE_MAX)
		return fail(-EMSGSIZE, "save: state of %" PRIu64 " bytes",
			    saver->switched.state_bytes);
	mover->progress.pause_us = saver->switched.pause_us;
	mover->progress.harvest_us = saver->switched.harvest_us;
	mover->progress.state_us = saver->switched.save_us;
	return 0;
}

/* 1: the rest is too much after all, and the guest runs again. */
static int try_pause(struct saver *saver, bool forced)
{
	struct mover *mover = saver->mover;
	const uint64_t before = saver->rest;
	struct policy_output verdict;
	struct policy_input input;
	uint64_t took;
	int error = pause_guest(saver);

	if (error)
		return error;
	saver->rest = saver->switched.pages;
	took = now_us() - saver->paused_us;
	input = measurements(saver);
	/* What has passed is measured; of the rest half was for what is still to come. */
	input.fixed_us = took + FIXED_US / 2;
	policy_after_pause(&input, forced, &verdict);
	if (verdict.verdict == POLICY_STOP)
		return 0;
	saver->extra_us = took;
	saver->extra_at_us = now_us();
	if (saver->rest > before && saver->rest - before > saver->surplus)
		saver->surplus = saver->rest - before;
	saver->paused_us = 0;
	mover->progress.phase = PHASE_ROUNDS;
	mover_tell(mover, true);
	error = mover_ask(mover, LINK_RUN_ON, 0, NULL);
	mover_note_early_stop(mover, &saver->switched);
	return error ? error : 1;
}

/* The deadline has passed within a round: the guest is paused for what is left of it, or it is all over. */
static int break_off(struct saver *saver)
{
	struct mover *mover = saver->mover;
	const bool all = mover->progress.round == 0;

	if (!mover->params.force)
		return fail(-ETIME,
			    "save: given up: the deadline of %.1f s has passed, %" PRIu64
			    " pages before the end of round %u",
			    mover->params.deadline_us / 1e6, mover->progress.pages_left,
			    mover->progress.round);
	/* What was dirtied since the last harvest comes on top of it. */
	for (page_t page = 0; page < mover->npages; page += 64) {
		if (page < saver->broken_at)
			mover->map[page / 64] = 0;
		else if (all)
			mover->map[page / 64] = UINT64_MAX;
	}
	saver->rest = mover->progress.pages_left;
	return try_pause(saver, true);
}

/* Until the guest is paused, and the last pages are in the map. */
static int run_rounds(struct saver *saver)
{
	struct mover *mover = saver->mover;
	struct policy_output verdict;
	struct policy_input input;
	int error = mover_ask(mover, LINK_TRACK, 0, NULL), again = 1;

	if (error)
		return error;
	saver->rearm = mover->answer.value;
	mover->progress.phase = PHASE_ROUNDS;
	saver->harvest_us = now_us();
	error = write_round(saver, NULL);
	while (!error && again) {
		error = harvest(saver);
		if (error)
			return error;
		input = measurements(saver);
		policy_decide(&input, &verdict);
		mover->progress.dirty_rate = verdict.dirty_rate;
		mover->progress.expected_downtime_us = verdict.downtime_us;
		mover_tell(mover, true);
		if (verdict.verdict == POLICY_GIVE_UP)
			return fail(-ETIME, "save: given up: %s", verdict.text);
		if (verdict.verdict == POLICY_STOP)
			again = try_pause(saver, verdict.forced);
		if (again < 0)
			return again;
		if (again)
			error = write_round(saver, mover->map);
		if (!error && again && verdict.downtime_us <= fixed_us(saver) + REST_US)
			error = nap(mover, NAP_US);
	}
	return error == 1 ? break_off(saver) : error;
}

/* ---- What is beside the pages ---- */

/* The configuration and what the guest was told; and where its memory lies. */
static int stage_describe(struct saver *saver)
{
	struct mover *mover = saver->mover;
	struct ram *ram = &saver->ram;
	struct wire_config config;
	int error = mover_ask(mover, LINK_DESCRIBE, 0, NULL);

	if (error)
		return error;
	if (mover->answer.value > LINK_MAILBOX_BYTES ||
	    wire_get_config(mover->mailbox, mover->answer.value, &config))
		return fail(-EPROTO, "save: the VMM's description");
	*ram = (struct ram){.memfd = mover->ram_fd, .nregions = config.nregions, .smaps_fd = -1};
	for (unsigned int i = 0; i < config.nregions; i++) {
		ram->region[i] = (struct ram_region){
			.gpa = config.region[i].gpa,
			.size_bytes = config.region[i].size_bytes,
			.hva = mover->ram + ram->size_bytes,
			.first_page = ram->npages,
			.npages = config.region[i].size_bytes >> RAM_PAGE_SHIFT,
			.slot = i,
		};
		ram->npages += ram->region[i].npages;
		ram->size_bytes += ram->region[i].size_bytes;
	}
	if (ram->npages != mover->npages)
		return fail(-EPROTO, "save: the VMM's memory");
	error = snapshot_writer_new(&saver->writer, saver->file.fd, mover->path, ram,
				    "Tern " TERN_VERSION);
	if (!error)
		error = snapshot_write_part(saver->writer, SNAPSHOT_CONFIG, config.config,
					    config.config_bytes);
	if (!error)
		error = snapshot_write_part(saver->writer, SNAPSHOT_TOLD, config.told,
					    config.told_bytes);
	return error;
}

static int stage_pages(struct saver *saver)
{
	struct migration_progress *progress = &saver->mover->progress;
	uint64_t begin;
	int error = saver->live ? run_rounds(saver) : pause_guest(saver);

	begin = now_us();
	if (!error)
		error = write_round(saver, saver->live ? saver->mover->map : NULL);
	progress->pages_us = now_us() - begin;
	return error;
}

/* The state is in the mailbox, and makes room there for the disks. */
static int stage_state(struct saver *saver)
{
	struct mover *mover = saver->mover;
	int error = snapshot_write_part(saver->writer, SNAPSHOT_STATE, mover->mailbox,
					saver->switched.state_bytes);

	/* A VM that runs on writes to its disks at once: what they hold is then the user's business. */
	if (!error)
		error = mover_ask(mover, LINK_DISKS, !saver->live, NULL);
	if (error)
		return error;
	if (mover->answer.value > LINK_MAILBOX_BYTES)
		return fail(-EPROTO, "save: the VMM's disks");
	return snapshot_write_part(saver->writer, SNAPSHOT_DISKS, mover->mailbox,
				   mover->answer.value);
}

static int stage_run_on(struct saver *saver)
{
	struct mover *mover = saver->mover;
	const uint64_t begin = now_us();
	int error;

	if (!saver->live)
		return 0;
	error = mover_ask(mover, LINK_SAVED, SAVE_RUN_ON, NULL);
	mover->progress.resume_us = now_us() - begin;
	mover->progress.downtime_us = now_us() - saver->paused_us;
	mover->progress.standstill_us = now_us() - saver->switched.stopped_us;
	mover->progress.phase = PHASE_ROUNDS;
	mover_tell(mover, true);
	return error;
}

static int stage_seal(struct saver *saver)
{
	int error = snapshot_writer_finish(saver->writer);

	if (error || saver->file.parent_fd < 0)
		return error;
	/* EINVAL: a file system whose directories cannot be synced. */
	if (fdatasync(saver->file.parent_fd) < 0 && errno != EINVAL)
		return fail(-errno, "save: the directory of %s: %s", saver->mover->path,
			    strerror(errno));
	return 0;
}

/* What becomes of a VM that was not saved live. */
static int stage_after(struct saver *saver)
{
	struct mover *mover = saver->mover;
	int error;

	if (saver->live)
		return 0;
	if (saver->after == SAVE_QUIT) {
		error = mover_ask(mover, LINK_RELEASE, 0, NULL);
		return error ? error : mover_ask(mover, LINK_GONE, 0, NULL);
	}
	error = mover_ask(mover, LINK_SAVED, saver->after, NULL);
	mover->progress.downtime_us = now_us() - saver->paused_us;
	return error;
}

static const struct stage {
	const char *name;
	int (*run)(struct saver *saver);
} stages[] = {
	{"description", stage_describe}, {"pages", stage_pages}, {"state, disks", stage_state},
	{"run on", stage_run_on},	 {"seal", stage_seal},	 {"after", stage_after},
};

int saver_run(struct mover *mover, const struct saver_file *file, enum save_after after,
	      bool paused)
{
	struct saver saver = {.mover = mover,
			      .file = *file,
			      .after = after,
			      .live = after == SAVE_RUN_ON && !paused};
	struct link_message over = {.op = LINK_OVER};
	int error = 0;

	mover->progress.phase = PHASE_CONNECT;
	mover->progress.pages_total = mover->progress.pages_left = mover->npages;
	mover->progress.expected_downtime_us = UINT64_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(stages) && !error; i++) {
		log_debug("save: stage %s", stages[i].name);
		error = stages[i].run(&saver);
	}
	mover->progress.phase = PHASE_COMPLETED;
	if (error) {
		mover->progress.phase = error == -ECANCELED ? PHASE_CANCELLED : PHASE_FAILED;
		snprintf(mover->progress.text, sizeof(mover->progress.text), "%s",
			 error == -ECANCELED ? "cancelled" : fail_text());
		if (unlink(mover->path) < 0)
			log_warn("save: %s: %s", mover->path, strerror(errno));
	}
	mover->progress.elapsed_us = now_us() - mover->begin_us;
	over.progress = mover->progress;
	error = mover_note(mover, &over);
	snapshot_writer_free(saver.writer);
	close_fd(&saver.file.fd);
	close_fd(&saver.file.parent_fd);
	return error ? 1 : 0;
}
