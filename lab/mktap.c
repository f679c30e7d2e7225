// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mktap NAME UID [multi]: makes a lasting tap interface that the user with that number may attach to, with several
 * queues if wanted, which busybox's tunctl cannot.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (argc < 3 || strlen(argv[1]) >= sizeof(request.ifr_name))
		errx(2, "usage: mktap NAME UID [multi]");
	if (argc > 3 && strcmp(argv[3], "multi") == 0)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(request.ifr_name, argv[1], strlen(argv[1]));
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0 ||
	    ioctl(tun, TUNSETOWNER, strtoul(argv[2], NULL, 10)) < 0 ||
	    ioctl(tun, TUNSETPERSIST, 1) < 0)
		err(1, "%s", argv[1]);
	return 0;
}
