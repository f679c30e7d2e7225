/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's side of a network card: where frames go. A backend moves one frame a call, each with the header of virtio
 * 1.2 section 5.1.6 (NET_HEADER_BYTES) in front, in both directions. Knows nothing of queues and guests.
 *
 *	tap	an existing tap interface, one descriptor for each queue pair; checksum and segmentation offloads
 *	passt	a child process that turns frames into sockets, for users without privileges; no offloads, one pair
 *
 * Creation and the end on the main thread; all else by one thread at a time (the owner's lock).
 */
#ifndef DEVICES_NET_H
#define DEVICES_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/auto.h"

#define NET_HEADER_BYTES 12U
#define NET_PAIRS_MAX	 8U
/* Segments of one frame to send. */
#define NET_SEGMENTS_MAX 256U
/* The largest frame with its header: 64 KiB of IP, Ethernet with one VLAN tag. */
#define NET_FRAME_MAX (NET_HEADER_BYTES + 18U + 65535U)

struct net_backend;

struct net_backend_ops {
	const char *kind; /* "tap", "passt" */
	/*
	 * One frame into iov; bytes with header, 0: one was dropped, call again. More than iov holds: the rest is lost and
	 * the return value says how long it was (or at least that it was longer). -EAGAIN: none now; others: no more ever.
	 */
	ssize_t (*receive)(struct net_backend *backend, unsigned int pair, const struct iovec *iov,
			   unsigned int niov);
	/*
	 * One frame from iov, at most NET_SEGMENTS_MAX; niov 0: only the rest of an earlier one, see pending_send. 0: taken
	 * (or dropped, where the header or length is bad); -EAGAIN: try again when writable; others: no more ever.
	 */
	int (*send)(struct net_backend *backend, unsigned int pair, const struct iovec *iov,
		    unsigned int niov);
	/* The descriptor to watch: readable: receive, writable: send. */
	int (*poll_fd)(const struct net_backend *backend, unsigned int pair);
	/* What the guest takes in received frames: TUN_F_* of linux/if_tun.h. NULL: none possible. */
	int (*set_offloads)(struct net_backend *backend, unsigned int tun_f);
	/* The first n pairs are used. NULL: one pair. */
	int (*set_pairs)(struct net_backend *backend, unsigned int n);
	void (*free)(struct net_backend *backend);
};

/* Embedded first. */
struct net_backend {
	const struct net_backend_ops *ops;
	unsigned int npairs;
	bool offloads; /* checksums and segmentation can be left to the other side, both ways */
	bool kernel;   /* poll_fd is something that vhost-net can drive */
	bool connections_end; /* at migration, because the host's sockets are the guest's connections */
	bool pending_send; /* some of the last frame is still to go out */
	uint64_t dropped;  /* frames that could not be taken */
};

/*
 * Opens npairs queues of the tap interface `name`, which must exist (nothing is created). fds: NULL, or npairs open
 * descriptors of a tap (or, for tests, of packet sockets), taken over even on failure. Errors, one line logged each:
 * -ENODEV no such interface or no tap, -EBUSY in use, -EPERM, -EINVAL (not created with multi_queue).
 */
int tap_open(struct net_backend **out, const char *name, unsigned int npairs,
	     const int *fds) must_check;

/*
 * Starts passt as a child of this process, in a session of its own; it ends when the backend is freed or we die. stream:
 * >= 0: a connected socket of a passt (or a test) instead, taken over even on failure. Errors: -ENOENT passt is not
 * installed; -errno. Logged.
 */
int passt_open(struct net_backend **out, int stream) must_check;

static inline void net_backend_free(struct net_backend *backend)
{
	if (backend)
		backend->ops->free(backend);
}

#endif
