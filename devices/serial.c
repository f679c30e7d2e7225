// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A 16550A UART: the host's side, and its lifecycle. The registers are serial_registers.c; where bytes go to and come from
 * is the owner's (struct serial_host).
 *
 * Theory of operation. There is no line and so no line speed: a byte that the guest writes goes into the output buffer at
 * once, and the transmitter is empty again as long as a whole FIFO fits. vCPUs only fill the buffer and wake the loop; the
 * loop hands to the sink what has gathered meanwhile, so that the sink sees chunks, not bytes, and vCPUs make no system
 * call on it. When the sink stalls and the buffer is full, THRE and TEMT stay clear, and come back, with their
 * interrupt, when there is room.
 *
 * The interrupt line is an edge: each *new* cause raises it, also while others are pending. A driver that loops until IIR
 * says "none", as an edge-triggered line demands, misses nothing.
 *
 * The receiver hands on what it has without a line's pauses, so what is below the trigger level counts as timed out at
 * once: a FIFO timeout is reported where a real part would report one four characters later.
 */
#include "devices/serial_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

STATE_TABLE(serial_state, 1, SERIAL_STATE);

/* The host's side */

size_t serial_input(struct serial *serial, const void *bytes, size_t len)
{
	struct serial_state *state = &serial->state;
	size_t room, n;

	pthread_mutex_lock(&serial->lock);
	room = SERIAL_INPUT_BYTES - state->n_input;
	/* In loopback the line is cut off, and state does not change while paused: what is typed waits outside. */
	if (state->mcr & UART_MCR_LOOP || serial->paused)
		room = 0;
	n = len < room ? len : room;
	memcpy(state->input + state->n_input, bytes, n);
	state->n_input += n;
	if (n < len)
		serial->input_short = true;
	if (n > 0)
		serial_update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
	return n;
}

void serial_input_break(struct serial *serial)
{
	struct serial_state *state = &serial->state;

	pthread_mutex_lock(&serial->lock);
	if (!serial->paused && state->n_input < SERIAL_INPUT_BYTES) {
		state->input[state->n_input++] = 0;
		state->lsr_errors |= UART_LSR_BI;
		serial_update_irq(serial);
	}
	pthread_mutex_unlock(&serial->lock);
}

void serial_output_ready(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->blocked = false;
	pthread_mutex_unlock(&serial->lock);
	serial_wake_loop(serial);
}

/* Takes what the sink took off the buffer; false when there is nothing more to do now. */
static bool pass_on(struct serial *serial, bool even_paused)
{
	struct serial_state *state = &serial->state;
	uint8_t chunk[1024];
	bool had_room;
	size_t n, taken;

	pthread_mutex_lock(&serial->lock);
	n = state->n_output < sizeof(chunk) ? state->n_output : sizeof(chunk);
	if (serial->blocked || (serial->paused && !even_paused))
		n = 0;
	memcpy(chunk, state->output, n);
	pthread_mutex_unlock(&serial->lock);
	if (n == 0)
		return false;
	/* Only this thread takes bytes off, so the chunk stays at the front meanwhile. */
	taken = serial->host.sink(serial->host.opaque, chunk, n);
	if (taken > n)
		taken = n;
	pthread_mutex_lock(&serial->lock);
	had_room = serial_has_room(state);
	state->n_output -= taken;
	memmove(state->output, state->output + taken, state->n_output);
	if (!had_room && serial_has_room(state)) {
		serial->causes &= ~SERIAL_CAUSE_EMPTY;
		state->thre_pending = 1;
		serial_update_irq(serial);
	}
	serial->blocked = taken < n;
	pthread_mutex_unlock(&serial->lock);
	return taken == n;
}

void serial_flush(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->blocked = false;
	pthread_mutex_unlock(&serial->lock);
	while (pass_on(serial, true))
		;
}

static void ask_for_input(struct serial *serial)
{
	bool wants;

	pthread_mutex_lock(&serial->lock);
	wants = serial->input_short && serial->state.n_input <= SERIAL_INPUT_BYTES / 2 &&
		!(serial->state.mcr & UART_MCR_LOOP) && !serial->paused;
	if (wants)
		serial->input_short = false;
	pthread_mutex_unlock(&serial->lock);
	if (wants && serial->host.wants_input)
		serial->host.wants_input(serial->host.opaque);
}

static void woken(void *opaque, int fd, uint32_t events)
{
	struct serial *serial = opaque;
	uint64_t count;
	ssize_t n = read(fd, &count, sizeof(count));

	(void)n;
	while (pass_on(serial, false))
		;
	ask_for_input(serial);
}

uint64_t serial_dropped(const struct serial *serial)
{
	return __atomic_load_n(&serial->dropped, __ATOMIC_RELAXED);
}

/* Lifecycle */

static struct serial *serial_of(struct device *device)
{
	return CONTAINER_OF(device, struct serial, device);
}

static void reset(struct device *device)
{
	struct serial *serial = serial_of(device);
	struct serial_state *state = &serial->state;

	pthread_mutex_lock(&serial->lock);
	/* What the guest said before its reset is still to be heard; what it has not read is still to be read. */
	state->ier = state->fcr = state->lcr = state->mcr = state->scr = 0;
	state->lsr_errors = state->msr_deltas = state->thre_pending = 0;
	state->divisor = 1;
	serial->causes = 0;
	pthread_mutex_unlock(&serial->lock);
}

static int pause_device(struct device *device)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial->paused = true;
	pthread_mutex_unlock(&serial->lock);
	return 0;
}

static void resume_device(struct device *device)
{
	struct serial *serial = serial_of(device);

	pthread_mutex_lock(&serial->lock);
	serial->paused = false;
	/* All causes are new: an edge that was lost on the way is made good. */
	serial->causes = 0;
	serial_update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
	serial_wake_loop(serial);
}

static int save(const struct device *device, struct buf *out)
{
	const struct serial *serial = (const struct serial *)device;

	return state_save(&serial_state_table, device->instance, &serial->state, out);
}

static int check(const struct serial_state *state)
{
	if (state->ier & ~SERIAL_IER_MASK || state->mcr & ~SERIAL_MCR_MASK ||
	    state->fcr & ~SERIAL_FCR_KEPT || (state->fcr && !(state->fcr & UART_FCR_ENABLE_FIFO)) ||
	    state->msr_deltas & ~SERIAL_MSR_DELTAS ||
	    state->lsr_errors & ~(UART_LSR_BI | UART_LSR_OE) || state->thre_pending > 1)
		return fail(-EBADMSG, "serial: a register holds bits that it does not have");
	return 0;
}

static int load(struct device *device, struct state_set *in)
{
	struct serial *serial = serial_of(device);
	struct serial_state *loaded = malloc(sizeof(*loaded));
	int error;

	if (!loaded)
		return fail(-ENOMEM, "serial: no memory to load");
	error = state_load(in, &serial_state_table, device->instance, loaded);
	if (!error)
		error = check(loaded);
	if (!error) {
		pthread_mutex_lock(&serial->lock);
		serial->state = *loaded;
		serial->paused = true;
		pthread_mutex_unlock(&serial->lock);
	}
	free(loaded);
	return error;
}

static void remove_watch(void *opaque)
{
	struct serial *serial = opaque;

	loop_watch_free(serial->watch);
}

static void free_device(struct device *device)
{
	struct serial *serial = serial_of(device);

	loop_call(serial->loop, remove_watch, serial);
	close_fd(&serial->wake);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

static const struct device_ops serial_device_ops = {
	.type = "serial",
	.table = &serial_state_table,
	.reset = reset,
	.pause = pause_device,
	.resume = resume_device,
	.save = save,
	.load = load,
	.free = free_device,
};

static void add_watch(void *opaque)
{
	struct serial *serial = opaque;

	if (loop_add_fd(serial->loop, serial->wake, EPOLLIN, woken, serial, &serial->watch) < 0)
		serial->watch = NULL;
}

int serial_new(struct serial **out, struct loop *loop, const char *id, int irq,
	       const struct serial_host *host)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	int error = 0;

	_Static_assert(offsetof(struct serial, device) == 0, "device is embedded first");
	if (!serial)
		return fail(-ENOMEM, "serial: no memory");
	device_init(&serial->device, &serial_device_ops, id, 0);
	pthread_mutex_init(&serial->lock, NULL);
	serial->irq = irq;
	serial->host = *host;
	serial->loop = loop;
	serial->state.divisor = 1;
	serial->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (serial->wake < 0)
		error = fail(-errno, "serial: eventfd: %s", strerror(errno));
	if (!error) {
		loop_call(loop, add_watch, serial);
		error = serial->watch ? 0 : -ENOMEM;
	}
	if (error) {
		free_device(&serial->device);
		return error;
	}
	*out = serial;
	return 0;
}

struct device *serial_device(struct serial *serial)
{
	return &serial->device;
}
