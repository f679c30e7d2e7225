// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * netwatch ADDRESS INTERVAL_MS: sends numbered echo requests (ICMP, RFC 792) at that interval until its input ends, waits
 * three seconds for what is still on its way, and says which of them were never answered. Needs root.
 *
 *   netwatch: sent=N answered=N twice=N wrong=N     wrong: an answer with other bytes than the request
 *   netwatch: lost from_ms=N to_ms=N count=N        a run of unanswered ones: when the first and the last were sent
 *
 * Milliseconds count from its start. It begins with "netwatch: at_ms=0", and answers each line of input with such a line of
 * that moment, so that whoever reads both can tell what lies before and after.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WATCH_MAX    60000 /* sequence numbers have 16 bits, and none is used twice */
#define STRAGGLER_MS 3000

struct probe {
	struct icmphdr head;
	uint64_t number;
	uint8_t filling[1000];
} __attribute__((packed));

static uint32_t sent_ms[WATCH_MAX];
static uint8_t answers[WATCH_MAX];
static unsigned int n_sent, n_answered, n_twice, n_wrong;

static uint32_t now_ms(void)
{
	static struct timespec start;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (start.tv_sec == 0)
		start = now;
	return (uint32_t)((now.tv_sec - start.tv_sec) * 1000 +
			  (now.tv_nsec - start.tv_nsec) / 1000000);
}

/* RFC 1071. */
static uint16_t checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? (uint32_t)bytes[i] << 8 : bytes[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static struct probe probe_of(unsigned int number)
{
	struct probe probe = {.head.type = ICMP_ECHO, .number = number};

	probe.head.un.echo.id = htons(0x7e12);
	probe.head.un.echo.sequence = htons((uint16_t)number);
	for (size_t i = 0; i < sizeof(probe.filling); i++)
		probe.filling[i] = (uint8_t)(number + i * 7);
	probe.head.checksum = checksum(&probe, sizeof(probe));
	return probe;
}

static void send_one(int sock, const struct sockaddr_in *to)
{
	struct probe probe = probe_of(n_sent);

	sent_ms[n_sent] = now_ms();
	/* What is not sent is not answered either, and so is in the report. */
	(void)!sendto(sock, &probe, sizeof(probe), MSG_DONTWAIT, (const struct sockaddr *)to,
		      sizeof(*to));
	n_sent++;
}

static void receive_all(int sock)
{
	uint8_t packet[2048];
	struct probe probe, want;
	ssize_t len;
	size_t head;

	while ((len = recv(sock, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
		head = (size_t)((const struct iphdr *)packet)->ihl * 4;
		if ((size_t)len != head + sizeof(probe))
			continue;
		memcpy(&probe, packet + head, sizeof(probe));
		if (probe.head.type != ICMP_ECHOREPLY || probe.number >= n_sent)
			continue;
		want = probe_of((unsigned int)probe.number);
		if (memcmp(probe.filling, want.filling, sizeof(want.filling)) != 0)
			n_wrong++;
		else if (answers[probe.number]++ > 0)
			n_twice++;
		else
			n_answered++;
	}
}

static void report(void)
{
	printf("netwatch: sent=%u answered=%u twice=%u wrong=%u\n", n_sent, n_answered, n_twice,
	       n_wrong);
	for (unsigned int i = 0, end; i < n_sent; i = end + 1) {
		for (end = i; end < n_sent && !answers[end]; end++)
			;
		if (end > i)
			printf("netwatch: lost from_ms=%u to_ms=%u count=%u\n", sent_ms[i],
			       sent_ms[end - 1], end - i);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	int sock = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	int interval = argc == 3 ? atoi(argv[2]) : 0, wait;
	struct pollfd polls[2] = {{.fd = sock, .events = POLLIN},
				  {.fd = STDIN_FILENO, .events = POLLIN}};
	uint32_t next = now_ms(), end = 0;
	char line[64];

	if (interval < 1 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		errx(2, "usage: netwatch ADDRESS INTERVAL_MS");
	if (sock < 0)
		err(1, "socket");
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("netwatch: at_ms=0\n");
	while (!end || now_ms() < end) {
		wait = (int)((end ? end : next) - now_ms());
		if (poll(polls, end ? 1 : 2, wait > 0 ? wait : 0) < 0)
			err(1, "poll");
		receive_all(sock);
		if (!end && polls[1].revents) {
			if (read(STDIN_FILENO, line, sizeof(line)) > 0)
				printf("netwatch: at_ms=%u\n", now_ms());
			else
				end = now_ms() + STRAGGLER_MS;
		}
		if (!end && now_ms() >= next) {
			if (n_sent == WATCH_MAX)
				errx(1, "%d requests sent: no more numbers", WATCH_MAX);
			send_one(sock, &to);
			next += (uint32_t)interval;
		}
	}
	report();
	return 0;
}
