/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a regression program speaks: TAP lines, one for each case, and a last line that says PASS, FAIL or SKIP and why.
 * Nothing here knows of KVM.
 *
 * A program calls tap_start() once, tap_case()/tap_skip() for each case, and ends with `return tap_end()`. A program
 * that cannot run at all calls tap_skip_all(). A set-up step that must not fail goes through need().
 *
 * Exit status: 0 every case passed (or was skipped, but not all), 1 one failed, 4 nothing could be tested.
 */
#ifndef REGRESS_TAP_H
#define REGRESS_TAP_H

#include <stdbool.h>

#define TAP_PASS 0
#define TAP_FAIL 1
#define TAP_SKIP 4

/*
 * Names the program, and arms the alarm: after @seconds the case that is running (tap_doing()) has failed, and with it
 * the program. Takes the end of the kernel log as the place from which tap_kernel_log() reads. $REGRESS_PATIENCE, a
 * small number, multiplies this limit and tap_deadline()'s, for hosts that are slow.
 */
void tap_start(const char *program, unsigned int seconds);

/* Names the case that is about to run, for the alarm and for need(). */
void tap_doing(const char *name);

/* An alarm of its own for what follows; 0 goes back to what is left of the program's. */
void tap_deadline(unsigned int seconds);

/* One case. The text after @ok is its name, and never changes from run to run; see tap_note() for what does. */
bool tap_case(bool ok, const char *name);

/* Says more about what was seen. Shown before the next case's line. */
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

void tap_skip(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A case: nothing that looks like a kernel bug was logged since tap_start(). Skipped where the log cannot be read. */
void tap_kernel_log(void);

/* The program cannot be run here. Does not return. */
void tap_skip_all(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The plan, the last line and the exit status. */
int tap_end(void);

/* A step that is not what is being tested: that it failed means that the program failed. Does not return if @ok is false. */
#define need(ok, ...)                                  \
	do {                                           \
		if (!(ok))                             \
			tap_broken(#ok, __VA_ARGS__);  \
	} while (0)
void tap_broken(const char *expression, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
