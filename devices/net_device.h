/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the network card, shared by virtio_net.c (the device) and net_frames.c (frames between queues and
 * backend). Nobody else includes this. The virtio lock guards all of it.
 */
#ifndef DEVICES_NET_DEVICE_H
#define DEVICES_NET_DEVICE_H

#include "devices/vhost_net.h"
#include "devices/virtio_net.h"

/* Section 5.1.3: feature bits, as far as they are offered. */
enum {
	NET_F_CSUM = 0,
	NET_F_GUEST_CSUM = 1,
	NET_F_MAC = 5,
	NET_F_GUEST_TSO4 = 7,
	NET_F_GUEST_TSO6 = 8,
	NET_F_GUEST_ECN = 9,
	NET_F_HOST_TSO4 = 11,
	NET_F_HOST_TSO6 = 12,
	NET_F_HOST_ECN = 13,
	NET_F_MRG_RXBUF = 15,
	NET_F_STATUS = 16,
	NET_F_CTRL_VQ = 17,
	NET_F_GUEST_ANNOUNCE = 21,
	NET_F_MQ = 22,
};
/* Sections 5.1.4 (status) and 5.1.6.5 (control). */
#define NET_S_LINK_UP		 1
#define NET_S_ANNOUNCE		 2
#define NET_OK			 0
#define NET_ERR			 1
#define NET_CTRL_ANNOUNCE	 3
#define NET_CTRL_ANNOUNCE_ACK	 0
#define NET_CTRL_MQ		 4
#define NET_CTRL_MQ_VQ_PAIRS_SET 0

#define NET_QUEUE_SIZE	 256
#define NET_STAGE_CHAINS 64U
#define NET_STAGE_IOV	 512U

/* clang-format off */
#define VIRTIO_NET_STATE(T, F, A, V)                                                     \
	A(T, 1, u8, mac, 6)                                                                  \
	F(T, 2, u16, status)         /* NET_S_*; the link bit is the host's own */    \
	F(T, 3, u16, max_pairs)                                                              \
	F(T, 4, u16, current_pairs)
/* clang-format on */
STATE_STRUCT(virtio_net_state, VIRTIO_NET_STATE);

/*
 * Receive buffers that were popped ahead, because a frame goes where it belongs before anybody knows how long it is:
 * chains [first, n), whose segments follow one another in iov up to niov. One element of iov stays free for the spill.
 */
struct net_stage {
	unsigned int first, n, niov;
	struct virtq_chain chain[NET_STAGE_CHAINS];
	struct iovec iov[NET_STAGE_IOV + 1];
};

struct net_pair {
	struct virtio_net *net;
	unsigned int index;
	struct loop_watch *watch;
	uint32_t watched; /* EPOLL* */
	bool starved;	  /* no receive buffer; the guest's kick will tell */
	bool blocked;	  /* the backend takes no frame now */
	bool started[2];  /* queues: receive, transmit */
	struct vhost_net *vhost;
	bool vhost_runs;
	unsigned int
		large; /* so many small frames yet until buffers for large ones are no longer staged */
	uint8_t *spill; /* NET_FRAME_MAX: what of a frame the staged buffers did not hold */
	struct net_stage stage;
};

struct virtio_net {
	struct virtio virtio;
	struct virtio_net_state state;
	struct net_backend *backend;
	bool dead; /* the backend is; sent frames vanish */
	bool offloads;
	bool loaded;	   /* state came from elsewhere: announce at the next start */
	bool logging;	   /* vhost's writes are logged */
	unsigned int ctrl; /* the control queue's index, as negotiated */
	unsigned int npairs;
	struct vhost_log log;
	struct virtio_net_info counts; /* only the counters */
	struct net_pair pair[NET_PAIRS_MAX];
};

static inline struct virtio_net *net_of(struct virtio *virtio)
{
	return CONTAINER_OF(virtio, struct virtio_net, virtio);
}

/* Queues of a pair. */
static inline unsigned int net_rx(const struct net_pair *pair)
{
	return 2 * pair->index;
}
static inline unsigned int net_tx(const struct net_pair *pair)
{
	return 2 * pair->index + 1;
}

/* net_frames.c. Lock held, I/O loop's thread: */
void net_receive(struct net_pair *pair);
void net_transmit(struct net_pair *pair);
/* Any thread, lock held: gives the staged buffers back. */
void net_unstage(struct net_pair *pair);

/* virtio_net.c. Watches what is worth waiting for now; any thread, lock held. */
void net_watch(struct net_pair *pair);
/* The backend is gone for good: no link from now on. I/O loop's thread, lock held. */
void net_backend_died(struct virtio_net *net, int error);

#endif
