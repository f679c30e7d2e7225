// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Frames between the network card's queues and its backend, where no vhost does it.
 *
 * Theory of operation
 *
 * Transmit: one chain is one frame, header first; it goes to the backend in one call, straight from guest memory. When the
 * backend is full the chain is put back, and the descriptor is watched for room.
 *
 * Receive: a frame's length is known only when it has been read, and it is to be read into guest memory at once. So
 * buffers are popped ahead (the stage), one readv(2) fills as many of them as the frame needs, and those are pushed. What
 * does not fit the stage goes to a spill buffer, from where it is copied into further buffers, or, when the guest has
 * none, dropped with its frame. How far ahead: for one small frame, until one has spilled; then for the largest.
 * Staged buffers belong to the guest's ring, not to us: at every stop they are put back, last first, as if never popped.
 *
 * With mergeable buffers (section 5.1.6.4) a frame may take several chains, and the header says how many; without, a
 * frame that does not fit one chain is dropped.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "devices/net_device.h"

#define BUDGET	     128U /* frames of one run; then others have their turn */
#define SMALL_BYTES  2048U
#define LARGE_FRAMES 64U
#define NBUFFERS_AT  10U /* in the header, section 5.1.6 */

void net_unstage(struct net_pair *pair)
{
	struct net_stage *stage = &pair->stage;
	struct virtq *q = virtio_q(&pair->net->virtio, net_rx(pair));

	while (stage->n > stage->first)
		virtq_unpop(q, &stage->chain[--stage->n]);
	stage->first = stage->n = stage->niov = 0;
}

static bool is_mergeable(const struct net_pair *pair)
{
	return virtio_has(&pair->net->virtio, 1ULL << NET_F_MRG_RXBUF);
}

/* Moves what is staged to the front; chains point into iov. */
static void stage_compact(struct net_stage *stage)
{
	unsigned int skip;

	if (stage->first == 0)
		return;
	skip = stage->first == stage->n
		       ? stage->niov
		       : (unsigned int)(stage->chain[stage->first].iov - stage->iov);
	memmove(stage->iov, stage->iov + skip, (stage->niov - skip) * sizeof(stage->iov[0]));
	stage->niov -= skip;
	stage->n -= stage->first;
	memmove(stage->chain, stage->chain + stage->first, stage->n * sizeof(stage->chain[0]));
	stage->first = 0;
	for (unsigned int i = 0; i < stage->n; i++)
		stage->chain[i].iov -= skip;
}

/* One more chain at the end of the stage; false when there is none, no room, or the guest broke the rules. */
static bool stage_pop(struct net_pair *pair)
{
	struct virtio *virtio = &pair->net->virtio;
	struct net_stage *stage = &pair->stage;
	struct virtq *q = virtio_q(virtio, net_rx(pair));
	struct virtq_chain *chain;

	if (stage->n == NET_STAGE_CHAINS || NET_STAGE_IOV - stage->niov < NET_SEGMENTS_MAX)
		stage_compact(stage);
	if (stage->n == NET_STAGE_CHAINS || NET_STAGE_IOV - stage->niov < NET_SEGMENTS_MAX)
		return false;
	chain = &stage->chain[stage->n];
	chain->iov = stage->iov + stage->niov;
	chain->capacity = NET_SEGMENTS_MAX;
	if (virtq_pop(q, chain) <= 0)
		return false;
	if (chain->nread > 0 || chain->write_bytes < NET_HEADER_BYTES) {
		virtq_unpop(q, chain);
		virtio_broken(virtio, "receive buffer to read from, or too small for a header");
		return false;
	}
	stage->niov += chain->nwrite;
	stage->n++;
	return true;
}

static uint32_t stage_bytes(const struct net_stage *stage)
{
	uint64_t bytes = 0;

	for (unsigned int i = stage->first; i < stage->n; i++)
		bytes += stage->chain[i].write_bytes;
	return bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
}

/* Stages enough for the frame to expect; false when there is nothing at all to receive into. */
static bool stage_fill(struct net_pair *pair)
{
	struct net_stage *stage = &pair->stage;
	uint32_t want = pair->large ? NET_FRAME_MAX : SMALL_BYTES;

	if (!is_mergeable(pair))
		want = 1;
	while (stage_bytes(stage) < want) {
		if (!stage_pop(pair))
			break;
	}
	return stage->n > stage->first && virtio_queue_ready(&pair->net->virtio, net_rx(pair));
}

/* So many of the staged chains that they hold len bytes, popping more; 0 when the guest has not got them. */
static unsigned int chains_for(struct net_pair *pair, uint32_t len)
{
	struct net_stage *stage = &pair->stage;
	unsigned int count = 0;
	uint64_t room = 0;

	while (room < len) {
		if (stage->first + count == stage->n && !stage_pop(pair))
			return 0;
		room += stage->chain[stage->first + count++].write_bytes;
		if (!is_mergeable(pair) && room < len)
			return 0;
	}
	return count;
}

/* A frame of len bytes is in the first `staged` bytes of the stage, and what was too much in the spill. */
static void deliver(struct net_pair *pair, uint32_t len, uint32_t staged)
{
	struct virtio_net *net = pair->net;
	struct net_stage *stage = &pair->stage;
	struct virtq *q = virtio_q(&net->virtio, net_rx(pair));
	unsigned int count = chains_for(pair, len);
	uint8_t nbuffers[2];
	uint32_t at = 0;

	if (count == 0) {
		/* The buffers stay the guest's, but they were written to. */
		for (unsigned int i = stage->first; i < stage->n; i++)
			virtq_chain_mark(q, &stage->chain[i], 0, stage->chain[i].write_bytes);
		net->counts.receive_dropped++;
		return;
	}
	put_le16(nbuffers, (uint16_t)count);
	(void)virtq_chain_write(&stage->chain[stage->first], NBUFFERS_AT, nbuffers,
				sizeof(nbuffers));
	while (count--) {
		struct virtq_chain *chain = &stage->chain[stage->first];
		uint32_t n = len - at < chain->write_bytes ? len - at : chain->write_bytes;

		/* The spill's part begins with a chain: it is what did not fit the ones before. */
		if (at >= staged)
			(void)virtq_chain_write(chain, 0, pair->spill + (at - staged), n);
		virtq_push(q, chain, n);
		stage->first++;
		at += n;
	}
	net->counts.received++;
	net->counts.received_bytes += len - NET_HEADER_BYTES;
}

/* Reads one frame: 1, 0 none now, -errno the backend is gone. */
static int receive_one(struct net_pair *pair)
{
	struct net_backend *backend = pair->net->backend;
	struct net_stage *stage = &pair->stage;
	struct virtq_chain *first = &stage->chain[stage->first];
	unsigned int from = (unsigned int)(first->iov - stage->iov);
	uint32_t staged = stage_bytes(stage);
	ssize_t n;

	/* Without mergeable buffers one chain is staged, and the spill tells that a frame did not fit. */
	stage->iov[stage->niov] = (struct iovec){pair->spill, NET_FRAME_MAX};
	n = backend->ops->receive(backend, pair->index, first->iov, stage->niov - from + 1);
	if (n < 0)
		return n == -EAGAIN ? 0 : (int)n;
	if (n < (ssize_t)NET_HEADER_BYTES || n > (ssize_t)NET_FRAME_MAX) {
		pair->net->counts.receive_dropped += n != 0;
		return 1;
	}
	if (n > (ssize_t)staged)
		pair->large = LARGE_FRAMES;
	else if (pair->large && n <= (ssize_t)SMALL_BYTES)
		pair->large--;
	deliver(pair, (uint32_t)n, staged);
	return 1;
}

/* There is something to receive into, or else the guest will kick when there is. */
static bool have_buffers(struct net_pair *pair)
{
	struct virtq *q = virtio_q(&pair->net->virtio, net_rx(pair));

	virtq_kicks_off(q);
	while (!stage_fill(pair)) {
		if (!virtio_queue_ready(&pair->net->virtio, net_rx(pair)))
			return false;
		if (!virtq_kicks_on(q)) {
			pair->starved = true;
			return false;
		}
		virtq_kicks_off(q);
	}
	return true;
}

void net_receive(struct net_pair *pair)
{
	struct virtio *virtio = &pair->net->virtio;
	unsigned int budget = BUDGET;
	int rc = 1;

	if (!virtio_queue_ready(virtio, net_rx(pair)) || pair->net->dead)
		return;
	pair->starved = false;
	while (rc > 0 && budget-- > 0 && have_buffers(pair))
		rc = receive_one(pair);
	virtq_publish(virtio_q(virtio, net_rx(pair)));
	if (rc < 0)
		net_backend_died(pair->net, rc);
	else if (rc > 0 && !pair->starved)
		virtio_queue_kick(
			virtio,
			net_rx(pair)); /* a backend may hold frames that no event tells of */
	net_watch(pair);
}

/* Sends one frame: 1, 0 none, -EAGAIN the backend is full, other -errno it is gone. */
static int transmit_one(struct net_pair *pair, struct virtq *q)
{
	struct virtio_net *net = pair->net;
	VIRTQ_CHAIN(chain, NET_SEGMENTS_MAX);
	int error = 0;

	if (virtq_pop(q, &chain) <= 0)
		return 0;
	if (chain.read_bytes < NET_HEADER_BYTES) {
		virtq_push(q, &chain, 0);
		virtio_broken(&net->virtio, "frame without a header");
		return 0;
	}
	if (net->dead || chain.read_bytes > NET_FRAME_MAX)
		net->counts.send_dropped++;
	else
		error = net->backend->ops->send(net->backend, pair->index, chain.iov, chain.nread);
	if (error) {
		virtq_unpop(q, &chain);
		return error;
	}
	net->counts.sent++;
	net->counts.sent_bytes += chain.read_bytes - NET_HEADER_BYTES;
	virtq_push(q, &chain, 0);
	return 1;
}

/* Up to `budget` frames; as transmit_one(), and 1: the budget is used up. */
static int transmit_some(struct net_pair *pair, unsigned int budget)
{
	struct virtio *virtio = &pair->net->virtio;
	struct virtq *q = virtio_q(virtio, net_tx(pair));
	int rc;

	do {
		virtq_kicks_off(q);
		for (rc = 1; rc > 0 && virtio_queue_ready(virtio, net_tx(pair)); budget--) {
			if (budget == 0)
				return 1;
			rc = transmit_one(pair, q);
		}
		if (rc < 0)
			return rc;
	} while (virtio_queue_ready(virtio, net_tx(pair)) && virtq_kicks_on(q));
	return 0;
}

void net_transmit(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	struct net_backend *backend = net->backend;
	int rc = 0;

	pair->blocked = false;
	if (backend->pending_send && !net->dead)
		rc = backend->ops->send(backend, pair->index, NULL, 0);
	if (rc == 0 && virtio_queue_ready(&net->virtio, net_tx(pair))) {
		rc = transmit_some(pair, BUDGET);
		virtq_publish(virtio_q(&net->virtio, net_tx(pair)));
	}
	if (rc == -EAGAIN)
		pair->blocked = true;
	else if (rc < 0)
		net_backend_died(net, rc);
	/* After the budget, or to let go of what waits for a backend that is gone. */
	if (rc != 0 && rc != -EAGAIN)
		virtio_queue_kick(&net->virtio, net_tx(pair));
	net_watch(pair);
}
