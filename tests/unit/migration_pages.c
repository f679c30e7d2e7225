// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * migration/pages_out and pages_in, against each other over sockets: rounds arrive whole, zero pages and holes cost nothing,
 * damage is found and healed, a hostile source is refused, a cut ends everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "migration/pages_in.h"
#include "migration/pages_out.h"

#define NPAGES 4096ULL /* 16 MiB: eight chunks */
#define HELLO  (WIRE_HEADER_BYTES + 8 + WIRE_SESSION_BYTES + 4)

static const uint8_t session[WIRE_SESSION_BYTES] = "0123456789abcde";

struct pair {
	unsigned int n;
	uint8_t *from, *to;
	int from_fd, to_fd; /* their files */
	int from_wake, to_wake;
	uint64_t map[NPAGES / 64], armed[NPAGES / 64];
	struct pages_out *out;
	struct pages_in *in;
	int ends[16]; /* of the target, for tests that speak themselves */
};

/* RAM and its file, which is closed with it. */
static uint8_t *map_ram(int *fd)
{
	void *at;

	*fd = memfd_create("test-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	g_assert_cmpint(*fd, >=, 0);
	g_assert_cmpint(ftruncate(*fd, NPAGES * RAM_PAGE_BYTES), ==, 0);
	at = mmap(NULL, NPAGES * RAM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	g_assert_true(at != MAP_FAILED);
	return at;
}

static void unmap_ram(uint8_t *ram, int fd)
{
	munmap(ram, NPAGES * RAM_PAGE_BYTES);
	close(fd);
}

static int rearm(void *opaque, page_t first, uint64_t npages)
{
	struct pair *pair = opaque;

	for (page_t page = first; page < first + npages; page++)
		pair->armed[page / 64] |= 1ULL << (page % 64);
	return 0;
}

/* has_file: the target may write fresh pages to RAM's file; else it must map them. */
static void connect_pair_by(struct pair *pair, unsigned int n, bool has_file)
{
	struct pages_out_env out = {.npages = NPAGES, .rearm = rearm, .opaque = pair};
	struct pages_in_env in = {.npages = NPAGES};
	struct transport source[16], target[16];

	*pair = (struct pair){.n = n};
	out.ram = pair->from = map_ram(&pair->from_fd);
	in.ram = pair->to = map_ram(&pair->to_fd);
	in.ram_fd = has_file ? pair->to_fd : -1;
	out.wake_fd = pair->from_wake = eventfd(0, EFD_NONBLOCK);
	in.wake_fd = pair->to_wake = eventfd(0, EFD_NONBLOCK);
	for (unsigned int i = 0; i < n; i++) {
		int ends[2];

		g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
		transport_init(&source[i], ends[0], NULL, "test");
		transport_init(&target[i], ends[1], NULL, "test");
		pair->ends[i] = ends[1];
	}
	g_assert_cmpint(pages_out_new(&pair->out, &out, source, n, session), ==, 0);
	for (unsigned int i = 0; i < n; i++) {
		uint8_t bytes[HELLO];
		struct wire_header header;
		struct wire_data_hello hello;

		g_assert_cmpint(recv(pair->ends[i], bytes, HELLO, MSG_WAITALL), ==, HELLO);
		g_assert_cmpint(wire_parse_header(bytes, 0, "test", &header), ==, 0);
		g_assert_cmpint(wire_verify(bytes, &header, "test"), ==, 0);
		g_assert_cmpint(
			wire_get_data_hello(bytes + WIRE_HEADER_BYTES, header.head_bytes, &hello),
			==, 0);
		g_assert_cmpuint(hello.channel, ==, i);
		g_assert_cmpmem(hello.session, sizeof(hello.session), session, sizeof(session));
	}
	g_assert_cmpint(pages_in_new(&pair->in, &in, target, n), ==, 0);
}

static void connect_pair(struct pair *pair, unsigned int n)
{
	connect_pair_by(pair, n, true);
}

static void disconnect_pair(struct pair *pair)
{
	pages_out_free(pair->out);
	pages_in_free(pair->in);
	unmap_ram(pair->from, pair->from_fd);
	unmap_ram(pair->to, pair->to_fd);
	close(pair->from_wake);
	close(pair->to_wake);
}

static void wait_wake(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	uint64_t count;

	g_assert_cmpint(poll(&wait, 1, 20000), ==, 1);
	g_assert_cmpint(read(fd, &count, sizeof(count)), ==, sizeof(count));
}

static void send_round(struct pair *pair, uint32_t round, const uint64_t *map,
		       const uint64_t *present)
{
	int status;

	pages_out_begin(pair->out, round, map, present);
	while ((status = pages_out_status(pair->out)) == 0)
		wait_wake(pair->from_wake);
	g_assert_cmpint(status, ==, 1);
	while (pages_in_rounds(pair->in) == round)
		wait_wake(pair->to_wake);
	g_assert_cmpint(pages_in_rounds(pair->in), ==, round + 1);
}

static void write_page(uint8_t *ram, page_t page, uint8_t value)
{
	memset(ram + page * RAM_PAGE_BYTES, value, RAM_PAGE_BYTES);
}

static void set(uint64_t *map, page_t page)
{
	map[page / 64] |= 1ULL << (page % 64);
}

static void assert_same(const struct pair *pair)
{
	g_assert_cmpuint(pages_in_damaged(pair->in), ==, 0);
	g_assert_true(!memcmp(pair->from, pair->to, NPAGES * RAM_PAGE_BYTES));
}

static void move_in_rounds(unsigned int channels, bool has_file)
{
	struct pair pair;
	struct pages_out_stats stats;

	connect_pair_by(&pair, channels, has_file);
	for (page_t page = 0; page < NPAGES; page += 1 + page % 7)
		write_page(pair.from, page, (uint8_t)(page % 255 + 1));
	send_round(&pair, 0, NULL, NULL);
	assert_same(&pair);
	pages_out_get_stats(pair.out, &stats);
	g_assert_cmpuint(stats.data + stats.zero, ==, NPAGES);
	g_assert_cmpuint(stats.zero, >, 0);

	/* Some change, some become zero, one that was zero is written, one only at its last byte. */
	for (page_t page = 0; page < NPAGES; page += 129) {
		write_page(pair.from, page, 0xa5);
		set(pair.map, page);
	}
	write_page(pair.from, 7 * 512 + 3, 0);
	set(pair.map, 7 * 512 + 3);
	pair.from[5 * 512 * RAM_PAGE_BYTES + RAM_PAGE_BYTES - 1] = 1;
	set(pair.map, 5 * 512);
	send_round(&pair, 1, pair.map, NULL);
	assert_same(&pair);
	for (page_t page = 0; page < NPAGES; page++)
		if (pair.map[page / 64] >> (page % 64) & 1)
			g_assert_true(pair.armed[page / 64] >> (page % 64) & 1);

	/* An empty round is one, too. */
	memset(pair.map, 0, sizeof(pair.map));
	send_round(&pair, 2, pair.map, NULL);
	assert_same(&pair);
	disconnect_pair(&pair);
}

static void test_rounds(gconstpointer channels)
{
	move_in_rounds(GPOINTER_TO_UINT(channels), true);
}

static void test_mapped(void)
{
	move_in_rounds(2, false);
}

/* Pages that are not present are not looked at: here they would not be zero. */
static void test_holes(void)
{
	uint64_t present[NPAGES / 64] = {};
	struct pair pair;

	connect_pair(&pair, 2);
	memset(pair.from, 0x11, NPAGES * RAM_PAGE_BYTES);
	set(present, 700);
	send_round(&pair, 0, NULL, present);
	for (page_t page = 0; page < NPAGES; page++)
		g_assert_cmpuint(pair.to[page * RAM_PAGE_BYTES], ==, page == 700 ? 0x11 : 0);
	disconnect_pair(&pair);
}

static void test_bandwidth(void)
{
	struct pair pair;
	gint64 begin;

	connect_pair(&pair, 2);
	memset(pair.from, 0x22, NPAGES * RAM_PAGE_BYTES);
	pages_out_set_bandwidth(pair.out, 64 << 20);
	begin = g_get_monotonic_time();
	send_round(&pair, 0, NULL, NULL);
	/* 16 MiB at 64 MiB/s; what the first batch of each channel may be ahead is less than half of it. */
	g_assert_cmpint(g_get_monotonic_time() - begin, >, 125000);
	assert_same(&pair);
	disconnect_pair(&pair);
}

/* Returns how many pages of the round were left out. */
static uint64_t cut_round(struct pair *pair, uint32_t round, const uint64_t *map,
			  const uint64_t *present)
{
	uint64_t pages = 0, left;

	pages_out_set_bandwidth(pair->out, 16 << 20);
	pages_out_begin(pair->out, round, map, present);
	g_usleep(100000);
	pages_out_cut(pair->out);
	while (pages_out_status(pair->out) == 0)
		wait_wake(pair->from_wake);
	while (pages_in_rounds(pair->in) == round)
		wait_wake(pair->to_wake);
	g_assert_cmpint(pages_in_rounds(pair->in), ==, round + 1);
	left = pages_out_left(pair->out, pair->map);
	for (page_t page = 0; page < NPAGES; page++)
		pages += pair->map[page / 64] >> (page % 64) & 1;
	g_assert_cmpuint(pages, ==, left);
	return left;
}

/* A round of a second is cut short after a tenth: what it left out is known, and all is there after another. */
static void test_cut_round(gconstpointer channels)
{
	uint64_t present[NPAGES / 64], left, less;
	struct pair pair;

	connect_pair(&pair, GPOINTER_TO_UINT(channels));
	memset(present, 0xff, sizeof(present));
	present[NPAGES / 64 - 1] = 0; /* the last 64 have never been touched */
	memset(pair.from, 0x33, (NPAGES - 64) * RAM_PAGE_BYTES);
	left = cut_round(&pair, 0, NULL, present);
	g_assert_cmpuint(left, >, 0);
	g_assert_cmpuint(left, <, NPAGES - 64);
	g_assert_cmpuint(pair.map[NPAGES / 64 - 1], ==, 0);
	less = cut_round(&pair, 1, pair.map, NULL);
	g_assert_cmpuint(less, >, 0);
	g_assert_cmpuint(less, <, left);
	pages_out_set_bandwidth(pair.out, 0);
	send_round(&pair, 2, pair.map, NULL);
	assert_same(&pair);
	g_assert_cmpuint(pages_out_left(pair.out, pair.map), ==, 0);
	disconnect_pair(&pair);
}

/* ---- One who speaks the format himself ---- */

struct talker {
	int fd;
	struct pages_in *in;
	uint8_t *ram;
	int ram_fd, wake;
	uint64_t sequence;
};

static void talker_init(struct talker *talker)
{
	struct pages_in_env env = {.npages = NPAGES};
	struct transport transport;
	int ends[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
	transport_init(&transport, ends[1], NULL, "test");
	env.ram = talker->ram = map_ram(&talker->ram_fd);
	env.ram_fd = talker->ram_fd;
	env.wake_fd = talker->wake = eventfd(0, EFD_NONBLOCK);
	talker->fd = ends[0];
	talker->sequence = 1;
	g_assert_cmpint(pages_in_new(&talker->in, &env, &transport, 1), ==, 0);
}

static void talker_fini(struct talker *talker)
{
	close(talker->fd);
	pages_in_free(talker->in);
	unmap_ram(talker->ram, talker->ram_fd);
	close(talker->wake);
}

static void talk(struct talker *talker, uint32_t type, const uint8_t *head, size_t len,
		 const void *body, uint64_t body_bytes)
{
	g_autofree uint8_t *bytes = g_malloc0(WIRE_HEADER_BYTES + len);

	memcpy(bytes + WIRE_HEADER_BYTES, head, len);
	wire_seal(bytes, type, (uint32_t)len, body_bytes, talker->sequence++);
	g_assert_cmpint(send(talker->fd, bytes, WIRE_HEADER_BYTES + len, 0), ==,
			(ssize_t)(WIRE_HEADER_BYTES + len));
	if (body_bytes)
		g_assert_cmpint(send(talker->fd, body, body_bytes, 0), ==, (ssize_t)body_bytes);
}

static void talk_page(struct talker *talker, uint32_t round, page_t page, const uint8_t *bytes,
		      uint64_t hash)
{
	struct wire_batch batch = {.round = round, .nruns = 1, .npages = 1, .hash = {hash}};
	uint8_t head[WIRE_PAGES_HEAD_MAX];

	batch.run[0] = (struct wire_run){.first = page, .npages = 1, .kind = WIRE_DATA};
	talk(talker, WIRE_PAGES, head, wire_put_pages(head, &batch), bytes, RAM_PAGE_BYTES);
}

static void talk_end(struct talker *talker, uint32_t round, uint64_t pages)
{
	uint8_t head[12];

	put_le32(head, round);
	put_le64(head + 4, pages);
	talk(talker, WIRE_ROUND_END, head, sizeof(head), NULL, 0);
}

static int64_t rounds_after_wake(struct talker *talker)
{
	wait_wake(talker->wake);
	return pages_in_rounds(talker->in);
}

static void test_damage(void)
{
	uint8_t page[RAM_PAGE_BYTES];
	struct talker talker;

	talker_init(&talker);
	memset(page, 3, sizeof(page));
	talk_page(&talker, 0, 5, page, hash_bytes(page, sizeof(page)) ^ 1);
	talk_page(&talker, 0, 6, page, hash_bytes(page, sizeof(page)));
	talk_end(&talker, 0, 2);
	g_assert_cmpint(rounds_after_wake(&talker), ==, 1);
	g_assert_cmpuint(pages_in_damaged(talker.in), ==, 1);
	/* The same page again, whole: healed. */
	talk_page(&talker, 1, 5, page, hash_bytes(page, sizeof(page)));
	talk_end(&talker, 1, 1);
	g_assert_cmpint(rounds_after_wake(&talker), ==, 2);
	g_assert_cmpuint(pages_in_damaged(talker.in), ==, 0);
	talker_fini(&talker);
}

/* A file that takes no more, as a full memory file system: said as what it is. */
static void test_no_memory(void)
{
	uint8_t page[RAM_PAGE_BYTES];
	struct talker talker;

	talker_init(&talker);
	g_assert_cmpint(fcntl(talker.ram_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), ==, 0);
	memset(page, 3, sizeof(page));
	talk_page(&talker, 0, 5, page, hash_bytes(page, sizeof(page)));
	g_assert_cmpint(rounds_after_wake(&talker), ==, -EPERM);
	g_assert_nonnull(strstr(fail_text(), "data 0: guest memory: "));
	talker_fini(&talker);
}

static void talk_nonsense(struct talker *talker, unsigned int which)
{
	struct wire_batch batch = {.nruns = 1};
	uint8_t head[WIRE_PAGES_HEAD_MAX], page[RAM_PAGE_BYTES] = {};
	struct wire_run *run = &batch.run[0];

	*run = (struct wire_run){.first = 0, .npages = 1, .kind = WIRE_ZERO};
	switch (which) {
	case 0:
		run->first = NPAGES;
		break;
	case 1:
		run->first = UINT64_MAX;
		run->npages = 2;
		break;
	case 2:
		run->first = 511;
		run->npages = 2;
		break;
	case 3:
		run->kind = 3;
		break;
	case 4:
		run->npages = 0;
		break;
	case 5:
		batch.round = 1;
		break;
	case 6: /* a body that the runs do not name */
		talk(talker, WIRE_PAGES, head, wire_put_pages(head, &batch), page, sizeof(page));
		return;
	case 7:
		talk_end(talker, 0, 1);
		return;
	case 8:
		talk_end(talker, 1, 0);
		return;
	case 9:
		talker->sequence++;
		talk_end(talker, 0, 0);
		return;
	case 10: /* a control record has no place here */
		talk(talker, WIRE_OWN, session, sizeof(session), NULL, 0);
		return;
	case 11: /* a head of one byte too many */
		memset(head, 0, sizeof(head));
		talk(talker, WIRE_ROUND_END, head, 13, NULL, 0);
		return;
	}
	talk(talker, WIRE_PAGES, head, wire_put_pages(head, &batch), NULL, 0);
}

static void test_nonsense(void)
{
	for (unsigned int which = 0; which < 12; which++) {
		struct talker talker;

		g_test_message("nonsense %u", which);
		talker_init(&talker);
		talk_nonsense(&talker, which);
		g_assert_cmpint(rounds_after_wake(&talker), ==, -EBADMSG);
		talker_fini(&talker);
	}
}

/* One bit of a head. */
static void test_flip(void)
{
	uint8_t bytes[WIRE_HEADER_BYTES + 12] = {};
	struct talker talker;

	talker_init(&talker);
	wire_seal(bytes, WIRE_ROUND_END, 12, 0, 1);
	bytes[WIRE_HEADER_BYTES + 8] ^= 0x10;
	g_assert_cmpint(send(talker.fd, bytes, sizeof(bytes), 0), ==, sizeof(bytes));
	g_assert_cmpint(rounds_after_wake(&talker), ==, -EBADMSG);
	talker_fini(&talker);
}

/* A target that reads nothing: the source is freed all the same. And one that goes away. */
static void test_cut(void)
{
	int ram_fd;
	uint8_t *ram = map_ram(&ram_fd);
	struct pages_out_env env = {
		.ram = ram, .npages = NPAGES, .wake_fd = eventfd(0, EFD_NONBLOCK)};

	memset(ram, 1, NPAGES * RAM_PAGE_BYTES);
	for (int closes = 0; closes < 2; closes++) {
		struct transport transport;
		struct pages_out *out;
		int ends[2];

		g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
		transport_init(&transport, ends[0], NULL, "test");
		g_assert_cmpint(pages_out_new(&out, &env, &transport, 1, session), ==, 0);
		pages_out_begin(out, 0, NULL, NULL);
		if (closes) {
			close(ends[1]);
			wait_wake(env.wake_fd);
			g_assert_cmpint(pages_out_status(out), ==, -ECONNRESET);
			g_assert_nonnull(strstr(fail_text(), "data 0"));
		}
		pages_out_free(out);
		if (!closes)
			close(ends[1]);
	}
	close(env.wake_fd);
	unmap_ram(ram, ram_fd);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	g_test_add_data_func("/migration/pages/rounds/1", GUINT_TO_POINTER(1), test_rounds);
	g_test_add_data_func("/migration/pages/rounds/2", GUINT_TO_POINTER(2), test_rounds);
	g_test_add_data_func("/migration/pages/rounds/3", GUINT_TO_POINTER(3), test_rounds);
	g_test_add_data_func("/migration/pages/rounds/16", GUINT_TO_POINTER(16), test_rounds);
	g_test_add_func("/migration/pages/mapped", test_mapped);
	g_test_add_func("/migration/pages/no-memory", test_no_memory);
	g_test_add_func("/migration/pages/holes", test_holes);
	g_test_add_func("/migration/pages/bandwidth", test_bandwidth);
	g_test_add_data_func("/migration/pages/cut-round/1", GUINT_TO_POINTER(1), test_cut_round);
	g_test_add_data_func("/migration/pages/cut-round/2", GUINT_TO_POINTER(2), test_cut_round);
	g_test_add_func("/migration/pages/damage", test_damage);
	g_test_add_func("/migration/pages/nonsense", test_nonsense);
	g_test_add_func("/migration/pages/flip", test_flip);
	g_test_add_func("/migration/pages/cut", test_cut);
	return g_test_run();
}
