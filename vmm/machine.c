// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Building a machine in KVM's order, taking it apart, and what others may ask about it. Its lifecycle is in lifecycle.c,
 * its devices in board.c.
 *
 * Order. Everything that can be refused because of what a user stated comes first and costs nothing; then KVM's set-up
 * phases (kvm/vm.h): capabilities, memory, vCPUs, interrupt controller; then devices, the guest's image, and last the
 * threads, which park at once.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/log.h"
#include "vmm/machine_internal.h"

/* The names are QMP's. */
static const char *const status_names[] = {
	[MACHINE_PRELAUNCH] = "prelaunch",
	[MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",
	[MACHINE_SHUTDOWN] = "shutdown",
	[MACHINE_GUEST_PANICKED] = "guest-panicked",
	[MACHINE_INTERNAL_ERROR] = "internal-error",
	[MACHINE_INMIGRATE] = "inmigrate",
	[MACHINE_POSTMIGRATE] = "postmigrate",
};
_Static_assert(ARRAY_SIZE(status_names) == MACHINE_POSTMIGRATE + 1, "every status has a name");

const char *machine_status_name(enum machine_status status)
{
	return status_names[status];
}

/* ---- KVM ---- */

static int check_cpus(const struct machine *machine)
{
	if (machine->config.cpus < 1 || machine->config.cpus > CONFIG_CPUS_MAX ||
	    machine->config.cpus > machine->host.max_vcpus)
		return fail(-EINVAL, "cpus: %u: this host and Tern offer 1 to %u",
			    machine->config.cpus,
			    machine->host.max_vcpus < CONFIG_CPUS_MAX ? machine->host.max_vcpus
								      : CONFIG_CPUS_MAX);
	return 0;
}

/* The ring is what the documentation promises; a host without says so. */
static int choose_tracking(struct machine *machine)
{
	struct dirty_choice *choice = &machine->dirty_choice;
	int error = dirty_choose(&machine->host, &machine->config.dirty, machine->layout.has_its,
				 choice);

	if (!error && machine->config.dirty.mode == DIRTY_AUTO && choice->mode == DIRTY_BITMAP)
		log_info("dirty tracking: bitmap: %s", choice->reason);
	return error;
}

static int open_kvm(struct machine *machine)
{
	int error = kvm_host_open(&machine->host, -1);

	if (!error)
		error = check_cpus(machine);
	if (!error)
		error = arch_get_layout(&machine->config, &machine->host, &machine->layout);
	if (!error)
		error = choose_tracking(machine);
	if (!error)
		error = kvm_vm_new(&machine->vm, &machine->host, arch_vm_type(&machine->host));
	return error ? error : kvm_irq_init(&machine->irq, &machine->vm);
}

/* Capabilities, memory, vCPUs, interrupt controller: kvm_vm_step() refuses any other order. */
static int build_vm(struct machine *machine)
{
	struct kvm_vm *vm = &machine->vm;
	unsigned int n = machine->config.cpus;
	int error = dirty_enable(vm, &machine->dirty_choice);

	if (!error)
		error = arch_vm_new(&machine->arch, vm, &machine->config, &machine->layout,
				    &machine->irq);
	if (!error)
		error = ram_new(&machine->ram, &machine->layout.ram);
	if (!error)
		error = ram_attach(machine->ram, vm);
	if (!error)
		error = vcpus_create(&machine->vcpus, vm, machine->arch, n);
	if (!error)
		error = arch_irq_init(machine->arch, n);
	if (!error)
		error = dirty_new(&machine->dirty, vm, machine->ram, &machine->dirty_choice,
				  machine->vcpus.kvm, n);
	return error;
}

/* ---- Threads ---- */

static int enter_vcpu_sandbox(void *opaque)
{
	struct machine *machine = opaque;

	return sandbox_enter(machine->sandbox, SANDBOX_VCPU);
}

static void *io_main(void *opaque)
{
	struct machine *machine = opaque;

	machine->io_start_error = sandbox_enter(machine->sandbox, SANDBOX_IO);
	loop_run(machine->io_loop);
	return NULL;
}

static int start_io_thread(struct machine *machine)
{
	sigset_t all, old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&machine->io_thread, NULL, io_main, machine);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		return fail(-error, "machine: I/O thread: %s", strerror(error));
	machine->has_io_thread = true;
	pthread_setname_np(machine->io_thread, "io");
	return 0;
}

static void stop_io_thread(struct machine *machine)
{
	if (!machine->has_io_thread)
		return;
	loop_stop(machine->io_loop);
	pthread_join(machine->io_thread, NULL);
	machine->has_io_thread = false;
}

static void on_vcpu_stopped(void *opaque, unsigned int index, enum arch_exit why)
{
	static const enum machine_request requests[] = {
		[ARCH_EXIT_RESET] = REQUEST_RESET,
		[ARCH_EXIT_POWEROFF] = REQUEST_POWEROFF,
		[ARCH_EXIT_PANIC] = REQUEST_PANIC,
		[ARCH_EXIT_ERROR] = REQUEST_ERROR,
	};

	machine_ask(opaque, requests[why]);
}

static void on_request(void *opaque, int fd, uint32_t events)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) == sizeof(count))
		machine_handle_requests(opaque);
}

static int start_threads(struct machine *machine)
{
	struct vcpus *vcpus = &machine->vcpus;
	int error;

	machine->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->request_fd < 0)
		return fail(-errno, "machine: eventfd: %s", strerror(errno));
	error = loop_add_fd(machine->loop, machine->request_fd, EPOLLIN, on_request, machine,
			    &machine->request_watch);
	if (error)
		return error;
	vcpus->dirty = machine->dirty;
	vcpus->mmio = &machine->mmio;
	vcpus->pio = &machine->pio;
	vcpus->hooks = (struct vcpus_hooks){
		.opaque = machine, .thread_start = enter_vcpu_sandbox, .stopped = on_vcpu_stopped};
	error = start_io_thread(machine);
	if (!error)
		error = vcpus_start_threads(vcpus);
	/* Last, this thread: nothing is opened by path any more. One that waits for a state may still be given up for another. */
	return error || machine->incoming ? error : machine_seal(machine);
}

int machine_seal(struct machine *machine)
{
	if (machine->sealed)
		return 0;
	machine->sealed = true;
	return sandbox_enter(machine->sandbox, SANDBOX_MAIN);
}

bool machine_is_sealed(const struct machine *machine)
{
	return machine->sealed && machine->config.sandbox != SANDBOX_OFF;
}

/* ---- The machine ---- */

static int build(struct machine *machine)
{
	int error = open_kvm(machine);

	if (!error)
		error = build_vm(machine);
	if (error)
		return error;
	bus_init(&machine->mmio);
	bus_init(&machine->pio);
	machine->has_buses = true;
	wiring_init(&machine->wiring, &machine->vm, &machine->irq);
	error = loop_new(&machine->io_loop);
	if (!error)
		error = board_new(machine);
	if (!error && !machine->incoming)
		error = machine_load_guest(machine);
	return error ? error : start_threads(machine);
}

static int new_machine(struct machine **out, const struct config *config, struct loop *loop,
		       const struct machine_events *events, bool incoming)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int error;

	if (!machine)
		return fail(-ENOMEM, "machine: no memory");
	machine->loop = loop;
	machine->events = *events;
	machine->incoming = incoming;
	machine->status = incoming ? MACHINE_INMIGRATE : MACHINE_PRELAUNCH;
	machine->host.fd = machine->vm.fd = machine->request_fd = -1;
	vcpus_init(&machine->vcpus);
	/* The C library reads a file the first time that it splits a time into a date; later it could not open one. */
	tzset();
	error = config_copy(&machine->config, config);
	if (!error)
		error = board_resolve(&machine->config);
	if (!error)
		error = sandbox_new(&machine->sandbox, machine->config.sandbox);
	if (!error)
		error = build(machine);
	if (error) {
		machine_free(machine);
		return error;
	}
	*out = machine;
	return 0;
}

int machine_new(struct machine **out, const struct config *config, struct loop *loop,
		const struct machine_events *events)
{
	return new_machine(out, config, loop, events, false);
}

int machine_new_incoming(struct machine **out, const struct config *config, struct loop *loop,
			 const struct machine_events *events)
{
	return new_machine(out, config, loop, events, true);
}

void machine_free(struct machine *machine)
{
	if (!machine)
		return;
	if (machine->status == MACHINE_RUNNING && machine_pause(machine))
		log_warn("machine: taken apart although it did not stop");
	vcpus_fini_threads(&machine->vcpus);
	/* No thread serves devices any more when they are freed. */
	stop_io_thread(machine);
	loop_watch_free(machine->request_watch);
	close_fd(&machine->request_fd);
	device_list_free(&machine->devices);
	serial_host_free(machine->serial);
	loop_free(machine->io_loop);
	wiring_fini(&machine->wiring);
	if (machine->has_buses) {
		bus_fini(&machine->mmio);
		bus_fini(&machine->pio);
	}
	dirty_free(machine->dirty);
	vcpus_fini(&machine->vcpus);
	arch_vm_free(machine->arch);
	kvm_irq_fini(&machine->irq);
	kvm_vm_fini(&machine->vm);
	ram_free(machine->ram);
	kvm_host_close(&machine->host);
	sandbox_free(machine->sandbox);
	config_fini(&machine->config);
	free(machine);
}

/* ---- Questions ---- */

enum machine_status machine_get_status(const struct machine *machine)
{
	return machine->status;
}

const struct config *machine_config(const struct machine *machine)
{
	return &machine->config;
}

struct ram *machine_ram(struct machine *machine)
{
	return machine->ram;
}

struct dirty *machine_dirty(struct machine *machine)
{
	return machine->dirty;
}

const struct dirty_choice *machine_dirty_choice(const struct machine *machine)
{
	return &machine->dirty_choice;
}

struct device_list *machine_devices(struct machine *machine)
{
	return &machine->devices;
}

unsigned int machine_nvcpus(const struct machine *machine)
{
	return machine->vcpus.n;
}

pid_t machine_vcpu_tid(const struct machine *machine, unsigned int index)
{
	return machine->vcpus.vcpu[index].tid;
}

const char *machine_pty_path(const struct machine *machine)
{
	return serial_host_pty_path(machine->serial);
}

void machine_serial_input(struct machine *machine, const void *bytes, size_t len)
{
	if (machine->config.serial != SERIAL_OFF)
		serial_host_input(machine->serial, bytes, len);
}
