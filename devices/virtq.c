// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Split virtqueues, device side. What the buffers mean is the device's; where the rings are comes from virtio_pci.c.
 *
 * Theory of operation
 *
 * Three areas in guest RAM: a table of descriptors, the *available* ring (guest to device: heads of chains) and the
 * *used* ring (device to guest: heads and lengths). Both rings have a free-running 16-bit index that only its writer
 * writes. The device keeps its own position in both (next_avail, next_used) and never reads its own index back: the guest
 * could have changed it.
 *
 * Every word that the guest can write is loaded exactly once into a local; it is checked there and
 * used from there. A chain has at most `size` descriptors (virtio 1.2, 2.7.5.3.1), which ends every loop; at most `size`
 * chains are in flight, which bounds what a device must remember; the lender of the segment array bounds that.
 *
 * Barriers and their partners (in the guest's driver):
 *	load-acquire of avail->idx	with its write barrier before it moves avail->idx: the ring entries and the
 *					descriptors that we read next are those it meant.
 *	store-release of used->idx	with its read barrier after reading used->idx: it sees the used elements and the
 *					data before the index.
 *	full fence in virtq_publish()	between storing used->idx and reading used_event / avail->flags. Partner: the full
 *					barrier between its writing used_event (or clearing NO_INTERRUPT) and its last look
 *					at used->idx. One of the two sees the other's store, so no interrupt is lost.
 *	full fence in virtq_kicks_on()	between storing avail_event (or clearing NO_NOTIFY) and reading avail->idx. Partner:
 *					its full barrier between storing avail->idx and reading avail_event / used->flags.
 *					One of the two sees the other's store, so no kick is lost.
 *
 * Dirty marks. Data is in memory, is marked (release), and only then does the used index say so. The ring's own words are
 * marked after they were stored: a harvest that takes the bit before the store would send an old page and nobody would
 * send the new one.
 *
 * Interrupt suppression forgets its history at start, at load and after an outside backend: signalled_valid is false
 * then, and the next decision errs on the side of an interrupt too many.
 */
#include "devices/virtq.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/log.h"

/* The layout of the rings, as in the specification (2.7.5, 2.7.6, 2.7.8). */
struct virtq_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
struct virtq_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* size entries, then used_event */
};
struct virtq_used_elem {
	uint32_t id;
	uint32_t len;
};
struct virtq_used {
	uint16_t flags;
	uint16_t idx;
	struct virtq_used_elem ring[]; /* size entries, then avail_event */
};
_Static_assert(sizeof(struct virtq_desc) == 16 && sizeof(struct virtq_used_elem) == 8,
	       "ring layout is the specification's");

STATE_TABLE(virtq_state, 1, VIRTQ_STATE);
const struct state_table *const virtq_state_list = &virtq_state_table;

#define LOAD(p)	       __atomic_load_n(&(p), __ATOMIC_RELAXED)
#define STORE(p, v)    __atomic_store_n(&(p), (v), __ATOMIC_RELAXED)
#define FULL_BARRIER() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static uint16_t *used_event(const struct virtq *q)
{
	return &q->avail->ring[q->state.size];
}

static uint16_t *avail_event(const struct virtq *q)
{
	return (uint16_t *)&q->used->ring[q->state.size];
}

void virtq_init(struct virtq *q, struct ram *ram, uint16_t index, uint16_t size_max,
		const struct virtq_owner *owner, void *opaque)
{
	assert(size_max && size_max <= VIRTQ_SIZE_MAX && !(size_max & (size_max - 1)));
	*q = (struct virtq){
		.index = index, .size_max = size_max, .ram = ram, .owner = owner, .opaque = opaque};
	virtq_reset(q);
}

static void unmap_rings(struct virtq *q)
{
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
}

void virtq_reset(struct virtq *q)
{
	assert(q->inflight == 0);
	q->state = (struct virtq_state){.size = q->size_max, .vector = VIRTQ_NO_VECTOR};
	unmap_rings(q);
	q->event_idx = q->indirect = false;
	q->broken = false;
	q->published = 0;
	q->signalled_valid = false;
	q->kicks_off = false;
}

int virtq_enable(struct virtq *q, bool event_idx, bool indirect)
{
	const struct virtq_state *s = &q->state;
	uint64_t size = s->size;

	if (s->desc_gpa % 16 || s->avail_gpa % 2 || s->used_gpa % 4)
		return -EBADMSG;
	q->desc = ram_ptr(q->ram, s->desc_gpa, size * sizeof(struct virtq_desc));
	/* Both rings end with an event index, which exists only when negotiated; the memory has it always. */
	q->avail = ram_ptr(q->ram, s->avail_gpa, sizeof(struct virtq_avail) + 2 * size + 2);
	q->used = ram_ptr(q->ram, s->used_gpa,
			  sizeof(struct virtq_used) + size * sizeof(struct virtq_used_elem) + 2);
	if (!q->desc || !q->avail || !q->used) {
		unmap_rings(q);
		return -EBADMSG;
	}
	q->event_idx = event_idx;
	q->indirect = indirect;
	q->published = s->next_used;
	q->signalled_valid = false;
	q->kicks_off = false;
	q->state.enabled = 1;
	return 0;
}

/* The guest broke the rules: said once, and the queue stays shut until it is reset. */
static int broken(struct virtq *q, const char *why)
{
	if (!q->broken) {
		q->broken = true;
		q->owner->broken(q->opaque, q, why);
	}
	return -EBADMSG;
}

bool virtq_has_avail(struct virtq *q)
{
	return q->avail && !q->broken && LOAD(q->avail->idx) != q->state.next_avail;
}

/* A chain under construction: where the descriptors are, and how many have been seen. */
struct walk {
	const void *table;
	uint32_t entries;
	unsigned int seen;
	uint64_t bytes;
	bool indirect;
};

/*
 * Copies a descriptor out, once: behind the compiler barrier no word of it can be read from guest memory again. An
 * indirect table may lie at any address, hence memcpy.
 */
static bool load_desc(const struct walk *walk, uint32_t index, struct virtq_desc *out)
{
	if (index >= walk->entries)
		return false;
	memcpy(out, (const char *)walk->table + index * sizeof(*out), sizeof(*out));
	__asm__ volatile("" ::: "memory");
	return true;
}

static const char *add_segment(struct virtq *q, struct virtq_chain *chain, struct walk *walk,
			       const struct virtq_desc *desc)
{
	bool write = desc->flags & VRING_DESC_F_WRITE;
	struct iovec *iov;

	if (!write && chain->nwrite > 0)
		return "a readable descriptor after a writable one";
	walk->bytes += desc->len;
	if (walk->bytes > UINT32_MAX)
		return "a chain of more than 4 GiB";
	if (desc->len == 0)
		return NULL;
	if (chain->nread + chain->nwrite == chain->capacity)
		return "a chain of more segments than the device takes";
	iov = &chain->iov[chain->nread + chain->nwrite];
	iov->iov_base = ram_ptr(q->ram, desc->gpa, desc->len);
	iov->iov_len = desc->len;
	if (!iov->iov_base)
		return "a descriptor outside RAM";
	if (write) {
		chain->nwrite++;
		chain->write_bytes += desc->len;
	} else {
		chain->nread++;
		chain->read_bytes += desc->len;
	}
	return NULL;
}

/* Goes on in the table that the descriptor points to. */
static const char *enter_indirect(struct virtq *q, struct walk *walk, const struct virtq_desc *desc)
{
	if (!q->indirect)
		return "an indirect descriptor, not negotiated";
	if (walk->indirect)
		return "an indirect descriptor in an indirect table";
	if (desc->flags & VRING_DESC_F_NEXT)
		return "an indirect descriptor that goes on";
	if (desc->len == 0 || desc->len % sizeof(struct virtq_desc))
		return "an indirect table of a broken length";
	walk->table = ram_ptr(q->ram, desc->gpa, desc->len);
	walk->entries = desc->len / sizeof(struct virtq_desc);
	walk->indirect = true;
	return walk->table ? NULL : "an indirect table outside RAM";
}

static const char *walk_chain(struct virtq *q, struct virtq_chain *chain)
{
	struct walk walk = {.table = q->desc, .entries = q->state.size};
	uint32_t index = chain->head;
	struct virtq_desc desc;
	const char *why;

	for (;;) {
		if (!load_desc(&walk, index, &desc))
			return "a descriptor index outside the table";
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			why = enter_indirect(q, &walk, &desc);
			if (why)
				return why;
			index = 0;
			continue;
		}
		if (++walk.seen > q->state.size)
			return "a chain longer than the queue: a loop";
		why = add_segment(q, chain, &walk, &desc);
		if (why)
			return why;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return NULL;
		index = desc.next;
	}
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t idx, waiting;
	const char *why;

	if (q->broken || !q->avail)
		return q->broken ? -EBADMSG : 0;
	/* Acquire: ring entry and descriptors are read after the index that made them ours. */
	idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	waiting = idx - q->state.next_avail;
	if (waiting == 0)
		return 0;
	if (waiting > q->state.size)
		return broken(q, "the available index ran ahead of the queue");
	if (q->inflight == q->state.size)
		return broken(q, "more chains in flight than the queue has descriptors");
	chain->head = LOAD(q->avail->ring[q->state.next_avail % q->state.size]);
	chain->nread = chain->nwrite = 0;
	chain->read_bytes = chain->write_bytes = 0;
	why = walk_chain(q, chain);
	if (why)
		return broken(q, why);
	q->state.next_avail++;
	q->inflight++;
	return 1;
}

void virtq_unpop(struct virtq *q, const struct virtq_chain *chain)
{
	assert(q->inflight > 0);
	q->state.next_avail--;
	q->inflight--;
}

void virtq_chain_mark(const struct virtq *q, const struct virtq_chain *chain, uint32_t offset,
		      uint32_t len)
{
	const struct iovec *iov = &chain->iov[chain->nread];

	for (unsigned int i = 0; i < chain->nwrite && len > 0; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = iov[i].iov_len - offset < len ? iov[i].iov_len - offset : len;
		ram_mark_dirty_hva(q->ram, (const char *)iov[i].iov_base + offset, n);
		len -= n;
		offset = 0;
	}
}

void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	struct virtq_used_elem *elem;

	assert(q->inflight > 0 && q->used);
	virtq_chain_mark(q, chain, 0, written);
	elem = &q->used->ring[q->state.next_used % q->state.size];
	STORE(elem->id, chain->head);
	STORE(elem->len, written);
	ram_mark_dirty_hva(q->ram, elem, sizeof(*elem));
	q->state.next_used++;
	q->inflight--;
}

/* Whether the guest asked to be told when the used index moved from old to new (2.7.10.1). */
static bool wants_interrupt(struct virtq *q, uint16_t new)
{
	uint16_t old = q->signalled;
	bool valid = q->signalled_valid;

	q->signalled = new;
	q->signalled_valid = true;
	if (!q->event_idx)
		return !(LOAD(q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	return !valid || vring_need_event(LOAD(*used_event(q)), new, old);
}

void virtq_publish(struct virtq *q)
{
	uint16_t idx = q->state.next_used;

	if (!q->used || q->published == idx)
		return;
	/* Release: elements and data are visible before the index. */
	__atomic_store_n(&q->used->idx, idx, __ATOMIC_RELEASE);
	ram_mark_dirty_hva(q->ram, &q->used->idx, sizeof(q->used->idx));
	q->published = idx;
	/* Partner: the driver's barrier between used_event (or its flags) and its look at used->idx. */
	FULL_BARRIER();
	if (wants_interrupt(q, idx))
		q->owner->interrupt(q->opaque, q);
}

static void set_used_flags(struct virtq *q, uint16_t flags)
{
	STORE(q->used->flags, flags);
	ram_mark_dirty_hva(q->ram, &q->used->flags, sizeof(q->used->flags));
}

void virtq_kicks_off(struct virtq *q)
{
	if (!q->used || q->kicks_off)
		return;
	q->kicks_off = true;
	/* With event indices, an avail_event that is not moved on means the same. */
	if (!q->event_idx)
		set_used_flags(q, VRING_USED_F_NO_NOTIFY);
}

bool virtq_kicks_on(struct virtq *q)
{
	if (!q->used)
		return false;
	q->kicks_off = false;
	if (q->event_idx) {
		STORE(*avail_event(q), q->state.next_avail);
		ram_mark_dirty_hva(q->ram, avail_event(q), sizeof(uint16_t));
	} else {
		set_used_flags(q, 0);
	}
	/* Partner: the driver's barrier between avail->idx and its look at avail_event (or our flags). */
	FULL_BARRIER();
	return virtq_has_avail(q);
}

size_t virtq_chain_read(const struct virtq_chain *chain, uint32_t offset, void *to, size_t len)
{
	size_t done = 0;

	for (unsigned int i = 0; i < chain->nread && done < len; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t n;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		n = iov->iov_len - offset < len - done ? iov->iov_len - offset : len - done;
		memcpy((char *)to + done, (const char *)iov->iov_base + offset, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t virtq_chain_write(const struct virtq_chain *chain, uint32_t offset, const void *from,
			 size_t len)
{
	size_t done = 0;

	for (unsigned int i = chain->nread; i < chain->nread + chain->nwrite && done < len; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t n;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		n = iov->iov_len - offset < len - done ? iov->iov_len - offset : len - done;
		memcpy((char *)iov->iov_base + offset, (const char *)from + done, n);
		done += n;
		offset = 0;
	}
	return done;
}

void virtq_resume_interrupt(struct virtq *q)
{
	uint16_t idx = q->state.next_used;
	bool due;

	if (!q->used || !q->state.enabled)
		return;
	if (q->event_idx) {
		/* Moved past it within the last round of the ring; further back it has been overtaken and reused. */
		uint16_t past = idx - LOAD(*used_event(q)) - 1;

		due = past < q->state.size;
	} else {
		due = !(LOAD(q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	}
	q->signalled_valid = false;
	if (due)
		q->owner->interrupt(q->opaque, q);
}

void virtq_set_base(struct virtq *q, uint16_t next_avail)
{
	if (!q->used)
		return;
	q->state.next_avail = next_avail;
	q->state.next_used = LOAD(q->used->idx);
	q->published = q->state.next_used;
	q->signalled_valid = false;
}

int virtq_save(const struct virtq *q, uint32_t instance, struct buf *out)
{
	return state_save(&virtq_state_table, instance, &q->state, out);
}

int virtq_load(const struct virtq *q, uint32_t instance, struct state_set *in,
	       struct virtq_state *loaded)
{
	int error = state_load(in, &virtq_state_table, instance, loaded);

	if (error)
		return error;
	if (!loaded->size || loaded->size > q->size_max || loaded->size & (loaded->size - 1))
		return fail(-EBADMSG, "virtq: queue %u: size %u of at most %u", q->index,
			    loaded->size, q->size_max);
	if (loaded->enabled > 1)
		return fail(-EBADMSG, "virtq: queue %u: enabled is %u", q->index, loaded->enabled);
	return 0;
}
