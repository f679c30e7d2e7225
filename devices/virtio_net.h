/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Network card (virtio 1.2 section 5.1) on a backend (net.h), by vhost-net where that can be had.
 *
 * What the guest sees comes from the configuration alone: whether offloads are offered, how many queue pairs, which
 * address. tap, passt and vhost are the host's means: they must be able to do it, and never show otherwise.
 */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include "devices/net.h"
#include "devices/virtio.h"

struct virtio_net_options {
	struct net_backend *backend; /* taken over, even on failure */
	uint8_t mac[6];
	unsigned int npairs; /* 1..NET_PAIRS_MAX; at most the backend's */
	bool offloads;	     /* offer checksum and segmentation offloads (a tap yes, passt no) */
	bool vhost;	     /* serve the queues by vhost-net when this host has it */
};

/*
 * Main thread, while the machine is built, before the sandbox closes. *out is for device_list_add(), which owns it then.
 * Errors, logged: -ENOTSUP the backend cannot do it, -EINVAL (a group address), virtio_init's.
 */
int virtio_net_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot, const struct virtio_net_options *options) must_check;

/* The device, when it is a network card; NULL otherwise. */
struct virtio_net *virtio_net_of(struct device *device);

/*
 * vhost writes guest memory and keeps a log of it: fills *source (declared in memory/dirty.h, for dirty_add_source()) and
 * returns true when this card may be served by vhost. Such a card must be a source, or its pages are lost.
 */
struct dirty_source;
bool virtio_net_dirty_source(struct virtio_net *net, struct dirty_source *source);

/* For status; any thread. Frames that vhost moves are not counted here. */
struct virtio_net_info {
	const char *kind; /* "tap", "passt" */
	uint8_t mac[6];
	unsigned int npairs, current_pairs;
	bool link_up; /* false: the backend is gone */
	bool vhost;   /* vhost-net serves at least one pair now, or would if the guest ran it */
	bool offloads;
	bool connections_end; /* at migration; see net.h */
	uint64_t received, received_bytes, sent, sent_bytes;
	uint64_t receive_dropped, send_dropped;
};
void virtio_net_get_info(struct virtio_net *net, struct virtio_net_info *info);

/* What is saved of it beside what every virtio device has; for tests. */
extern const struct state_table *const virtio_net_state_list;

#endif
