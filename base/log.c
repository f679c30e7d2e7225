// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Log lines and the error return that says its cause. The thread's last failure text is thread-local on purpose: the
 * control socket answers a command on the thread that ran it.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 512

enum log_level log_level = LOG_INFO;

static _Thread_local char last_failure[LINE_MAX_BYTES];

static const char *const level_prefix[] = {
	[LOG_ERROR] = "tern: error: ",
	[LOG_WARN] = "tern: warning: ",
	[LOG_INFO] = "tern: ",
	[LOG_DEBUG] = "tern: debug: ",
};

/* One write(2) a line: control characters that a guest or peer got into the text do not reach the terminal. */
static void write_line(enum log_level level, const char *text)
{
	char line[LINE_MAX_BYTES + 32];
	int len = snprintf(line, sizeof(line) - 1, "%s%s", level_prefix[level], text);

	if (len < 0)
		return;
	if ((size_t)len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	for (int i = 0; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len++] = '\n';
	/* Nowhere is left to report that standard error cannot be written. */
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written;
}

void log_line(enum log_level level, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list args;

	if (level > log_level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	write_line(level, text);
}

int fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_failure, sizeof(last_failure), format, args);
	va_end(args);
	if (log_level >= LOG_ERROR)
		write_line(LOG_ERROR, last_failure);
	return error;
}

int fail_again(int error, const char *words)
{
	snprintf(last_failure, sizeof(last_failure), "%s", words);
	return error;
}

const char *fail_text(void)
{
	return last_failure;
}

void fail_clear(void)
{
	last_failure[0] = '\0';
}

int log_limit_ok(struct log_limit *limit, unsigned int burst)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if ((uint64_t)now.tv_sec != limit->second) {
		limit->second = now.tv_sec;
		limit->count = 0;
	}
	return limit->count++ < burst;
}
