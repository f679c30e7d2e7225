/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bare-metal test guest: what its parts say to one another.
 *
 * Architecture code (x86_*.c, arm64_*.c) brings up the machine, fills in `machine`, and calls guest_main() on the first
 * vCPU; everything else is architecture-free and runs at the lowest privilege level that the architecture code
 * left it at. There are no interrupts and no allocation. Only the first vCPU writes to the console.
 *
 * Not here: devices (pci.h, virtio_blk.h).
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT  12
#define PAGE_SIZE   4096ul
#define MAX_RAM	    16
#define CMDLINE_MAX 2048
#define GUEST_VCPUS 256

/* Not zeroed at the start, so that memory which most runs never need is not touched; whoever uses it sets it. */
#define NOINIT __attribute__((section(".noinit")))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A run of whole pages. */
struct extent {
	uint64_t start; /* guest physical = virtual address */
	uint64_t npages;
};

/* What the architecture code found out; complete before guest_main(). */
struct machine {
	const char *arch;
	char cmdline[CMDLINE_MAX];
	struct extent ram[MAX_RAM]; /* free for use: without firmware's tables and this image */
	unsigned int nram;
	uint64_t ram_bytes;  /* all of it, as reported */
	uint64_t told_end;   /* RAM below may hold what the VMM had to tell us, and is ours now */
	unsigned int nvcpus; /* that can be started, the first included */
	uint64_t clock_khz;  /* of clock_now() */
	const char *clock_source;
	uint64_t ecam_base; /* PCI configuration space; 0: none found */
	unsigned int ecam_last_bus;
	uint64_t pci_window; /* where 32-bit BARs may be put if nobody has; 0: unknown */
};

extern struct machine machine;

/* Architecture-free entry, on the first vCPU. */
_Noreturn void guest_main(void);

/* --- what each architecture provides --- */

/* The console's transmitter and receiver, one byte; console_ready() says how many bytes may follow without a wait. */
void arch_console_put(char c);
unsigned int arch_console_room(void);
int arch_console_get(void); /* -1: nothing */

/* Runs fn(number) on vCPU `number` (1 ..); false if it did not come up within a second. fn never returns. */
bool arch_vcpu_start(unsigned int number, void (*fn)(unsigned int number));

/* Ends the VM, by the ways that the command line names or the firmware tables describe. */
_Noreturn void arch_power_off(void);
_Noreturn void arch_reset(void);

/*
 * What the VM's paravirtual clock says, or, without one, the counter scaled: time as the guest's own kernel would know
 * it. Must never go back, whatever happens to the VM.
 */
uint64_t arch_guest_time_ns(void);

/* Makes [gpa, gpa + size) reachable for device access. */
void arch_map_device(uint64_t gpa, uint64_t size);

/* Machine's own monotonic counter and the pause hint: x86_inline.h, arm64_inline.h */
#if defined(__x86_64__)
#include "x86_inline.h"
#else
#include "arm64_inline.h"
#endif

/* --- console.c: text to the console --- */

/* printf with %s %c %u %lu %x %lx %016lx only. Into a ring; waits for the line only when that is full. */
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
/* Sends at most one byte of what waits: for loops that must not be held up. */
void console_poll(void);
/* Sends everything. */
void console_flush(void);
_Noreturn __attribute__((format(printf, 1, 2))) void fatal(const char *fmt, ...);

/* --- params.c: the command line, `key=value` words --- */

const char *param_find(const char *key, size_t *length); /* NULL: not there */
bool param_is(const char *key, const char *value);
/* "list=a,b": does the list under key hold this word? */
bool param_lists(const char *key, const char *word);
uint64_t param_number(const char *key,
		      uint64_t otherwise); /* 10, 0x10, 64M, 2G; "max" is UINT64_MAX */
uint64_t param_ms(const char *key, uint64_t otherwise_ms); /* 100ms, 5s, 5 (s) */

/* --- clock arithmetic --- */

static inline uint64_t ticks_to_us(uint64_t ticks)
{
	return ticks * 1000 / machine.clock_khz;
}

static inline uint64_t ms_to_ticks(uint64_t ms)
{
	return ms * machine.clock_khz;
}

void wait_us(uint64_t us);

/* --- modes --- */

void dirty_run(void);
void idle_run(void);

/* --- freestanding C needs these --- */

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memmove(void *to, const void *from, size_t n);
size_t strlen(const char *s);

#endif
