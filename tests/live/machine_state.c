// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saves a running machine in one process and runs on in another, with nothing but the library: the state code on its
 * own, before any migration or snapshot format.
 *
 *	machine-state save DIR MS KEY=VALUE...		run for MS milliseconds, pause, save into DIR/state and DIR/ram, end
 *	machine-state save DIR stdin KEY=VALUE...	the same, when standard input says something or ends
 *	machine-state load DIR MODE KEY=VALUE...	MODE migrate or restore; runs until the guest ends
 *
 * KEY=VALUE are configuration options. Exit status: 0 saved, or the guest powered off; 1 anything else; 3 the guest
 * panicked or KVM failed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "vmm/machine.h"

#define STATE_MAX (16 << 20)
#define CHUNK	  (64 * 1024)

struct run {
	struct loop *loop;
	struct machine *machine;
	const char *directory;
	int status;
};

static void on_event(void *opaque, enum machine_event event, bool guest)
{
	struct run *run = opaque;

	if (event == MACHINE_EVENT_SHUTDOWN && guest)
		run->status = 0;
	else if (event == MACHINE_EVENT_PANIC ||
		 machine_get_status(run->machine) == MACHINE_INTERNAL_ERROR)
		run->status = 3;
	else
		return;
	loop_stop(run->loop);
}

static int open_in(const char *directory, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(-1, "%s: cannot open", path);
	return fd;
}

static int write_ram(struct ram *ram, int fd)
{
	static const uint8_t zeroes[CHUNK];

	if (ftruncate(fd, (off_t)ram->size_bytes) < 0)
		return -1;
	for (unsigned int r = 0; r < ram->nregions; r++) {
		const struct ram_region *region = &ram->region[r];

		for (uint64_t at = 0; at < region->size_bytes; at += CHUNK) {
			uint64_t file = region->first_page * RAM_PAGE_BYTES + at;

			if (memcmp(region->hva + at, zeroes, CHUNK) != 0 &&
			    pwrite(fd, region->hva + at, CHUNK, (off_t)file) != CHUNK)
				return -1;
		}
	}
	return 0;
}

static int read_ram(struct ram *ram, int fd)
{
	for (unsigned int r = 0; r < ram->nregions; r++) {
		const struct ram_region *region = &ram->region[r];
		off_t at = (off_t)(region->first_page * RAM_PAGE_BYTES);
		off_t end = at + (off_t)region->size_bytes, begin = at;

		/* Holes of the file are holes of RAM. */
		while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
			if (pread(fd, region->hva + (at - begin), CHUNK, at) != CHUNK)
				return -1;
			at += CHUNK;
		}
	}
	return 0;
}

/* Sections that need not be the same in two saves: clocks go on; a restored guest has a new id, and is told of it. */
static bool may_differ(const char *name, size_t len)
{
	static const char *const names[] = {"x86_tsc", "x86_clock", "arm64_clock", "vmgenid_state",
					    "power_state"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (len == strlen(names[i]) && !memcmp(name, names[i], len))
			return true;
	}
	return false;
}

/* Sections that may differ by so many bytes. */
static size_t may_differ_by(const char *name, size_t len)
{
	/* The current count of the local APIC's timer. */
	if (len == 9 && !memcmp(name, "x86_lapic", 9))
		return 4;
	/* The pending interrupt that tells a restored guest of its new id: one bit of the distributor's. */
	if (len == 10 && !memcmp(name, "arm64_gicd", 10))
		return 1;
	return 0;
}

/* The next section whole (base/state.h): name length, name, instance, version, payload length, payload. */
static const uint8_t *next_section(struct reader *reader, size_t *len)
{
	const uint8_t *begin = reader->bytes;

	reader_bytes(reader, reader_u16(reader));
	reader_u32(reader);
	reader_u16(reader);
	reader_bytes(reader, reader_u32(reader));
	*len = (size_t)(reader->bytes - begin);
	return begin;
}

static int compare_sections(const uint8_t *one, size_t one_len, const uint8_t *other,
			    size_t other_len)
{
	size_t name_len = get_le16(one);
	const char *name = (const char *)one + 2;
	size_t differ = 0, at = 0;

	if (one_len != other_len || memcmp(one, other, 2 + name_len) != 0)
		return fail(-1, "machine-state: section %.*s of %zu bytes, not %zu", (int)name_len,
			    name, other_len, one_len);
	if (may_differ(name, name_len))
		return 0;
	for (size_t i = 0; i < one_len; i++) {
		if (one[i] != other[i] && !differ++)
			at = i;
	}
	if (differ <= may_differ_by(name, name_len))
		return 0;
	return fail(-1, "machine-state: section %.*s/%u differs in %zu bytes, first at %zu",
		    (int)name_len, name, get_le32(one + 2 + name_len), differ, at);
}

static void keep_other(const struct run *run, const struct buf *state)
{
	AUTO_FD fd = open_in(run->directory, "again", O_WRONLY | O_CREAT | O_TRUNC);

	if (fd >= 0 && write(fd, state->bytes, state->len) != (ssize_t)state->len)
		log_warn("machine-state: %s/again is not whole", run->directory);
}

/*
 * Two saves of a paused machine say the same: saving changes nothing. So do a saved machine and the one that was made of
 * it: what is loaded is what was saved. Where they do not, the second is left in DIR/again.
 */
static int check_same(const struct run *run, const void *bytes, size_t len)
{
	struct machine *machine = run->machine;
	struct reader one, other;
	struct buf second;
	int error;

	buf_init(&second, STATE_MAX);
	error = machine_save(machine, &second);
	reader_init(&one, bytes, len);
	reader_init(&other, second.bytes, second.len);
	while (!error && one.left && other.left) {
		size_t one_len, other_len;
		const uint8_t *a = next_section(&one, &one_len);
		const uint8_t *b = next_section(&other, &other_len);

		error = compare_sections(a, one_len, b, other_len);
	}
	if (!error && (one.left || other.left || one.error || other.error))
		error = fail(-1, "machine-state: one save has more sections than the other");
	if (error)
		keep_other(run, &second);
	buf_fini(&second);
	return error;
}

static int save(struct run *run)
{
	AUTO_FD state_fd = open_in(run->directory, "state", O_WRONLY | O_CREAT | O_TRUNC);
	AUTO_FD ram_fd = open_in(run->directory, "ram", O_RDWR | O_CREAT | O_TRUNC);
	struct buf state;
	int error;

	if (state_fd < 0 || ram_fd < 0)
		return -1;
	buf_init(&state, STATE_MAX);
	error = machine_pause(run->machine);
	if (!error)
		error = machine_save(run->machine, &state);
	if (!error)
		error = check_same(run, state.bytes, state.len);
	if (!error && write(state_fd, state.bytes, state.len) != (ssize_t)state.len)
		error = -1;
	if (!error)
		error = write_ram(machine_ram(run->machine), ram_fd);
	buf_fini(&state);
	return error;
}

static void on_timer(void *opaque)
{
	struct run *run = opaque;

	run->status = save(run) ? 1 : 0;
	loop_stop(run->loop);
}

static void on_stdin(void *opaque, int fd, uint32_t events)
{
	on_timer(opaque);
}

static int load(struct run *run, enum clock_mode mode)
{
	AUTO_FD state_fd = open_in(run->directory, "state", O_RDONLY);
	AUTO_FD ram_fd = open_in(run->directory, "ram", O_RDONLY);
	AUTO_FREE uint8_t *bytes = malloc(STATE_MAX);
	ssize_t len;

	if (state_fd < 0 || ram_fd < 0 || !bytes)
		return -1;
	len = read(state_fd, bytes, STATE_MAX);
	if (len <= 0 || read_ram(machine_ram(run->machine), ram_fd))
		return -1;
	if (machine_load(run->machine, bytes, (size_t)len, mode))
		return -1;
	return check_same(run, bytes, (size_t)len);
}

static int take_options(struct config *config, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		char *equals = strchr(argv[i], '=');

		if (!equals)
			return fail(-1, "machine-state: %s: not KEY=VALUE", argv[i]);
		*equals = '\0';
		if (config_set(config, argv[i], equals + 1))
			return -1;
	}
	return config_check(config);
}

static int run_save(struct run *run, const struct config *config, const char *when)
{
	struct loop_watch *watch;
	struct machine_events events = {.opaque = run, .event = on_event};
	struct loop_timer *timer;

	if (loop_timer_new(run->loop, on_timer, run, &timer) ||
	    machine_new(&run->machine, config, run->loop, &events) || machine_start(run->machine))
		return -1;
	if (strcmp(when, "stdin") != 0)
		loop_timer_arm(timer, strtoul(when, NULL, 10) * 1000);
	else if (loop_add_fd(run->loop, 0, EPOLLIN, on_stdin, run, &watch))
		return -1;
	loop_run(run->loop);
	return 0;
}

static int run_load(struct run *run, const struct config *config, const char *mode)
{
	struct machine_events events = {.opaque = run, .event = on_event};

	if (machine_new_incoming(&run->machine, config, run->loop, &events) ||
	    load(run, strcmp(mode, "restore") ? CLOCK_MIGRATE : CLOCK_RESTORE) ||
	    machine_start(run->machine))
		return -1;
	loop_run(run->loop);
	return 0;
}

int main(int argc, char **argv)
{
	struct run run = {.status = 1};
	struct config config;

	if (argc < 4)
		return 2;
	config_init(&config);
	/* The files are opened when the sandbox would have closed. */
	config.sandbox = SANDBOX_OFF;
	run.directory = argv[2];
	if (take_options(&config, argc - 4, argv + 4) || loop_new(&run.loop))
		return 2;
	if (!strcmp(argv[1], "save") ? run_save(&run, &config, argv[3])
				     : run_load(&run, &config, argv[3]))
		run.status = 1;
	machine_free(run.machine);
	loop_free(run.loop);
	config_fini(&config);
	return run.status;
}
