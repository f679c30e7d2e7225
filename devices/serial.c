// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A 16550A UART. Where its bytes go and come from is the owner's (struct serial_host).
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
 *
 * Source: PC16550D data sheet, section 8 (registers).
 */
#include "devices/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/state.h"
#include "devices/wiring.h"

#define FIFO_BYTES 16
#define IER_MASK   0x0f
#define MCR_MASK   0x1f
#define LCR_MASK   0xff
#define FCR_KEPT   (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK)
#define MSR_DELTAS 0x0f
#define MSR_IDLE   (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS) /* somebody is at the other end */

/* Causes of an interrupt, highest priority first. */
#define CAUSE_LINE    1
#define CAUSE_DATA    2
#define CAUSE_TIMEOUT 4
#define CAUSE_EMPTY   8
#define CAUSE_MODEM   16

/* clang-format off */
#define SERIAL_STATE(T, F, A, V)                                                           \
	F(T, 1, u8, ier)                                                                       \
	F(T, 2, u8, fcr)          /* FIFO on, trigger level */                                 \
	F(T, 3, u8, lcr)                                                                       \
	F(T, 4, u8, mcr)                                                                       \
	F(T, 5, u8, lsr_errors)   /* sticky bits of LSR: overrun, break */                     \
	F(T, 6, u8, msr_deltas)                                                                \
	F(T, 7, u8, scr)                                                                       \
	F(T, 8, u16, divisor)                                                                  \
	F(T, 9, u8, thre_pending) /* the transmitter emptied, and IIR has not said so yet */   \
	V(T, 10, u8, input, SERIAL_INPUT_BYTES)                                                \
	V(T, 11, u8, output, SERIAL_OUTPUT_BYTES)
/* clang-format on */
STATE_STRUCT(serial_state, SERIAL_STATE);
STATE_TABLE(serial_state, 1, SERIAL_STATE);

struct serial {
	struct device device;
	pthread_mutex_t lock; /* all of what follows; not the calls to the host */
	struct serial_state state;
	uint8_t causes; /* pending as of the last update: what is new in the next one is an edge */
	bool paused;
	bool blocked;	  /* the sink took less than it was offered; it will say when */
	bool input_short; /* serial_input() took less than it was given */
	uint64_t dropped;
	int irq;
	int wake; /* eventfd: there is something for the loop to do */
	struct loop *loop;
	struct loop_watch *watch;
	struct serial_host host;
};

static bool fifo_on(const struct serial_state *state)
{
	return state->fcr & UART_FCR_ENABLE_FIFO;
}

/* Whether the guest may write a whole FIFO: what THRE promises. */
static bool has_room(const struct serial_state *state)
{
	return SERIAL_OUTPUT_BYTES - state->n_output >= FIFO_BYTES;
}

static unsigned int trigger_level(const struct serial_state *state)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return fifo_on(state) ? levels[state->fcr >> 6] : 1;
}

static uint8_t pending_causes(const struct serial_state *state)
{
	uint8_t causes = 0;

	if (state->ier & UART_IER_RLSI && state->lsr_errors)
		causes |= CAUSE_LINE;
	if (state->ier & UART_IER_RDI && state->n_input > 0)
		causes |= state->n_input >= trigger_level(state) ? CAUSE_DATA : CAUSE_TIMEOUT;
	if (state->ier & UART_IER_THRI && state->thre_pending)
		causes |= CAUSE_EMPTY;
	if (state->ier & UART_IER_MSI && state->msr_deltas)
		causes |= CAUSE_MODEM;
	return causes;
}

/* An edge for each cause that was not pending before. */
static void update_irq(struct serial *serial)
{
	uint8_t causes = pending_causes(&serial->state);

	if (causes & ~serial->causes)
		irq_raise(serial->irq);
	serial->causes = causes;
}

static void wake_loop(struct serial *serial)
{
	irq_raise(serial->wake);
}

/* Registers */

static uint8_t lsr(const struct serial_state *state)
{
	uint8_t value = state->lsr_errors;

	if (state->n_input > 0)
		value |= UART_LSR_DR;
	if (has_room(state))
		value |= UART_LSR_THRE | UART_LSR_TEMT;
	return value;
}

static uint8_t read_iir(struct serial *serial)
{
	struct serial_state *state = &serial->state;
	uint8_t causes = pending_causes(state);
	uint8_t value = UART_IIR_NO_INT;

	if (causes & CAUSE_LINE)
		value = UART_IIR_RLSI;
	else if (causes & CAUSE_DATA)
		value = UART_IIR_RDI;
	else if (causes & CAUSE_TIMEOUT)
		value = fifo_on(state) ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI;
	else if (causes & CAUSE_EMPTY)
		value = UART_IIR_THRI;
	else if (causes & CAUSE_MODEM)
		value = UART_IIR_MSI;
	/* Saying so answers this one cause. */
	if (value == UART_IIR_THRI)
		state->thre_pending = 0;
	return value | (fifo_on(state) ? 0xc0 : 0);
}

static void drop_input(struct serial_state *state, uint32_t n)
{
	if (n > state->n_input)
		n = state->n_input;
	state->n_input -= n;
	memmove(state->input, state->input + n, state->n_input);
}

static uint8_t read_rbr(struct serial *serial)
{
	struct serial_state *state = &serial->state;
	uint8_t value = state->input[0];

	if (state->n_input == 0)
		return 0;
	drop_input(state, 1);
	/* Without a FIFO each byte is an event of its own; with one, the driver reads on until LSR says empty. */
	if (!fifo_on(state))
		serial->causes &= ~(CAUSE_DATA | CAUSE_TIMEOUT);
	if (serial->input_short)
		wake_loop(serial);
	return value;
}

static uint8_t read_msr(struct serial_state *state)
{
	uint8_t value = MSR_IDLE;

	/* In loopback the modem's outputs are its inputs. */
	if (state->mcr & UART_MCR_LOOP) {
		value = 0;
		if (state->mcr & UART_MCR_RTS)
			value |= UART_MSR_CTS;
		if (state->mcr & UART_MCR_DTR)
			value |= UART_MSR_DSR;
		if (state->mcr & UART_MCR_OUT1)
			value |= UART_MSR_RI;
		if (state->mcr & UART_MCR_OUT2)
			value |= UART_MSR_DCD;
	}
	value |= state->msr_deltas;
	state->msr_deltas = 0;
	return value;
}

static uint8_t read_register(struct serial *serial, unsigned int reg)
{
	struct serial_state *state = &serial->state;
	bool dlab = state->lcr & UART_LCR_DLAB;
	uint8_t value = 0;

	switch (reg) {
	case UART_RX:
		return dlab ? state->divisor & 0xff : read_rbr(serial);
	case UART_IER:
		return dlab ? state->divisor >> 8 : state->ier;
	case UART_IIR:
		return read_iir(serial);
	case UART_LCR:
		return state->lcr;
	case UART_MCR:
		return state->mcr;
	case UART_LSR:
		value = lsr(state);
		state->lsr_errors = 0;
		return value;
	case UART_MSR:
		return read_msr(state);
	default:
		return state->scr;
	}
}

static void put_input(struct serial_state *state, uint8_t byte)
{
	if (state->n_input < SERIAL_INPUT_BYTES)
		state->input[state->n_input++] = byte;
	else
		state->lsr_errors |= UART_LSR_OE;
}

static void write_thr(struct serial *serial, uint8_t byte)
{
	struct serial_state *state = &serial->state;

	state->thre_pending = 0;
	if (state->mcr & UART_MCR_LOOP) {
		put_input(state, byte);
	} else if (state->n_output == SERIAL_OUTPUT_BYTES) {
		serial->dropped++;
	} else {
		state->output[state->n_output++] = byte;
		if (state->n_output == 1)
			wake_loop(serial);
	}
	/* Taken: the holding register is empty again, which is a new event. */
	serial->causes &= ~CAUSE_EMPTY;
	state->thre_pending = has_room(state);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;

	/*
	 * Switching the FIFO on or off clears it, and so does the bit. Only what a FIFO would hold: the rest of the
	 * input counts as still on the line. What was sent is gone: the sink's.
	 */
	if (value & UART_FCR_CLEAR_RCVR || (value ^ state->fcr) & UART_FCR_ENABLE_FIFO) {
		drop_input(state, FIFO_BYTES);
		serial->causes &= ~(CAUSE_DATA | CAUSE_TIMEOUT);
		if (serial->input_short)
			wake_loop(serial);
	}
	state->fcr = value & UART_FCR_ENABLE_FIFO ? value & FCR_KEPT : 0;
}

static void write_ier(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;

	/* Asking for it while the transmitter is empty is an event at once. */
	if (value & ~state->ier & UART_IER_THRI && has_room(state))
		state->thre_pending = 1;
	state->ier = value & IER_MASK;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;
	uint8_t deltas = state->msr_deltas, before, after;

	before = read_msr(state);
	state->mcr = value & MCR_MASK;
	after = read_msr(state);
	/* DCTS, DDSR, DDCD are the changes of CTS, DSR, DCD; TERI is RI going low. */
	deltas |= (before ^ after) >> 4 & (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	if (before & ~after & UART_MSR_RI)
		deltas |= UART_MSR_TERI;
	state->msr_deltas = deltas;
	if (serial->input_short)
		wake_loop(serial);
}

static void write_register(struct serial *serial, unsigned int reg, uint8_t value)
{
	struct serial_state *state = &serial->state;
	bool dlab = state->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			state->divisor = (state->divisor & 0xff00) | value;
		else
			write_thr(serial, value);
		break;
	case UART_IER:
		if (dlab)
			state->divisor = (state->divisor & 0xff) | value << 8;
		else
			write_ier(serial, value);
		break;
	case UART_FCR:
		write_fcr(serial, value);
		break;
	case UART_LCR:
		state->lcr = value & LCR_MASK;
		break;
	case UART_MCR:
		write_mcr(serial, value);
		break;
	case UART_SCR:
		state->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* Wider accesses are bytes in a row, as port I/O has it; beyond the registers there is nothing. */
static void bus_read_serial(void *opaque, uint64_t offset, void *data, unsigned int len)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned int i = 0; i < len && offset + i < SERIAL_WINDOW_BYTES; i++)
		((uint8_t *)data)[i] = read_register(serial, offset + i);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void bus_write_serial(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned int i = 0; i < len && offset + i < SERIAL_WINDOW_BYTES; i++)
		write_register(serial, offset + i, ((const uint8_t *)data)[i]);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {.read = bus_read_serial, .write = bus_write_serial};

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
		update_irq(serial);
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
		update_irq(serial);
	}
	pthread_mutex_unlock(&serial->lock);
}

void serial_output_ready(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->blocked = false;
	pthread_mutex_unlock(&serial->lock);
	wake_loop(serial);
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
	had_room = has_room(state);
	state->n_output -= taken;
	memmove(state->output, state->output + taken, state->n_output);
	if (!had_room && has_room(state)) {
		serial->causes &= ~CAUSE_EMPTY;
		state->thre_pending = 1;
		update_irq(serial);
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
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
	wake_loop(serial);
}

static int save(const struct device *device, struct buf *out)
{
	const struct serial *serial = (const struct serial *)device;

	return state_save(&serial_state_table, device->instance, &serial->state, out);
}

static int check(const struct serial_state *state)
{
	if (state->ier & ~IER_MASK || state->mcr & ~MCR_MASK || state->fcr & ~FCR_KEPT ||
	    (state->fcr && !fifo_on(state)) || state->msr_deltas & ~MSR_DELTAS ||
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
