// SPDX-License-Identifier: GPL-2.0-or-later
/* The serial port: registers as a driver uses them, interrupts as edges, a sink that stalls, and state that moves. */
#include "devices/serial.h"

#include <errno.h>
#include <glib.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "tests/unit/fake_wiring.h"

struct fixture {
	struct loop *loop;
	struct serial *serial;
	int irq;
	GString *out;
	size_t takes; /* what the sink takes from now on */
	unsigned int wanted;
};

static size_t sink(void *opaque, const void *bytes, size_t len)
{
	struct fixture *f = opaque;
	size_t n = len < f->takes ? len : f->takes;

	g_string_append_len(f->out, bytes, (gssize)n);
	f->takes -= n;
	return n;
}

static void wants_input(void *opaque)
{
	((struct fixture *)opaque)->wanted++;
}

static void new_serial(struct fixture *f)
{
	const struct serial_host host = {f, sink, wants_input};

	g_assert_cmpint(serial_new(&f->serial, f->loop, "serial0", f->irq, &host), ==, 0);
}

static void set_up(struct fixture *f, gconstpointer data)
{
	g_assert_cmpint(loop_new(&f->loop), ==, 0);
	f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->out = g_string_new("");
	f->takes = SIZE_MAX;
	new_serial(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	serial_device(f->serial)->ops->free(serial_device(f->serial));
	loop_free(f->loop);
	close(f->irq);
	g_string_free(f->out, TRUE);
}

static uint8_t in(struct fixture *f, unsigned int reg)
{
	uint8_t value = 0;

	serial_bus_ops.read(f->serial, reg, &value, 1);
	return value;
}

static void out(struct fixture *f, unsigned int reg, uint8_t value)
{
	serial_bus_ops.write(f->serial, reg, &value, 1);
}

static void run(struct fixture *f)
{
	while (loop_run_once(f->loop, 0) > 0)
		;
}

static void registers(struct fixture *f, gconstpointer data)
{
	g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_THRE | UART_LSR_TEMT);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_NO_INT);
	out(f, UART_SCR, 0x5a);
	g_assert_cmphex(in(f, UART_SCR), ==, 0x5a);
	out(f, UART_LCR, UART_LCR_DLAB);
	out(f, UART_DLL, 0x34);
	out(f, UART_DLM, 0x12);
	g_assert_cmphex(in(f, UART_DLL), ==, 0x34);
	g_assert_cmphex(in(f, UART_DLM), ==, 0x12);
	out(f, UART_LCR, UART_LCR_WLEN8);
	g_assert_cmphex(in(f, UART_LCR), ==, UART_LCR_WLEN8);
	out(f, UART_IER, 0xff);
	g_assert_cmphex(in(f, UART_IER), ==, 0x0f);
	out(f, UART_IER, 0);
	out(f, UART_MCR, 0xff & ~UART_MCR_LOOP);
	g_assert_cmphex(in(f, UART_MCR), ==, 0x0f);
	g_assert_cmphex(in(f, UART_MSR), ==, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
	/* LSR and MSR are read-only. */
	out(f, UART_LSR, 0);
	out(f, UART_MSR, 0);
	g_assert_cmphex(in(f, UART_LSR), ==, UART_LSR_THRE | UART_LSR_TEMT);
	/* 16550A: the FIFO shows in IIR. */
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO);
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
	/* A word access is bytes in a row. */
	serial_bus_ops.write(f->serial, UART_MSR, "\x11\x22", 2);
	g_assert_cmphex(in(f, UART_SCR), ==, 0x22);
}

/* As a driver probes for the part. */
static void loopback(struct fixture *f, gconstpointer data)
{
	out(f, UART_MCR, UART_MCR_LOOP | 0x0a);
	g_assert_cmphex(in(f, UART_MSR) & 0xf0, ==, 0x90);
	out(f, UART_TX, 'x');
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, UART_LSR_DR);
	g_assert_cmphex(in(f, UART_RX), ==, 'x');
	run(f);
	g_assert_cmpstr(f->out->str, ==, "");
	/* The line is cut off. */
	g_assert_cmpuint(serial_input(f->serial, "a", 1), ==, 0);
	out(f, UART_MCR, 0);
	run(f);
	g_assert_cmpuint(f->wanted, ==, 1);
	g_assert_cmpuint(serial_input(f->serial, "a", 1), ==, 1);
	/* Deltas: RTS went away, seen as CTS. */
	out(f, UART_MCR, UART_MCR_LOOP | UART_MCR_RTS);
	in(f, UART_MSR);
	out(f, UART_MCR, UART_MCR_LOOP);
	g_assert_cmphex(in(f, UART_MSR), ==, UART_MSR_DCTS);
	g_assert_cmphex(in(f, UART_MSR), ==, 0);
}

static void transmit(struct fixture *f, gconstpointer data)
{
	out(f, UART_IER, UART_IER_THRI);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1); /* empty already */
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_THRI);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_NO_INT); /* said once */
	for (const char *p = "hello"; *p; p++) {
		out(f, UART_TX, *p);
		g_assert_cmpuint(fake_edges(f->irq), ==, 1); /* each byte is gone at once */
	}
	g_assert_cmpstr(f->out->str, ==, ""); /* vCPUs do not call the sink */
	run(f);
	g_assert_cmpstr(f->out->str, ==, "hello");
}

static void receive(struct fixture *f, gconstpointer data)
{
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_4);
	out(f, UART_IER, UART_IER_RDI);
	g_assert_cmpuint(serial_input(f->serial, "ab", 2), ==, 2);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_RX_TIMEOUT); /* below the level */
	g_assert_cmpuint(serial_input(f->serial, "cde", 3), ==, 3);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_RDI);
	for (const char *p = "abcde"; *p; p++)
		g_assert_cmphex(in(f, UART_RX), ==, *p);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_DR, ==, 0);
	g_assert_cmphex(in(f, UART_IIR), ==, 0xc0 | UART_IIR_NO_INT);
	g_assert_cmphex(in(f, UART_RX), ==, 0);
}

/* Without a FIFO every byte is announced by itself: the edge line must not stay silent over the second. */
static void receive_without_fifo(struct fixture *f, gconstpointer data)
{
	out(f, UART_IER, UART_IER_RDI);
	serial_input(f->serial, "xyz", 3);
	for (const char *p = "xyz"; *p; p++) {
		g_assert_cmpuint(fake_edges(f->irq), ==, 1);
		g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_RDI);
		g_assert_cmphex(in(f, UART_RX), ==, *p);
	}
	g_assert_cmpuint(fake_edges(f->irq), ==, 0);
}

static void line_break(struct fixture *f, gconstpointer data)
{
	out(f, UART_IER, UART_IER_RLSI);
	serial_input_break(f->serial);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_RLSI);
	g_assert_cmphex(in(f, UART_LSR) & (UART_LSR_BI | UART_LSR_DR), ==,
			UART_LSR_BI | UART_LSR_DR);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_BI, ==, 0);
	g_assert_cmphex(in(f, UART_RX), ==, 0);
}

/* Clearing the FIFO costs what a FIFO holds, not what was typed ahead. */
static void clear_fifo(struct fixture *f, gconstpointer data)
{
	char typed[100];

	memset(typed, 'x', 16);
	memset(typed + 16, 'y', 84);
	serial_input(f->serial, typed, sizeof(typed));
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	g_assert_cmphex(in(f, UART_RX), ==, 'y');
}

/* A sink that stalls: the transmitter turns busy, nothing is lost, and it goes on when the sink does. */
static void stalled_sink(struct fixture *f, gconstpointer data)
{
	unsigned int written = 0;

	f->takes = 5;
	out(f, UART_IER, UART_IER_THRI);
	while (in(f, UART_LSR) & UART_LSR_THRE && written < 2 * SERIAL_OUTPUT_BYTES) {
		/* A FIFO's worth for each THRE, as drivers do. */
		for (unsigned int i = 0; i < 16; i++)
			out(f, UART_TX, 'a' + written++ % 26);
		run(f);
	}
	g_assert_cmpuint(written, >=, SERIAL_OUTPUT_BYTES - 16);
	g_assert_cmpuint(written, <=, SERIAL_OUTPUT_BYTES + 5);
	g_assert_cmpuint(f->out->len, ==, 5);
	fake_edges(f->irq);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_NO_INT);
	/* It is asked again only when it says so. */
	run(f);
	f->takes = SIZE_MAX;
	run(f);
	g_assert_cmpuint(f->out->len, ==, 5);
	serial_output_ready(f->serial);
	run(f);
	g_assert_cmpuint(f->out->len, ==, written);
	for (unsigned int i = 0; i < written; i++)
		g_assert_cmphex(f->out->str[i], ==, 'a' + i % 26);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1);
	g_assert_cmphex(in(f, UART_IIR), ==, UART_IIR_THRI);
	g_assert_cmpuint(serial_dropped(f->serial), ==, 0);
}

static void rude_writer(struct fixture *f, gconstpointer data)
{
	f->takes = 0;
	for (unsigned int i = 0; i < SERIAL_OUTPUT_BYTES + 7; i++)
		out(f, UART_TX, 'r');
	g_assert_cmpuint(serial_dropped(f->serial), ==, 7);
}

static void input_is_bounded(struct fixture *f, gconstpointer data)
{
	static char flood[SERIAL_INPUT_BYTES + 10];

	g_assert_cmpuint(serial_input(f->serial, flood, sizeof(flood)), ==, SERIAL_INPUT_BYTES);
	g_assert_cmpuint(serial_input(f->serial, flood, 1), ==, 0);
	run(f);
	g_assert_cmpuint(f->wanted, ==, 0);
	for (unsigned int i = 0; i < SERIAL_INPUT_BYTES; i++)
		in(f, UART_RX);
	run(f);
	g_assert_cmpuint(f->wanted, ==, 1);
	g_assert_cmphex(in(f, UART_LSR) & UART_LSR_OE, ==, 0);
}

static void flush(struct fixture *f, gconstpointer data)
{
	out(f, UART_TX, 'l');
	out(f, UART_TX, 'a');
	serial_device(f->serial)->ops->pause(serial_device(f->serial));
	run(f);
	g_assert_cmpstr(f->out->str, ==, ""); /* paused: what is buffered is state */
	serial_flush(f->serial);
	g_assert_cmpstr(f->out->str, ==, "la");
}

/* Everything moves: unsent output, unread input, a pending interrupt. None of it twice. */
static void migration(struct fixture *f, gconstpointer data)
{
	struct device *device = serial_device(f->serial);
	struct fixture there = {.loop = f->loop, .takes = SIZE_MAX};
	struct state_set *set;
	struct buf buf;

	f->takes = 0;
	out(f, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	out(f, UART_IER, UART_IER_RDI);
	out(f, UART_TX, 'o');
	run(f);
	serial_input(f->serial, "in", 2);
	g_assert_cmpint(device->ops->pause(device), ==, 0);
	g_assert_cmpuint(serial_input(f->serial, "late", 4), ==, 0);
	buf_init(&buf, 1 << 16);
	g_assert_cmpint(device->ops->save(device, &buf), ==, 0);

	there.irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	there.out = g_string_new("");
	new_serial(&there);
	g_assert_cmpint(state_set_parse(&set, buf.bytes, buf.len), ==, 0);
	g_assert_cmpint(serial_device(there.serial)->ops->load(serial_device(there.serial), set),
			==, 0);
	run(&there);
	g_assert_cmpstr(there.out->str, ==, "");
	g_assert_cmpuint(fake_edges(there.irq), ==, 0);
	serial_device(there.serial)->ops->resume(serial_device(there.serial));
	run(&there);
	g_assert_cmpstr(there.out->str, ==, "o");
	g_assert_cmpuint(fake_edges(there.irq), ==, 1);
	g_assert_cmphex(in(&there, UART_RX), ==, 'i');
	g_assert_cmphex(in(&there, UART_RX), ==, 'n');
	g_assert_cmphex(in(&there, UART_LSR) & UART_LSR_DR, ==, 0);
	/* The source stays paused and prints nothing; resumed after all, it is as before and asks for the rest. */
	f->takes = SIZE_MAX;
	run(f);
	g_assert_cmpstr(f->out->str, ==, "");
	fake_edges(f->irq);
	device->ops->resume(device);
	g_assert_cmpuint(fake_edges(f->irq), ==, 1); /* in case the first was lost */
	serial_output_ready(f->serial);
	run(f);
	g_assert_cmpstr(f->out->str, ==, "o");
	g_assert_cmpuint(f->wanted, ==, 1);
	state_set_free(set);
	buf_fini(&buf);
	serial_device(there.serial)->ops->free(serial_device(there.serial));
	g_string_free(there.out, TRUE);
	close(there.irq);
}

#define TEST(name, fn) g_test_add("/serial/" name, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	log_level = LOG_ERROR;
	g_test_init(&argc, &argv, NULL);
	TEST("registers", registers);
	TEST("loopback", loopback);
	TEST("transmit", transmit);
	TEST("receive", receive);
	TEST("receive-without-fifo", receive_without_fifo);
	TEST("line-break", line_break);
	TEST("clear-fifo", clear_fifo);
	TEST("stalled-sink", stalled_sink);
	TEST("rude-writer", rude_writer);
	TEST("input-is-bounded", input_is_bounded);
	TEST("flush", flush);
	TEST("migration", migration);
	return g_test_run();
}
