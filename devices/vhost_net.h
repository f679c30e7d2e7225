/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-net: the kernel moves frames between one pair of queues and one tap queue, with no exit and no thread of ours.
 * One object for each pair. Linux: include/uapi/linux/vhost.h, drivers/vhost/net.c.
 *
 * Opened on the main thread, before the sandbox closes; all else by one thread at a time (the owner's lock).
 */
#ifndef DEVICES_VHOST_NET_H
#define DEVICES_VHOST_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "devices/virtq.h"
#include "memory/ram.h"

struct vhost_net;

/*
 * The log that vhost keeps of the guest pages that it writes: one bit for each page by guest *physical* address, up to
 * the highest RAM address. May be shared by several vhost_net.
 */
struct vhost_log {
	uint64_t *words; /* NULL: none */
	size_t nwords;
};
int vhost_log_new(struct vhost_log *log, const struct ram *ram) must_check; /* -ENOMEM, logged */
void vhost_log_free(struct vhost_log *log);
/* Takes all bits, and sets those of RAM pages in map, which has one bit for each page_t. Any thread. */
void vhost_log_harvest(struct vhost_log *log, const struct ram *ram, uint64_t *map);

/*
 * Opens /dev/vhost-net (fd >= 0: that instead, taken over even on failure) and tells it where RAM is. Not there, not
 * allowed, or without something that is needed: -errno, *why says what; not logged, for it is no error.
 */
int vhost_net_open(struct vhost_net **out, const struct ram *ram, int fd,
		   const char **why) must_check;
void vhost_net_free(struct vhost_net *vhost); /* stopped; takes NULL */

struct vhost_queue {
	const struct virtq *q; /* enabled, all published; not touched while vhost runs */
	int kick, call;	       /* eventfds; call -1: none */
};
/*
 * Serves queue[0] (receive) and queue[1] (transmit) from and to the tap. features: what the driver accepted. log: NULL:
 * off. Errors, logged: -errno; then nothing runs.
 */
int vhost_net_start(struct vhost_net *vhost, const struct vhost_queue queue[2], int tap_fd,
		    uint64_t features, const struct vhost_log *log) must_check;
/* After it nothing is written any more. next_avail[i]: where queue i stopped. */
void vhost_net_stop(struct vhost_net *vhost, uint16_t next_avail[2]);
/* The queue's interrupt has another descriptor; while it runs. */
void vhost_net_set_call(struct vhost_net *vhost, unsigned int queue, int call);
/* Begins the log while it runs. Errors, logged: -errno; then nothing has changed. */
int vhost_net_log_on(struct vhost_net *vhost, const struct vhost_log *log) must_check;
void vhost_net_log_off(struct vhost_net *vhost); /* while it runs; log on or not */

#endif
