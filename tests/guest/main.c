// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The bare-metal test guest, after the architecture code: reads `mode=` and runs it. docs/testing.md lists modes and
 * parameters.
 */
#include "guest.h"

#include "ktest.h"
#include "pci.h"

void *memcpy(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	while (n--)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	uint8_t *t = to;
	const uint8_t *f = from;

	if (t <= f)
		return memcpy(to, from, n);
	while (n--)
		t[n] = f[n];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	uint8_t *t = to;

	for (; n && (uintptr_t)t & 7; n--)
		*t++ = (uint8_t)c;
	for (uint64_t word = (uint8_t)c * 0x0101010101010101ul; n >= 8; n -= 8, t += 8)
		*(volatile uint64_t *)t = word;
	while (n--)
		*t++ = (uint8_t)c;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

void wait_us(uint64_t us)
{
	uint64_t start = clock_now();

	/* A fatal error may come before the clock is known. */
	uint64_t khz = machine.clock_khz ? machine.clock_khz : 1000000;

	while (clock_now() - start < us * khz / 1000)
		cpu_relax();
}

static void hello_run(void)
{
}

static const struct {
	const char *name;
	void (*run)(void);
} modes[] = {
	{"hello", hello_run},
	{"idle", idle_run},
	{"dirty", dirty_run},
	{"ktest", ktest_run},
};

/* "NAME" or "NAME:more" */
static bool mode_is(const char *mode, size_t n, const char *name)
{
	size_t length = strlen(name);

	return n >= length && memcmp(mode, name, length) == 0 &&
	       (n == length || mode[length] == ':');
}

void guest_main(void)
{
	say("guest: boot ram_mib=%lu vcpus=%u clock_khz=%lu clock=%s cmdline=\"%s\"\n",
	    machine.ram_bytes >> 20, machine.nvcpus, machine.clock_khz, machine.clock_source,
	    machine.cmdline);
	console_flush();
	pci_init();
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		size_t n;

		const char *mode = param_find("mode", &n);

		if (mode ? !mode_is(mode, n, modes[i].name) : i > 0)
			continue;
		modes[i].run();
		if (param_is("end", "reset"))
			arch_reset();
		arch_power_off();
	}
	fatal("unknown mode");
}
