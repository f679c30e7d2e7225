/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One-line logs to standard error, "module: what: why", and the error return that says its cause once.
 * Any thread; each line is one write(2), so lines of threads do not mix.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_NONE = -1, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The only mutable global of the program: lines above this level are dropped. */
extern enum log_level log_level;

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * Logs an error line and returns error (0 or -errno), for `return fail(-errno, "tap: %s: %s", ...)` at the place
 * where the cause is known; callers above pass the number on without logging again. The thread's last such line is
 * kept for fail_text(), so that a control client gets the same words as the log. strerror is NOT appended.
 */
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes over an error whose words another thread or process has logged: keeps them for fail_text(), logs nothing. */
int fail_again(int error, const char *words);

/* The words of this thread's last fail(), "" before the first; valid until its next fail(). */
const char *fail_text(void);
/* Forgets them (before a control command runs). */
void fail_clear(void);

/*
 * Rate limit for what a guest can cause: true at most `burst` times each second.
 *	static / embedded: struct log_limit limit = {};   if (log_limit_ok(&limit, 5)) log_warn(...);
 * Not exact under concurrent use, and need not be.
 */
struct log_limit {
	uint64_t second;
	unsigned int count;
};
int log_limit_ok(struct log_limit *limit, unsigned int burst);

#endif
