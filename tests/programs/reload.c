// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM that moves into a fresh process each time SIGUSR1 comes: paused, saved, and loaded by a process that knows nothing
 * but the state's bytes, RAM's bytes and the same configuration. For tests of saving and loading as such, without
 * channels or files. The process id stays (it is an exec), so does the terminal.
 *
 *	reload [--restore] OPTIONS...		options as of tern run; sandbox off, for a sandboxed process cannot exec
 *
 * Prints "reload: generation N" on standard error each time the VM runs again. Exit status: 0 the guest powered off,
 * 3 it panicked, 2 anything else.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "vmm/config.h"
#include "vmm/machine.h"

#define STATE_MAX (64 << 20)

/* How a generation hands over to the next: in the environment, "number state-fd ram-fd". */
#define HANDOVER "TERN_RELOAD"

struct program {
	char **argv;
	enum clock_mode mode;
	unsigned int generation;
	struct loop *loop;
	struct machine *machine;
	struct loop_watch *input;
	int status;
};

static void on_event(void *opaque, enum machine_event event, bool guest)
{
	struct program *program = opaque;

	if (event == MACHINE_EVENT_SHUTDOWN)
		program->status = guest ? 0 : 2;
	else if (event == MACHINE_EVENT_PANIC)
		program->status = 3;
	else
		return;
	loop_stop(program->loop);
}

/* The state in a memfd that survives exec; -1 on an error, which has been logged. */
static int save_state(struct program *program)
{
	struct buf state;
	int fd = memfd_create("state", 0);

	buf_init(&state, STATE_MAX);
	if (machine_pause(program->machine) || machine_save(program->machine, &state) ||
	    write(fd, state.bytes, state.len) != (ssize_t)state.len)
		close_fd(&fd);
	buf_fini(&state);
	return fd;
}

/* Does not return when all is well. */
static void hand_over(struct program *program)
{
	int ram_fd = dup(machine_ram(program->machine)->memfd); /* without close-on-exec */
	int state_fd = save_state(program);
	char handover[64];

	if (state_fd < 0 || ram_fd < 0)
		return;
	snprintf(handover, sizeof(handover), "%u %d %d", program->generation + 1, state_fd, ram_fd);
	setenv(HANDOVER, handover, 1);
	execv("/proc/self/exe", program->argv);
	log_error("reload: exec: %s", strerror(errno));
}

static void on_signal(void *opaque, int fd, uint32_t events)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	hand_over(opaque);
	loop_stop(((struct program *)opaque)->loop);
}

static void on_input(void *opaque, int fd, uint32_t events)
{
	struct program *program = opaque;
	char bytes[256];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n > 0) {
		machine_serial_input(program->machine, bytes, n);
		return;
	}
	loop_watch_free(program->input);
	program->input = NULL;
}

static int watch(struct program *program)
{
	struct loop_watch *signal_watch;
	struct termios modes;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop_add_fd(program->loop, fd, EPOLLIN, on_signal, program, &signal_watch))
		return -1;
	/* A file or /dev/null is always ready and cannot be waited for. */
	if (lseek(STDIN_FILENO, 0, SEEK_CUR) >= 0 || errno != ESPIPE)
		return 0;
	if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &modes) == 0) {
		modes.c_lflag &= ~(ICANON | ECHO);
		modes.c_oflag &= ~OPOST; /* the guest ends its lines itself */
		tcsetattr(STDIN_FILENO, TCSANOW, &modes);
	}
	return loop_add_fd(program->loop, STDIN_FILENO, EPOLLIN, on_input, program,
			   &program->input);
}

static int read_all(int fd, uint8_t *to, uint64_t len)
{
	for (uint64_t done = 0; done < len;) {
		ssize_t n = pread(fd, to + done, len - done, done);

		if (n <= 0)
			return fail(-EIO, "reload: memory of the generation before: %s",
				    strerror(errno));
		done += n;
	}
	return 0;
}

/* What the generation before left: RAM page by page number, then the state. */
static int take_over(struct program *program, int state_fd, int ram_fd)
{
	struct ram *ram = machine_ram(program->machine);
	off_t len = lseek(state_fd, 0, SEEK_END);
	AUTO_FREE uint8_t *state = malloc(len);
	int error = 0;

	for (unsigned int i = 0; i < ram->nregions && !error; i++) {
		AUTO_FD part = dup(ram_fd);
		struct ram_region *region = &ram->region[i];
		uint8_t *from = mmap(NULL, region->size_bytes, PROT_READ, MAP_SHARED, part,
				     region->first_page << RAM_PAGE_SHIFT);

		if (from == MAP_FAILED)
			return fail(-errno, "reload: map memory: %s", strerror(errno));
		memcpy(region->hva, from, region->size_bytes);
		munmap(from, region->size_bytes);
	}
	if (!error)
		error = read_all(state_fd, state, len);
	if (!error)
		error = machine_load(program->machine, state, len, program->mode);
	close(state_fd);
	close(ram_fd);
	return error;
}

static int start(struct program *program, const struct config *config)
{
	struct machine_events events = {.opaque = program, .event = on_event};
	const char *handover = getenv(HANDOVER);
	int state_fd, ram_fd, error;

	error = loop_new(&program->loop);
	if (!error && !handover)
		error = machine_new(&program->machine, config, program->loop, &events);
	if (!error && handover) {
		if (sscanf(handover, "%u %d %d", &program->generation, &state_fd, &ram_fd) != 3)
			return -EINVAL;
		error = machine_new_incoming(&program->machine, config, program->loop, &events);
		if (!error)
			error = take_over(program, state_fd, ram_fd);
	}
	if (!error)
		error = watch(program);
	return error ? error : machine_start(program->machine);
}

static int take_options(struct config *config, struct program *program, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *key = argv[i] + 2;
		bool is_flag = !strcmp(key, "rng");

		if (!strcmp(argv[i], "--restore")) {
			program->mode = CLOCK_RESTORE;
			continue;
		}
		if (strncmp(argv[i], "--", 2) != 0 || (!is_flag && i + 1 >= argc))
			return fail(-EINVAL, "reload: %s", argv[i]);
		if (config_set(config, key, is_flag ? "on" : argv[++i]))
			return -EINVAL;
	}
	return config_set(config, "sandbox", "off") ? -EINVAL : config_check(config);
}

int main(int argc, char **argv)
{
	struct program program = {.argv = argv, .mode = CLOCK_MIGRATE, .status = 2};
	struct config config;

	config_init(&config);
	if (take_options(&config, &program, argc, argv) == 0 && start(&program, &config) == 0) {
		fprintf(stderr, "reload: generation %u\n", program.generation);
		loop_run(program.loop);
	}
	machine_free(program.machine);
	loop_free(program.loop);
	config_fini(&config);
	return program.status;
}
