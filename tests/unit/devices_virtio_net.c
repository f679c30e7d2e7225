// SPDX-License-Identifier: GPL-2.0-or-later
/* The network card as a guest sees it, on packet sockets for a tap and on a stream for passt. */
#include "devices/virtio_net.h"

#include <glib.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/log.h"
#include "tests/unit/fake_guest.h"

#define SLOT	    4
#define QSIZE	    256
#define HEADER	    12
#define BUFFERS_GPA 0x200000ULL
#define COMMAND_GPA 0x1f0000ULL
#define F_CSUM	    (1ULL << 0)
#define F_MRG	    (1ULL << 15)
#define F_STATUS    (1ULL << 16)
#define F_CTRL	    (1ULL << 17)
#define F_ANNOUNCE  (1ULL << 21)
#define F_MQ	    (1ULL << 22)
#define RX	    0
#define TX	    1

static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

struct variant {
	unsigned int npairs;
	bool passt;
	uint64_t not_accepted;
};

struct fixture {
	struct guest *guest;
	struct device *device;
	struct virtio_net *net;
	int host[NET_PAIRS_MAX]; /* the other ends */
	unsigned int nqueues, nposted[8];
};

static const struct variant plain = {1, false, 0}, two_pairs = {2, false, 0},
			    no_mq = {2, false, F_MQ}, no_merge = {1, false, F_MRG},
			    no_announce = {1, false, F_ANNOUNCE}, by_passt = {1, true, 0};

static struct net_backend *new_backend(const struct variant *v, int host[])
{
	struct net_backend *backend;
	int fds[NET_PAIRS_MAX], small = 4096;

	for (unsigned int i = 0; i < v->npairs; i++) {
		int pair[2];

		g_assert_cmpint(socketpair(AF_UNIX,
					   (v->passt ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC,
					   0, pair),
				==, 0);
		/* Small enough that a stream takes part of a frame. */
		if (v->passt)
			(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		host[i] = pair[0];
		fds[i] = pair[1];
	}
	if (v->passt)
		g_assert_cmpint(passt_open(&backend, fds[0]), ==, 0);
	else
		g_assert_cmpint(tap_open(&backend, "test", v->npairs, fds), ==, 0);
	return backend;
}

static struct device *new_device(const struct variant *v, struct guest *guest, int host[])
{
	struct virtio_net_options options = {
		.backend = new_backend(v, host),
		.npairs = v->npairs,
		.offloads = !v->passt,
		.vhost = true, /* and there is none for sockets */
	};
	struct device *device;

	memcpy(options.mac, mac, sizeof(mac));
	g_assert_cmpint(virtio_net_new(&device, &guest->env, "net0", SLOT, &options), ==, 0);
	g_assert_cmpint(device_list_add(&guest->devices, device), ==, 0);
	guest_enable_pci(guest, SLOT);
	return device;
}

static void start_driver(struct fixture *f, uint64_t not_accepted)
{
	uint64_t features = guest_offered(f->guest, SLOT) & ~not_accepted;

	guest_start_virtio(f->guest, SLOT, features, f->nqueues, QSIZE);
	g_assert_cmpint(guest_status(f->guest, SLOT), ==, 15);
	guest_run_loop(f->guest);
}

static void set_up(struct fixture *f, gconstpointer data)
{
	const struct variant *v = data;

	memset(f, 0, sizeof(*f));
	f->guest = calloc(1, sizeof(*f->guest));
	g_assert_cmpint(guest_init(f->guest), ==, 0);
	f->device = new_device(v, f->guest, f->host);
	f->net = virtio_net_of(f->device);
	f->nqueues = 2 * v->npairs + 1;
	start_driver(f, v->not_accepted);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	const struct variant *v = data;

	guest_fini(f->guest);
	free(f->guest);
	for (unsigned int i = 0; i < v->npairs; i++)
		close(f->host[i]);
}

static uint8_t *memory(struct fixture *f, gpa_t gpa, size_t len)
{
	uint8_t *p = ram_ptr(f->guest->ram, gpa, len);

	g_assert_nonnull(p);
	return p;
}

static void fill(uint8_t *bytes, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		bytes[i] = (uint8_t)(seed >> 24);
	}
}

/* Posts a receive buffer of len bytes; buffers of a queue follow one another in memory. Returns its gpa. */
static gpa_t post(struct fixture *f, unsigned int queue, uint32_t len)
{
	unsigned int i = f->nposted[queue]++;
	gpa_t gpa = BUFFERS_GPA + queue * 0x40000ULL + i * 0x1000ULL;

	guest_set_desc(f->guest, queue, i % QSIZE, gpa, len, VRING_DESC_F_WRITE, 0);
	guest_make_available(f->guest, queue, QSIZE, (uint16_t)(i % QSIZE));
	return gpa;
}

static void post_many(struct fixture *f, unsigned int queue, unsigned int n, uint32_t len)
{
	while (n--)
		(void)post(f, queue, len);
	guest_kick(f->guest, SLOT, queue);
	guest_run_loop(f->guest);
}

/* A frame from the host; it has a header in front as on a tap. */
static void host_sends(struct fixture *f, unsigned int pair, uint8_t *frame, size_t len,
		       uint32_t seed)
{
	memset(frame, 0, HEADER);
	fill(frame + HEADER, len, seed);
	g_assert_cmpint(send(f->host[pair], frame, HEADER + len, MSG_DONTWAIT), ==,
			(ssize_t)(HEADER + len));
	guest_run_loop(f->guest);
}

/* Makes the guest send len bytes (header not counted) in one chain of two descriptors. */
static void guest_sends(struct fixture *f, unsigned int queue, size_t len, uint32_t seed)
{
	unsigned int i = 2 * f->nposted[queue]++ % QSIZE;
	gpa_t gpa = BUFFERS_GPA + queue * 0x40000ULL + (i / 2) * 0x800ULL;

	memset(memory(f, gpa, HEADER), 0, HEADER);
	fill(memory(f, gpa + HEADER, len), len, seed);
	guest_set_desc(f->guest, queue, i, gpa, HEADER + 7, VRING_DESC_F_NEXT, (uint16_t)(i + 1));
	guest_set_desc(f->guest, queue, i + 1, gpa + HEADER + 7, (uint32_t)len - 7, 0, 0);
	guest_make_available(f->guest, queue, QSIZE, (uint16_t)i);
}

static void host_expects(struct fixture *f, unsigned int pair, size_t len, uint32_t seed)
{
	uint8_t got[4096], want[4096];

	fill(want, len, seed);
	g_assert_cmpint(recv(f->host[pair], got, sizeof(got), MSG_DONTWAIT), ==,
			(ssize_t)(HEADER + len));
	g_assert_cmpmem(got + HEADER, len, want, len);
}

static uint16_t net_status(struct fixture *f)
{
	return (uint16_t)guest_read(f->guest, GUEST_DEVCFG(f->guest, SLOT) + 6, 2);
}

static void configuration_is_told(struct fixture *f, gconstpointer data)
{
	uint64_t config = guest_read(f->guest, GUEST_DEVCFG(f->guest, SLOT), 8);

	g_assert_cmpmem(&config, 6, mac, 6);
	g_assert_cmpint(net_status(f), ==, 1);
	g_assert_cmpint(guest_read(f->guest, GUEST_DEVCFG(f->guest, SLOT) + 8, 2), ==, 2);
	g_assert_true(guest_offered(f->guest, SLOT) & F_MQ);
	g_assert_true(guest_offered(f->guest, SLOT) & F_CSUM);
}

static void frames_go_out(struct fixture *f, gconstpointer data)
{
	for (unsigned int i = 0; i < 20; i++)
		guest_sends(f, TX, 60 + i, i);
	guest_kick(f->guest, SLOT, TX);
	guest_run_loop(f->guest);
	for (unsigned int i = 0; i < 20; i++)
		host_expects(f, 0, 60 + i, i);
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 20);
}

static bool page_written(struct fixture *f, gpa_t gpa)
{
	page_t page = gpa >> RAM_PAGE_SHIFT;

	return f->guest->ram->written[page / 64] >> (page % 64) & 1;
}

static void frames_come_in(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2048];
	uint32_t id, len;

	post_many(f, RX, 8, 2048);
	host_sends(f, 0, frame, 60, 1);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 1);
	guest_used_elem(f->guest, RX, 0, &id, &len);
	g_assert_cmpuint(id, ==, 0);
	g_assert_cmpuint(len, ==, HEADER + 60);
	g_assert_cmpmem(memory(f, BUFFERS_GPA + HEADER, 60), 60, frame + HEADER, 60);
	g_assert_cmpuint(get_le16(memory(f, BUFFERS_GPA + 10, 2)), ==, 1);
	g_assert_true(page_written(f, BUFFERS_GPA));
	g_assert_false(page_written(f, BUFFERS_GPA + 0x1000));
	g_assert_cmpuint(fake_delivered(&f->guest->wiring, 1), >, 0);
}

/* What is in the next used buffers is the frame, and the first says how many they are. */
static unsigned int check_merged(struct fixture *f, unsigned int used, const uint8_t *frame,
				 size_t len)
{
	size_t at = 0;
	uint32_t id, n;
	unsigned int count;

	guest_used_elem(f->guest, RX, used, &id, &n);
	count = get_le16(memory(f, BUFFERS_GPA + id * 0x1000ULL + 10, 2));
	for (unsigned int i = 0; i < count; i++) {
		const uint8_t *bytes;

		guest_used_elem(f->guest, RX, used + i, &id, &n);
		bytes = memory(f, BUFFERS_GPA + id * 0x1000ULL, n);
		if (i == 0)
			g_assert_cmpmem(bytes + HEADER, n - HEADER, frame + HEADER, n - HEADER);
		else
			g_assert_cmpmem(bytes, n, frame + at, n);
		at += n;
	}
	g_assert_cmpuint(at, ==, HEADER + len);
	return count;
}

/* The first large frame spills, the next goes straight to where it belongs, small ones in between. */
static void large_frames_take_several_buffers(struct fixture *f, gconstpointer data)
{
	static const size_t lengths[] = {20000, 60, 30000, 1500, 3000, 64000, 1514};
	AUTO_FREE uint8_t *frame = malloc(HEADER + 65536);
	unsigned int used = 0;

	post_many(f, RX, 200, 1536);
	for (unsigned int i = 0; i < ARRAY_SIZE(lengths); i++) {
		host_sends(f, 0, frame, lengths[i], i);
		used += check_merged(f, used, frame, lengths[i]);
		g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, used);
	}
}

/* Chains of different shapes, many rounds of the ring: the stage is filled, moved up and emptied. */
static void the_stage_wraps(struct fixture *f, gconstpointer data)
{
	AUTO_FREE uint8_t *frame = malloc(HEADER + 65536);
	unsigned int used = 0;

	for (unsigned int i = 0; i < 600; i++) {
		unsigned int left = f->nposted[RX] - used;
		size_t len = 60 + (i * 7919) % 9000;

		if (left < 40) {
			for (unsigned int j = left; j < 200; j++) {
				unsigned int slot = f->nposted[RX]++ % QSIZE;

				guest_set_desc(f->guest, RX, slot, BUFFERS_GPA + slot * 0x1000ULL,
					       600 + (slot * 131) % 3000, VRING_DESC_F_WRITE, 0);
				guest_make_available(f->guest, RX, QSIZE, (uint16_t)slot);
			}
			guest_kick(f->guest, SLOT, RX);
			guest_run_loop(f->guest);
		}
		host_sends(f, 0, frame, len, i);
		/* The used ring has wrapped: look at it modulo its size. */
		{
			size_t at = 0;
			uint32_t id, n;

			while (at < HEADER + len) {
				const uint8_t *bytes;

				guest_used_elem(f->guest, RX, used++ % QSIZE, &id, &n);
				bytes = memory(f, BUFFERS_GPA + id * 0x1000ULL, n);
				if (at == 0)
					g_assert_cmpmem(bytes + HEADER, n - HEADER, frame + HEADER,
							n - HEADER);
				else
					g_assert_cmpmem(bytes, n, frame + at, n);
				at += n;
			}
			g_assert_cmpuint(at, ==, HEADER + len);
			g_assert_cmpuint((uint16_t)used, ==, guest_used_idx(f->guest, RX));
		}
	}
}

static void without_merging_long_frames_are_dropped(struct fixture *f, gconstpointer data)
{
	struct virtio_net_info info;
	uint8_t frame[4096];
	uint32_t id, len;

	post_many(f, RX, 4, 1526);
	host_sends(f, 0, frame, 3000, 1);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 0);
	host_sends(f, 0, frame, 1514, 2);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 1);
	guest_used_elem(f->guest, RX, 0, &id, &len);
	g_assert_cmpuint(len, ==, 1526);
	g_assert_cmpuint(get_le16(memory(f, BUFFERS_GPA + 10, 2)), ==, 1);
	g_assert_cmpmem(memory(f, BUFFERS_GPA + HEADER, 1514), 1514, frame + HEADER, 1514);
	virtio_net_get_info(f->net, &info);
	g_assert_cmpuint(info.receive_dropped, ==, 1);
}

static void frames_wait_for_buffers(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2048];

	host_sends(f, 0, frame, 100, 1);
	host_sends(f, 0, frame, 200, 2);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 0);
	post_many(f, RX, 1, 2048);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 1);
	post_many(f, RX, 1, 2048);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 2);
	g_assert_cmpmem(memory(f, BUFFERS_GPA + 0x1000 + HEADER, 200), 200, frame + HEADER, 200);
}

/* The other side takes nothing for a while: frames wait in the ring, in order, and nothing spins. */
static void a_full_backend_is_waited_for(struct fixture *f, gconstpointer data)
{
	int small = 4096;
	unsigned int taken;

	g_assert_cmpint(setsockopt(f->host[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), ==,
			0);
	for (unsigned int i = 0; i < 120; i++)
		guest_sends(f, TX, 1500, i);
	guest_kick(f->guest, SLOT, TX);
	for (int i = 0; i < 10; i++)
		loop_run_once(f->guest->loop, 0);
	taken = guest_used_idx(f->guest, TX);
	if (taken == 120) {
		g_test_skip("the socket took it all");
		return;
	}
	g_assert_cmpint(loop_run_once(f->guest->loop, 0), ==, 0);
	for (unsigned int i = 0; i < 120; i++) {
		host_expects(f, 0, 1500, i);
		guest_run_loop(f->guest);
	}
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 120);
}

static void broken_chains_break_the_device(struct fixture *f, gconstpointer data)
{
	guest_set_desc(f->guest, TX, 0, BUFFERS_GPA, HEADER - 1, 0, 0);
	guest_make_available(f->guest, TX, QSIZE, 0);
	guest_kick(f->guest, SLOT, TX);
	guest_run_loop(f->guest);
	g_assert_true(guest_status(f->guest, SLOT) & VIRTIO_STATUS_NEEDS_RESET);

	for (unsigned int q = 0; q < 3; q++) {
		memset(guest_avail(f->guest, q), 0, 4);
		memset(guest_used(f->guest, q), 0, 4);
	}
	start_driver(f, 0);
	post_many(f, RX, 3, 2048);
	post_many(f, RX, 1, HEADER - 1);
	{
		AUTO_FREE uint8_t *frame = malloc(HEADER + 65536);

		host_sends(f, 0, frame, 60, 1);
		/* Needs them all, the broken one too: the good ones were staged. */
		host_sends(f, 0, frame, 6000, 1);
	}
	g_assert_true(guest_status(f->guest, SLOT) & VIRTIO_STATUS_NEEDS_RESET);
	guest_set_status(f->guest, SLOT, 0);
	g_assert_cmpint(guest_status(f->guest, SLOT), ==, 0);
}

/* Runs one control command; the answer, or 0xee when there was none. */
static uint8_t control(struct fixture *f, unsigned int queue, uint8_t class, uint8_t command,
		       const void *data, uint32_t len)
{
	unsigned int i = 2 * f->nposted[queue]++ % QSIZE;
	uint8_t *bytes = memory(f, COMMAND_GPA, 64);

	bytes[0] = class;
	bytes[1] = command;
	memcpy(bytes + 2, data, len);
	bytes[32] = 0xee;
	guest_set_desc(f->guest, queue, i, COMMAND_GPA, 2 + len, VRING_DESC_F_NEXT,
		       (uint16_t)(i + 1));
	guest_set_desc(f->guest, queue, i + 1, COMMAND_GPA + 32, 1, VRING_DESC_F_WRITE, 0);
	guest_make_available(f->guest, queue, QSIZE, (uint16_t)i);
	guest_kick(f->guest, SLOT, queue);
	guest_run_loop(f->guest);
	return bytes[32];
}

static unsigned int current_pairs(struct fixture *f)
{
	struct virtio_net_info info;

	virtio_net_get_info(f->net, &info);
	return info.current_pairs;
}

static void commands_are_obeyed_or_refused(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2048];

	g_assert_cmpint(control(f, 4, 4, 0, "\2\0", 2), ==, 0);
	g_assert_cmpuint(current_pairs(f), ==, 2);
	g_assert_cmpint(control(f, 4, 4, 0, "\0\0", 2), ==, 1);
	g_assert_cmpint(control(f, 4, 4, 0, "\3\0", 2), ==, 1);
	g_assert_cmpint(control(f, 4, 4, 0, "\1", 1), ==, 1);
	g_assert_cmpint(control(f, 4, 4, 1, "\1\0", 2), ==, 1);
	g_assert_cmpint(control(f, 4, 0, 0, "\1", 1), ==, 1);
	g_assert_cmpint(control(f, 4, 0xff, 0xff, "", 0), ==, 1);
	g_assert_cmpuint(current_pairs(f), ==, 2);
	/* The second pair receives only while it is used. */
	post_many(f, 2, 4, 2048);
	host_sends(f, 1, frame, 60, 1);
	g_assert_cmpuint(guest_used_idx(f->guest, 2), ==, 1);
	g_assert_cmpint(control(f, 4, 4, 0, "\1\0", 2), ==, 0);
	host_sends(f, 1, frame, 60, 1);
	g_assert_cmpuint(guest_used_idx(f->guest, 2), ==, 1);
	/* It sends in any case. */
	guest_sends(f, 3, 60, 9);
	guest_kick(f->guest, SLOT, 3);
	guest_run_loop(f->guest);
	host_expects(f, 1, 60, 9);
}

static void the_control_queue_is_where_negotiation_puts_it(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(control(f, 2, 4, 0, "\1\0", 2), ==, 1); /* no MQ */
	g_assert_cmpint(control(f, 2, 3, 0, "", 0), ==, 0);
}

static int load_into(struct device *device, const struct buf *saved)
{
	struct state_set *set = NULL;
	int error = state_set_parse(&set, saved->bytes, saved->len);

	if (!error)
		error = device->ops->load(device, set);
	state_set_free(set);
	return error;
}

/* Pauses, saves, and loads into a new card of another guest with the same memory, which f then is. */
static void move(struct fixture *f, const struct variant *v)
{
	struct guest *target = calloc(1, sizeof(*target));
	struct buf saved, again;

	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	buf_init(&saved, 1 << 20);
	buf_init(&again, 1 << 20);
	g_assert_cmpint(f->device->ops->save(f->device, &saved), ==, 0);
	g_assert_cmpint(guest_init(target), ==, 0);
	memcpy(ram_ptr(target->ram, 0, GUEST_RAM), ram_ptr(f->guest->ram, 0, GUEST_RAM), GUEST_RAM);
	tear_down(f, v);
	f->guest = target;
	f->device = new_device(v, target, f->host);
	f->net = virtio_net_of(f->device);
	g_assert_cmpint(load_into(f->device, &saved), ==, 0);
	g_assert_cmpint(f->device->ops->save(f->device, &again), ==, 0);
	g_assert_cmpmem(saved.bytes, saved.len, again.bytes, again.len);
	buf_fini(&saved);
	buf_fini(&again);
}

/* Buffers that were popped ahead are the guest's again on the other side, and the guest is asked to announce itself. */
static void a_moved_card_goes_on_and_announces(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2048];

	post_many(f, RX, 8, 2048);
	host_sends(f, 0, frame, 60, 1);
	move(f, data);
	/* Nobody kicks for this one, which the source never saw. */
	guest_sends(f, TX, 99, 5);
	g_assert_cmpint(net_status(f), ==, 1);
	f->device->ops->resume(f->device);
	guest_run_loop(f->guest);
	g_assert_cmpint(net_status(f), ==, 3);
	g_assert_cmpuint(fake_delivered(&f->guest->wiring, 0), ==, 1);
	host_expects(f, 0, 99, 5);
	g_assert_cmpint(control(f, 2, 3, 0, "", 0), ==, 0);
	g_assert_cmpint(net_status(f), ==, 1);
	for (unsigned int i = 2; i <= 8; i++) {
		host_sends(f, 0, frame, 60 + i, i);
		g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, i);
		g_assert_cmpmem(memory(f, BUFFERS_GPA + (i - 1) * 0x1000ULL + HEADER, 60 + i),
				60 + i, frame + HEADER, 60 + i);
	}
	/* Pausing and resuming here is no move. */
	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	f->device->ops->resume(f->device);
	g_assert_cmpint(net_status(f), ==, 1);
}

static void a_guest_that_cannot_is_announced(struct fixture *f, gconstpointer data)
{
	uint8_t got[256];

	move(f, data);
	f->device->ops->resume(f->device);
	g_assert_cmpint(recv(f->host[0], got, sizeof(got), MSG_DONTWAIT), ==, HEADER + 60);
	g_assert_cmpmem(got + HEADER, 6, "\xff\xff\xff\xff\xff\xff", 6);
	g_assert_cmpmem(got + HEADER + 6, 6, mac, 6);
	g_assert_cmpmem(got + HEADER + 12, 10, "\x80\x35\0\1\x8\0\6\4\0\3", 10);
	g_assert_cmpint(net_status(f), ==, 1);
}

static void a_paused_card_is_silent(struct fixture *f, gconstpointer data)
{
	uint8_t frame[2048];

	post_many(f, RX, 8, 2048);
	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	guest_sends(f, TX, 60, 1);
	guest_kick(f->guest, SLOT, TX);
	host_sends(f, 0, frame, 60, 1);
	g_assert_cmpint(loop_run_once(f->guest->loop, 0), ==, 0); /* nor does it spin */
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 0);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 0);
	f->device->ops->resume(f->device);
	guest_run_loop(f->guest);
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 1);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 1);
}

static void another_card_is_refused(struct fixture *f, gconstpointer data)
{
	struct guest target;
	struct device *device;
	struct buf saved;
	int host[NET_PAIRS_MAX];

	g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
	buf_init(&saved, 1 << 20);
	g_assert_cmpint(f->device->ops->save(f->device, &saved), ==, 0);
	g_assert_cmpint(guest_init(&target), ==, 0);
	device = new_device(&two_pairs, &target, host);
	g_assert_cmpint(load_into(device, &saved), ==, -EBADMSG);
	guest_fini(&target);
	close(host[0]);
	close(host[1]);
	buf_fini(&saved);
}

static void a_dead_backend_is_no_link(struct fixture *f, gconstpointer data)
{
	shutdown(f->host[0], SHUT_RDWR);
	post_many(f, RX, 4, 2048);
	g_assert_cmpint(net_status(f), ==, 0);
	g_assert_cmpuint(fake_delivered(&f->guest->wiring, 0), ==, 1);
	/* What is sent vanishes, and does not pile up. */
	guest_sends(f, TX, 60, 1);
	guest_kick(f->guest, SLOT, TX);
	guest_run_loop(f->guest);
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 1);
	g_assert_cmpint(loop_run_once(f->guest->loop, 0), ==, 0);
}

static void *io_thread(void *opaque)
{
	loop_run(opaque);
	return NULL;
}

/* Frames both ways on the I/O thread while the main thread pauses and resumes: nothing is lost but what a socket drops. */
static void pausing_under_load_loses_nothing(struct fixture *f, gconstpointer data)
{
	uint8_t frame[HEADER + 64] = {};
	unsigned int sent = 0, got = 0;
	pthread_t io;

	for (unsigned int i = 0; i < QSIZE; i++)
		(void)post(f, RX, 2048);
	g_assert_cmpint(pthread_create(&io, NULL, io_thread, f->guest->loop), ==, 0);
	guest_kick(f->guest, SLOT, RX);
	for (unsigned int round = 0; round < 25; round++) {
		for (unsigned int i = 0; i < 8; i++) {
			if (send(f->host[0], frame, sizeof(frame), MSG_DONTWAIT) > 0)
				sent++;
			guest_sends(f, TX, 60, i);
		}
		guest_kick(f->guest, SLOT, TX);
		g_assert_cmpint(f->device->ops->pause(f->device), ==, 0);
		f->device->ops->resume(f->device);
	}
	for (int i = 0;
	     i < 500 && (guest_used_idx(f->guest, TX) < 200 || guest_used_idx(f->guest, RX) < sent);
	     i++) {
		uint8_t bytes[256];

		while (recv(f->host[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			got++;
		g_usleep(2000);
	}
	while (recv(f->host[0], frame, sizeof(frame), MSG_DONTWAIT) > 0)
		got++;
	loop_stop(f->guest->loop);
	pthread_join(io, NULL);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, sent);
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, 200);
	g_assert_cmpuint(got, ==, 200);
}

/* passt's stream: a frame in pieces, two at once, and one that no frame can be. */
static void a_stream_is_cut_into_frames(struct fixture *f, gconstpointer data)
{
	uint8_t bytes[] = {0,	 0,    0,    16,   0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6,
			   0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0,    0,
			   0,	 14,   0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8,
			   0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0,    0,    0,	   13};
	static const uint8_t header[HEADER] = {[10] = 1};
	uint32_t id, len;

	g_assert_false(guest_offered(f->guest, SLOT) & F_CSUM);
	memset(memory(f, BUFFERS_GPA, 0x4000), 0xff, 0x4000);
	post_many(f, RX, 4, 2048);
	for (unsigned int i = 0; i < 20; i++) {
		g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 0);
		g_assert_cmpint(send(f->host[0], bytes + i, 1, 0), ==, 1);
		guest_run_loop(f->guest);
	}
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 1);
	g_assert_cmpmem(memory(f, BUFFERS_GPA, HEADER), HEADER, header, HEADER);
	g_assert_cmpmem(memory(f, BUFFERS_GPA + HEADER, 16), 16, bytes + 4, 16);
	g_assert_cmpint(send(f->host[0], bytes + 20, sizeof(bytes) - 20, 0), ==,
			sizeof(bytes) - 20);
	guest_run_loop(f->guest);
	guest_used_elem(f->guest, RX, 1, &id, &len);
	g_assert_cmpuint(len, ==, HEADER + 14);
	g_assert_cmpuint(guest_used_idx(f->guest, RX), ==, 2);
	g_assert_cmpint(net_status(f), ==, 0);
	g_assert_nonnull(strstr(fail_text(), "13 bytes"));
}

/* The stream takes part of a frame: its rest goes out before the next, and nothing is torn. */
static void a_stream_takes_parts_of_frames(struct fixture *f, gconstpointer data)
{
	enum { FRAMES = 32, BYTES = 20000 };
	AUTO_FREE uint8_t *got = malloc(FRAMES * (BYTES + 4));
	size_t total = 0;

	for (unsigned int i = 0; i < FRAMES; i++) {
		gpa_t gpa = BUFFERS_GPA + i * 0x5000ULL;

		fill(memory(f, gpa + HEADER, BYTES), BYTES, i);
		guest_set_desc(f->guest, TX, i, gpa, HEADER + BYTES, 0, 0);
		guest_make_available(f->guest, TX, QSIZE, (uint16_t)i);
	}
	guest_kick(f->guest, SLOT, TX);
	guest_run_loop(f->guest);
	g_assert_cmpuint(guest_used_idx(f->guest, TX), <, FRAMES / 2);
	for (int round = 0; round < 10000 && total < FRAMES * (BYTES + 4); round++) {
		ssize_t n = recv(f->host[0], got + total, 777, MSG_DONTWAIT);

		if (n > 0)
			total += (size_t)n;
		guest_run_loop(f->guest);
	}
	g_assert_cmpuint(total, ==, FRAMES * (BYTES + 4));
	g_assert_cmpuint(guest_used_idx(f->guest, TX), ==, FRAMES);
	for (unsigned int i = 0; i < FRAMES; i++) {
		g_assert_cmpmem(got + i * (BYTES + 4), 4, "\0\0\x4e\x20", 4);
		g_assert_cmpmem(got + i * (BYTES + 4) + 4, BYTES,
				memory(f, BUFFERS_GPA + i * 0x5000ULL + HEADER, BYTES), BYTES);
	}
}

static void what_a_backend_cannot_do_is_refused(struct fixture *f, gconstpointer data)
{
	struct virtio_net_options options = {.npairs = 1, .offloads = true};
	int host[NET_PAIRS_MAX];
	struct device *device;

	options.backend = new_backend(&by_passt, host);
	g_assert_cmpint(virtio_net_new(&device, &f->guest->env, "net1", SLOT + 1, &options), ==,
			-ENOTSUP);
	close(host[0]);
	options = (struct virtio_net_options){.npairs = 2};
	options.backend = new_backend(&by_passt, host);
	g_assert_cmpint(virtio_net_new(&device, &f->guest->env, "net1", SLOT + 1, &options), ==,
			-ENOTSUP);
	close(host[0]);
	options = (struct virtio_net_options){.npairs = 1, .mac = {1}};
	options.backend = new_backend(&plain, host);
	g_assert_cmpint(virtio_net_new(&device, &f->guest->env, "net1", SLOT + 1, &options), ==,
			-EINVAL);
	close(host[0]);
}

static void a_tap_that_is_not_there_is_named(void)
{
	struct net_backend *backend;

	g_assert_cmpint(tap_open(&backend, "tern-no-tap", 1, NULL), ==, -ENODEV);
	g_assert_nonnull(strstr(fail_text(), "tern-no-tap"));
	g_assert_cmpint(tap_open(&backend, "a-name-that-is-too-long", 1, NULL), ==, -ENODEV);
	g_assert_cmpint(tap_open(&backend, "", 1, NULL), ==, -ENODEV);
	g_assert_cmpint(tap_open(&backend, "lo", 1, NULL), !=, 0);
	g_assert_null(backend);
}

#define TEST(name, variant) \
	g_test_add("/virtio-net/" #name, struct fixture, &variant, set_up, name, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	TEST(configuration_is_told, two_pairs);
	TEST(frames_go_out, plain);
	TEST(frames_come_in, plain);
	TEST(large_frames_take_several_buffers, plain);
	TEST(the_stage_wraps, plain);
	TEST(without_merging_long_frames_are_dropped, no_merge);
	TEST(frames_wait_for_buffers, plain);
	TEST(a_full_backend_is_waited_for, plain);
	TEST(broken_chains_break_the_device, plain);
	TEST(commands_are_obeyed_or_refused, two_pairs);
	TEST(the_control_queue_is_where_negotiation_puts_it, no_mq);
	TEST(a_moved_card_goes_on_and_announces, plain);
	TEST(a_guest_that_cannot_is_announced, no_announce);
	TEST(a_paused_card_is_silent, plain);
	TEST(another_card_is_refused, plain);
	TEST(a_dead_backend_is_no_link, plain);
	TEST(pausing_under_load_loses_nothing, plain);
	TEST(a_stream_is_cut_into_frames, by_passt);
	TEST(a_stream_takes_parts_of_frames, by_passt);
	TEST(what_a_backend_cannot_do_is_refused, plain);
	g_test_add_func("/virtio-net/a_tap_that_is_not_there_is_named",
			a_tap_that_is_not_there_is_named);
	return g_test_run();
}
