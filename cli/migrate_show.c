// SPDX-License-Identifier: GPL-2.0-or-later
/* Lines about a migration, for a terminal, for a log, for a program. */
#include "cli/migrate_show.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/auto.h"
#include "memory/ram.h"

#define PLAIN_MS 1000 /* a plain line at least so often */
#define JSON_MS	 100

static long long number(const json_t *tern, const char *key)
{
	return json_integer_value(json_object_get(tern, key));
}

static const char *text_of(const json_t *tern, const char *key)
{
	const char *text = json_string_value(json_object_get(tern, key));

	return text ? text : "";
}

void migrate_text_time(char *text, size_t size, long long us)
{
	if (us < 1000)
		snprintf(text, size, "%lld us", us);
	else if (us < 1000000)
		snprintf(text, size, us < 10000 ? "%.2f ms" : "%.1f ms", (double)us / 1e3);
	else if (us < 120000000)
		snprintf(text, size, us < 10000000 ? "%.2f s" : "%.1f s", (double)us / 1e6);
	else
		snprintf(text, size, "%lld min %lld s", us / 60000000, us / 1000000 % 60);
}

void migrate_text_bytes(char *text, size_t size, double bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

/* The standstill, with those that came to nothing; a VM that was paused felt none. */
static void text_standstill(char *text, size_t size, const json_t *tern)
{
	long long early = number(tern, "early-stops");
	char time[32];

	*text = '\0';
	if (!number(tern, "standstill-us"))
		return;
	migrate_text_time(time, sizeof(time), number(tern, "standstill-us"));
	snprintf(text, size, "; the guest stood still for %s", time);
	if (!early)
		return;
	migrate_text_time(time, sizeof(time), number(tern, "early-stops-us"));
	snprintf(text + strlen(text), size - strlen(text), ", and %lld time%s before for %s%s",
		 early, early == 1 ? "" : "s", time, early == 1 ? "" : " in all");
}

/* Nothing where no ring could be full. */
static void text_ring_waits(char *text, size_t size, const json_t *tern)
{
	long long waits = number(tern, "ring-waits");
	char all[32], longest[32];

	*text = '\0';
	if (!json_object_get(tern, "ring-waits"))
		return;
	migrate_text_time(all, sizeof(all), number(tern, "ring-wait-us"));
	migrate_text_time(longest, sizeof(longest), number(tern, "ring-wait-longest-us"));
	if (!waits)
		snprintf(text, size, "; no vCPU waited for a full ring");
	else if (waits == 1)
		snprintf(text, size, "; one vCPU waited once for a full ring (%s)", longest);
	else
		snprintf(text, size,
			 "; vCPUs waited %lld times for a full ring (%s in all, %s at most)", waits,
			 all, longest);
}

void migrate_text_done(char *text, size_t size, const json_t *tern)
{
	static const struct {
		const char *key, *words;
	} parts[] = {
		{"pause-us", "pause"}, {"harvest-us", "last harvest"}, {"pages-us", "last pages"},
		{"state-us", "state"}, {"handover-us", "hand-over"},   {"resume-us", "resume"},
	};
	char total[32], bytes[32], part[32], standstill[160], waits[160];
	size_t len;
	long long rounds = number(tern, "round") + 1;

	migrate_text_time(total, sizeof(total), number(tern, "elapsed-us"));
	migrate_text_bytes(bytes, sizeof(bytes), (double)number(tern, "bytes"));
	migrate_text_time(part, sizeof(part), number(tern, "downtime-us"));
	snprintf(text, size, "%s, %s in %lld round%s, %lld pages sent again, downtime %s (", total,
		 bytes, rounds, rounds == 1 ? "" : "s", number(tern, "pages-again"), part);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		len = strlen(text);
		migrate_text_time(part, sizeof(part), number(tern, parts[i].key));
		snprintf(text + len, size - len, "%s%s %s", i ? ", " : "", parts[i].words, part);
	}
	text_standstill(standstill, sizeof(standstill), tern);
	text_ring_waits(waits, sizeof(waits), tern);
	len = strlen(text);
	snprintf(text + len, size - len, ")%s%s", standstill, waits);
}

/* How long the rounds may still take: what is left and what comes meanwhile, at the rates of now. */
static void text_left(char *text, size_t size, const json_t *tern)
{
	double send = (double)number(tern, "send-rate"),
	       dirty = (double)number(tern, "dirty-rate") * RAM_PAGE_BYTES,
	       left = (double)number(tern, "pages-left") * RAM_PAGE_BYTES;
	char time[32];

	*text = '\0';
	if (send <= 0)
		return;
	if (dirty >= send) {
		snprintf(text, size, ", no end in sight");
		return;
	}
	migrate_text_time(time, sizeof(time), (long long)(left / (send - dirty) * 1e6));
	snprintf(text, size, ", %s to go", time);
}

static void text_progress(char *text, size_t size, const json_t *tern)
{
	const char *phase = text_of(tern, "phase");
	char rate[32], dirty[32], downtime[48] = "", eta[64], time[32];

	if (strcmp(phase, "rounds") != 0) {
		migrate_text_time(time, sizeof(time), number(tern, "elapsed-us"));
		snprintf(text, size, "%s, %s%s%s", phase, time, *text_of(tern, "text") ? ": " : "",
			 text_of(tern, "text"));
		return;
	}
	migrate_text_bytes(rate, sizeof(rate), (double)number(tern, "send-rate"));
	migrate_text_bytes(dirty, sizeof(dirty),
			   (double)number(tern, "dirty-rate") * RAM_PAGE_BYTES);
	if (json_object_get(tern, "expected-downtime-us")) {
		migrate_text_time(time, sizeof(time), number(tern, "expected-downtime-us"));
		snprintf(downtime, sizeof(downtime), ", downtime %s", time);
	}
	text_left(eta, sizeof(eta), tern);
	/* The first round has no rate yet. */
	if (!number(tern, "send-rate")) {
		snprintf(text, size, "round %lld: %lld pages left", number(tern, "round"),
			 number(tern, "pages-left"));
		return;
	}
	snprintf(text, size, "round %lld: %lld pages left, %s/s, dirty %s/s%s%s",
		 number(tern, "round"), number(tern, "pages-left"), rate, dirty, downtime, eta);
}

void migrate_show_init(struct migrate_show *show, const char *vm, const char *uri, bool json)
{
	*show = (struct migrate_show){.vm = vm, .uri = uri, .to = stdout, .round = -1};
	if (json)
		show->how = SHOW_JSON;
	else if (isatty(STDOUT_FILENO))
		show->how = SHOW_TERMINAL;
}

static void end_line(struct migrate_show *show)
{
	if (show->open_line)
		fputc('\n', show->to);
	show->open_line = false;
}

static unsigned int columns(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
		return 80;
	return size.ws_col;
}

static void put_json(struct migrate_show *show, const char *event, const json_t *info,
		     const char *words)
{
	json_t *line =
		json_pack("{s:s, s:s, s:s}", "event", event, "vm", show->vm, "uri", show->uri);
	char *text;

	if (info)
		json_object_set(line, "migration", (json_t *)info);
	if (words)
		json_object_set_new(line, "text", json_string(words));
	text = json_dumps(line, JSON_COMPACT);
	fprintf(show->to, "%s\n", text ? text : "{}");
	free(text);
	json_decref(line);
}

/* Once for each text: what the target has to say against it, but takes it all the same. */
static void put_warning(struct migrate_show *show, const json_t *tern)
{
	const char *text = text_of(tern, "text");

	if (!*text || !strncmp(text, show->warned, sizeof(show->warned) - 1))
		return;
	snprintf(show->warned, sizeof(show->warned), "%s", text);
	end_line(show);
	fprintf(show->to, "%s: the target says: %s\n", show->vm, text);
}

void migrate_show(struct migrate_show *show, const json_t *info, int64_t now_ms)
{
	const json_t *tern = json_object_get(info, "x-tern");
	const char *phase = text_of(tern, "phase");
	long long round = number(tern, "round");
	bool news = strcmp(phase, show->phase) != 0 || round != show->round;
	int every = show->how == SHOW_LINES ? PLAIN_MS : JSON_MS;
	char text[700];

	if (!news && show->shown_ms && now_ms - show->shown_ms < every)
		return;
	show->shown_ms = now_ms;
	show->round = round;
	snprintf(show->phase, sizeof(show->phase), "%s", phase);
	if (show->how == SHOW_JSON) {
		put_json(show, "progress", info, NULL);
	} else {
		if (!strcmp(phase, "connect"))
			put_warning(show, tern);
		text_progress(text, sizeof(text), tern);
		if (show->how == SHOW_TERMINAL) {
			fprintf(show->to, "\r%.*s\033[K", (int)columns() - 1, text);
			show->open_line = true;
		} else {
			fprintf(show->to, "%s: %s\n", show->vm, text);
		}
	}
	fflush(show->to);
}

void migrate_show_note(struct migrate_show *show, const char *format, ...)
{
	va_list args;

	if (show->how == SHOW_JSON)
		return;
	end_line(show);
	fprintf(show->to, "%s: ", show->vm);
	va_start(args, format);
	vfprintf(show->to, format, args);
	va_end(args);
	fputc('\n', show->to);
	fflush(show->to);
}

void migrate_show_end(struct migrate_show *show, const char *outcome, const json_t *info,
		      const char *words)
{
	if (show->how == SHOW_JSON) {
		put_json(show, outcome, info, words);
	} else {
		end_line(show);
		fprintf(show->to, "%s: %s\n", show->vm, words);
	}
	fflush(show->to);
}
