/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bare-metal tests of the machine, in the manner of kvm-unit-tests: `mode=ktest:NAME` runs one and says
 *	ktest: ok NAME		or	ktest: not ok NAME: what		(and "ktest: skip NAME: why")
 * A test may check many things; each that is wrong is a line.
 */
#ifndef GUEST_KTEST_H
#define GUEST_KTEST_H

#include "guest.h"

struct ktest {
	const char *name;
	unsigned int checks, failures;
	const char *skipped;
};

/* One thing that must hold; the message says what was seen. */
#define KTEST_CHECK(t, condition, ...)                        \
	do {                                                  \
		(t)->checks++;                                \
		if (!(condition)) {                           \
			(t)->failures++;                      \
			say("ktest: not ok %s: ", (t)->name); \
			say(__VA_ARGS__);                     \
			say("\n");                            \
		}                                             \
	} while (0)

void ktest_pci(struct ktest *t);
void ktest_virtio(struct ktest *t);
void ktest_fuzz(struct ktest *t);
void ktest_memory(struct ktest *t);
void ktest_smp(struct ktest *t);
/* x86 only */
void ktest_restart(struct ktest *t);
void ktest_serial(struct ktest *t);
void ktest_cmos(struct ktest *t);
/* arm64 only */
void ktest_lpi(struct ktest *t);

void ktest_run(void);

#endif
