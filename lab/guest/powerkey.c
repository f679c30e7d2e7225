// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * powerkey READY COMMAND...: waits for a power button (ACPI's on x86-64, gpio-keys on arm64) to be pressed, then becomes the
 * command. It looks for input devices again while it waits, for they may come after it; the file READY
 * is made when the first one is watched.
 */
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools.h"

#define DEVICES_MAX 16
#define RESCAN_MS   500

static bool has_power_key(int fd)
{
	unsigned char keys[KEY_MAX / 8 + 1] = {0};

	return ioctl(fd, EVIOCGBIT(EV_KEY, sizeof(keys)), keys) >= 0 &&
	       (keys[KEY_POWER / 8] >> KEY_POWER % 8 & 1);
}

/* Open those input devices that have such a key and are not open yet. */
static void open_devices(struct pollfd *p, const char *ready)
{
	for (int i = 0; i < DEVICES_MAX; i++) {
		char path[32];

		if (p[i].fd >= 0)
			continue;
		snprintf(path, sizeof(path), "/dev/input/event%d", i);
		p[i].fd = open(path, O_RDONLY | O_CLOEXEC);
		p[i].events = POLLIN;
		if (p[i].fd >= 0 && !has_power_key(p[i].fd)) {
			close(p[i].fd);
			p[i].fd = -1;
		} else if (p[i].fd >= 0) {
			close(open(ready, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
		}
	}
}

static bool is_pressed(int fd)
{
	struct input_event event;

	return read(fd, &event, sizeof(event)) == sizeof(event) && event.type == EV_KEY &&
	       event.code == KEY_POWER && event.value == 1;
}

int powerkey_main(int argc, char **argv)
{
	struct pollfd p[DEVICES_MAX];

	if (argc < 3) {
		fprintf(stderr, "usage: powerkey READY COMMAND...\n");
		return 2;
	}
	for (int i = 0; i < DEVICES_MAX; i++)
		p[i].fd = -1;
	for (;;) {
		open_devices(p, argv[1]);
		if (poll(p, DEVICES_MAX, RESCAN_MS) <= 0)
			continue;
		for (int i = 0; i < DEVICES_MAX; i++) {
			if (p[i].fd < 0 || !(p[i].revents & POLLIN) || !is_pressed(p[i].fd))
				continue;
			printf("powerkey: pressed\n");
			fflush(stdout);
			execvp(argv[2], argv + 2);
			perror(argv[2]);
			return 127;
		}
	}
}
