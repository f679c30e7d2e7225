// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command line: words of the form key=value. An unknown key is nobody's business here; docs/testing.md lists them.
 */
#include "guest.h"

const char *param_find(const char *key, size_t *length)
{
	size_t n = strlen(key);
	const char *s = machine.cmdline;

	while (*s) {
		while (*s == ' ')
			s++;
		const char *word = s;

		while (*s && *s != ' ')
			s++;
		if ((size_t)(s - word) > n && memcmp(word, key, n) == 0 && word[n] == '=') {
			*length = (size_t)(s - word) - n - 1;
			return word + n + 1;
		}
	}
	return NULL;
}

bool param_is(const char *key, const char *value)
{
	size_t n;
	const char *v = param_find(key, &n);

	return v && n == strlen(value) && memcmp(v, value, n) == 0;
}

bool param_lists(const char *key, const char *word)
{
	size_t n, wanted = strlen(word);
	const char *v = param_find(key, &n);

	if (!v)
		return false;
	for (const char *end = v + n; v <= end;) {
		const char *item = v;

		while (v < end && *v != ',')
			v++;
		if ((size_t)(v - item) == wanted && memcmp(item, word, wanted) == 0)
			return true;
		v++;
	}
	return false;
}

/* Reads digits at *s and moves it behind them. */
static uint64_t number_at(const char **s, const char *end)
{
	uint64_t value = 0;
	unsigned int base = 10;

	if (end - *s > 2 && (*s)[0] == '0' && (*s)[1] == 'x') {
		base = 16;
		*s += 2;
	}
	for (; *s < end; (*s)++) {
		unsigned int digit;
		char c = **s;

		if (c >= '0' && c <= '9')
			digit = (unsigned int)(c - '0');
		else if (base == 16 && c >= 'a' && c <= 'f')
			digit = (unsigned int)(c - 'a') + 10;
		else
			break;
		value = value * base + digit;
	}
	return value;
}

uint64_t param_number(const char *key, uint64_t otherwise)
{
	size_t n;
	const char *v = param_find(key, &n);
	uint64_t value;

	if (!v)
		return otherwise;
	if (param_is(key, "max"))
		return UINT64_MAX;
	const char *end = v + n;

	value = number_at(&v, end);
	if (v < end) {
		switch (*v) {
		case 'k':
		case 'K':
			return value << 10;
		case 'M':
			return value << 20;
		case 'G':
			return value << 30;
		default:
			fatal("%s: not a number", key);
		}
	}
	return value;
}

uint64_t param_ms(const char *key, uint64_t otherwise_ms)
{
	size_t n;
	const char *v = param_find(key, &n);
	uint64_t value;

	if (!v)
		return otherwise_ms;
	const char *end = v + n;

	value = number_at(&v, end);
	return end - v == 2 && v[0] == 'm' && v[1] == 's' ? value : value * 1000;
}
