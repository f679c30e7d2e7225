// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Receiving pages.
 *
 * Theory of operation. A thread reads a record's header and head, checks all that they name (wire_get_pages), and has the
 * kernel put the body straight into guest RAM. Then each page is compared with its checksum: one that differs is noted
 * in `damaged` until it comes again and fits. `received` tells pages that hold something from those that were never
 * written, so that a zero page costs nothing where RAM is zero anyway.
 *
 * A page that nobody has touched costs more to get from the kernel than to fill. Where RAM comes in huge pages, one fault
 * brings many, and they are asked for before the body is read. Where it does not, such pages are read into a buffer of
 * the thread's (`stage`) and written to RAM's file: then the kernel neither clears nor maps them, and the second copy,
 * of bytes that the processor still has at hand, costs less than that.
 *
 * Both maps are written without locks: a chunk's bits fill whole words, and a chunk belongs to one channel.
 */
#include "migration/pages_in.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/progress.h"
#include "migration/transport.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define POPULATE_MIN_PAGES 8 /* fewer are left to the copy's own faults */
_Static_assert(WIRE_CHUNK_PAGES % 64 == 0, "a chunk's bits are whole words");

struct receiver {
	struct pages_in *in;
	struct transport transport;
	char name[16];
	pthread_t thread;
	bool started;
	struct wire_channel channel;
	uint64_t sequence, round_pages;
	_Atomic uint32_t rounds; /* ended */
	_Atomic uint64_t bytes, damaged;
	struct wire_batch batch;
	struct iovec iov[WIRE_BATCH_RUNS];
	uint8_t *landed[WIRE_BATCH_RUNS]; /* where a run's body was read to */
	uint8_t *stage;			  /* NULL, or a batch's body */
	uint8_t record[WIRE_HEADER_BYTES + WIRE_PAGES_HEAD_MAX];
};

struct pages_in {
	struct pages_in_env env;
	unsigned int n;
	struct receiver *receiver;
	uint64_t *received, *damaged;
	pthread_mutex_t lock; /* error and why */
	int error;
	char why[MIGRATION_TEXT_BYTES];
	atomic_bool quit;
};

static bool test_bit(const uint64_t *map, page_t page)
{
	return map[page / 64] >> (page % 64) & 1;
}

/* A connection that this end has cut is no failure. */
static int receive_all(struct receiver *receiver, struct iovec *iov, unsigned int niov)
{
	int error = transport_receive_all(&receiver->transport, iov, niov);

	if (!error || atomic_load(&receiver->in->quit))
		return error;
	return fail(error, "%s: %s", receiver->name,
		    error == -ECONNRESET ? "the source closed the connection" : strerror(-error));
}

static int receive(struct receiver *receiver, void *to, size_t len)
{
	struct iovec iov = {to, len};

	atomic_fetch_add(&receiver->bytes, len);
	return receive_all(receiver, &iov, 1);
}

static uint8_t *page_at(const struct receiver *receiver, page_t page)
{
	return receiver->in->env.ram + page * RAM_PAGE_BYTES;
}

/* Where a run's body is read to; *staged: pages of the stage that are taken. */
static uint8_t *land(struct receiver *receiver, const struct wire_run *run, uint32_t *staged)
{
	uint8_t *ram = page_at(receiver, run->first), *stage;

	if (test_bit(receiver->in->received, run->first))
		return ram;
	if (receiver->stage) {
		stage = receiver->stage + *staged * RAM_PAGE_BYTES;
		*staged += run->npages;
		return stage;
	}
	if (run->npages >= POPULATE_MIN_PAGES)
		madvise(ram, run->npages * RAM_PAGE_BYTES, MADV_POPULATE_WRITE);
	return ram;
}

/* From the stage to where it belongs. */
static int unload(struct receiver *receiver, const struct wire_run *run, const uint8_t *from)
{
	size_t bytes = run->npages * RAM_PAGE_BYTES, done = 0;

	while (done < bytes) {
		ssize_t n = pwrite(receiver->in->env.ram_fd, from + done, bytes - done,
				   (off_t)(run->first * RAM_PAGE_BYTES + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(n ? -errno : -ENOSPC, "%s: guest memory: %s", receiver->name,
				    strerror(n ? errno : ENOSPC));
		done += (size_t)n;
	}
	return 0;
}

static void note_page(struct receiver *receiver, page_t page, bool fits)
{
	struct pages_in *in = receiver->in;
	uint64_t *word = &in->damaged[page / 64], bit = 1ULL << (page % 64);

	in->received[page / 64] |= bit;
	if (fits && *word & bit)
		atomic_fetch_sub(&receiver->damaged, 1);
	else if (!fits && !(*word & bit))
		atomic_fetch_add(&receiver->damaged, 1);
	*word = fits ? *word & ~bit : *word | bit;
}

static void check_run(struct receiver *receiver, const struct wire_run *run, const uint8_t *at,
		      const uint64_t *hash)
{
	for (uint32_t i = 0; i < run->npages; i++)
		note_page(receiver, run->first + i,
			  hash_bytes(at + i * RAM_PAGE_BYTES, RAM_PAGE_BYTES) == hash[i]);
}

/* Discarded pages read as zero, too. */
static void zero_run(struct receiver *receiver, const struct wire_run *run)
{
	for (uint32_t i = 0; i < run->npages; i++) {
		page_t page = run->first + i;

		if (!test_bit(receiver->in->received, page))
			continue;
		memset(page_at(receiver, page), 0, RAM_PAGE_BYTES);
		note_page(receiver, page, true);
	}
}

static int receive_body(struct receiver *receiver)
{
	const struct wire_batch *batch = &receiver->batch;
	unsigned int niov = 0;
	uint32_t staged = 0;
	int error;

	for (uint32_t i = 0; i < batch->nruns; i++) {
		const struct wire_run *run = &batch->run[i];

		receiver->round_pages += run->npages;
		if (run->kind != WIRE_DATA)
			continue;
		receiver->landed[i] = land(receiver, run, &staged);
		receiver->iov[niov++] =
			(struct iovec){receiver->landed[i], run->npages * RAM_PAGE_BYTES};
	}
	error = receive_all(receiver, receiver->iov, niov);
	if (!error)
		atomic_fetch_add(&receiver->bytes, batch->npages * RAM_PAGE_BYTES);
	return error;
}

static int take_pages(struct receiver *receiver, const struct wire_header *header)
{
	struct wire_batch *batch = &receiver->batch;
	const uint64_t *hash = batch->hash;
	int error = wire_get_pages(&receiver->channel, header, receiver->record + WIRE_HEADER_BYTES,
				   batch);

	if (!error)
		error = receive_body(receiver);
	for (uint32_t i = 0; i < batch->nruns && !error; i++) {
		const struct wire_run *run = &batch->run[i];

		if (run->kind != WIRE_DATA) {
			zero_run(receiver, run);
			continue;
		}
		if (receiver->landed[i] != page_at(receiver, run->first))
			error = unload(receiver, run, receiver->landed[i]);
		check_run(receiver, run, receiver->landed[i], hash);
		hash += run->npages;
	}
	return error;
}

static void wake(const struct pages_in *in)
{
	uint64_t one = 1;
	ssize_t written = write(in->env.wake_fd, &one, sizeof(one));

	(void)written; /* a full counter is a pending wake-up */
}

static int end_round(struct receiver *receiver, const struct wire_header *header)
{
	struct wire_round end;

	if (wire_get_round(receiver->record + WIRE_HEADER_BYTES, header->head_bytes, &end) ||
	    end.round != receiver->channel.round || end.pages != receiver->round_pages)
		return fail(-EBADMSG, "%s: ends a round that it did not send", receiver->name);
	receiver->round_pages = 0;
	receiver->channel.round++;
	/* Release: whoever sees the round ended sees its pages. */
	atomic_store(&receiver->rounds, receiver->channel.round);
	wake(receiver->in);
	return 0;
}

static int take_record(struct receiver *receiver)
{
	struct wire_header header;
	int error = receive(receiver, receiver->record, WIRE_HEADER_BYTES);

	if (!error)
		error = wire_parse_header(receiver->record, receiver->sequence++, receiver->name,
					  &header);
	if (!error && header.head_bytes > WIRE_PAGES_HEAD_MAX)
		return fail(-EBADMSG, "%s: a head of %u bytes", receiver->name, header.head_bytes);
	if (!error)
		error = receive(receiver, receiver->record + WIRE_HEADER_BYTES, header.head_bytes);
	if (!error)
		error = wire_verify(receiver->record, &header, receiver->name);
	if (error)
		return error;
	if (header.type == WIRE_PAGES)
		return take_pages(receiver, &header);
	if (header.type == WIRE_ROUND_END)
		return end_round(receiver, &header);
	return fail(-EBADMSG, "%s: a record of type %#x", receiver->name, header.type);
}

static void *receiver_main(void *opaque)
{
	struct receiver *receiver = opaque;
	struct pages_in *in = receiver->in;
	int error;

	do {
		error = take_record(receiver);
	} while (!error);
	if (!atomic_load(&in->quit)) {
		pthread_mutex_lock(&in->lock);
		if (!in->error)
			snprintf(in->why, sizeof(in->why), "%s", fail_text());
		in->error = in->error ? in->error : error;
		pthread_mutex_unlock(&in->lock);
		wake(in);
	}
	return NULL;
}

/* Asks the kernel for a page, and sees how many came. A file that cannot tell where it has holes says: all. */
static bool in_huge_pages(const struct pages_in_env *env)
{
	return madvise(env->ram, RAM_PAGE_BYTES, MADV_POPULATE_WRITE) ||
	       lseek(env->ram_fd, 0, SEEK_HOLE) != (off_t)RAM_PAGE_BYTES;
}

int pages_in_new(struct pages_in **result, const struct pages_in_env *env,
		 struct transport *connections, unsigned int n)
{
	struct pages_in *in = calloc(1, sizeof(*in));
	const bool staged = !in_huge_pages(env);
	int error = 0;

	if (in) {
		*in = (struct pages_in){.env = *env, .n = n};
		pthread_mutex_init(&in->lock, NULL);
		in->receiver = calloc(n, sizeof(*in->receiver));
		in->received = calloc(env->npages / 64, sizeof(uint64_t));
		in->damaged = calloc(env->npages / 64, sizeof(uint64_t));
	}
	if (!in || !in->receiver || !in->received || !in->damaged) {
		for (unsigned int i = 0; i < n; i++)
			transport_close(&connections[i]);
		if (in)
			in->n = 0;
		pages_in_free(in);
		return fail(-ENOMEM, "migration: no memory for %u channels", n);
	}
	for (unsigned int i = 0; i < n; i++) {
		struct receiver *receiver = &in->receiver[i];

		receiver->in = in;
		receiver->sequence = 1; /* after DATA_HELLO */
		receiver->channel =
			(struct wire_channel){.npages = env->npages, .channel = i, .nchannels = n};
		snprintf(receiver->name, sizeof(receiver->name), "data %u", i);
		transport_init(&receiver->transport, connections[i].fd, connections[i].tls,
			       receiver->name);
		connections[i] = (struct transport){.fd = -1};
		/* Without one it is slower. */
		receiver->stage = staged ? malloc(WIRE_BATCH_PAGES * RAM_PAGE_BYTES) : NULL;
	}
	for (unsigned int i = 0; i < n && !error; i++) {
		error = pthread_create(&in->receiver[i].thread, NULL, receiver_main,
				       &in->receiver[i]);
		in->receiver[i].started = !error;
	}
	if (error) {
		pages_in_free(in);
		return fail(-error, "migration: data thread: %s", strerror(error));
	}
	*result = in;
	return 0;
}

void pages_in_free(struct pages_in *in)
{
	if (!in)
		return;
	atomic_store(&in->quit, true);
	for (unsigned int i = 0; i < in->n; i++)
		transport_cut(&in->receiver[i].transport);
	for (unsigned int i = 0; i < in->n; i++) {
		if (in->receiver[i].started)
			pthread_join(in->receiver[i].thread, NULL);
		transport_close(&in->receiver[i].transport);
		free(in->receiver[i].stage);
	}
	pthread_mutex_destroy(&in->lock);
	free(in->receiver);
	free(in->received);
	free(in->damaged);
	free(in);
}

int64_t pages_in_rounds(struct pages_in *in)
{
	int64_t least = UINT32_MAX;
	int error;

	for (unsigned int i = 0; i < in->n; i++) {
		uint32_t rounds = atomic_load(&in->receiver[i].rounds);

		least = rounds < least ? rounds : least;
	}
	pthread_mutex_lock(&in->lock);
	error = in->error ? fail_again(in->error, in->why) : 0;
	pthread_mutex_unlock(&in->lock);
	return error ? error : least;
}

uint64_t pages_in_damaged(const struct pages_in *in)
{
	uint64_t damaged = 0;

	for (unsigned int i = 0; i < in->n; i++)
		damaged += atomic_load(&in->receiver[i].damaged);
	return damaged;
}

uint64_t pages_in_bytes(const struct pages_in *in)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < in->n; i++)
		bytes += atomic_load(&in->receiver[i].bytes);
	return bytes;
}
