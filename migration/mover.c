// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A mover's beginning, its wait, and its half of the link.
 *
 * Theory of operation. Everything that the control thread waits for (records of the peer, answers and notes of the VMM,
 * data threads, new connections) is waited for in mover_wait() alone; there heartbeats go out and silence is noticed, so
 * no stage can forget them. A stage sends something and waits until a condition on what has come in is true.
 */
#include "migration/mover.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "migration/saver.h"

#define TELL_US	     100000
#define DRAIN_US     1000000
#define TELL_WAIT_MS 100

/* ---- The link ---- */

static void close_fds(int fds[LINK_FDS_MAX])
{
	for (unsigned int i = 0; i < LINK_FDS_MAX; i++)
		close_fd(&fds[i]);
}

static int take_link(struct mover *mover)
{
	struct link_message message;
	int fds[LINK_FDS_MAX], got;

	if (mover->link_fd < 0) /* it has said that it is over */
		return 0;
	while ((got = link_receive(mover->link_fd, &message, fds, false)) == 1) {
		switch (message.op) {
		case LINK_CANCEL:
			mover->cancelled = true;
			break;
		case LINK_PARAMS:
			mover->params = message.params;
			break;
		case LINK_RESOLVE:
			mover->resolved = message.value ? 1 : -1;
			break;
		default:
			mover->answer = message;
			close_fds(mover->answer_fds);
			memcpy(mover->answer_fds, fds, sizeof(fds));
			continue;
		}
		close_fds(fds);
	}
	return got ? fail(got, "migration: the VMM is gone") : 0;
}

int mover_note(struct mover *mover, const struct link_message *note)
{
	return link_send(mover->link_fd, note, NULL, 0) ? -EPIPE : 0;
}

void mover_tell(struct mover *mover, bool force)
{
	uint64_t now = now_us();
	struct link_message note = {.op = LINK_PROGRESS};
	struct pollfd link = {.fd = mover->link_fd, .events = POLLOUT};

	if (!force && now < mover->told_us + TELL_US)
		return;
	/* A VMM that has been stopped does not read: its mover must not wait for it, and so fall silent to the peer. */
	if (!force && (poll(&link, 1, 0) != 1 || !(link.revents & POLLOUT)))
		return;
	mover->told_us = now;
	mover->progress.elapsed_us = now - mover->begin_us;
	note.progress = mover->progress;
	/* A VMM that is gone is noticed where it matters. */
	if (mover_note(mover, &note))
		log_debug("migration: nobody listens to progress");
}

void mover_note_early_stop(struct mover *mover, const struct link_switched *switched)
{
	mover->progress.early_stops++;
	mover->progress.early_stops_us += now_us() - switched->stopped_us;
}

static bool is_answered(struct mover *mover)
{
	return mover->answer.number == mover->questions;
}

int mover_ask(struct mover *mover, enum link_op op, uint64_t value, const char *text)
{
	struct link_message question = {.op = op, .value = value, .number = ++mover->questions};
	int error;

	if (text)
		snprintf(question.text, sizeof(question.text), "%s", text);
	error = mover_note(mover, &question);
	while (!error && !is_answered(mover)) {
		error = mover_wait(mover, is_answered, 0, NULL);
		/* Past the point of no return a peer that goes does not make the answer unimportant. */
		if (error && error != -EPIPE && mover->deaf && mover->connected) {
			mover_disconnect(mover);
			error = 0;
		}
	}
	if (error)
		return error;
	/* The VMM has logged it. */
	return mover->answer.error ? fail_again(mover->answer.error, mover->answer.text) : 0;
}

void mover_disconnect(struct mover *mover)
{
	if (mover->connected)
		control_fini(&mover->control);
	mover->connected = false;
}

int mover_rearm(void *opaque, page_t first, uint64_t npages)
{
	struct mover *mover = opaque;
	struct link_message message = {.op = LINK_REARM, .value = first, .value2 = npages};
	int error = link_send(mover->rearm_fd, &message, NULL, 0);

	if (!error && link_receive(mover->rearm_fd, &message, NULL, true) != 1)
		error = -EPIPE;
	return error ? error : message.error;
}

/* ---- Waiting ---- */

static int take_records(struct mover *mover)
{
	struct control_message message;
	int error = control_work(&mover->control), got;

	while (!error && mover->connected && (got = control_next(&mover->control, &message)) != 0) {
		error = got < 0 ? got : mover->on_record(mover, &message);
		/* A peer that has hung up: what is waited for may be its last word, so one at a time. */
		if (mover->connected && mover->control.broken)
			break;
	}
	return error;
}

static int wait_once(struct mover *mover, int timeout_ms)
{
	struct pollfd fds[3 + MOVER_ACCEPT_MAX] = {
		{.fd = mover->link_fd, .events = POLLIN},
		{.fd = mover->wake_fd, .events = POLLIN},
		{.fd = -1},
	};
	unsigned int nfds = 3;
	uint64_t count;
	int error;

	if (mover->connected) {
		int due = control_timeout_ms(&mover->control);

		fds[2].fd = mover->control.transport.fd;
		fds[2].events = control_events(&mover->control);
		timeout_ms = due < timeout_ms ? due : timeout_ms;
	}
	for (unsigned int i = 0; mover->on_accept && i < mover->naccept; i++)
		fds[nfds++] = (struct pollfd){.fd = mover->accept_fd[i], .events = POLLIN};
	if (poll(fds, nfds, timeout_ms) < 0 && errno != EINTR)
		return fail(-errno, "migration: poll: %s", strerror(errno));
	/* The count does not matter: conditions are looked at anyhow. */
	if (fds[1].revents && read(mover->wake_fd, &count, sizeof(count)) < 0)
		log_debug("migration: a wake-up without a cause");
	error = take_link(mover);
	if (!error && mover->on_accept)
		error = mover->on_accept(mover);
	if (!error && mover->connected)
		error = take_records(mover);
	return error;
}

int mover_wait(struct mover *mover, bool (*done)(struct mover *mover), uint64_t timeout_us,
	       const char *what)
{
	uint64_t until = now_us() + timeout_us;

	while (!done(mover)) {
		int error, ms = TELL_WAIT_MS;

		if (timeout_us && now_us() >= until && !what)
			return -ETIMEDOUT;
		if (timeout_us && now_us() >= until)
			return fail(-ETIMEDOUT, "migration: %s did not come within %u ms", what,
				    (unsigned int)(timeout_us / 1000));
		if (mover->cancelled && !mover->deaf)
			return -ECANCELED;
		if (timeout_us && (until - now_us()) / 1000 < TELL_WAIT_MS)
			ms = (int)((until - now_us()) / 1000) + 1;
		error = wait_once(mover, ms);
		/*
		 * A peer may say what was waited for and go: its end then concerns whoever waits next. That it gives up
		 * is heard once, and is not to be lost because a data connection ended in the same moment.
		 */
		if (error && (error == -ECANCELED || !done(mover)))
			return error;
	}
	return 0;
}

static bool never(struct mover *mover)
{
	return false;
}

int mover_pause(struct mover *mover, uint64_t us)
{
	return mover_wait(mover, never, us, NULL);
}

static bool is_flushed(struct mover *mover)
{
	return control_flushed(&mover->control);
}

int mover_drain(struct mover *mover)
{
	return mover_wait(mover, is_flushed, DRAIN_US, NULL);
}

/* ---- Memory ---- */

int mover_map_ram(struct mover *mover, int fd, page_t npages)
{
	void *ram = ram_map_file(fd, 0, npages * RAM_PAGE_BYTES);

	if (!ram) {
		int error = fail(-errno, "migration: map guest memory: %s", strerror(errno));

		close(fd);
		return error;
	}
	mover->ram = ram;
	mover->ram_fd = fd;
	mover->npages = npages;
	return 0;
}

void mover_unmap_ram(struct mover *mover)
{
	if (mover->ram)
		munmap(mover->ram, mover->npages * RAM_PAGE_BYTES);
	mover->ram = NULL;
	close_fd(&mover->ram_fd);
	mover->npages = 0;
}

/* The VMM's first message: the memory that both share. */
static int take_start(struct mover *mover)
{
	struct link_message start;
	int fds[LINK_FDS_MAX], error = 0;
	void *at;

	if (link_receive(mover->link_fd, &start, fds, true) != 1 || start.op != LINK_START ||
	    fds[0] < 0)
		return -EPIPE;
	at = mmap(NULL, LINK_MAILBOX_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		  fds[0], 0);
	close_fd(&fds[0]);
	if (at == MAP_FAILED)
		return fail(-errno, "migration: map the mailbox: %s", strerror(errno));
	mover->mailbox = at;
	if (fds[1] >= 0 && fds[2] >= 0) {
		error = mover_map_ram(mover, take_fd(&fds[1]), start.value);
		at = mmap(NULL, start.value / 8, PROT_READ | PROT_WRITE, MAP_SHARED, fds[2], 0);
		if (!error && at == MAP_FAILED)
			error = fail(-errno, "migration: map the dirty map: %s", strerror(errno));
		mover->map = at;
	}
	close_fd(&fds[1]);
	close_fd(&fds[2]);
	return error;
}

/* A beginning that came to nothing is told like an end. */
static int fail_to_begin(struct mover *mover)
{
	struct link_message over = {.op = LINK_OVER};

	snprintf(over.progress.text, sizeof(over.progress.text), "%s", fail_text());
	over.progress.phase = PHASE_FAILED;
	return mover_note(mover, &over) ? 2 : 1;
}

/* What needs a path or an address, before the sandbox closes. */
static int open_ends(struct mover *mover, struct mover_request *request, struct saver_file *file)
{
	int error;

	request->uri[sizeof(request->uri) - 1] = '\0';
	request->path[MOVER_PATH_MAX] = '\0';
	mover->path = request->path;
	if (request->role == MOVER_SAVER)
		return saver_open_file(request->path, file);
	request->tls[sizeof(request->tls) - 1] = '\0';
	error = address_parse(request->uri, &mover->address);
	if (!error && request->tls[0])
		error = tls_load(&mover->tls, request->tls, request->role == MOVER_TARGET);
	if (!error && request->role == MOVER_TARGET)
		error = address_listen(&mover->address, &mover->listen_fd);
	return error;
}

static const char *const role_names[] = {
	[MOVER_SOURCE] = "tern-source",
	[MOVER_TARGET] = "tern-target",
	[MOVER_SAVER] = "tern-saver",
};

int mover_main(const void *bytes, size_t len, const int ends[2], const struct sandbox *sandbox)
{
	struct mover_request request;
	struct mover mover = {.link_fd = ends[0],
			      .rearm_fd = ends[1],
			      .listen_fd = -1,
			      .ram_fd = -1,
			      .wake_fd = -1,
			      .answer_fds = {-1, -1, -1}};
	struct saver_file file = {-1, -1};

	if (len != sizeof(request))
		return 2;
	memcpy(&request, bytes, len);
	if (request.role >= ARRAY_SIZE(role_names))
		return 2;
	prctl(PR_SET_NAME, role_names[request.role]);
	signal(SIGPIPE, SIG_IGN);
	/* A session is what the scheduler's autogroups weigh: the guest's CPUs get their share whatever happens here. */
	setsid();
	mover.params = request.params;
	mover.begin_us = now_us();
	mover.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mover.wake_fd < 0)
		return 2;
	if (open_ends(&mover, &request, &file))
		return fail_to_begin(&mover);
	if (sandbox_enter(sandbox, SANDBOX_MOVER) || take_start(&mover))
		return 2;
	if (request.role == MOVER_SAVER)
		return saver_run(&mover, &file, request.after, request.paused);
	return request.role == MOVER_SOURCE ? source_run(&mover) : target_run(&mover);
}
