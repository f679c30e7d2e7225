// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Network card: configuration, control queue, lifecycle, and who serves the queues. How frames move is net_frames.c's, or
 * vhost_net.c's.
 *
 * Who serves a pair. While the device runs and both queues of a pair are started, vhost does, if there is one; else this
 * process. The change is invisible: vhost begins where we stopped, and we where it stopped (virtq_set_base). One queue
 * that the guest resets alone takes its pair away from vhost for that time; a vhost that fails is dropped for good.
 *
 * After a move the network must learn where the guest is now: at the first start after a load the guest is asked to
 * announce itself (GUEST_ANNOUNCE), or, when it cannot, a RARP frame is sent in its name.
 */
#include "devices/virtio_net.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "devices/net_device.h"
#include "memory/dirty.h"

STATE_TABLE(virtio_net_state, 1, VIRTIO_NET_STATE);
const struct state_table *const virtio_net_state_list = &virtio_net_state_table;

#define COMMANDS 16U /* of one run; then others have their turn */
#define BIT(n)	 (1ULL << (n))
#define BASE_FEATURES                                                                     \
	(BIT(NET_F_MAC) | BIT(NET_F_STATUS) | BIT(NET_F_MRG_RXBUF) | BIT(NET_F_CTRL_VQ) | \
	 BIT(NET_F_GUEST_ANNOUNCE))
#define OFFLOAD_FEATURES                                                                           \
	(BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4) | BIT(NET_F_GUEST_TSO6) | \
	 BIT(NET_F_GUEST_ECN) | BIT(NET_F_HOST_TSO4) | BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN))

/* Section 5.1.4, as far as the features above need it. */
struct net_config {
	uint8_t mac[6];
	uint16_t status, max_pairs, mtu;
} __attribute__((packed));
_Static_assert(sizeof(struct net_config) == 12, "as in the specification");

/* What the driver accepted, in the tap's terms. */
static const struct {
	unsigned int feature, tun_f;
} offload_map[] = {
	{NET_F_GUEST_CSUM, TUN_F_CSUM},
	{NET_F_GUEST_TSO4, TUN_F_TSO4},
	{NET_F_GUEST_TSO6, TUN_F_TSO6},
	{NET_F_GUEST_ECN, TUN_F_TSO_ECN},
};

static void fill_config(const struct virtio_net *net, struct net_config *config)
{
	*config = (struct net_config){
		.status = net->state.status,
		.max_pairs = net->state.max_pairs,
	};
	memcpy(config->mac, net->state.mac, sizeof(config->mac));
}

static void update_config(struct virtio_net *net, bool tell)
{
	struct net_config config;

	fill_config(net, &config);
	memcpy(net->virtio.config, &config, sizeof(config));
	if (tell)
		virtio_config_changed(&net->virtio);
}

void net_backend_died(struct virtio_net *net, int error)
{
	if (net->dead)
		return;
	net->dead = true;
	log_warn("%s: %s is gone (%s): no link from now on", net->virtio.device.id,
		 net->backend->ops->kind, strerror(-error));
	for (unsigned int i = 0; i < net->npairs; i++) {
		loop_watch_free(net->pair[i].watch);
		net->pair[i].watch = NULL;
	}
	net->state.status &= (uint16_t)~NET_S_LINK_UP;
	update_config(net, true);
}

/* Watches. */

void net_watch(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	uint32_t want = 0;

	if (!pair->watch)
		return;
	if (pair->index < net->state.current_pairs && !pair->starved &&
	    virtio_queue_ready(&net->virtio, net_rx(pair)))
		want |= EPOLLIN;
	if ((pair->blocked && virtio_queue_ready(&net->virtio, net_tx(pair))) ||
	    net->backend->pending_send)
		want |= EPOLLOUT;
	if (want == pair->watched)
		return;
	pair->watched = want;
	loop_watch_set(pair->watch, want);
}

static void on_backend(void *opaque, int fd, uint32_t events)
{
	struct net_pair *pair = opaque;
	struct virtio_net *net = pair->net;

	virtio_lock(&net->virtio);
	events &= pair->watched | EPOLLERR | EPOLLHUP;
	if (events & EPOLLOUT)
		net_transmit(pair);
	if (events & EPOLLIN && !net->dead)
		net_receive(pair);
	else if (events & (EPOLLERR | EPOLLHUP))
		net_backend_died(net, -EPIPE); /* epoll would say it again and again */
	virtio_unlock(&net->virtio);
}

static void free_watches(void *opaque)
{
	struct virtio_net *net = opaque;

	for (unsigned int i = 0; i < net->npairs; i++) {
		loop_watch_free(net->pair[i].watch);
		net->pair[i].watch = NULL;
	}
}

/* On the loop's thread; what was not made is missing afterwards. */
static void make_watches(void *opaque)
{
	struct virtio_net *net = opaque;

	for (unsigned int i = 0; i < net->npairs; i++) {
		struct net_pair *pair = &net->pair[i];

		if (loop_add_fd(net->virtio.loop, net->backend->ops->poll_fd(net->backend, i), 0,
				on_backend, pair, &pair->watch))
			return;
	}
}

/* vhost. */

static void vhost_begin(struct net_pair *pair)
{
	struct virtio_net *net = pair->net;
	struct virtio *virtio = &net->virtio;
	struct vhost_queue queue[2];
	int error;

	net_unstage(pair);
	for (unsigned int i = 0; i < 2; i++) {
		unsigned int index = net_rx(pair) + i;

		virtio_queue_outside(virtio, index, true);
		queue[i] = (struct vhost_queue){
			.q = virtio_q(virtio, index),
			.kick = virtio_queue_kick_fd(virtio, index),
			.call = virtio_queue_call_fd(virtio, index),
		};
	}
	error = vhost_net_start(pair->vhost, queue,
				net->backend->ops->poll_fd(net->backend, pair->index),
				virtio->state.accepted, net->logging ? &net->log : NULL);
	pair->vhost_runs = !error;
	if (!error)
		return;
	log_warn("%s: pair %u goes on without vhost", virtio->device.id, pair->index);
	vhost_net_free(pair->vhost);
	pair->vhost = NULL;
	for (unsigned int i = 0; i < 2; i++)
		virtio_queue_outside(virtio, net_rx(pair) + i, false);
}

static void vhost_end(struct net_pair *pair)
{
	struct virtio *virtio = &pair->net->virtio;
	uint16_t next_avail[2];

	vhost_net_stop(pair->vhost, next_avail);
	pair->vhost_runs = false;
	for (unsigned int i = 0; i < 2; i++) {
		virtq_set_base(virtio_q(virtio, net_rx(pair) + i), next_avail[i]);
		virtio_queue_outside(virtio, net_rx(pair) + i, false);
	}
}

/* Lifecycle. */

/* The pair that a queue belongs to, NULL for the control queue and those that mean nothing. */
static struct net_pair *pair_of(struct virtio_net *net, unsigned int queue)
{
	if (queue >= net->ctrl || queue / 2 >= net->npairs)
		return NULL;
	return &net->pair[queue / 2];
}

static void apply_offloads(struct virtio_net *net)
{
	unsigned int tun_f = 0;

	if (!net->backend->ops->set_offloads || net->dead)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(offload_map); i++) {
		if (virtio_has(&net->virtio, BIT(offload_map[i].feature)))
			tun_f |= offload_map[i].tun_f;
	}
	(void)net->backend->ops->set_offloads(net->backend, tun_f);
}

static void apply_pairs(struct virtio_net *net)
{
	if (net->backend->ops->set_pairs && !net->dead)
		(void)net->backend->ops->set_pairs(net->backend, net->state.current_pairs);
}

/* A RARP request that asks who we are, with the guest's address in it: switches learn the port. */
static void send_rarp(struct virtio_net *net)
{
	uint8_t frame[NET_HEADER_BYTES + 60] = {};
	uint8_t *ethernet = frame + NET_HEADER_BYTES, *rarp = ethernet + 14;
	static const uint8_t head[8] = {0, 1, 8, 0,
					6, 4, 0, 3}; /* Ethernet, IPv4, reverse request */
	struct iovec iov = {frame, sizeof(frame)};

	memset(ethernet, 0xff, 6);
	memcpy(ethernet + 6, net->state.mac, 6);
	ethernet[12] = 0x80;
	ethernet[13] = 0x35;
	memcpy(rarp, head, sizeof(head));
	memcpy(rarp + 8, net->state.mac, 6);
	memcpy(rarp + 18, net->state.mac, 6);
	(void)net->backend->ops->send(net->backend, 0, &iov, 1);
}

static void announce(struct virtio_net *net)
{
	if (net->dead)
		return;
	if (!virtio_has(&net->virtio, BIT(NET_F_GUEST_ANNOUNCE) | BIT(NET_F_STATUS))) {
		send_rarp(net);
		return;
	}
	net->state.status |= NET_S_ANNOUNCE;
	update_config(net, true);
}

static void net_start(struct virtio *virtio)
{
	struct virtio_net *net = net_of(virtio);

	net->ctrl = virtio_has(virtio, BIT(NET_F_MQ)) ? 2 * net->npairs : 2;
	apply_offloads(net);
	apply_pairs(net);
	if (net->loaded)
		announce(net);
	net->loaded = false;
}

static void net_queue_start(struct virtio *virtio, unsigned int queue)
{
	struct net_pair *pair = pair_of(net_of(virtio), queue);

	if (!pair)
		return;
	pair->started[queue % 2] = true;
	pair->starved = pair->blocked = false;
	if (pair->vhost && !pair->vhost_runs && pair->started[0] && pair->started[1])
		vhost_begin(pair);
	if (!pair->vhost_runs)
		virtio_queue_kick(virtio, queue);
	net_watch(pair);
}

static void net_queue_stop(struct virtio *virtio, unsigned int queue)
{
	struct net_pair *pair = pair_of(net_of(virtio), queue);

	if (!pair)
		return;
	pair->started[queue % 2] = false;
	if (pair->vhost_runs)
		vhost_end(pair);
	if (queue == net_rx(pair))
		net_unstage(pair);
	net_watch(pair);
}

static void net_queue_vector(struct virtio *virtio, unsigned int queue)
{
	struct net_pair *pair = pair_of(net_of(virtio), queue);

	if (pair && pair->vhost_runs)
		vhost_net_set_call(pair->vhost, queue % 2, virtio_queue_call_fd(virtio, queue));
}

static void net_reset(struct virtio *virtio)
{
	struct virtio_net *net = net_of(virtio);

	net->state.current_pairs = 1;
	net->state.status = net->dead ? 0 : NET_S_LINK_UP;
	net->loaded = false;
	net->ctrl = 2;
	update_config(net, false);
}

/* The control queue, section 5.1.6.5. */

static bool set_pairs(struct virtio_net *net, const struct virtq_chain *chain)
{
	uint8_t bytes[2];
	unsigned int n;

	if (!virtio_has(&net->virtio, BIT(NET_F_MQ)) ||
	    virtq_chain_read(chain, 2, bytes, sizeof(bytes)) < sizeof(bytes))
		return false;
	n = get_le16(bytes);
	if (n < 1 || n > net->npairs)
		return false;
	net->state.current_pairs = (uint16_t)n;
	apply_pairs(net);
	for (unsigned int i = 0; i < net->npairs; i++) {
		net_watch(&net->pair[i]);
		virtio_queue_kick(&net->virtio, net_rx(&net->pair[i]));
	}
	return true;
}

static bool command(struct virtio_net *net, const struct virtq_chain *chain)
{
	uint8_t header[2]; /* class, command */

	(void)virtq_chain_read(chain, 0, header, sizeof(header));
	if (header[0] == NET_CTRL_MQ && header[1] == NET_CTRL_MQ_VQ_PAIRS_SET)
		return set_pairs(net, chain);
	if (header[0] == NET_CTRL_ANNOUNCE && header[1] == NET_CTRL_ANNOUNCE_ACK &&
	    virtio_has(&net->virtio, BIT(NET_F_GUEST_ANNOUNCE))) {
		net->state.status &= (uint16_t)~NET_S_ANNOUNCE;
		update_config(net, false);
		return true;
	}
	return false;
}

static void control_run(struct virtio_net *net)
{
	struct virtio *virtio = &net->virtio;
	struct virtq *q = virtio_q(virtio, net->ctrl);
	VIRTQ_CHAIN(chain, NET_SEGMENTS_MAX);
	unsigned int budget = COMMANDS;

	do {
		virtq_kicks_off(q);
		while (virtio_queue_ready(virtio, net->ctrl)) {
			uint8_t answer;

			if (budget-- == 0) {
				virtio_queue_kick(virtio, net->ctrl);
				return;
			}
			if (virtq_pop(q, &chain) <= 0)
				break;

			if (chain.read_bytes < 2 || chain.write_bytes < 1) {
				virtq_push(q, &chain, 0);
				virtio_broken(virtio, "control command without header or answer");
				return;
			}
			answer = command(net, &chain) ? NET_OK : NET_ERR;
			(void)virtq_chain_write(&chain, 0, &answer, 1);
			virtq_push(q, &chain, 1);
		}
	} while (virtio_queue_ready(virtio, net->ctrl) && virtq_kicks_on(q));
}

static void net_queue_run(struct virtio *virtio, unsigned int queue)
{
	struct virtio_net *net = net_of(virtio);
	struct net_pair *pair = pair_of(net, queue);

	if (queue == net->ctrl)
		control_run(net);
	else if (pair && queue == net_rx(pair))
		net_receive(pair);
	else if (pair)
		net_transmit(pair);
}

/* State. */

static int net_load(struct virtio *virtio, const void *own_state, bool commit)
{
	struct virtio_net *net = net_of(virtio);
	const struct virtio_net_state *loaded = own_state;

	if (!commit) {
		if (loaded->max_pairs != net->npairs || loaded->current_pairs < 1 ||
		    loaded->current_pairs > net->npairs)
			return fail(-EBADMSG, "%s: %u of %u queue pairs; there are %u here",
				    virtio->device.id, loaded->current_pairs, loaded->max_pairs,
				    net->npairs);
		if (loaded->status & ~(NET_S_LINK_UP | NET_S_ANNOUNCE))
			return fail(-EBADMSG, "%s: status 0x%x", virtio->device.id, loaded->status);
		return 0;
	}
	net->state = *loaded;
	net->state.status &= (uint16_t)~NET_S_LINK_UP;
	if (!net->dead)
		net->state.status |= NET_S_LINK_UP;
	net->loaded = true;
	update_config(net, false);
	return 0;
}

/* The log of vhost's writes. Harvesting thread; see memory/dirty.h. */

static int log_start(void *opaque)
{
	struct virtio_net *net = opaque;
	unsigned int i;
	int error;

	virtio_lock(&net->virtio);
	error = vhost_log_new(&net->log, net->virtio.ram);
	for (i = 0; i < net->npairs && !error; i++) {
		if (net->pair[i].vhost_runs)
			error = vhost_net_log_on(net->pair[i].vhost, &net->log);
	}
	net->logging = !error;
	if (error) {
		for (unsigned int j = 0; j + 1 < i; j++) {
			if (net->pair[j].vhost_runs)
				vhost_net_log_off(net->pair[j].vhost);
		}
		vhost_log_free(&net->log);
	}
	virtio_unlock(&net->virtio);
	return error;
}

static void log_stop(void *opaque)
{
	struct virtio_net *net = opaque;

	virtio_lock(&net->virtio);
	for (unsigned int i = 0; i < net->npairs; i++) {
		if (net->pair[i].vhost_runs)
			vhost_net_log_off(net->pair[i].vhost);
	}
	net->logging = false;
	vhost_log_free(&net->log);
	virtio_unlock(&net->virtio);
}

/* Without the lock: the log stays between start and stop, and its words are taken atomically. */
static void log_harvest(void *opaque, uint64_t *map)
{
	struct virtio_net *net = opaque;

	vhost_log_harvest(&net->log, net->virtio.ram, map);
}

bool virtio_net_dirty_source(struct virtio_net *net, struct dirty_source *source)
{
	*source = (struct dirty_source){
		.opaque = net,
		.start = log_start,
		.stop = log_stop,
		.harvest = log_harvest,
	};
	for (unsigned int i = 0; i < net->npairs; i++) {
		if (net->pair[i].vhost)
			return true;
	}
	return false;
}

/* Birth and end. */

static void free_rest(struct virtio_net *net)
{
	for (unsigned int i = 0; i < NET_PAIRS_MAX; i++) {
		vhost_net_free(net->pair[i].vhost);
		free(net->pair[i].spill);
	}
	net_backend_free(net->backend);
	free(net);
}

static void net_free(struct virtio *virtio)
{
	struct virtio_net *net = net_of(virtio);

	for (unsigned int i = 0; i < net->npairs; i++) {
		if (net->pair[i].vhost_runs)
			vhost_end(&net->pair[i]);
	}
	loop_call(virtio->loop, free_watches, net);
	virtio_fini(virtio);
	free_rest(net);
}

static const struct virtio_ops net_ops = {
	.type = "virtio-net",
	.device_id = 1,
	.class_code = 0x020000, /* Ethernet */
	.table = &virtio_net_state_table,
	.queue_run = net_queue_run,
	.start = net_start,
	.queue_start = net_queue_start,
	.queue_stop = net_queue_stop,
	.queue_vector = net_queue_vector,
	.reset = net_reset,
	.load = net_load,
	.free = net_free,
};

/* Once one pair has it, all must: the log's source is one. */
static void open_vhosts(struct virtio_net *net, struct ram *ram, const char *id)
{
	for (unsigned int i = 0; i < net->npairs; i++) {
		const char *why;
		int error = vhost_net_open(&net->pair[i].vhost, ram, -1, &why);

		if (!error)
			continue;
		log_info("%s: no vhost-net (%s: %s): frames go through this process", id, why,
			 strerror(-error));
		return;
	}
}

static int check_options(const struct virtio_net_options *options, const char *id)
{
	const struct net_backend *backend = options->backend;

	if (options->npairs < 1 || options->npairs > backend->npairs)
		return fail(-ENOTSUP, "%s: %u queue pairs: %s has %u", id, options->npairs,
			    backend->ops->kind, backend->npairs);
	if (options->offloads && !backend->offloads)
		return fail(-ENOTSUP, "%s: offloads: %s cannot do them", id, backend->ops->kind);
	if (options->mac[0] & 1)
		return fail(-EINVAL, "%s: the MAC address is a group's", id);
	return 0;
}

static int make_pairs(struct virtio_net *net)
{
	for (unsigned int i = 0; i < net->npairs; i++) {
		net->pair[i].net = net;
		net->pair[i].index = i;
		net->pair[i].spill = malloc(NET_FRAME_MAX);
		if (!net->pair[i].spill)
			return -ENOMEM;
	}
	return 0;
}

static int net_init(struct virtio_net *net, const struct virtio_env *env, const char *id,
		    unsigned int slot, const struct virtio_net_options *options)
{
	struct net_config config;
	struct virtio_shape shape = {
		.features = BASE_FEATURES,
		.nqueues = 2 * options->npairs + 1,
		.queue_size = NET_QUEUE_SIZE,
		.config = &config,
		.config_bytes = sizeof(config),
		.own_state = &net->state,
	};
	int error;

	if (options->offloads)
		shape.features |= OFFLOAD_FEATURES;
	if (options->npairs > 1)
		shape.features |= BIT(NET_F_MQ);
	fill_config(net, &config);
	error = virtio_init(&net->virtio, &net_ops, env, id, slot, &shape);
	if (error)
		return error;
	loop_call(env->loop, make_watches, net);
	if (net->pair[net->npairs - 1].watch)
		return 0;
	loop_call(env->loop, free_watches, net);
	virtio_fini(&net->virtio);
	return fail(-EIO, "%s: the backend cannot be watched", id);
}

int virtio_net_new(struct device **out, const struct virtio_env *env, const char *id,
		   unsigned int slot, const struct virtio_net_options *options)
{
	struct virtio_net *net = calloc(1, sizeof(*net));
	int error = check_options(options, id);

	*out = NULL;
	if (!net || error) {
		free(net);
		net_backend_free(options->backend);
		return error ? error : fail(-ENOMEM, "%s: out of memory", id);
	}
	net->backend = options->backend;
	net->npairs = options->npairs;
	net->offloads = options->offloads;
	net->ctrl = 2;
	memcpy(net->state.mac, options->mac, sizeof(net->state.mac));
	net->state.status = NET_S_LINK_UP;
	net->state.max_pairs = (uint16_t)net->npairs;
	net->state.current_pairs = 1;
	error = make_pairs(net);
	if (!error && options->vhost && net->backend->kernel)
		open_vhosts(net, env->ram, id);
	if (!error)
		error = net_init(net, env, id, slot, options);
	if (error) {
		free_rest(net);
		return error;
	}
	*out = &net->virtio.device;
	return 0;
}

struct virtio_net *virtio_net_of(struct device *device)
{
	if (strcmp(device->ops->type, net_ops.type) != 0)
		return NULL;
	return net_of(CONTAINER_OF(device, struct virtio, device));
}

void virtio_net_get_info(struct virtio_net *net, struct virtio_net_info *info)
{
	virtio_lock(&net->virtio);
	*info = net->counts;
	info->kind = net->backend->ops->kind;
	memcpy(info->mac, net->state.mac, sizeof(info->mac));
	info->npairs = net->npairs;
	info->current_pairs = net->state.current_pairs;
	info->link_up = !net->dead;
	info->offloads = net->offloads;
	info->connections_end = net->backend->connections_end;
	info->send_dropped += net->backend->dropped;
	for (unsigned int i = 0; i < net->npairs; i++)
		info->vhost |= net->pair[i].vhost != NULL;
	virtio_unlock(&net->virtio);
}
