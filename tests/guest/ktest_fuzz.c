// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A hostile driver: for `seconds=`, writes values of every kind with every width to every register of every PCI function
 * (configuration space and BARs) and, on x86, to the port devices; now and then with rings that point to real memory full
 * of noise, so that the devices walk them. It proves nothing by itself: whoever started it checks that the VMM lives
 * and that this test says its last line. `seed=` repeats a run.
 *
 * What it leaves alone, because writing there ends the VM rightly: the power-off and reset registers. And since a device
 * may rightly write wherever a descriptor tells it to, the noise that passes for descriptors lies at the very end of RAM
 * and points to itself, past the end, to devices, to nowhere, or to a little of low memory: never to this program.
 */
#include "ktest.h"
#include "pci.h"
#include "virtio.h"
#include "workset.h"

#define FUZZ_DEVICES 32
#define NOISE_BYTES  65536

struct target {
	unsigned int function;
	bool is_virtio;
	struct virtio v;
	struct pci_bar bars[PCI_BARS];
};

static struct target targets[FUZZ_DEVICES] NOINIT;
static unsigned int ntargets;
static struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
} * noise; /* NOISE_BYTES, the last of RAM */
static uint64_t state;

/* xorshift64* */
static uint64_t random_next(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dul;
}

static uint64_t random_value(void)
{
	static const uint64_t interesting[] = {0,
					       1,
					       2,
					       3,
					       7,
					       8,
					       15,
					       64,
					       0x7f,
					       0x80,
					       0xff,
					       0x100,
					       4095,
					       4096,
					       0x7fff,
					       0x8000,
					       0xffff,
					       0x10000,
					       0x7fffffff,
					       0x80000000,
					       0xfee00000,
					       0xffffffff,
					       0xfffffffffff,
					       UINT64_MAX};
	uint64_t r = random_next();

	switch (r >> 61) {
	case 0:
	case 1:
	case 2:
		return interesting[(r & 0xffff) % ARRAY_SIZE(interesting)];
	case 3:
		return (uint64_t)noise + (r & (NOISE_BYTES - 1));
	case 4:
		return r & 0xff;
	default:
		return r;
	}
}

/* See the top for what it may point to. */
static struct descriptor random_descriptor(void)
{
	struct descriptor d = {.length = (uint32_t)random_value(),
			       .flags =
				       (uint16_t)(random_next() & (random_next() & 7 ? 3 : 0xffff)),
			       .next = (uint16_t)(1 + random_next() % 300)};
	uint64_t r = random_next();

	switch (r >> 61) {
	case 0:
		d.address = r & 0x7fff;
		d.length &= 0x7fff;
		break;
	case 1:
		d.address = (uint64_t)noise + NOISE_BYTES - (r & 0xfff);
		break;
	case 2:
		d.address = machine.ecam_base + (r & 0xfffff);
		break;
	case 3:
		d.address = r | 1ul << 52;
		break;
	case 4:
		d.address = UINT64_MAX - (r & 0xffff);
		break;
	default:
		d.address = (uint64_t)noise + (r & (NOISE_BYTES - 1));
	}
	return d;
}

static void write_any(uint64_t at, uint64_t value)
{
	unsigned int width = 1u << (random_next() & 3);

	if (MMIO_MUST_ALIGN)
		at &= ~(uint64_t)(width - 1);
	switch (width) {
	case 1:
		mmio_write8(at, (uint8_t)value);
		break;
	case 2:
		mmio_write16(at, (uint16_t)value);
		break;
	case 4:
		mmio_write32(at, (uint32_t)value);
		break;
	default:
		mmio_write64(at, value);
	}
}

static void read_any(uint64_t at)
{
	unsigned int width = 1u << (random_next() & 3);

	if (MMIO_MUST_ALIGN)
		at &= ~(uint64_t)(width - 1);
	switch (width) {
	case 1:
		(void)mmio_read8(at);
		break;
	case 2:
		(void)mmio_read16(at);
		break;
	case 4:
		(void)mmio_read32(at);
		break;
	default:
		(void)mmio_read64(at);
	}
}

static void fuzz_bar(const struct target *target)
{
	const struct pci_bar *bar = &target->bars[random_next() % PCI_BARS];
	uint64_t at;

	if (!bar->size || bar->is_io)
		return;
	/* Half of the writes go to where most registers are. */
	at = bar->base + random_next() % (random_next() & 1 && bar->size > 256 ? 256 : bar->size);
	if (random_next() & 3)
		write_any(at, random_value());
	else
		read_any(at);
}

static void fuzz_virtio(const struct target *target)
{
	static const uint8_t parts[] = {0, 8, 16, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 52};
	const struct virtio *v = &target->v;
	uint64_t r = random_next();

	if (r & 1) {
		write_any(v->common + parts[(r >> 8) % sizeof(parts)], random_value());
	} else if (r & 2) {
		write_any(v->notify + (r >> 16) % 64, (uint16_t)(r >> 32) & 3);
	} else if (v->device) {
		write_any(v->device + (r >> 16) % 64, random_value());
	}
}

/* A device that was set up as it should be, and then finds noise in its queue. */
static void fuzz_queue(struct target *target)
{
	struct virtio *v = &target->v;
	struct descriptor *ring;

	if (!virtio_start(v, random_next()))
		return;
	for (unsigned int i = 0; i < 4; i++) {
		struct virtio_buffer b[4];

		for (unsigned int k = 0; k < 4; k++) {
			struct descriptor d = random_descriptor();

			b[k] = (struct virtio_buffer){(void *)d.address, d.length, d.flags & 2};
		}
		virtio_submit(v, b, 1 + (unsigned int)(random_next() & 3));
	}
	/* Now and then the chain is not even a chain. */
	ring = (struct descriptor *)v->ring;
	for (unsigned int i = 0; i < (random_next() & 7); i++)
		ring[random_next() % VIRTIO_QUEUE_SIZE] = random_descriptor();
	mmio_write16(v->doorbell, 0);
}

static bool overlaps(unsigned int offset, unsigned int bytes, unsigned int at, unsigned int length)
{
	return offset < at + length && at < offset + bytes;
}

static void fuzz_config(const struct target *target)
{
	unsigned int offset = random_next() & (random_next() & 1 ? 0xff : 0xfff);
	unsigned int bytes = 1u << random_next() % 3;

	if (MMIO_MUST_ALIGN)
		offset &= ~(bytes - 1);
	/* BARs stay where they are: one moved over RAM would be the guest's own loss, and end the test early. */
	if (overlaps(offset, bytes, PCI_COMMAND, 2) || overlaps(offset, bytes, PCI_BAR(0), 24))
		return;
	if (offset + bytes > 4096)
		return;
	pci_write(target->function, offset, bytes, (uint32_t)random_value());
}

#if defined(__x86_64__)
static void fuzz_ports(void)
{
	static const uint16_t ports[] = {0x70,	0x71,  0x3f8, 0x3f9, 0x3fa, 0x3fc, 0x3fe, 0x3ff,
					 0x2f8, 0x3e8, 0x20,  0x21,  0xa0,  0xa1,  0x60,  0x61,
					 0x80,	0xcf8, 0x510, 0x511, 0x402, 0xe9,  0x1000};
	uint16_t port = ports[random_next() % ARRAY_SIZE(ports)];
	uint64_t value = random_value();

	/* The console's transmitter takes printable characters only, for the sake of who reads it. */
	if (port == 0x3f8)
		return;
	switch (random_next() % 6) {
	case 0:
		outl(port, (uint32_t)value);
		break;
	case 1:
		outw(port, (uint16_t)value);
		break;
	case 2:
		(void)inl(port);
		break;
	case 3:
		(void)inw(port);
		break;
	default:
		outb(port, (uint8_t)value);
	}
	if (port < 0x400 && port >= 0x3f8) {
		outb(0x3fb, 0x03);
		outb(0x3fc, 0x03);
		outb(0x3f9, 0x00);
		outb(0x3fa, 0x07);
	}
}
#else
static void fuzz_ports(void)
{
}
#endif

static void find_targets(void)
{
	struct page_cursor at = {0, 0, 0};

	noise = (struct descriptor *)workset_page(&at,
						  workset_free_pages() - NOISE_BYTES / PAGE_SIZE);
	for (unsigned int i = 0; i < NOISE_BYTES / sizeof(*noise); i++)
		noise[i] = random_descriptor();
	for (unsigned int function = 0; function < PCI_FUNCTIONS && ntargets < FUZZ_DEVICES;
	     function++) {
		struct target *target = &targets[ntargets];
		unsigned int device_id;

		if (!pci_present(function))
			continue;
		memset(target, 0, sizeof(*target));
		target->function = function;
		target->is_virtio = virtio_probe(&target->v, function, &device_id);
		pci_enable(function, target->bars);
		ntargets++;
	}
}

void ktest_fuzz(struct ktest *t)
{
	uint64_t run_ms = param_ms("seconds", 5000), end, steps = 0;

	state = param_number("seed", 0);
	if (!state)
		state = clock_now() | 1;
	say("ktest: fuzz seed=%lu\n", state);
	console_flush();
	find_targets();
	end = clock_now() + ms_to_ticks(run_ms);
	for (; clock_now() < end; steps++) {
		struct target *target = ntargets ? &targets[random_next() % ntargets] : NULL;
		unsigned int what = (unsigned int)(random_next() % 64);

		noise[random_next() % (NOISE_BYTES / sizeof(*noise))] = random_descriptor();
		if (!target || what < 4)
			fuzz_ports();
		else if (what < 8)
			fuzz_config(target);
		else if (what < 10 && target->is_virtio)
			fuzz_queue(target);
		else if (what < 40 && target->is_virtio)
			fuzz_virtio(target);
		else
			fuzz_bar(target);
	}
	t->checks = (unsigned int)steps;
	/* What is left of the devices must still come back with a reset. */
	for (unsigned int i = 0; i < ntargets; i++) {
		pci_write(targets[i].function, PCI_COMMAND, 2,
			  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		if (targets[i].is_virtio)
			KTEST_CHECK(t, virtio_start(&targets[i].v, 0),
				    "function %x does not start after a reset",
				    targets[i].function);
	}
}
