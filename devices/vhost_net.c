// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vhost-net's ioctls, in the order that the kernel wants them, and its log of written pages.
 *
 * The log (dirty-tracking): the kernel sets the bit of a guest physical page after it has written there, atomically;
 * the harvest exchanges whole words for zero, so no bit is lost between reading and clearing. Three things must agree for a
 * write to be logged: the log's address, VHOST_F_LOG_ALL among the features, and for the used ring VHOST_VRING_F_LOG
 * with its guest address. They are set in that order and taken away in the opposite one.
 */
#include "devices/vhost_net.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/log.h"

#define VERSION_1 (1ULL << 32)
#define RING_BITS (1ULL << 28 | 1ULL << 29) /* indirect descriptors, event indices */
#define MERGEABLE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define LOG_ALL	  (1ULL << VHOST_F_LOG_ALL)
/* What concerns vhost of what a driver may accept; the rest is the tap's or ours. */
#define DATA_PATH (VERSION_1 | RING_BITS | MERGEABLE)

struct vhost_net {
	int fd;
	uint64_t features; /* as last set, LOG_ALL included */
	struct vhost_queue queue[2];
	bool running;
};

int vhost_log_new(struct vhost_log *log, const struct ram *ram)
{
	const struct ram_region *last = &ram->region[ram->nregions - 1];
	uint64_t npages = (last->gpa + last->size_bytes) >> RAM_PAGE_SHIFT;
	void *words;

	log->nwords = (npages + 63) / 64;
	/* Sparse: between regions nothing is written, and those pages of the log never come to be. */
	words = mmap(NULL, log->nwords * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (words == MAP_FAILED)
		return fail(-errno, "vhost: a log of %zu KiB: %s",
			    log->nwords * sizeof(uint64_t) / 1024, strerror(errno));
	log->words = words;
	return 0;
}

void vhost_log_free(struct vhost_log *log)
{
	if (log->words)
		munmap(log->words, log->nwords * sizeof(uint64_t));
	*log = (struct vhost_log){};
}

static void take_word(struct vhost_log *log, size_t word, const struct ram *ram, uint64_t *map)
{
	/* Partner: the kernel writes the page, then sets the bit. */
	uint64_t bits = __atomic_exchange_n(&log->words[word], 0, __ATOMIC_ACQUIRE);

	while (bits) {
		gpa_t gpa = (gpa_t)(word * 64 + (size_t)__builtin_ctzll(bits)) << RAM_PAGE_SHIFT;
		page_t page;

		bits &= bits - 1;
		if (ram_gpa_to_page(ram, gpa, &page))
			map[page / 64] |= 1ULL << (page % 64);
	}
}

void vhost_log_harvest(struct vhost_log *log, const struct ram *ram, uint64_t *map)
{
	for (unsigned int i = 0; log->words && i < ram->nregions; i++) {
		const struct ram_region *region = &ram->region[i];
		size_t first = region->gpa >> RAM_PAGE_SHIFT;
		size_t end = (region->gpa + region->size_bytes) >> RAM_PAGE_SHIFT;

		for (size_t word = first / 64; word < (end + 63) / 64; word++) {
			if (__atomic_load_n(&log->words[word], __ATOMIC_RELAXED))
				take_word(log, word, ram, map);
		}
	}
}

static int set_memory(struct vhost_net *vhost, const struct ram *ram)
{
	struct {
		struct vhost_memory table;
		struct vhost_memory_region region[RAM_REGIONS_MAX];
	} memory = {.table.nregions = ram->nregions};

	for (unsigned int i = 0; i < ram->nregions; i++) {
		memory.region[i] = (struct vhost_memory_region){
			.guest_phys_addr = ram->region[i].gpa,
			.memory_size = ram->region[i].size_bytes,
			.userspace_addr = (uintptr_t)ram->region[i].hva,
		};
	}
	return ioctl(vhost->fd, VHOST_SET_MEM_TABLE, &memory) < 0 ? -errno : 0;
}

static int set_up(struct vhost_net *vhost, const struct ram *ram, const char **why)
{
	const uint64_t needed = DATA_PATH | LOG_ALL;
	uint64_t offered = 0;

	*why = "/dev/vhost-net";
	if (vhost->fd < 0)
		vhost->fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	if (vhost->fd < 0)
		return -errno;
	*why = "VHOST_SET_OWNER";
	if (ioctl(vhost->fd, VHOST_SET_OWNER) < 0)
		return -errno;
	*why = "features";
	if (ioctl(vhost->fd, VHOST_GET_FEATURES, &offered) < 0)
		return -errno;
	if ((offered & needed) != needed)
		return -ENOTSUP;
	*why = "VHOST_SET_MEM_TABLE";
	return set_memory(vhost, ram);
}

int vhost_net_open(struct vhost_net **out, const struct ram *ram, int fd, const char **why)
{
	struct vhost_net *vhost = calloc(1, sizeof(*vhost));
	int error;

	*out = NULL;
	*why = "memory";
	if (!vhost) {
		close_fd(&fd);
		return -ENOMEM;
	}
	vhost->fd = fd;
	error = set_up(vhost, ram, why);
	if (error) {
		vhost_net_free(vhost);
		return error;
	}
	*out = vhost;
	return 0;
}

void vhost_net_free(struct vhost_net *vhost)
{
	if (!vhost)
		return;
	assert(!vhost->running);
	close_fd(&vhost->fd);
	free(vhost);
}

/* One ioctl of a start or change: 0 or -errno, logged with its name. */
#define CALL(vhost, request, argument)                                      \
	(ioctl((vhost)->fd, request, argument) < 0                          \
		 ? fail(-errno, "vhost: " #request ": %s", strerror(errno)) \
		 : 0)

static int set_features(struct vhost_net *vhost, uint64_t features)
{
	int error = CALL(vhost, VHOST_SET_FEATURES, &features);

	if (!error)
		vhost->features = features;
	return error;
}

static int set_address(struct vhost_net *vhost, unsigned int i, bool logged)
{
	const struct virtq *q = vhost->queue[i].q;
	struct vhost_vring_addr address = {
		.index = i,
		.flags = logged ? 1U << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = (uintptr_t)q->desc,
		.used_user_addr = (uintptr_t)q->used,
		.avail_user_addr = (uintptr_t)q->avail,
		.log_guest_addr = q->state.used_gpa,
	};

	return CALL(vhost, VHOST_SET_VRING_ADDR, &address);
}

static int set_queue(struct vhost_net *vhost, unsigned int i, bool logged)
{
	const struct vhost_queue *queue = &vhost->queue[i];
	struct vhost_vring_state size = {.index = i, .num = queue->q->state.size};
	struct vhost_vring_state base = {.index = i, .num = queue->q->state.next_avail};
	struct vhost_vring_file kick = {.index = i, .fd = queue->kick};
	struct vhost_vring_file call = {.index = i, .fd = queue->call};
	int error = CALL(vhost, VHOST_SET_VRING_NUM, &size);

	if (!error)
		error = CALL(vhost, VHOST_SET_VRING_BASE, &base);
	if (!error)
		error = set_address(vhost, i, logged);
	if (!error)
		error = CALL(vhost, VHOST_SET_VRING_KICK, &kick);
	if (!error)
		error = CALL(vhost, VHOST_SET_VRING_CALL, &call);
	return error;
}

static int set_backend(struct vhost_net *vhost, unsigned int i, int tap_fd)
{
	struct vhost_vring_file backend = {.index = i, .fd = tap_fd};

	return CALL(vhost, VHOST_NET_SET_BACKEND, &backend);
}

static int set_log_base(struct vhost_net *vhost, const struct vhost_log *log)
{
	uint64_t base = (uintptr_t)log->words;

	return CALL(vhost, VHOST_SET_LOG_BASE, &base);
}

int vhost_net_start(struct vhost_net *vhost, const struct vhost_queue queue[2], int tap_fd,
		    uint64_t features, const struct vhost_log *log)
{
	int error = 0;

	assert(!vhost->running);
	memcpy(vhost->queue, queue, sizeof(vhost->queue));
	if (log)
		error = set_log_base(vhost, log);
	if (!error)
		error = set_features(vhost, (features & DATA_PATH) | (log ? LOG_ALL : 0));
	for (unsigned int i = 0; i < 2 && !error; i++)
		error = set_queue(vhost, i, log != NULL);
	if (!error)
		error = set_backend(vhost, 0, tap_fd);
	if (!error) {
		error = set_backend(vhost, 1, tap_fd);
		if (error)
			(void)set_backend(vhost, 0, -1);
	}
	vhost->running = !error;
	return error;
}

void vhost_net_stop(struct vhost_net *vhost, uint16_t next_avail[2])
{
	assert(vhost->running);
	for (unsigned int i = 0; i < 2; i++) {
		struct vhost_vring_state base = {.index = i};

		/* Waits until the worker has let go of the queue. Neither call has a way to fail. */
		(void)set_backend(vhost, i, -1);
		(void)CALL(vhost, VHOST_GET_VRING_BASE, &base);
		next_avail[i] = (uint16_t)base.num;
	}
	vhost->running = false;
}

void vhost_net_set_call(struct vhost_net *vhost, unsigned int queue, int call)
{
	struct vhost_vring_file file = {.index = queue, .fd = call};

	(void)CALL(vhost, VHOST_SET_VRING_CALL, &file);
	vhost->queue[queue].call = call;
}

int vhost_net_log_on(struct vhost_net *vhost, const struct vhost_log *log)
{
	int error;

	assert(vhost->running);
	error = set_log_base(vhost, log);
	if (!error)
		error = set_features(vhost, vhost->features | LOG_ALL);
	for (unsigned int i = 0; i < 2 && !error; i++)
		error = set_address(vhost, i, true);
	if (error)
		vhost_net_log_off(vhost);
	return error;
}

/* Undoing it has no way to fail. */
void vhost_net_log_off(struct vhost_net *vhost)
{
	assert(vhost->running);
	for (unsigned int i = 0; i < 2; i++)
		(void)set_address(vhost, i, false);
	(void)set_features(vhost, vhost->features & ~LOG_ALL);
}
