// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The network card served by the kernel: on a real tap with a real vhost-net. Skipped where either is missing or not
 * allowed; the lab has both (tests/lab/test_vhost.py).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "devices/virtio_net.h"
#include "memory/dirty.h"
#include "tests/unit/fake_guest.h"

#define SLOT	    4
#define QSIZE	    256
#define HEADER	    12
#define BUFFERS_GPA 0x200000ULL
#define RX	    0
#define TX	    1
/* Ours, so that what the host itself sends is told apart. */
#define PROTOCOL 0x88b5
#define FRAME	 200U

struct fixture {
	struct guest guest;
	struct device *device;
	struct virtio_net *net;
	int packet; /* the host's side of the interface */
	unsigned int nposted, nsent;
	uint64_t map[GUEST_RAM / RAM_PAGE_BYTES / 64];
};

/* A tap of our own, up; -1 where that is not allowed. */
static int make_tap(char name[IFNAMSIZ])
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	AUTO_FD control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	g_strlcpy(request.ifr_name, "ternvh%d", IFNAMSIZ);
	if (ioctl(fd, TUNSETIFF, &request) == 0) {
		memcpy(name, request.ifr_name, IFNAMSIZ);
		request.ifr_flags = IFF_UP;
		if (ioctl(control, SIOCSIFFLAGS, &request) == 0)
			return fd;
	}
	close(fd);
	return -1;
}

static int open_packet(const char *name)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(PROTOCOL));
	struct ifreq request = {};
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(PROTOCOL)};

	g_assert_cmpint(fd, >=, 0);
	memcpy(request.ifr_name, name, IFNAMSIZ);
	g_assert_cmpint(ioctl(fd, SIOCGIFINDEX, &request), ==, 0);
	address.sll_ifindex = request.ifr_ifindex;
	g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
	return fd;
}

static void fill(uint8_t *frame, uint32_t seed)
{
	memset(frame, 0xff, 6);
	memset(frame + 6, 2, 6);
	frame[12] = PROTOCOL >> 8;
	frame[13] = PROTOCOL & 0xff;
	for (unsigned int i = 14; i < FRAME; i++)
		frame[i] = (uint8_t)(seed + i);
}

static void start_driver(struct fixture *f)
{
	guest_enable_pci(&f->guest, SLOT);
	guest_start_virtio(&f->guest, SLOT, guest_offered(&f->guest, SLOT), 3, QSIZE);
	g_assert_cmpint(guest_status(&f->guest, SLOT), ==, 15);
	guest_run_loop(&f->guest);
}

static bool set_up(struct fixture *f)
{
	struct virtio_net_options options = {
		.mac = {0x52, 0x54, 0, 0, 0, 9}, .npairs = 1, .offloads = true, .vhost = true};
	struct virtio_net_info info;
	char name[IFNAMSIZ];
	int fd;

	memset(f, 0, sizeof(*f));
	fd = make_tap(name);
	if (fd < 0 || access("/dev/vhost-net", R_OK | W_OK)) {
		close_fd(&fd);
		g_test_skip("no tap, or no vhost-net, for us");
		return false;
	}
	f->packet = open_packet(name);
	g_assert_cmpint(guest_init(&f->guest), ==, 0);
	g_assert_cmpint(tap_open(&options.backend, name, 1, &fd), ==, 0);
	g_assert_cmpint(virtio_net_new(&f->device, &f->guest.env, "net0", SLOT, &options), ==, 0);
	g_assert_cmpint(device_list_add(&f->guest.devices, f->device), ==, 0);
	f->net = virtio_net_of(f->device);
	virtio_net_get_info(f->net, &info);
	g_assert_true(info.vhost);
	start_driver(f);
	return true;
}

static void tear_down(struct fixture *f)
{
	guest_fini(&f->guest);
	close(f->packet);
}

static uint8_t *memory(struct fixture *f, gpa_t gpa, size_t len)
{
	uint8_t *p = ram_ptr(f->guest.ram, gpa, len);

	g_assert_nonnull(p);
	return p;
}

/* The page of the n-th receive buffer; the host's own frames (IPv6 and such) use some up. */
static void post(struct fixture *f, unsigned int n)
{
	for (; n > 0; n--) {
		unsigned int i = f->nposted++ % 128;

		guest_set_desc(&f->guest, RX, i, BUFFERS_GPA + i * 0x1000ULL, 2048,
			       VRING_DESC_F_WRITE, 0);
		guest_make_available(&f->guest, RX, QSIZE, (uint16_t)i);
	}
	guest_kick(&f->guest, SLOT, RX);
}

/* The host sends, until the guest has it: the gpa of the buffer. */
static gpa_t frame_comes_in(struct fixture *f, uint32_t seed)
{
	unsigned int used = guest_used_idx(&f->guest, RX);
	uint8_t frame[FRAME];

	fill(frame, seed);
	g_assert_cmpint(send(f->packet, frame, FRAME, 0), ==, FRAME);
	for (int i = 0; i < 2000; i++) {
		uint32_t id, len;

		loop_run_once(f->guest.loop, 1);
		for (; (uint16_t)used != guest_used_idx(&f->guest, RX); used++) {
			gpa_t gpa;

			guest_used_elem(&f->guest, RX, used % QSIZE, &id, &len);
			gpa = BUFFERS_GPA + id * 0x1000ULL;
			if (len == HEADER + FRAME &&
			    !memcmp(memory(f, gpa + HEADER, FRAME), frame, FRAME))
				return gpa;
		}
	}
	g_assert_not_reached();
}

static void frame_goes_out(struct fixture *f, uint32_t seed)
{
	unsigned int i = f->nsent++ % 64;
	gpa_t gpa = BUFFERS_GPA + 0x100000ULL + i * 0x1000ULL;
	uint8_t want[FRAME], got[2048];

	fill(want, seed);
	memset(memory(f, gpa, HEADER), 0, HEADER);
	memcpy(memory(f, gpa + HEADER, FRAME), want, FRAME);
	guest_set_desc(&f->guest, TX, i, gpa, HEADER + FRAME, 0, 0);
	guest_make_available(&f->guest, TX, QSIZE, (uint16_t)i);
	guest_kick(&f->guest, SLOT, TX);
	for (int tries = 0; tries < 2000; tries++) {
		loop_run_once(f->guest.loop, 1);
		/* Our own frames to the interface come back as outgoing: they have other bytes. */
		if (recv(f->packet, got, sizeof(got), 0) == FRAME && !memcmp(got, want, FRAME))
			return;
	}
	g_assert_not_reached();
}

static void the_kernel_moves_frames(void)
{
	struct virtio_net_info info;
	struct fixture f;

	if (!set_up(&f))
		return;
	post(&f, 32);
	for (unsigned int i = 0; i < 5; i++) {
		frame_comes_in(&f, i);
		frame_goes_out(&f, 100 + i);
	}
	g_assert_cmpuint(fake_delivered(&f.guest.wiring, 1), >, 0);
	/* None of them passed through this process. */
	virtio_net_get_info(f.net, &info);
	g_assert_cmpuint(info.received + info.sent, ==, 0);
	tear_down(&f);
}

static bool in_map(const struct fixture *f, gpa_t gpa)
{
	page_t page = gpa >> RAM_PAGE_SHIFT;

	return f->map[page / 64] >> (page % 64) & 1;
}

static void what_the_kernel_writes_is_harvested(void)
{
	struct dirty_source source;
	struct fixture f;
	gpa_t gpa;

	if (!set_up(&f))
		return;
	g_assert_true(virtio_net_dirty_source(f.net, &source));
	post(&f, 64);
	frame_comes_in(&f, 1); /* before the log: nobody's business */
	g_assert_cmpint(source.start(source.opaque), ==, 0);
	source.harvest(source.opaque, f.map);
	memset(f.map, 0, sizeof(f.map));

	gpa = frame_comes_in(&f, 2);
	source.harvest(source.opaque, f.map);
	g_assert_true(in_map(&f, gpa));
	g_assert_true(in_map(&f, GUEST_USED(RX)));
	g_assert_false(in_map(&f, BUFFERS_GPA + 63 * 0x1000ULL)); /* not reached yet */
	g_assert_false(in_map(&f, GUEST_DESC(RX)));

	memset(f.map, 0, sizeof(f.map));
	frame_goes_out(&f, 3);
	source.harvest(source.opaque, f.map);
	g_assert_true(in_map(&f, GUEST_USED(TX)));

	/* Pause and resume with the log on: it stays on, and what the end of a run wrote is in it. */
	g_assert_cmpint(f.device->ops->pause(f.device), ==, 0);
	f.device->ops->resume(f.device);
	memset(f.map, 0, sizeof(f.map));
	gpa = frame_comes_in(&f, 4);
	source.harvest(source.opaque, f.map);
	g_assert_true(in_map(&f, gpa));

	source.stop(source.opaque);
	frame_comes_in(&f, 5);
	tear_down(&f);
}

/* A pause takes the queues back, and their indices are true; the kernel then goes on from there. */
static void pauses_take_the_queues_back(void)
{
	struct fixture f;
	uint8_t frame[FRAME];

	if (!set_up(&f))
		return;
	post(&f, 100);
	for (unsigned int i = 0; i < 10; i++) {
		struct virtio *virtio = CONTAINER_OF(f.device, struct virtio, device);
		uint16_t used;

		frame_comes_in(&f, i);
		frame_goes_out(&f, 50 + i);
		g_assert_cmpint(f.device->ops->pause(f.device), ==, 0);
		used = guest_used_idx(&f.guest, RX);
		g_assert_cmpuint(virtio_q(virtio, RX)->state.next_used, ==, used);
		g_assert_cmpuint(virtio_q(virtio, RX)->state.next_avail, ==, used);
		g_assert_cmpuint(virtio_q(virtio, TX)->state.next_avail, ==, i + 1);
		fill(frame, 200 + i);
		g_assert_cmpint(send(f.packet, frame, FRAME, 0), ==, FRAME);
		g_usleep(5000);
		g_assert_cmpuint(guest_used_idx(&f.guest, RX), ==, used);
		f.device->ops->resume(f.device);
	}
	tear_down(&f);
}

/* The guest resets one queue: this process serves the other one meanwhile. */
static void one_queue_alone_is_served_here(void)
{
	struct virtio_net_info info;
	struct fixture f;

	if (!set_up(&f))
		return;
	post(&f, 32);
	frame_comes_in(&f, 1);
	guest_common_write(&f.guest, SLOT, VIRTIO_PCI_COMMON_Q_SELECT, TX, 2);
	guest_common_write(&f.guest, SLOT, VIRTIO_PCI_COMMON_Q_RESET, 1, 2);
	frame_comes_in(&f, 2);
	virtio_net_get_info(f.net, &info);
	g_assert_cmpuint(info.received, >, 0);
	memset(guest_avail(&f.guest, TX), 0, 4);
	memset(guest_used(&f.guest, TX), 0, 4);
	guest_setup_queue(&f.guest, SLOT, TX, QSIZE, TX + 1);
	frame_goes_out(&f, 3);
	virtio_net_get_info(f.net, &info);
	g_assert_cmpuint(info.sent, ==, 0);
	frame_comes_in(&f, 4);
	tear_down(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vhost-net/the_kernel_moves_frames", the_kernel_moves_frames);
	g_test_add_func("/vhost-net/what_the_kernel_writes_is_harvested",
			what_the_kernel_writes_is_harvested);
	g_test_add_func("/vhost-net/pauses_take_the_queues_back", pauses_take_the_queues_back);
	g_test_add_func("/vhost-net/one_queue_alone_is_served_here",
			one_queue_alone_is_served_here);
	return g_test_run();
}
