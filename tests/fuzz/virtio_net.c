// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The network card by any driver, with any frames from outside: on packet sockets for a tap with two queue pairs, or on
 * a stream whose other end is no honest passt.
 */
#include <sys/socket.h>

#include "base/log.h"
#include "devices/virtio_net.h"
#include "tests/fuzz/saved.h"
#include "tests/fuzz/virtio_driver.h"

#define SLOT 1

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct card {
	struct guest guest;
	struct virtio_net *net;
	unsigned int npairs, nqueues;
	int host[2];
};

static struct card tap, passt;

static void make_card(struct card *card, bool stream)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct virtio_net_options options = {.npairs = stream ? 1 : 2, .offloads = !stream};
	struct device *device;
	int fds[2];

	memcpy(options.mac, mac, sizeof(mac));
	card->npairs = options.npairs;
	card->nqueues = 2 * card->npairs + 1;
	for (unsigned int i = 0; i < card->npairs; i++) {
		int pair[2];

		saved_or_abort(
			socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair) == 0);
		card->host[i] = pair[0];
		fds[i] = pair[1];
	}
	saved_or_abort((stream ? passt_open(&options.backend, fds[0])
			       : tap_open(&options.backend, "fuzz", card->npairs, fds)) == 0);
	saved_or_abort(guest_init(&card->guest) == 0);
	saved_or_abort(virtio_net_new(&device, &card->guest.env, "net0", SLOT, &options) == 0);
	saved_or_abort(device_list_add(&card->guest.devices, device) == 0);
	card->net = virtio_net_of(device);
}

static void drop_card(struct card *card)
{
	guest_fini(&card->guest);
	for (unsigned int i = 0; i < card->npairs; i++)
		close(card->host[i]);
}

/* Bytes from outside, up to 64 of the input repeated up to a length of 64 KiB. */
static void send_in(struct card *card, struct input *in)
{
	static uint8_t bytes[1 << 16];
	uint8_t pattern[64];
	size_t n = 1 + input_u8(in) % sizeof(pattern);
	size_t len = n * (1 + input_u16(in) % 1000);
	unsigned int pair = input_u8(in) % card->npairs;

	input_take(in, pattern, n);
	for (size_t at = 0; at < len; at += n)
		memcpy(bytes + at, pattern, n);
	(void)!send(card->host[pair], bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drain(struct card *card)
{
	uint8_t bytes[4096];

	for (unsigned int i = 0; i < card->npairs; i++) {
		while (recv(card->host[i], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	}
}

static void run(struct card *card, struct input *in, uint8_t begin)
{
	fuzz_clear_rings(&card->guest, card->nqueues);
	if (begin & 1)
		fuzz_start_driver(&card->guest, SLOT, begin, card->nqueues);
	while (in->left > 0) {
		uint8_t turn = input_u8(in);

		if (turn < 60)
			loop_run_once(card->guest.loop, 0);
		else if (turn < 100)
			send_in(card, in);
		else if (turn < 110)
			drain(card);
		else if (turn == 255)
			check_saved(&card->guest.devices);
		fuzz_driver_step(&card->guest, in, SLOT, card->nqueues);
	}
	for (int i = 0; i < 8; i++)
		loop_run_once(card->guest.loop, 0);
	check_saved(&card->guest.devices);
	power_cycle(&card->guest.devices);
	drain(card);
	guest_run_loop(&card->guest);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint8_t begin = input_u8(&in);
	struct card *card = begin & 0x80 ? &passt : &tap;
	struct virtio_net_info info;

	if (!card->net) {
		log_level = (enum log_level) - 1;
		make_card(card, card == &passt);
	}
	run(card, &in, begin);
	/* A stream that has ended stays ended. */
	virtio_net_get_info(card->net, &info);
	if (!info.link_up || card == &passt) {
		drop_card(card);
		card->net = NULL;
	}
	return 0;
}
