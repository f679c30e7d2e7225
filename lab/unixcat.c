// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * unixcat PATH: connects its input and output to a UNIX stream socket, which busybox's nc cannot. Ends when the socket
 * does. Tests use it to speak to control sockets inside a lab host.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Pass on what there is; 0 at the end of @from, -1 when @to is gone. */
static ssize_t copy(int from, int to)
{
	char data[65536];
	ssize_t n = read(from, data, sizeof(data)), done = 0;

	while (done < n) {
		ssize_t m = write(to, data + done, (size_t)(n - done));

		if (m < 0)
			return -1;
		done += m;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct sockaddr_un peer = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = sock, .events = POLLIN}};

	if (argc != 2 || strlen(argv[1]) >= sizeof(peer.sun_path)) {
		fprintf(stderr, "usage: unixcat PATH\n");
		return 2;
	}
	memcpy(peer.sun_path, argv[1], strlen(argv[1]));
	if (sock < 0 || connect(sock, (struct sockaddr *)&peer, sizeof(peer)) < 0) {
		fprintf(stderr, "unixcat: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	while (poll(p, 2, -1) > 0) {
		if (p[0].revents && copy(0, sock) <= 0) {
			shutdown(sock, SHUT_WR);
			p[0].fd = -1;
		}
		if (p[1].revents && copy(sock, 1) <= 0)
			break;
	}
	return 0;
}
