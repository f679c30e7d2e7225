// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A virtqueue with any rings: the input writes into the queue's memory and pops, pushes and publishes in between. What was
 * popped is pushed at the end, whatever became of the queue.
 */
#include "base/log.h"
#include "devices/virtq.h"
#include "tests/fuzz/input.h"
#include "tests/unit/fake_guest.h"

#define AREA_GPA   GUEST_QUEUE_GPA(0)
#define AREA_BYTES 0x10000
#define KEPT	   64

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct guest guest;
static struct virtq q;
static bool told;

static void on_interrupt(void *opaque, struct virtq *queue)
{
}

static void on_broken(void *opaque, struct virtq *queue, const char *why)
{
	if (told)
		abort(); /* once only */
	told = true;
}

static const struct virtq_owner owner = {.interrupt = on_interrupt, .broken = on_broken};

static void init(void)
{
	log_level = LOG_ERROR;
	if (guest_init(&guest))
		abort();
	virtq_init(&q, guest.ram, 0, 64, &owner, NULL);
}

/* Every segment lies in RAM, and the sums are what they say. */
static void check_chain(const struct virtq_chain *chain)
{
	uint8_t *ram = ram_ptr(guest.ram, 0, GUEST_RAM);
	uint64_t sum = 0;
	uint8_t byte;

	for (unsigned int i = 0; i < chain->nread + chain->nwrite; i++) {
		const uint8_t *base = chain->iov[i].iov_base;

		if (base < ram || chain->iov[i].iov_len > GUEST_RAM ||
		    base + chain->iov[i].iov_len > ram + GUEST_RAM)
			abort();
		sum += chain->iov[i].iov_len;
	}
	if (sum != (uint64_t)chain->read_bytes + chain->write_bytes)
		abort();
	if (virtq_chain_read(chain, chain->read_bytes, &byte, 1) != 0)
		abort();
}

static struct {
	struct virtq_chain chain;
	struct iovec iov[32];
} kept[KEPT];

static unsigned int pop(unsigned int nkept, bool back)
{
	struct virtq_chain *chain;

	if (nkept == KEPT)
		return nkept;
	chain = &kept[nkept].chain;
	chain->iov = kept[nkept].iov;
	chain->capacity = ARRAY_SIZE(kept[nkept].iov);
	if (virtq_pop(&q, chain) <= 0)
		return nkept;
	check_chain(chain);
	if (!back)
		return nkept + 1;
	virtq_unpop(&q, chain);
	return nkept;
}

static unsigned int push(unsigned int nkept, uint32_t written)
{
	struct virtq_chain *chain = &kept[nkept - 1].chain;

	virtq_push(&q, chain, written < chain->write_bytes ? written : chain->write_bytes);
	return nkept - 1;
}

static void write_area(struct input *in)
{
	uint16_t at = input_u16(in);
	uint8_t data[16];
	size_t len = 1 + input_u8(in) % sizeof(data);

	input_take(in, data, len);
	if (at + len > AREA_BYTES)
		return;
	memcpy(ram_ptr(guest.ram, AREA_GPA + at, len), data, len);
}

static void run(struct input *in)
{
	unsigned int nkept = 0;

	while (in->left > 0) {
		switch (input_u8(in) % 8) {
		case 0:
		case 1:
			write_area(in);
			break;
		case 2:
			nkept = pop(nkept, false);
			break;
		case 3:
			nkept = pop(nkept, true);
			break;
		case 4:
			if (nkept > 0)
				nkept = push(nkept, input_u16(in));
			break;
		case 5:
			virtq_publish(&q);
			break;
		case 6:
			virtq_kicks_off(&q);
			break;
		default:
			virtq_kicks_on(&q);
			break;
		}
	}
	while (nkept > 0)
		nkept = push(nkept, 1);
	virtq_publish(&q);
	virtq_resume_interrupt(&q);
	if (q.inflight)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in = {bytes, size};
	uint8_t flags;

	if (!guest.ram)
		init();
	memset(ram_ptr(guest.ram, AREA_GPA, AREA_BYTES), 0, AREA_BYTES);
	told = false;
	flags = input_u8(&in);
	q.state.size = 1U << (flags >> 2) % 7;
	/* Mostly good places, so that the rest is reached; now and then any. */
	q.state.desc_gpa = flags & 0x80 ? input_u64(&in) : GUEST_DESC(0);
	q.state.avail_gpa = flags & 0x80 ? input_u64(&in) : GUEST_AVAIL(0);
	q.state.used_gpa = flags & 0x80 ? input_u64(&in) : GUEST_USED(0);
	if (virtq_enable(&q, flags & 1, flags & 2) == 0)
		run(&in);
	virtq_reset(&q);
	return 0;
}
