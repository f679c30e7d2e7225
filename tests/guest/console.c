// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Text output. Lines go into a ring, and loops that measure time send them byte by byte between two iterations
 * (console_poll), so that a report of 200 bytes does not look like a stop of the whole guest. First vCPU only.
 *
 * Not here: the device (x86_boot.c, arm64_boot.c).
 */
#include <stdarg.h>

#include "guest.h"

#define RING_SIZE 65536u

static char ring[RING_SIZE] NOINIT;
static uint32_t ring_head, ring_tail; /* free running; head: next to write, tail: next to send */
static unsigned int room; /* bytes that the transmitter takes without being asked again */

static bool console_send_one(void)
{
	if (ring_head == ring_tail)
		return false;
	if (room == 0)
		room = arch_console_room();
	if (room == 0)
		return true;
	room--;
	arch_console_put(ring[ring_tail++ % RING_SIZE]);
	return ring_head != ring_tail;
}

void console_poll(void)
{
	console_send_one();
}

void console_flush(void)
{
	while (console_send_one())
		cpu_relax();
}

static void put(char c)
{
	while (ring_head - ring_tail == RING_SIZE)
		console_send_one();
	ring[ring_head++ % RING_SIZE] = c;
}

static void put_number(uint64_t value, unsigned int base, unsigned int width)
{
	char digits[20];
	unsigned int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (width > n)
		put('0'), width--;
	while (n)
		put(digits[--n]);
}

static void say_list(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		unsigned int width = 0, base = 10;
		bool wide = false;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		fmt++;
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned int)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'c':
			put((char)va_arg(ap, int));
			break;
		case 'x':
			base = 16;
			/* fall through */
		case 'u':
			put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned int), base,
				   width);
			break;
		default:
			put('%');
		}
	}
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_list(fmt, ap);
	va_end(ap);
}

void fatal(const char *fmt, ...)
{
	va_list ap;

	say("guest: fatal: ");
	va_start(ap, fmt);
	say_list(fmt, ap);
	va_end(ap);
	say("\n");
	console_flush();
	arch_power_off();
}
