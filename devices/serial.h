/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A UART: eight byte registers, behind port I/O or MMIO (PC16550D data sheet).
 *
 * Output is buffered (SERIAL_OUTPUT_BYTES) and handed to the sink on the loop's thread. A sink that takes nothing makes
 * the transmitter busy once the buffer is full: a guest that looks at LSR loses nothing; one that does not, as on the
 * real part, does (counted). Input is buffered too: serial_input() says how much it took, and wants_input tells when
 * there is room again. What is in both buffers is state: it is neither lost nor printed twice when the VM moves.
 */
#ifndef DEVICES_SERIAL_H
#define DEVICES_SERIAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "devices/bus.h"
#include "devices/device.h"

#define SERIAL_WINDOW_BYTES 8
#define SERIAL_OUTPUT_BYTES 16384
#define SERIAL_INPUT_BYTES  4096

struct serial;

struct serial_host {
	void *opaque;
	/* Takes up to len bytes, returns how many: fewer when it would block, and then calls serial_output_ready() later. */
	size_t (*sink)(void *opaque, const void *bytes, size_t len);
	/* There is room for input again after serial_input() took less than it was given. NULL: not wanted. */
	void (*wants_input)(void *opaque);
};

/*
 * irq: the eventfd of a wired, edge-triggered line; it must outlive the device. host is copied; its calls are made on
 * the loop's thread, with no lock held. The owner adds serial_bus_ops with the *out pointer at SERIAL_WINDOW_BYTES.
 */
int serial_new(struct serial **out, struct loop *loop, const char *id, int irq,
	       const struct serial_host *host) must_check;
struct device *serial_device(struct serial *serial); /* for device_list_add(), which owns it then */
extern const struct bus_ops serial_bus_ops;	     /* opaque: struct serial */

/* Any thread. Returns how many bytes were taken; none while paused. */
size_t serial_input(struct serial *serial, const void *bytes, size_t len);
/* A break condition on the line; lost while paused or when the buffer is full. Any thread. */
void serial_input_break(struct serial *serial);
/* Any thread: the sink can take bytes again. */
void serial_output_ready(struct serial *serial);
/* The loop's thread (or no thread runs it): hands to the sink what it takes now, paused or not; for the VM's end. */
void serial_flush(struct serial *serial);
/* Bytes that the guest wrote although the transmitter was busy. */
uint64_t serial_dropped(const struct serial *serial);

#endif
