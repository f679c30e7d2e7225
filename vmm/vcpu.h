/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vCPU threads of one VM: their run loop, and parking them. What an exit means beyond MMIO, port I/O, full rings
 * and memory faults is the architecture's (arch.h); what a stop means is lifecycle.c's.
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "devices/bus.h"
#include "kvm/vcpu.h"
#include "memory/dirty.h"
#include "vmm/arch.h"
#include "vmm/config.h"

/* How long a park request may take: longer than any handler of a device register may. */
#define VCPUS_PARK_MS 5000

enum vcpus_wanted { VCPUS_PARK, VCPUS_RUN, VCPUS_QUIT };

struct vcpus;

struct vcpu {
	struct kvm_vcpu kvm;
	struct vcpus *vcpus;
	pthread_t thread;
	bool has_thread;
	bool parked;	 /* under vcpus->lock */
	pid_t tid;	 /* set before the thread first parks */
	int start_error; /* same */
	struct log_limit log_limit;
};

/* What the threads call; given by the machine. */
struct vcpus_hooks {
	void *opaque;
	/* First on each thread, before it parks: closes the sandbox around it. Not 0: vcpus_start_threads() fails with it. */
	int (*thread_start)(void *opaque);
	/* A vCPU met an exit that stops the machine (not ARCH_EXIT_HANDLED). All are on their way to park. vCPU thread. */
	void (*stopped)(void *opaque, unsigned int index, enum arch_exit why);
	/*
	 * A fault that user space must resolve (KVM_EXIT_MEMORY_FAULT): 0 when the access may be tried again. NULL: there
	 * is none, the machine stops with ARCH_EXIT_ERROR. vCPU thread.
	 */
	int (*memory_fault)(void *opaque, unsigned int index, gpa_t gpa, uint64_t size_bytes,
			    uint64_t flags);
};

struct vcpus {
	pthread_mutex_t lock;  /* wanted, nparked, parked; not the vCPUs' registers */
	pthread_cond_t parked; /* signalled when nparked grows; the one who parks waits */
	pthread_cond_t go;     /* signalled when wanted changes; parked vCPUs wait */
	enum vcpus_wanted wanted;
	unsigned int nparked;
	unsigned int n; /* with a descriptor */
	struct arch_vm *arch;
	struct dirty *dirty;
	struct bus *mmio, *pio;
	struct vcpus_hooks hooks;
	struct vcpu vcpu[CONFIG_CPUS_MAX];
	struct kvm_vcpu
		*kvm[CONFIG_CPUS_MAX]; /* the same as an array of pointers, for memory/dirty.h */
};

/* Main thread. Nothing runs before vcpus_start_threads(), and then only when vcpus_run() says so. */
void vcpus_init(struct vcpus *vcpus);
/* Descriptors only (the MEMSLOT step is done, the run step is not); arch features included. */
int vcpus_create(struct vcpus *vcpus, struct kvm_vm *vm, struct arch_vm *arch,
		 unsigned int n) must_check;
/* The rest of what the threads need must be set (arch, dirty, buses, hooks). All threads are parked when it returns. */
int vcpus_start_threads(struct vcpus *vcpus) must_check;
/* Ends the threads; the descriptors stay. Then all the rest. Both take one half-built. */
void vcpus_fini_threads(struct vcpus *vcpus);
void vcpus_fini(struct vcpus *vcpus);

void vcpus_run(struct vcpus *vcpus);
/* Any thread, a vCPU's too: all vCPUs leave the guest and park soon. Does not wait. */
void vcpus_request_park(struct vcpus *vcpus);
/*
 * Not a vCPU's thread. Returns when all are parked, with every exit's I/O completed, so that registers may be read and
 * written from this thread. -ETIMEDOUT after VCPUS_PARK_MS: then they run on (if they ran), and it is logged which did not come.
 */
int vcpus_park(struct vcpus *vcpus) must_check;
bool vcpus_all_parked(struct vcpus *vcpus);

#endif
