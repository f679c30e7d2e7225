// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The vCPU threads: run loop, exits that both architectures have, and parking.
 *
 * Theory of operation
 *
 * `wanted` says what all vCPUs shall do: park, run or quit. It changes under the lock only, and each thread looks at it
 * at one place only, in wait_until_wanted(), also under the lock. A thread that runs is brought there by a kick:
 *
 *	requester: lock; wanted = PARK; immediate_exit = 1 on every vCPU; signal every vCPU thread; unlock
 *	vCPU:      lock; ...wanted is RUN: immediate_exit = 0; unlock; KVM_RUN until it says -EINTR; back to the lock
 *
 * No wake-up is lost, wherever the vCPU thread is when the request comes:
 *	- before it takes the lock: it sees wanted = PARK there;
 *	- after it has cleared immediate_exit and before KVM_RUN looks at it: the byte is set again (it is written under
 *	  the lock by both sides, so the clearing cannot come after the setting), and KVM_RUN returns -EINTR at once;
 *	- after KVM_RUN has looked: the signal is pending before KVM enters the guest (it checks with interrupts off) or
 *	  interrupts the guest; either way KVM_RUN returns -EINTR;
 *	- in a device's handler: KVM_RUN is called once more, with immediate_exit set.
 * The signal alone would not do (it could be spent before KVM_RUN), nor the byte alone (a running guest never looks).
 *
 * A thread parks only after KVM_RUN has returned -EINTR (or a stop exit, which has nothing to complete): KVM finishes
 * the register half of an MMIO or port read at the start of the *next* KVM_RUN, and only then are the registers true.
 * KVM does that before it looks at immediate_exit.
 *
 * vcpus_park() that runs out of time puts `wanted` back, so those that had parked run again: the caller's contract is
 * that pausing either succeeds or everything is running.
 *
 * A vCPU that meets a stop exit (reset, power off, panic) requests the park of all before it tells its owner; the
 * owner's own thread does the rest. So no vCPU runs long after the guest asked for a reset.
 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "kvm/uapi.h"

#define VCPU_STACK_BYTES (256 * 1024)

/* The first real-time signal that the C library leaves free; its handler does nothing, its arrival is the message. */
#define KICK_SIGNAL SIGRTMIN

static void kick_received(int signal_number)
{
}

static int install_kick(void)
{
	struct sigaction action = {.sa_handler =
					   kick_received}; /* no SA_RESTART: it shall interrupt */

	sigemptyset(&action.sa_mask);
	if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
		return fail(-errno, "vcpu: signal %d: %s", KICK_SIGNAL, strerror(errno));
	return 0;
}

/* With the lock held. */
static void kick_all(struct vcpus *vcpus)
{
	for (unsigned int i = 0; i < vcpus->n; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];

		kvm_vcpu_request_exit(&vcpu->kvm, true);
		if (vcpu->has_thread && !vcpu->parked &&
		    !pthread_equal(vcpu->thread, pthread_self()))
			pthread_kill(vcpu->thread, KICK_SIGNAL);
	}
}

/* With the lock held. */
static void set_wanted(struct vcpus *vcpus, enum vcpus_wanted wanted)
{
	if (vcpus->wanted == VCPUS_QUIT)
		return;
	vcpus->wanted = wanted;
	pthread_cond_broadcast(&vcpus->go);
	if (wanted != VCPUS_RUN)
		kick_all(vcpus);
}

/* The one place where a vCPU thread looks at what is wanted. False: the thread shall end. */
static bool wait_until_wanted(struct vcpu *vcpu)
{
	struct vcpus *vcpus = vcpu->vcpus;
	bool run;

	pthread_mutex_lock(&vcpus->lock);
	while (vcpus->wanted == VCPUS_PARK) {
		if (!vcpu->parked) {
			vcpu->parked = true;
			vcpus->nparked++;
			pthread_cond_broadcast(&vcpus->parked);
		}
		pthread_cond_wait(&vcpus->go, &vcpus->lock);
	}
	run = vcpus->wanted == VCPUS_RUN;
	if (vcpu->parked) {
		vcpu->parked = false;
		vcpus->nparked--;
	}
	if (run)
		kvm_vcpu_request_exit(&vcpu->kvm, false);
	pthread_mutex_unlock(&vcpus->lock);
	return run;
}

static enum arch_exit exit_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;
	unsigned int len = run->mmio.len;

	if (len > sizeof(run->mmio.data))
		return ARCH_EXIT_ERROR;
	if (run->mmio.is_write) {
		bus_write(vcpu->vcpus->mmio, run->mmio.phys_addr, run->mmio.data, len);
		return ARCH_EXIT_HANDLED;
	}
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	bus_read(vcpu->vcpus->mmio, run->mmio.phys_addr, run->mmio.data, len);
	return ARCH_EXIT_HANDLED;
}

/* A string instruction comes as one exit with a count. */
static enum arch_exit exit_pio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->kvm.run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(vcpu->vcpus->pio, run->io.port, data, run->io.size);
		} else {
			memset(data, 0, run->io.size);
			bus_read(vcpu->vcpus->pio, run->io.port, data, run->io.size);
		}
	}
	return ARCH_EXIT_HANDLED;
}

static enum arch_exit exit_ring_full(struct vcpu *vcpu)
{
	return dirty_ring_full(vcpu->vcpus->dirty) ? ARCH_EXIT_ERROR : ARCH_EXIT_HANDLED;
}

static enum arch_exit exit_interrupted(struct vcpu *vcpu)
{
	return ARCH_EXIT_HANDLED; /* a signal: KVM_RUN also said -EINTR */
}

static const struct {
	uint32_t reason;
	enum arch_exit (*handle)(struct vcpu *vcpu);
} exits[] = {
	{KVM_EXIT_MMIO, exit_mmio},
	{KVM_EXIT_IO, exit_pio},
	{KVM_EXIT_DIRTY_RING_FULL, exit_ring_full},
	{KVM_EXIT_INTR, exit_interrupted},
};

static enum arch_exit handle_exit(struct vcpu *vcpu)
{
	for (size_t i = 0; i < ARRAY_SIZE(exits); i++) {
		if (exits[i].reason == vcpu->kvm.run->exit_reason)
			return exits[i].handle(vcpu);
	}
	return arch_vcpu_exit(vcpu->vcpus->arch, &vcpu->kvm);
}

/* The kernel's struct kvm_run has it from 6.8 on; its place is fixed: three words where the exit's union begins. */
static enum arch_exit handle_memory_fault(struct vcpu *vcpu)
{
	const struct vcpus_hooks *hooks = &vcpu->vcpus->hooks;
	struct kvm_run *run = vcpu->kvm.run;
	uint64_t fault[3] = {}; /* flags, gpa, size */

	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		memcpy(fault, &run->hw, sizeof(fault));
	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT && hooks->memory_fault) {
		if (!hooks->memory_fault(hooks->opaque, vcpu->kvm.index, fault[1], fault[2],
					 fault[0]))
			return ARCH_EXIT_HANDLED;
	}
	log_error("vcpu: vCPU %u: a memory access at %#llx cannot be resolved (flags %#llx)",
		  vcpu->kvm.index, (unsigned long long)fault[1], (unsigned long long)fault[0]);
	return ARCH_EXIT_ERROR;
}

static enum arch_exit run_once(struct vcpu *vcpu, bool *interrupted)
{
	int error = kvm_vcpu_run(&vcpu->kvm);

	*interrupted = error == -EINTR || error == -EAGAIN;
	if (*interrupted)
		return ARCH_EXIT_HANDLED;
	if (error == -EFAULT)
		return handle_memory_fault(vcpu);
	return error ? ARCH_EXIT_ERROR : handle_exit(vcpu);
}

static void *vcpu_main(void *opaque)
{
	struct vcpu *vcpu = opaque;
	struct vcpus *vcpus = vcpu->vcpus;

	vcpu->tid = syscall(SYS_gettid);
	if (vcpus->hooks.thread_start)
		vcpu->start_error = vcpus->hooks.thread_start(vcpus->hooks.opaque);
	while (wait_until_wanted(vcpu)) {
		enum arch_exit why;
		bool interrupted;

		do {
			why = run_once(vcpu, &interrupted);
		} while (why == ARCH_EXIT_HANDLED && !interrupted);
		if (why == ARCH_EXIT_HANDLED)
			continue;
		vcpus_request_park(vcpus);
		vcpus->hooks.stopped(vcpus->hooks.opaque, vcpu->kvm.index, why);
	}
	return NULL;
}

void vcpus_init(struct vcpus *vcpus)
{
	pthread_condattr_t attr;

	*vcpus = (struct vcpus){.wanted = VCPUS_PARK};
	pthread_mutex_init(&vcpus->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&vcpus->parked, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&vcpus->go, NULL);
}

int vcpus_create(struct vcpus *vcpus, struct kvm_vm *vm, struct arch_vm *arch, unsigned int n)
{
	vcpus->arch = arch;
	for (unsigned int i = 0; i < n; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		int error;

		vcpu->vcpus = vcpus;
		error = kvm_vcpu_new(&vcpu->kvm, vm, i);
		if (error)
			return error;
		vcpus->kvm[i] = &vcpu->kvm;
		vcpus->n = i + 1;
		error = arch_vcpu_init(arch, &vcpu->kvm);
		if (error)
			return error;
	}
	return 0;
}

static int start_thread(struct vcpu *vcpu)
{
	pthread_attr_t attr;
	sigset_t all_but_kick, old;
	char name[16];
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	/* Threads take over the mask; all other signals belong to the main thread. */
	sigfillset(&all_but_kick);
	sigdelset(&all_but_kick, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all_but_kick, &old);
	error = pthread_create(&vcpu->thread, &attr, vcpu_main, vcpu);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (error)
		return fail(-error, "vcpu: thread of vCPU %u: %s", vcpu->kvm.index,
			    strerror(error));
	vcpu->has_thread = true;
	snprintf(name, sizeof(name), "vcpu%u", vcpu->kvm.index);
	pthread_setname_np(vcpu->thread, name);
	return 0;
}

int vcpus_start_threads(struct vcpus *vcpus)
{
	int error = install_kick();

	for (unsigned int i = 0; i < vcpus->n && !error; i++)
		error = start_thread(&vcpus->vcpu[i]);
	if (!error)
		error = vcpus_park(vcpus);
	for (unsigned int i = 0; i < vcpus->n && !error; i++)
		error = vcpus->vcpu[i].start_error;
	return error;
}

void vcpus_fini_threads(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	set_wanted(vcpus, VCPUS_QUIT);
	pthread_mutex_unlock(&vcpus->lock);
	for (unsigned int i = 0; i < vcpus->n; i++) {
		if (vcpus->vcpu[i].has_thread)
			pthread_join(vcpus->vcpu[i].thread, NULL);
		vcpus->vcpu[i].has_thread = false;
	}
}

void vcpus_fini(struct vcpus *vcpus)
{
	vcpus_fini_threads(vcpus);
	for (unsigned int i = 0; i < vcpus->n; i++)
		kvm_vcpu_fini(&vcpus->vcpu[i].kvm);
	vcpus->n = 0;
	pthread_cond_destroy(&vcpus->parked);
	pthread_cond_destroy(&vcpus->go);
	pthread_mutex_destroy(&vcpus->lock);
}

void vcpus_run(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	set_wanted(vcpus, VCPUS_RUN);
	pthread_mutex_unlock(&vcpus->lock);
}

void vcpus_request_park(struct vcpus *vcpus)
{
	pthread_mutex_lock(&vcpus->lock);
	set_wanted(vcpus, VCPUS_PARK);
	pthread_mutex_unlock(&vcpus->lock);
}

static struct timespec deadline_in_ms(unsigned int ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now.tv_sec += ms / 1000;
	now.tv_nsec += (long)(ms % 1000) * 1000000;
	if (now.tv_nsec >= 1000000000) {
		now.tv_nsec -= 1000000000;
		now.tv_sec++;
	}
	return now;
}

/* With the lock held. */
static int refuse_park(struct vcpus *vcpus, enum vcpus_wanted before)
{
	unsigned int first = 0;

	while (first < vcpus->n && vcpus->vcpu[first].parked)
		first++;
	if (before == VCPUS_RUN)
		set_wanted(vcpus, VCPUS_RUN);
	return fail(-ETIMEDOUT,
		    "vcpu: %u of %u vCPUs did not stop within %u ms, the first is vCPU %u",
		    vcpus->n - vcpus->nparked, vcpus->n, VCPUS_PARK_MS, first);
}

int vcpus_park(struct vcpus *vcpus)
{
	struct timespec deadline = deadline_in_ms(VCPUS_PARK_MS);
	enum vcpus_wanted before;
	int error = 0;

	pthread_mutex_lock(&vcpus->lock);
	before = vcpus->wanted;
	set_wanted(vcpus, VCPUS_PARK);
	while (vcpus->nparked < vcpus->n && !error)
		error = pthread_cond_timedwait(&vcpus->parked, &vcpus->lock, &deadline);
	error = vcpus->nparked < vcpus->n ? refuse_park(vcpus, before) : 0;
	pthread_mutex_unlock(&vcpus->lock);
	return error;
}

bool vcpus_all_parked(struct vcpus *vcpus)
{
	bool all;

	pthread_mutex_lock(&vcpus->lock);
	all = vcpus->nparked == vcpus->n;
	pthread_mutex_unlock(&vcpus->lock);
	return all;
}
