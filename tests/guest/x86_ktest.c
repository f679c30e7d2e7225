// SPDX-License-Identifier: GPL-2.0-or-later
/* Tests of the x86 machine's port devices: the 16550 and the CMOS clock. */
#include "ktest.h"

#define COM1 0x3f8

enum { UART_DATA, UART_IER, UART_IIR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR };

#define LCR_8N1	      0x03
#define LCR_DLAB      0x80
#define MCR_LOOP      0x10
#define LSR_DATA      0x01
#define LSR_IDLE      0x60
#define LOOP_LIMIT_US 100000

static void check_scratch(struct ktest *t)
{
	for (unsigned int value = 0; value < 256; value += 51) {
		outb(COM1 + UART_SCR, (uint8_t)value);
		KTEST_CHECK(t, inb(COM1 + UART_SCR) == value, "scratch register keeps %x for %x",
			    inb(COM1 + UART_SCR), value);
	}
}

static void check_divisor(struct ktest *t)
{
	uint8_t ier = inb(COM1 + UART_IER);

	outb(COM1 + UART_LCR, LCR_8N1 | LCR_DLAB);
	outb(COM1 + UART_DATA, 0x0c);
	outb(COM1 + UART_IER, 0x00);
	KTEST_CHECK(t, inb(COM1 + UART_DATA) == 0x0c && inb(COM1 + UART_IER) == 0,
		    "divisor reads %x %x", inb(COM1 + UART_DATA), inb(COM1 + UART_IER));
	outb(COM1 + UART_LCR, LCR_8N1);
	KTEST_CHECK(t, inb(COM1 + UART_IER) == ier, "the divisor latch leaked into IER");
}

static void check_loopback(struct ktest *t)
{
	uint8_t mcr = inb(COM1 + UART_MCR);
	uint64_t start = clock_now();

	outb(COM1 + UART_MCR, MCR_LOOP);
	outb(COM1 + UART_DATA, 0xa5);
	while (!(inb(COM1 + UART_LSR) & LSR_DATA))
		if (ticks_to_us(clock_now() - start) > LOOP_LIMIT_US)
			break;
	KTEST_CHECK(t, inb(COM1 + UART_DATA) == 0xa5, "loopback does not bring the byte back");
	outb(COM1 + UART_MCR, mcr);
}

void ktest_serial(struct ktest *t)
{
	console_flush();
	wait_us(1000);
	check_scratch(t);
	check_divisor(t);
	check_loopback(t);
	KTEST_CHECK(t, (inb(COM1 + UART_LSR) & LSR_IDLE) == LSR_IDLE, "line status %x when idle",
		    inb(COM1 + UART_LSR));
}

static uint8_t cmos(uint8_t index)
{
	outb(0x70, index);
	return inb(0x71);
}

static unsigned int from_bcd(uint8_t value)
{
	return (value >> 4) * 10u + (value & 15);
}

/* A plausible date, and seconds that pass. Register B says BCD or binary, 12 or 24 hours. */
void ktest_cmos(struct ktest *t)
{
	static const struct {
		const char *name;
		uint8_t index, least, most;
	} fields[] = {
		{"seconds", 0, 0, 59}, {"minutes", 2, 0, 59}, {"day", 7, 1, 31},
		{"month", 8, 1, 12},   {"year", 9, 20, 99},
	};
	bool binary = cmos(0x0b) & 4;
	uint64_t start = clock_now();
	uint8_t first;

	KTEST_CHECK(t, cmos(0x0d) & 0x80, "register D says that the clock is not valid");
	while (cmos(0x0a) & 0x80)
		if (ticks_to_us(clock_now() - start) > LOOP_LIMIT_US)
			break;
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++) {
		uint8_t raw = cmos(fields[i].index);
		unsigned int value = binary ? raw : from_bcd(raw);

		KTEST_CHECK(t, value >= fields[i].least && value <= fields[i].most, "%s is %u",
			    fields[i].name, value);
	}
	first = cmos(0);
	start = clock_now();
	while (cmos(0) == first && ticks_to_us(clock_now() - start) < 2500000)
		wait_us(10000);
	KTEST_CHECK(t, cmos(0) != first, "the clock stands still");
	/* A write of any value to any index must be harmless. */
	for (unsigned int i = 0; i < 256; i++) {
		outb(0x70, (uint8_t)i);
		outb(0x71, (uint8_t)~i);
	}
	outb(0x70, 0);
}
