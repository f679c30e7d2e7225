/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Split virtqueues, device side (virtio 1.2 section 2.7), with event indices and indirect descriptors.
 * virtq.c opens with the theory of operation. Packed rings are not offered.
 *
 * The guest is hostile: every index, address, length and loop is checked, each descriptor is read once, and memory use
 * does not depend on what the guest says. A guest that breaks the rules gets -EBADMSG from pop, and the owner's
 * `broken` is called once (the device goes to NEEDS_RESET); what was popped before must still be pushed.
 *
 * Thread: whoever holds the owner's lock; all calls of one queue are serialised by it.
 */
#ifndef DEVICES_VIRTQ_H
#define DEVICES_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/auto.h"
#include "base/state.h"
#include "memory/ram.h"

#define VIRTQ_SIZE_MAX	1024
#define VIRTQ_NO_VECTOR 0xffff

/* clang-format off */
#define VIRTQ_STATE(T, F, A, V)                                                      \
	F(T, 1, u16, size)        /* chosen by the guest, a power of two <= size_max */  \
	F(T, 2, u8, enabled)                                                             \
	F(T, 3, u16, vector)      /* MSI-X, or VIRTQ_NO_VECTOR */                        \
	F(T, 4, u64, desc_gpa)                                                           \
	F(T, 5, u64, avail_gpa)                                                          \
	F(T, 6, u64, used_gpa)                                                           \
	F(T, 7, u16, next_avail)  /* the next entry of the available ring to pop */      \
	F(T, 8, u16, next_used)   /* the next entry of the used ring to fill */
/* clang-format on */
STATE_STRUCT(virtq_state, VIRTQ_STATE);
extern const struct state_table *const virtq_state_list;

struct virtq;

/* What a queue tells its owner; with the owner's lock held. */
struct virtq_owner {
	void (*interrupt)(void *opaque,
			  struct virtq *q); /* the guest wants to be told of used buffers */
	void (*broken)(void *opaque, struct virtq *q,
		       const char *why); /* the guest broke the rules; once */
};

struct virtq {
	struct virtq_state state;
	uint16_t index;
	uint16_t size_max;
	struct ram *ram;
	const struct virtq_owner *owner;
	void *opaque;
	/* While enabled: the rings, checked to lie in RAM. */
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	bool event_idx, indirect; /* negotiated */
	bool broken;
	uint16_t published; /* the used index that the guest sees */
	bool signalled_valid; /* signalled is known (false after start and load: then better one interrupt too many) */
	uint16_t signalled; /* the used index at the last decision about an interrupt */
	bool kicks_off;
	unsigned int inflight; /* popped, not pushed; at most size */
};

/*
 * One popped chain. iov[0..nread) is what the device reads, iov[nread..nread+nwrite) what it writes: pointers into
 * guest RAM, whose *contents* the guest may change at any time. The caller lends the array; keep the struct until push.
 */
struct virtq_chain {
	struct iovec *iov;
	unsigned int capacity;
	unsigned int nread, nwrite;
	uint32_t read_bytes, write_bytes;
	uint16_t head;
};
/* A chain with room for n segments in the enclosing scope. */
#define VIRTQ_CHAIN(name, n)        \
	struct iovec name##_iov[n]; \
	struct virtq_chain name = {.iov = name##_iov, .capacity = (n)}

/* size_max: a power of two up to VIRTQ_SIZE_MAX; index: for logs and the owner. */
void virtq_init(struct virtq *q, struct ram *ram, uint16_t index, uint16_t size_max,
		const struct virtq_owner *owner, void *opaque);
/* As after a device reset; nothing may be in flight. */
void virtq_reset(struct virtq *q);
/*
 * Checks the addresses in state and maps the rings; sets enabled. -EBADMSG: misaligned or not RAM (not logged: the
 * guest's or the stream's fault). event_idx, indirect: negotiated.
 */
int virtq_enable(struct virtq *q, bool event_idx, bool indirect) must_check;

/*
 * Takes the next available chain. 1: chain filled; 0: none; -EBADMSG: the guest broke the rules (owner told). A chain of
 * more segments than chain->capacity is such a break: lend what the device advertises, plus headers.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *chain) must_check;
/* True when pop would find something (or a break); reads the guest's index. */
bool virtq_has_avail(struct virtq *q);
/* Puts the last popped chain back, unused: only directly after its pop. */
void virtq_unpop(struct virtq *q, const struct virtq_chain *chain);
/*
 * Returns a chain: `written` bytes, counted from the start of its writable part, are in memory. Marks them dirty. The
 * guest sees it at the next virtq_publish(). Any order of chains.
 */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
/* Makes all pushed chains visible and interrupts the guest if it asked for that. Nothing pushed: does nothing. */
void virtq_publish(struct virtq *q);

/*
 * Kicks off: the guest need not kick (a hint). Kicks on: it must; true when something became available meanwhile, then
 * pop again. Usage:
 *	do {
 *		virtq_kicks_off(q);
 *		while (virtq_pop(q, &chain) > 0)
 *			...
 *	} while (virtq_kicks_on(q));
 */
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);

/* Marks part of a chain's writable area dirty by hand: a device that wrote without saying so in `written`. */
void virtq_chain_mark(const struct virtq *q, const struct virtq_chain *chain, uint32_t offset,
		      uint32_t len);
/* Copies out of the readable / into the writable part, from byte `offset` of it on; the bytes copied. No marks: push does. */
size_t virtq_chain_read(const struct virtq_chain *chain, uint32_t offset, void *to, size_t len);
size_t virtq_chain_write(const struct virtq_chain *chain, uint32_t offset, const void *from,
			 size_t len);

/* On resume: interrupts if the used index has moved past what the guest asked to be told of. */
void virtq_resume_interrupt(struct virtq *q);
/*
 * A backend outside (vhost) served the queue and says where it stopped: next_avail is that; next_used is read from the
 * ring, which the backend wrote.
 */
void virtq_set_base(struct virtq *q, uint16_t next_avail);

/* Loads into *loaded and checks it against this queue (not the RAM behind the addresses: virtq_enable does). */
int virtq_load(const struct virtq *q, uint32_t instance, struct state_set *in,
	       struct virtq_state *loaded) must_check;
int virtq_save(const struct virtq *q, uint32_t instance, struct buf *out) must_check;

#endif
