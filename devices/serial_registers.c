// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's side of the 16550A: its registers, and the causes of its interrupt. How bytes come and go is serial.c's, which
 * also opens with the theory of operation. Source: PC16550D data sheet, section 8.
 */
#include "devices/serial_internal.h"

#include <string.h>

#include "devices/wiring.h"

#define MSR_IDLE (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS) /* somebody is at the other end */

static bool fifo_on(const struct serial_state *state)
{
	return state->fcr & UART_FCR_ENABLE_FIFO;
}

/* Whether the guest may write a whole FIFO: what THRE promises. */
bool serial_has_room(const struct serial_state *state)
{
	return SERIAL_OUTPUT_BYTES - state->n_output >= SERIAL_FIFO_BYTES;
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
		causes |= SERIAL_CAUSE_LINE;
	if (state->ier & UART_IER_RDI && state->n_input > 0)
		causes |= state->n_input >= trigger_level(state) ? SERIAL_CAUSE_DATA
								 : SERIAL_CAUSE_TIMEOUT;
	if (state->ier & UART_IER_THRI && state->thre_pending)
		causes |= SERIAL_CAUSE_EMPTY;
	if (state->ier & UART_IER_MSI && state->msr_deltas)
		causes |= SERIAL_CAUSE_MODEM;
	return causes;
}

/* An edge for each cause that was not pending before. */
void serial_update_irq(struct serial *serial)
{
	uint8_t causes = pending_causes(&serial->state);

	if (causes & ~serial->causes)
		irq_raise(serial->irq);
	serial->causes = causes;
}

void serial_wake_loop(struct serial *serial)
{
	irq_raise(serial->wake);
}

/* Registers */

static uint8_t lsr(const struct serial_state *state)
{
	uint8_t value = state->lsr_errors;

	if (state->n_input > 0)
		value |= UART_LSR_DR;
	if (serial_has_room(state))
		value |= UART_LSR_THRE | UART_LSR_TEMT;
	return value;
}

static uint8_t read_iir(struct serial *serial)
{
	struct serial_state *state = &serial->state;
	uint8_t causes = pending_causes(state);
	uint8_t value = UART_IIR_NO_INT;

	if (causes & SERIAL_CAUSE_LINE)
		value = UART_IIR_RLSI;
	else if (causes & SERIAL_CAUSE_DATA)
		value = UART_IIR_RDI;
	else if (causes & SERIAL_CAUSE_TIMEOUT)
		value = fifo_on(state) ? UART_IIR_RX_TIMEOUT : UART_IIR_RDI;
	else if (causes & SERIAL_CAUSE_EMPTY)
		value = UART_IIR_THRI;
	else if (causes & SERIAL_CAUSE_MODEM)
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
		serial->causes &= ~(SERIAL_CAUSE_DATA | SERIAL_CAUSE_TIMEOUT);
	if (serial->input_short)
		serial_wake_loop(serial);
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
			serial_wake_loop(serial);
	}
	/* Taken: the holding register is empty again, which is a new event. */
	serial->causes &= ~SERIAL_CAUSE_EMPTY;
	state->thre_pending = serial_has_room(state);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;

	/*
	 * Switching the FIFO on or off clears it, and so does the bit. Only what a FIFO would hold: the rest of the
	 * input counts as still on the line. What was sent is gone: the sink's.
	 */
	if (value & UART_FCR_CLEAR_RCVR || (value ^ state->fcr) & UART_FCR_ENABLE_FIFO) {
		drop_input(state, SERIAL_FIFO_BYTES);
		serial->causes &= ~(SERIAL_CAUSE_DATA | SERIAL_CAUSE_TIMEOUT);
		if (serial->input_short)
			serial_wake_loop(serial);
	}
	state->fcr = value & UART_FCR_ENABLE_FIFO ? value & SERIAL_FCR_KEPT : 0;
}

static void write_ier(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;

	/* Asking for it while the transmitter is empty is an event at once. */
	if (value & ~state->ier & UART_IER_THRI && serial_has_room(state))
		state->thre_pending = 1;
	state->ier = value & SERIAL_IER_MASK;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	struct serial_state *state = &serial->state;
	uint8_t deltas = state->msr_deltas, before, after;

	before = read_msr(state);
	state->mcr = value & SERIAL_MCR_MASK;
	after = read_msr(state);
	/* DCTS, DDSR, DDCD are the changes of CTS, DSR, DCD; TERI is RI going low. */
	deltas |= (before ^ after) >> 4 & (UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	if (before & ~after & UART_MSR_RI)
		deltas |= UART_MSR_TERI;
	state->msr_deltas = deltas;
	if (serial->input_short)
		serial_wake_loop(serial);
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
		state->lcr = value;
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
	serial_update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

static void bus_write_serial(void *opaque, uint64_t offset, const void *data, unsigned int len)
{
	struct serial *serial = opaque;

	pthread_mutex_lock(&serial->lock);
	for (unsigned int i = 0; i < len && offset + i < SERIAL_WINDOW_BYTES; i++)
		write_register(serial, offset + i, ((const uint8_t *)data)[i]);
	serial_update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

const struct bus_ops serial_bus_ops = {.read = bus_read_serial, .write = bus_write_serial};
