// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sending pages.
 *
 * Theory of operation. A page belongs to the channel of its chunk, so threads share nothing but counters. Each walks its
 * chunks in order, gathers runs into a batch (a head, and iovecs that point into guest RAM), and gives a full batch to
 * the kernel in one call: no page is copied here. The guest runs and may change a page between its checksum and its
 * sending; then the receiver sees damage, and the page, which is dirty, comes again (docs/wire.md).
 *
 * A page must be re-armed before it is read (memory/dirty.c). Where that takes a call, it is made for windows of many
 * pages, by whichever thread comes first to a window: `armed` is the page up to which this round has been re-armed.
 *
 * A round can be cut short: threads look at `cut` before each word of the map (64 pages), and note each word that they
 * took. What they did not take is left for the caller.
 *
 * A thread sleeps between rounds under `lock`; `wanted` counts rounds begun. What ends a blocked send is a cut of its
 * connection by pages_out_free().
 */
#include "migration/pages_out.h"

#include <errno.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/control.h"
#include "migration/progress.h"
#include "migration/transport.h"

/*
 * Sent at once, fewer than a record may hold: what was read for its checksum is still near when the kernel copies it, and
 * on a slow connection it is seen to move.
 */
#define BATCH_PAGES  128
#define WINDOW_PAGES 4096 /* re-armed at once */
#define NAP_MIN_US   200  /* below that the limit on bandwidth does not sleep */

struct sender {
	struct pages_out *out;
	struct transport transport;
	char name[16];
	unsigned int channel;
	pthread_t thread;
	bool started;
	uint64_t sequence;
	uint64_t round_pages; /* sent in this round */
	uint64_t paced_us;    /* when the bytes sent so far were due at the latest */
	struct wire_batch batch;
	unsigned int niov;
	struct iovec iov[1 + WIRE_BATCH_RUNS];
	uint8_t bytes[WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_MAX];
};

struct pages_out {
	struct pages_out_env env;
	unsigned int nsenders;
	struct sender *sender;
	_Atomic uint64_t bandwidth; /* of one channel */

	pthread_mutex_t lock;
	pthread_cond_t begun;
	uint32_t wanted; /* rounds */
	bool quit;
	uint32_t round;
	const uint64_t *map, *present;
	unsigned int busy;
	int error;
	char why[MIGRATION_TEXT_BYTES];

	pthread_mutex_t arm_lock; /* armed; a leaf but for env.rearm */
	page_t armed;

	_Atomic bool cut;
	uint8_t *taken; /* for each word of the map, in this round; its channel's alone */

	_Atomic uint64_t data, zero, bytes, dealt;
};

/* ---- One batch ---- */

static bool page_is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)page;

	if (word[0] | word[RAM_PAGE_BYTES / 8 - 1] | word[RAM_PAGE_BYTES / 16])
		return false;
	for (unsigned int i = 0; i < RAM_PAGE_BYTES / 8; i += 32) {
		uint64_t any = 0;

		for (unsigned int j = 0; j < 32; j++)
			any |= word[i + j];
		if (any)
			return false;
	}
	return true;
}

/* Sleeps as long as this channel is ahead of its share of the bandwidth. */
static void pace(struct sender *sender, uint64_t bytes)
{
	uint64_t limit = atomic_load(&sender->out->bandwidth), now = now_us();
	struct timespec nap;

	if (!limit)
		return;
	if (sender->paced_us < now)
		sender->paced_us = now;
	sender->paced_us += bytes * 1000000 / limit;
	if (sender->paced_us < now + NAP_MIN_US)
		return;
	nap.tv_sec = (time_t)((sender->paced_us - now) / 1000000);
	nap.tv_nsec = (long)((sender->paced_us - now) % 1000000 * 1000);
	nanosleep(&nap, NULL);
}

static int send_record(struct sender *sender, uint32_t type, size_t head_bytes, uint64_t body_bytes)
{
	uint64_t bytes = WIRE_HEADER_BYTES + head_bytes + body_bytes;
	int error;

	wire_seal(sender->bytes, type, (uint32_t)head_bytes, body_bytes, sender->sequence++);
	sender->iov[0] = (struct iovec){sender->bytes, WIRE_HEADER_BYTES + head_bytes};
	pace(sender, bytes);
	error = transport_send_all(&sender->transport, sender->iov, sender->niov);
	atomic_fetch_add(&sender->out->bytes, bytes);
	sender->niov = 1;
	return error;
}

static int flush(struct sender *sender)
{
	struct wire_batch *batch = &sender->batch;
	uint32_t npages = batch->npages;
	size_t head;

	if (!batch->nruns)
		return 0;
	head = wire_put_pages(sender->bytes + WIRE_HEADER_BYTES, batch);
	batch->nruns = batch->npages = 0;
	atomic_fetch_add(&sender->out->data, npages);
	return send_record(sender, WIRE_PAGES, head, npages * RAM_PAGE_BYTES);
}

static int add_page(struct sender *sender, page_t page, enum wire_kind kind)
{
	const uint8_t *at = sender->out->env.ram + page * RAM_PAGE_BYTES;
	struct wire_batch *batch = &sender->batch;
	struct wire_run *last = batch->nruns ? &batch->run[batch->nruns - 1] : NULL;

	if (kind == WIRE_DATA)
		batch->hash[batch->npages++] = hash_bytes(at, RAM_PAGE_BYTES);
	if (last && last->kind == kind && last->first + last->npages == page &&
	    page % WIRE_CHUNK_PAGES) {
		last->npages++;
		if (kind == WIRE_DATA)
			sender->iov[sender->niov - 1].iov_len += RAM_PAGE_BYTES;
	} else {
		batch->run[batch->nruns++] =
			(struct wire_run){.first = page, .npages = 1, .kind = kind};
		if (kind == WIRE_DATA)
			sender->iov[sender->niov++] = (struct iovec){(void *)at, RAM_PAGE_BYTES};
	}
	sender->round_pages++;
	if (batch->npages == BATCH_PAGES || batch->nruns == WIRE_BATCH_RUNS)
		return flush(sender);
	return 0;
}

/* ---- One round ---- */

static int arm_until(struct pages_out *out, page_t end)
{
	int error = 0;

	if (!out->env.rearm || !out->map)
		return 0;
	pthread_mutex_lock(&out->arm_lock);
	while (!error && out->armed < end) {
		uint64_t n = out->env.npages - out->armed;

		n = n < WINDOW_PAGES ? n : WINDOW_PAGES;
		error = out->env.rearm(out->env.opaque, out->armed, n);
		out->armed += n;
	}
	pthread_mutex_unlock(&out->arm_lock);
	return error;
}

static uint64_t word_of(const uint64_t *map, uint64_t word)
{
	return map ? map[word] : UINT64_MAX;
}

static int send_word(struct sender *sender, uint64_t word)
{
	const struct pages_out *out = sender->out;
	uint64_t bits = word_of(out->map, word), present = word_of(out->present, word);
	uint64_t n = 0;
	int error = 0;

	sender->out->taken[word] = true;
	while (bits && !error) {
		unsigned int bit = (unsigned int)__builtin_ctzll(bits);
		page_t page = word * 64 + bit;
		bool zero = !(present >> bit & 1) ||
			    page_is_zero(out->env.ram + page * RAM_PAGE_BYTES);

		bits &= bits - 1;
		error = add_page(sender, page, zero ? WIRE_ZERO : WIRE_DATA);
		n++;
		if (zero)
			atomic_fetch_add_explicit(&sender->out->zero, 1, memory_order_relaxed);
	}
	atomic_fetch_add_explicit(&sender->out->dealt, n, memory_order_relaxed);
	return error;
}

/* A first round names every page; the others may be silent. */
static int leave_word(struct sender *sender, uint64_t word)
{
	int error = 0;

	for (page_t page = word * 64; !sender->out->map && !error && page < word * 64 + 64; page++)
		error = add_page(sender, page, WIRE_DISCARDED);
	return error;
}

static int send_chunk(struct sender *sender, uint64_t chunk)
{
	const uint64_t words = WIRE_CHUNK_PAGES / 64, first = chunk * words;
	struct pages_out *out = sender->out;
	bool any = false;
	int error = 0;

	for (uint64_t i = 0; i < words; i++)
		any |= word_of(out->map, first + i) != 0;
	if (any && !atomic_load(&out->cut))
		error = arm_until(out, (chunk + 1) * WIRE_CHUNK_PAGES);
	for (uint64_t i = 0; any && !error && i < words; i++)
		error = atomic_load(&out->cut) ? leave_word(sender, first + i)
					       : send_word(sender, first + i);
	return error;
}

/* RAM comes in multiples of 2 MiB: all chunks are whole. */
static int send_round(struct sender *sender)
{
	struct pages_out *out = sender->out;
	struct wire_round end = {.round = out->round};
	struct buf head;
	int error = 0;

	sender->round_pages = 0;
	sender->niov = 1;
	sender->batch.round = out->round;
	for (uint64_t chunk = sender->channel; !error && chunk < out->env.npages / WIRE_CHUNK_PAGES;
	     chunk += out->nsenders)
		error = send_chunk(sender, chunk);
	if (!error)
		error = flush(sender);
	if (error)
		return error;
	end.pages = sender->round_pages;
	buf_init(&head, 64);
	wire_put_round(&head, &end);
	error = head.error;
	if (!error) {
		memcpy(sender->bytes + WIRE_HEADER_BYTES, head.bytes, head.len);
		error = send_record(sender, WIRE_ROUND_END, head.len, 0);
	}
	buf_fini(&head);
	return error;
}

static int say_hello(struct sender *sender, const uint8_t session[WIRE_SESSION_BYTES])
{
	struct wire_data_hello hello = {.channel = sender->channel};
	struct buf head;
	int error;

	memcpy(hello.session, session, WIRE_SESSION_BYTES);
	buf_init(&head, 64);
	wire_put_data_hello(&head, &hello);
	error = head.error;
	if (!error) {
		memcpy(sender->bytes + WIRE_HEADER_BYTES, head.bytes, head.len);
		sender->niov = 1;
		error = send_record(sender, WIRE_DATA_HELLO, head.len, 0);
	}
	buf_fini(&head);
	return error;
}

/* ---- Threads ---- */

static void wake(const struct pages_out *out)
{
	uint64_t one = 1;
	ssize_t written = write(out->env.wake_fd, &one, sizeof(one));

	(void)written; /* a full counter is a pending wake-up */
}

static void *sender_main(void *opaque)
{
	struct sender *sender = opaque;
	struct pages_out *out = sender->out;

	for (uint32_t done = 0;; done++) {
		int error;

		pthread_mutex_lock(&out->lock);
		while (out->wanted == done && !out->quit)
			pthread_cond_wait(&out->begun, &out->lock);
		pthread_mutex_unlock(&out->lock);
		if (out->quit)
			return NULL;
		error = send_round(sender);
		pthread_mutex_lock(&out->lock);
		if (error && !out->error && !out->quit) {
			out->error = fail(error, "%s: %s", sender->name,
					  error == -ECONNRESET ? "the target closed the connection"
							       : strerror(-error));
			snprintf(out->why, sizeof(out->why), "%s", fail_text());
		}
		out->busy--;
		if (error || !out->busy)
			wake(out);
		pthread_mutex_unlock(&out->lock);
	}
}

static int start_sender(struct sender *sender, const uint8_t session[WIRE_SESSION_BYTES])
{
	int error = say_hello(sender, session);

	if (error)
		return fail(error, "%s: %s", sender->name, strerror(-error));
	error = pthread_create(&sender->thread, NULL, sender_main, sender);
	if (error)
		return fail(-error, "%s: thread: %s", sender->name, strerror(error));
	sender->started = true;
	return 0;
}

int pages_out_new(struct pages_out **result, const struct pages_out_env *env,
		  struct transport *connections, unsigned int n,
		  const uint8_t session[WIRE_SESSION_BYTES])
{
	struct pages_out *out = calloc(1, sizeof(*out));
	struct sender *sender = calloc(n, sizeof(*sender));
	uint8_t *taken = calloc(env->npages / 64, 1);
	int error = 0;

	if (!out || !sender || !taken) {
		for (unsigned int i = 0; i < n; i++)
			transport_close(&connections[i]);
		free(out);
		free(sender);
		free(taken);
		return fail(-ENOMEM, "migration: no memory for %u channels", n);
	}
	*out = (struct pages_out){.env = *env, .nsenders = n, .sender = sender, .taken = taken};
	pthread_mutex_init(&out->lock, NULL);
	pthread_mutex_init(&out->arm_lock, NULL);
	pthread_cond_init(&out->begun, NULL);
	for (unsigned int i = 0; i < n; i++) {
		sender[i].out = out;
		sender[i].channel = i;
		snprintf(sender[i].name, sizeof(sender[i].name), "data %u", i);
		transport_init(&sender[i].transport, connections[i].fd, connections[i].tls,
			       sender[i].name);
	}
	for (unsigned int i = 0; i < n && !error; i++)
		error = start_sender(&sender[i], session);
	if (error) {
		pages_out_free(out);
		return error;
	}
	*result = out;
	return 0;
}

void pages_out_free(struct pages_out *out)
{
	if (!out)
		return;
	pthread_mutex_lock(&out->lock);
	out->quit = true;
	pthread_cond_broadcast(&out->begun);
	pthread_mutex_unlock(&out->lock);
	for (unsigned int i = 0; i < out->nsenders; i++)
		if (out->busy)
			transport_cut(&out->sender[i].transport);
	for (unsigned int i = 0; i < out->nsenders; i++) {
		if (out->sender[i].started)
			pthread_join(out->sender[i].thread, NULL);
		transport_close(&out->sender[i].transport);
	}
	pthread_mutex_destroy(&out->lock);
	pthread_mutex_destroy(&out->arm_lock);
	pthread_cond_destroy(&out->begun);
	free(out->sender);
	free(out->taken);
	free(out);
}

void pages_out_set_bandwidth(struct pages_out *out, uint64_t bytes_a_second)
{
	uint64_t each = bytes_a_second / out->nsenders;

	atomic_store(&out->bandwidth, bytes_a_second && !each ? 1 : each);
}

void pages_out_begin(struct pages_out *out, uint32_t round, const uint64_t *map,
		     const uint64_t *present)
{
	pthread_mutex_lock(&out->lock);
	out->round = round;
	out->map = map;
	out->present = present;
	out->armed = 0;
	out->busy = out->nsenders;
	atomic_store(&out->dealt, 0);
	atomic_store(&out->cut, false);
	memset(out->taken, false, out->env.npages / 64);
	out->wanted++;
	pthread_cond_broadcast(&out->begun);
	pthread_mutex_unlock(&out->lock);
}

void pages_out_cut(struct pages_out *out)
{
	atomic_store(&out->cut, true);
}

uint64_t pages_out_left(const struct pages_out *out, uint64_t *left)
{
	uint64_t pages = 0;

	for (uint64_t word = 0; word < out->env.npages / 64; word++) {
		left[word] = out->taken[word] ? 0
			     : out->map	      ? out->map[word]
					      : word_of(out->present, word);
		pages += (unsigned int)__builtin_popcountll(left[word]);
	}
	return pages;
}

int pages_out_status(struct pages_out *out)
{
	int status;

	pthread_mutex_lock(&out->lock);
	status = out->error ? fail_again(out->error, out->why) : out->busy == 0;
	pthread_mutex_unlock(&out->lock);
	return status;
}

/* What connections still hold: unsent, or not yet acknowledged by the other host. */
static uint64_t queued_bytes(const struct pages_out *out)
{
	uint64_t queued = 0;

	for (unsigned int i = 0; i < out->nsenders; i++) {
		int bytes = 0;

		if (!ioctl(out->sender[i].transport.fd, SIOCOUTQ, &bytes) && bytes > 0)
			queued += (uint64_t)bytes;
	}
	return queued;
}

void pages_out_get_stats(const struct pages_out *out, struct pages_out_stats *stats)
{
	*stats = (struct pages_out_stats){
		.data = atomic_load(&out->data),
		.zero = atomic_load(&out->zero),
		.bytes = atomic_load(&out->bytes),
		.round_pages = atomic_load(&out->dealt),
		.queued = queued_bytes(out),
	};
}
