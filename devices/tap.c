// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tap interfaces: opening one that exists, and one frame per system call, straight from and to guest memory.
 */
#include "devices/net.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"

struct tap {
	struct net_backend backend;
	char name[IFNAMSIZ];
	int fd[NET_PAIRS_MAX];
	bool attached[NET_PAIRS_MAX];
	bool is_tap; /* false: packet sockets of a test */
};

static struct tap *tap_of(struct net_backend *backend)
{
	return CONTAINER_OF(backend, struct tap, backend);
}

/* What only means that one frame is bad or comes at a bad time; anything else ends the interface. */
static bool frame_error(int error)
{
	return error == EINVAL || error == EMSGSIZE || error == EFAULT || error == ENOMEM ||
	       error == ENOBUFS || error == EIO || error == EINTR || error == ENETDOWN;
}

static ssize_t tap_receive(struct net_backend *backend, unsigned int pair, const struct iovec *iov,
			   unsigned int niov)
{
	ssize_t n = readv(tap_of(backend)->fd[pair], iov, (int)niov);

	if (n > 0)
		return n;
	if (n == 0) /* a tap has no end; a test's socket does */
		return -EPIPE;
	if (errno == EINTR)
		return 0;
	return -errno;
}

static int tap_send(struct net_backend *backend, unsigned int pair, const struct iovec *iov,
		    unsigned int niov)
{
	if (writev(tap_of(backend)->fd[pair], iov, (int)niov) >= 0)
		return 0;
	if (!frame_error(errno))
		return -errno;
	backend->dropped++;
	return 0;
}

static int tap_poll_fd(const struct net_backend *backend, unsigned int pair)
{
	return ((const struct tap *)(const void *)backend)->fd[pair];
}

static int tap_set_offloads(struct net_backend *backend, unsigned int tun_f)
{
	struct tap *tap = tap_of(backend);

	/* The segmentation bits mean nothing without checksums, and the kernel refuses them. */
	if (!(tun_f & TUN_F_CSUM))
		tun_f = 0;
	if (!tap->is_tap)
		return 0;
	for (unsigned int i = 0; i < backend->npairs; i++) {
		if (ioctl(tap->fd[i], TUNSETOFFLOAD, (unsigned long)tun_f) < 0)
			return fail(-errno, "tap: %s: offloads 0x%x: %s", tap->name, tun_f,
				    strerror(errno));
	}
	return 0;
}

/* Detached queues get no frames: the kernel spreads flows over those that are attached. */
static int tap_set_pairs(struct net_backend *backend, unsigned int n)
{
	struct tap *tap = tap_of(backend);

	assert(n >= 1 && n <= backend->npairs);
	for (unsigned int i = 0; i < backend->npairs; i++) {
		bool want = i < n;
		struct ifreq request = {
			.ifr_flags = want ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
		};

		if (tap->attached[i] == want)
			continue;
		if (tap->is_tap && ioctl(tap->fd[i], TUNSETQUEUE, &request) < 0)
			return fail(-errno, "tap: %s: queue %u %s: %s", tap->name, i,
				    want ? "on" : "off", strerror(errno));
		tap->attached[i] = want;
	}
	return 0;
}

static void tap_free(struct net_backend *backend)
{
	struct tap *tap = tap_of(backend);

	for (unsigned int i = 0; i < NET_PAIRS_MAX; i++)
		close_fd(&tap->fd[i]);
	free(tap);
}

static const struct net_backend_ops tap_ops = {
	.kind = "tap",
	.receive = tap_receive,
	.send = tap_send,
	.poll_fd = tap_poll_fd,
	.set_offloads = tap_set_offloads,
	.set_pairs = tap_set_pairs,
	.free = tap_free,
};

/* TUNSETIFF would create what is not there, if we may: ask first. */
static int check_exists(const char *name)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {};

	if (fd < 0)
		return fail(-errno, "tap: %s: socket: %s", name, strerror(errno));
	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
		return fail(-ENODEV, "tap: %s: no such interface (ip tuntap add dev %s mode tap)",
			    name, name);
	return 0;
}

static int attach_error(const char *name, unsigned int npairs, int error)
{
	switch (error) {
	case EBUSY:
		return fail(-EBUSY, "tap: %s: in use by another process", name);
	case EPERM:
		return fail(-EPERM, "tap: %s: not allowed: the interface belongs to another user",
			    name);
	case EINVAL:
		return fail(-EINVAL, "tap: %s: not a tap interface%s", name,
			    npairs > 1 ? " with multi_queue" : "");
	default:
		return fail(-error, "tap: %s: %s", name, strerror(error));
	}
}

/* The interface says whether it has several queues; the flag must agree with it. */
static int attach(struct tap *tap, unsigned int i)
{
	static const short base = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct ifreq request = {};
	bool multi = tap->backend.npairs > 1;

	memcpy(request.ifr_name, tap->name, sizeof(tap->name));
	request.ifr_flags = (short)(base | (multi ? IFF_MULTI_QUEUE : 0));
	if (ioctl(tap->fd[i], TUNSETIFF, &request) == 0)
		return 0;
	if (errno != EINVAL || multi)
		return -errno;
	request.ifr_flags = (short)(base | IFF_MULTI_QUEUE);
	return ioctl(tap->fd[i], TUNSETIFF, &request) < 0 ? -errno : 0;
}

static int open_queue(struct tap *tap, unsigned int i)
{
	int header = NET_HEADER_BYTES, little = 1, error;

	if (tap->fd[i] < 0) {
		tap->fd[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (tap->fd[i] < 0)
			return fail(-errno, "tap: %s: /dev/net/tun: %s", tap->name,
				    strerror(errno));
		error = attach(tap, i);
		if (error)
			return attach_error(tap->name, tap->backend.npairs, -error);
	}
	if (fcntl(tap->fd[i], F_SETFL, fcntl(tap->fd[i], F_GETFL) | O_NONBLOCK) < 0)
		return fail(-errno, "tap: %s: %s", tap->name, strerror(errno));
	tap->attached[i] = true;
	if (!tap->is_tap)
		return 0;
	if (ioctl(tap->fd[i], TUNSETVNETHDRSZ, &header) < 0 ||
	    ioctl(tap->fd[i], TUNSETVNETLE, &little) < 0 ||
	    ioctl(tap->fd[i], TUNSETOFFLOAD, 0UL) < 0)
		return fail(-errno, "tap: %s: virtio headers: %s", tap->name, strerror(errno));
	return 0;
}

int tap_open(struct net_backend **out, const char *name, unsigned int npairs, const int *fds)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	struct ifreq request;
	int error = 0;

	*out = NULL;
	assert(npairs >= 1 && npairs <= NET_PAIRS_MAX);
	if (!tap) {
		for (unsigned int i = 0; fds && i < npairs; i++)
			close(fds[i]);
		return fail(-ENOMEM, "tap: %s: out of memory", name);
	}
	tap->backend.ops = &tap_ops;
	tap->backend.npairs = npairs;
	for (unsigned int i = 0; i < NET_PAIRS_MAX; i++)
		tap->fd[i] = fds && i < npairs ? fds[i] : -1;
	tap->is_tap = !fds || ioctl(fds[0], TUNGETIFF, &request) == 0;
	tap->backend.offloads = true;
	tap->backend.kernel = tap->is_tap;
	if (strlen(name) >= IFNAMSIZ || name[0] == '\0')
		error = fail(-ENODEV, "tap: \"%s\": not the name of an interface", name);
	else
		memcpy(tap->name, name, strlen(name) + 1);
	if (!error && !fds)
		error = check_exists(name);
	for (unsigned int i = 0; !error && i < npairs; i++)
		error = open_queue(tap, i);
	if (error) {
		tap_free(&tap->backend);
		return error;
	}
	*out = &tap->backend;
	return 0;
}
