/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system calls that each class of thread may make, each with its reason (the table in sandbox.c), enforced by
 * seccomp from sandbox_enter() on: before the first guest instruction and before the first byte of a peer.
 * A call that is not in the list kills the process (on), is logged by the kernel and made (log), or nothing is
 * enforced (off). Source: seccomp(2), libseccomp.
 */
#ifndef VMM_SANDBOX_H
#define VMM_SANDBOX_H

#include "base/auto.h"
#include "vmm/config.h"

enum sandbox_class {
	SANDBOX_MAIN,	/* the event loop: lifecycle, control socket, serial */
	SANDBOX_VCPU,	/* KVM_RUN and the register accesses of devices */
	SANDBOX_IO,	/* the I/O loops of devices */
	SANDBOX_WORKER, /* blocking disk requests, where io_uring is not to be had */
	SANDBOX_BROKER, /* opens paths for the others, and forks movers, which have its calls until they enter theirs */
	SANDBOX_MOVER, /* moves a VM: connections, guest RAM, no path and no new process */
	SANDBOX_CLASSES,
};

struct sandbox;

/*
 * Compiles the filters. mode SANDBOX_OFF gives one that enforces nothing. The sandbox must outlive the last
 * sandbox_enter(). Errors: -errno, logged.
 */
int sandbox_new(struct sandbox **out, enum config_sandbox mode) must_check;
void sandbox_free(struct sandbox *sandbox); /* takes NULL */

/* Closes the sandbox around the calling thread, for ever; threads that it creates inherit it. -errno, logged. */
int sandbox_enter(const struct sandbox *sandbox, enum sandbox_class class) must_check;

#endif
