/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What serial.c and serial_registers.c share; everybody else uses serial.h. */
#ifndef DEVICES_SERIAL_INTERNAL_H
#define DEVICES_SERIAL_INTERNAL_H

#include <linux/serial_reg.h>
#include <pthread.h>

#include "base/state.h"
#include "devices/serial.h"

#define SERIAL_FIFO_BYTES 16
#define SERIAL_IER_MASK	  0x0f
#define SERIAL_MCR_MASK	  0x1f
#define SERIAL_FCR_KEPT	  (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK)
#define SERIAL_MSR_DELTAS 0x0f

/* Causes of an interrupt, highest priority first. */
#define SERIAL_CAUSE_LINE    1
#define SERIAL_CAUSE_DATA    2
#define SERIAL_CAUSE_TIMEOUT 4
#define SERIAL_CAUSE_EMPTY   8
#define SERIAL_CAUSE_MODEM   16

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

/* serial_registers.c; the lock is held. Room: for a whole FIFO of output, which is what THRE promises. */
bool serial_has_room(const struct serial_state *state);
/* An edge for each cause that was not pending before. */
void serial_update_irq(struct serial *serial);
void serial_wake_loop(struct serial *serial);

#endif
