/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's end of the serial port: standard output, a pseudo-terminal, a file, or nothing. Main thread and its loop.
 */
#ifndef VMM_SERIAL_HOST_H
#define VMM_SERIAL_HOST_H

#include "base/loop.h"
#include "devices/serial.h"
#include "vmm/config.h"

struct serial_host_end;

/*
 * Opens what the configuration names. Standard output is written, never read: who has standard input hands it on with
 * serial_host_input(). A pseudo-terminal that nobody has open takes and forgets output. Errors: -errno, logged.
 */
int serial_host_new(struct serial_host_end **out, const struct config *config,
		    struct loop *loop) must_check;
void serial_host_free(
	struct serial_host_end *end); /* takes NULL; before the loop, after the device */
/* What serial_new() wants, then which device it became. */
struct serial_host serial_host_ops(struct serial_host_end *end);
void serial_host_attach(struct serial_host_end *end, struct serial *serial);

/* Input that the device has no room for yet is kept, up to SERIAL_HOST_PENDING; the rest is dropped. */
#define SERIAL_HOST_PENDING 65536
void serial_host_input(struct serial_host_end *end, const void *bytes, size_t len);
/* "" but for a pseudo-terminal. */
const char *serial_host_pty_path(const struct serial_host_end *end);

#endif
