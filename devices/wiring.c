// SPDX-License-Identifier: GPL-2.0-or-later
/* Raising a wired interrupt through its eventfd. Binding eventfds to lines and messages is the machine's. */
#include "devices/wiring.h"

#include <stdint.h>
#include <unistd.h>

void irq_raise(int eventfd)
{
	uint64_t one = 1;
	ssize_t n;

	/* Fails only when the counter is full: then an edge is pending anyway. */
	n = write(eventfd, &one, sizeof(one));
	(void)n;
}
