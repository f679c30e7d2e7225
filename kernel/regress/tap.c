// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * TAP output, the alarm, and the kernel log. See tap.h.
 */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	const char *program;
	const char *doing;
	unsigned int seconds;
	time_t began;
	int cases, failed, skipped;
	char first_failure[160];
	char last_skip[160];
	int kmsg;
} tap = { .doing = "set-up", .kmsg = -1 };

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Only what is safe in a signal handler. */
static void put(const char *text)
{
	ssize_t done = write(STDOUT_FILENO, text, strlen(text));

	(void)done;
}

static void on_alarm(int sig)
{
	char number[16];
	int i = sizeof(number) - 1, n = tap.cases + 1;

	(void)sig;
	number[i] = '\0';
	do {
		number[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n && i > 0);
	put("not ok ");
	put(number + i);
	put(" - ");
	put(tap.doing);
	put("\n# the alarm rang\n1..");
	put(number + i);
	put("\nFAIL ");
	put(tap.program);
	put(": ");
	put(tap.first_failure[0] ? tap.first_failure : tap.doing);
	put(tap.first_failure[0] ? " (first of several; the alarm rang at the last)\n" : ": the alarm rang\n");
	_exit(TAP_FAIL);
}

/* By how much time limits are stretched. */
static unsigned int patience(void)
{
	const char *wanted = getenv("REGRESS_PATIENCE");
	int factor = wanted ? atoi(wanted) : 1;

	return factor < 1 ? 1 : factor > 100 ? 100 : (unsigned int)factor;
}

void tap_start(const char *program, unsigned int seconds)
{
	struct sigaction action = { .sa_handler = on_alarm };

	setvbuf(stdout, NULL, _IOLBF, 0);
	seconds *= patience();
	tap.program = program;
	tap.seconds = seconds;
	tap.began = now();
	sigaction(SIGALRM, &action, NULL);
	alarm(seconds);
	tap.kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (tap.kmsg >= 0)
		lseek(tap.kmsg, 0, SEEK_END);
}

void tap_deadline(unsigned int seconds)
{
	time_t left = tap.began + (time_t)tap.seconds - now();

	seconds *= patience();
	if (left < 1)
		left = 1;
	alarm(seconds && seconds < left ? seconds : (unsigned int)left);
}

void tap_doing(const char *name)
{
	tap.doing = name;
}

bool tap_case(bool ok, const char *name)
{
	tap.cases++;
	printf("%s %d - %s\n", ok ? "ok" : "not ok", tap.cases, name);
	if (!ok && tap.failed++ == 0)
		snprintf(tap.first_failure, sizeof(tap.first_failure), "%s", name);
	tap.doing = "between cases";
	return ok;
}

void tap_note(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

void tap_skip(const char *name, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(tap.last_skip, sizeof(tap.last_skip), format, args);
	va_end(args);
	tap.cases++;
	tap.skipped++;
	printf("ok %d - %s # SKIP %s\n", tap.cases, name, tap.last_skip);
	tap.doing = "between cases";
}

/* What the kernel logs when it has found a bug in itself. */
static bool looks_like_a_bug(const char *line)
{
	static const char *const marks[] = {
		"WARNING: ",  "BUG: ",	   "Oops",	       "general protection fault", "UBSAN: ", "Internal error: ",
		"kernel BUG", "INFO: task", "refcount_t: ",    "Call trace:",		   "Call Trace:",
		"possible recursive locking", "suspicious RCU usage",
	};
	size_t i;

	/* The scheduler's complaint about a slow machine is no bug of KVM's. */
	if (strstr(line, "soft lockup"))
		return false;
	for (i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (strstr(line, marks[i]))
			return true;
	return false;
}

void tap_kernel_log(void)
{
	static const char name[] = "the kernel log shows no warning";
	char record[8192];
	int bugs = 0;
	ssize_t n;

	if (tap.kmsg < 0) {
		tap_skip(name, "/dev/kmsg cannot be read");
		return;
	}
	for (;;) {
		n = read(tap.kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue; /* records were overwritten; go on with the oldest that is left */
		if (n <= 0)
			break;
		record[n] = '\0';
		if (!looks_like_a_bug(record))
			continue;
		if (bugs++ < 5)
			tap_note("%.*s", (int)strcspn(record, "\n"), record);
	}
	tap_case(bugs == 0, name);
}

void tap_skip_all(const char *format, ...)
{
	va_list args;

	printf("1..0 # SKIP\nSKIP %s: ", tap.program);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(TAP_SKIP);
}

int tap_end(void)
{
	alarm(0);
	printf("1..%d\n", tap.cases);
	if (tap.failed) {
		printf("FAIL %s: %d of %d cases, first: %s\n", tap.program, tap.failed, tap.cases, tap.first_failure);
		return TAP_FAIL;
	}
	if (tap.skipped == tap.cases) {
		printf("SKIP %s: every case was skipped, the last for: %s\n", tap.program, tap.last_skip);
		return TAP_SKIP;
	}
	printf("PASS %s: %d cases, %d of them skipped\n", tap.program, tap.cases, tap.skipped);
	return TAP_PASS;
}

void tap_broken(const char *expression, const char *format, ...)
{
	int error = errno;
	va_list args;

	tap.cases++;
	printf("not ok %d - %s\n# needed: %s: ", tap.cases, tap.doing, expression);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" (errno %d: %s)\n1..%d\n", error, strerror(error), tap.cases);
	printf("FAIL %s: %s: a step of it failed\n", tap.program, tap.doing);
	fflush(stdout);
	_exit(TAP_FAIL);
}
