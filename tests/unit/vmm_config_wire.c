// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmm/config_wire.c and config_map.c: what is written is read back, no gap is filled, nothing unknown or out of bounds is
 * taken, and a host's means can be laid over it without changing what the guest sees.
 */
#include <errno.h>
#include <glib.h>
#include <jansson.h>
#include <string.h>

#include "base/log.h"
#include "vmm/config_map.h"
#include "vmm/config_wire.h"

static void set(struct config *config, const char *key, const char *value)
{
	g_assert_cmpint(config_set(config, key, value), ==, 0);
}

/* Effective values, as a machine has them. */
static void make(struct config *config)
{
	config_init(config);
	set(config, "name", "web");
	set(config, "uuid", "123e4567-e89b-42d3-a456-4266141740ff");
	set(config, "cpus", "3");
	set(config, "memory", "96M,hugetlb=2M,prealloc=on");
	set(config, "kernel", "/boot/v\xc3\xa9");
	set(config, "cmdline", "console=ttyS0 \"quoted\" \\ tab\t");
	set(config, "disk", "path=/a.img,serial=S 1,queues=2");
	set(config, "disk", "path=/b.img,readonly=on,cached=on,queues=16");
	set(config, "net", "tap=tap0,mac=52:54:00:00:00:01,queues=4,vhost=off");
	set(config, "net", "passt,mac=52:54:00:00:00:02");
	set(config, "rng", "on");
	set(config, "serial", "pty");
	set(config, "reset-limit", "7");
	config->disk[0].block_bytes = 512;
	config->disk[0].size_bytes = 512 * 3;
	config->disk[1].block_bytes = 4096;
	config->disk[1].size_bytes = 1ULL << 40;
	config->net[1].npairs = 1;
	config->net[0].offloads = OFFLOADS_ON;
	config->net[1].offloads = OFFLOADS_OFF;
}

static char *write_json(const struct config *config)
{
	struct buf out;
	char *text;

	buf_init(&out, CONFIG_WIRE_BYTES);
	g_assert_cmpint(config_to_json(config, &out), ==, 0);
	text = g_strndup((const char *)out.bytes, out.len);
	buf_fini(&out);
	return text;
}

static void expect_same(const struct config *a, const struct config *b)
{
	g_assert_cmpstr(a->name, ==, b->name);
	g_assert_cmpmem(a->uuid, 16, b->uuid, 16);
	g_assert_cmpuint(a->cpus, ==, b->cpus);
	g_assert_cmpuint(a->memory_bytes, ==, b->memory_bytes);
	g_assert_cmpint(a->backing, ==, b->backing);
	g_assert_cmpint(a->prealloc, ==, b->prealloc);
	g_assert_cmpstr(a->kernel, ==, b->kernel);
	g_assert_cmpstr(a->initrd, ==, b->initrd);
	g_assert_cmpstr(a->cmdline, ==, b->cmdline);
	g_assert_cmpint(a->rng, ==, b->rng);
	g_assert_cmpint(a->serial, ==, b->serial);
	g_assert_cmpstr(a->serial_path, ==, b->serial_path);
	g_assert_cmpstr(a->cpu, ==, b->cpu);
	g_assert_cmpuint(a->reset_limit, ==, b->reset_limit);
	g_assert_cmpuint(a->ndisks, ==, b->ndisks);
	g_assert_cmpuint(a->nnets, ==, b->nnets);
	for (unsigned int i = 0; i < a->ndisks; i++) {
		const struct config_disk *p = &a->disk[i], *q = &b->disk[i];

		g_assert_cmpstr(p->path, ==, q->path);
		g_assert_cmpstr(p->serial, ==, q->serial);
		g_assert_true(p->readonly == q->readonly && p->cached == q->cached &&
			      p->nqueues == q->nqueues && p->block_bytes == q->block_bytes &&
			      p->size_bytes == q->size_bytes);
	}
	for (unsigned int i = 0; i < a->nnets; i++) {
		const struct config_net *p = &a->net[i], *q = &b->net[i];

		g_assert_cmpstr(p->tap, ==, q->tap);
		g_assert_cmpmem(p->mac, 6, q->mac, 6);
		g_assert_true(p->kind == q->kind && p->npairs == q->npairs &&
			      p->offloads == q->offloads && p->vhost == q->vhost);
	}
}

static void test_round_trip(void)
{
	struct config config, back;
	char *text;

	make(&config);
	/* Of this host alone: must not travel. */
	set(&config, "sandbox", "log");
	set(&config, "dirty-tracking", "bitmap");
	set(&config, "control", "/tmp/secret.sock");
	text = write_json(&config);
	g_test_message("%s", text);
	g_assert_null(strstr(text, "secret"));
	g_assert_cmpint(config_from_json(&back, text, strlen(text)), ==, 0);
	expect_same(&config, &back);
	g_assert_cmpint(back.sandbox, ==, SANDBOX_ON);
	g_assert_cmpint(back.dirty.mode, ==, DIRTY_AUTO);
	g_assert_null(back.control_path);
	config_fini(&back);
	g_free(text);
	/* The other values of what has two. */
	set(&config, "rng", "off");
	set(&config, "initrd", "/boot/initrd");
	set(&config, "serial", "file=/tmp/log");
	set(&config, "reset-limit", "unlimited");
	set(&config, "cmdline", "");
	text = write_json(&config);
	g_assert_cmpint(config_from_json(&back, text, strlen(text)), ==, 0);
	expect_same(&config, &back);
	config_fini(&back);
	config_fini(&config);
	g_free(text);
}

static void test_every_cut(void)
{
	struct config config, back;
	char *text;
	size_t len;

	make(&config);
	text = write_json(&config);
	len = strlen(text);
	for (size_t n = 0; n < len; n++) {
		char *part = g_memdup2(text, n ? n : 1); /* so that a read beyond it is seen */

		g_assert_cmpint(config_from_json(&back, part, n), ==, -EBADMSG);
		config_fini(&back);
		g_free(part);
	}
	g_free(text);
	config_fini(&config);
}

static json_t *parsed(void)
{
	struct config config;
	char *text;
	json_t *root;

	make(&config);
	text = write_json(&config);
	root = json_loads(text, 0, NULL);
	g_assert_nonnull(root);
	g_free(text);
	config_fini(&config);
	return root;
}

static int read_json(json_t *root)
{
	char *text = json_dumps(root, JSON_COMPACT);
	struct config config;
	int error = config_from_json(&config, text, strlen(text));

	if (error)
		g_test_message("%s", fail_text());
	config_fini(&config);
	free(text);
	return error;
}

static json_t *object_at(json_t *root, const char *list)
{
	return list ? json_array_get(json_object_get(root, list), 0) : root;
}

/* Nothing is filled in: each key of each object is missed, and one more is refused unless it is an "x-". */
static void test_gaps(void)
{
	static const char *const lists[] = {NULL, "disks", "nets"};
	unsigned int keys = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
		json_t *whole = parsed(), *value;
		const char *key;

		json_object_foreach(object_at(whole, lists[i]), key, value)
		{
			json_t *root = parsed();

			json_object_del(object_at(root, lists[i]), key);
			g_assert_cmpint(read_json(root), ==, -EBADMSG);
			json_object_set_new(object_at(root, lists[i]), key, json_object());
			g_assert_cmpint(read_json(root), ==, -EBADMSG);
			json_decref(root);
			keys++;
		}
		json_object_set_new(object_at(whole, lists[i]), "x-news", json_integer(1));
		g_assert_cmpint(read_json(whole), ==, 0);
		json_object_set_new(object_at(whole, lists[i]), "news", json_integer(1));
		g_assert_cmpint(read_json(whole), ==, -EBADMSG);
		g_assert_nonnull(strstr(fail_text(), "news"));
		json_decref(whole);
	}
	g_assert_cmpuint(keys, ==, 19 + 7 + 6);
}

struct bad {
	const char *list, *key, *json;
};

static const struct bad bad_values[] = {
	{NULL, "machine", "2"},
	{NULL, "name", "\"../x\""},
	{NULL, "name", "\"\""},
	{NULL, "uuid", "\"123e4567e89b42d3a4564266141740f\""},
	{NULL, "uuid", "\"123e4567e89b42d3a4564266141740fG\""},
	{NULL, "cpus", "0"},
	{NULL, "cpus", "65"},
	{NULL, "cpus", "-1"},
	{NULL, "cpus", "4294967297"},
	{NULL, "cpus", "1.0"},
	{NULL, "cpus", "\"1\""},
	{NULL, "cpus-max", "4"},
	{NULL, "cpu", "\"z80\""},
	{NULL, "memory-bytes", "1"},
	{NULL, "memory-bytes", "-4096"},
	{NULL, "memory-bytes", "100663297"},
	{NULL, "memory-max-bytes", "201326592"},
	{NULL, "hugetlb", "\"4M\""},
	{NULL, "hugetlb", "1"},
	{NULL, "prealloc", "1"},
	{NULL, "kernel", "null"},
	{NULL, "kernel", "\"\""},
	{NULL, "kernel", "\"/a\\nb\""},
	{NULL, "kernel", "\"/a\\u001b[2J\""},
	{NULL, "cmdline", "null"},
	{NULL, "serial", "\"tty\""},
	{NULL, "serial", "\"file\""}, /* without a path */
	{NULL, "reset-limit", "4294967296"},
	{NULL, "reset-limit", "-1"},
	{NULL, "disks", "{}"},
	{NULL, "disks", "[1]"},
	{NULL, "disks", "[{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}]"},
	{NULL, "nets", "null"},
	{NULL, "nets", "[[]]"},
	{"disks", "path", "null"},
	{"disks", "path", "\"/b.img\""}, /* twice, and not read-only */
	{"disks", "serial", "\"123456789012345678901\""},
	{"disks", "serial", "\"\\u00e9\""},
	{"disks", "queues", "0"},
	{"disks", "queues", "17"},
	{"disks", "queues", "65537"},
	{"disks", "block-bytes", "1024"},
	{"disks", "block-bytes", "4096"}, /* of a disk of 3 sectors */
	{"disks", "size-bytes", "0"},
	{"disks", "size-bytes", "513"},
	{"nets", "backend", "\"passt\""}, /* with a tap */
	{"nets", "backend", "\"vde\""},
	{"nets", "tap", "null"},
	{"nets", "tap", "\"../../x\""},
	{"nets", "tap", "\"1234567890123456\""},
	{"nets", "mac", "\"525400000002\""}, /* the other card's */
	{"nets", "mac", "\"01005e000001\""},
	{"nets", "mac", "\"000000000000\""},
	{"nets", "mac", "\"52540000000\""},
	{"nets", "queue-pairs", "9"},
	{"nets", "offloads", "\"\""},
	{"nets", "offloads", "true"},
	{"nets", "vhost", "null"},
};

static void test_bad_values(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(bad_values); i++) {
		const struct bad *bad = &bad_values[i];
		json_t *root = parsed();

		g_test_message("%s = %s", bad->key, bad->json);
		g_assert_nonnull(json_object_get(object_at(root, bad->list), bad->key));
		json_object_set_new(object_at(root, bad->list), bad->key,
				    json_loads(bad->json, JSON_DECODE_ANY, NULL));
		g_assert_cmpint(read_json(root), ==, -EBADMSG);
		json_decref(root);
	}
}

static void test_bad_bytes(void)
{
	static const char *const texts[] = {"",
					    "[]",
					    "null",
					    "{}x",
					    "{\"machine\": 1, \"machine\": 1}",
					    "\"x\"",
					    "{\"a\"",
					    "{\"name\": \"\xff\"}"};
	struct config config;
	char *large = g_strnfill(CONFIG_WIRE_BYTES + 1, ' ');

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_assert_cmpint(config_from_json(&config, texts[i], strlen(texts[i])), ==,
				-EBADMSG);
		config_fini(&config);
	}
	g_assert_cmpint(config_from_json(&config, large, CONFIG_WIRE_BYTES + 1), ==, -EBADMSG);
	g_assert_nonnull(strstr(fail_text(), "too large"));
	config_fini(&config);
	g_free(large);
}

/* What cannot travel is refused where it is, by name. */
static void test_cannot_travel(void)
{
	struct config config;
	struct buf out;

	buf_init(&out, CONFIG_WIRE_BYTES);
	make(&config);
	set(&config, "kernel", "/boot/\xff");
	g_assert_cmpint(config_to_json(&config, &out), ==, -EINVAL);
	g_assert_nonnull(strstr(fail_text(), "kernel"));
	config_fini(&config);
	make(&config);
	config.disk[1].block_bytes = 0; /* not resolved */
	g_assert_cmpint(config_to_json(&config, &out), ==, -EINVAL);
	g_assert_nonnull(strstr(fail_text(), "disks 1 block-bytes"));
	config_fini(&config);
	make(&config);
	free(config.name);
	config.name = NULL;
	g_assert_cmpint(config_to_json(&config, &out), ==, -EINVAL);
	config_fini(&config);
	make(&config);
	out.max = 100;
	g_assert_cmpint(config_to_json(&config, &out), ==, -ENOSPC);
	config_fini(&config);
	buf_fini(&out);
}

/* ---- The map ---- */

static int apply(const char *const *entries, struct config *config)
{
	struct config_map map;
	int error = 0;

	config_map_init(&map);
	make(config);
	for (; *entries && !error; entries++)
		error = config_map_add(&map, *entries);
	if (!error)
		error = config_map_apply(&map, config);
	config_map_fini(&map);
	return error;
}

#define APPLY(config, ...) apply((const char *const[]){__VA_ARGS__, NULL}, config)

static void test_map(void)
{
	struct config config, before;

	g_assert_cmpint(
		APPLY(&config, "disk1=/c.img", "net0=tap3", "serial=file=/tmp/log", "kernel=/k"),
		==, 0);
	make(&before);
	g_assert_cmpstr(config.disk[0].path, ==, "/a.img");
	g_assert_cmpstr(config.disk[1].path, ==, "/c.img");
	g_assert_cmpstr(config.net[0].tap, ==, "tap3");
	g_assert_cmpint(config.serial, ==, SERIAL_FILE);
	g_assert_cmpstr(config.serial_path, ==, "/tmp/log");
	g_assert_cmpstr(config.kernel, ==, "/k");
	/* Nothing else has changed. */
	set(&before, "serial", "file=/tmp/log");
	set(&before, "kernel", "/k");
	free(before.disk[1].path);
	before.disk[1].path = strdup("/c.img");
	free(before.net[0].tap);
	before.net[0].tap = strdup("tap3");
	expect_same(&before, &config);
	config_fini(&before);
	config_fini(&config);
	/* passt becomes a tap and offers what it did: the other way round it has too many pairs. */
	g_assert_cmpint(APPLY(&config, "net1=tap7"), ==, 0);
	g_assert_cmpint(config.net[1].kind, ==, NET_TAP);
	g_assert_cmpint(config.net[1].offloads, ==, OFFLOADS_OFF);
	config_fini(&config);
	g_assert_cmpint(APPLY(&config, "net0=passt"), ==, -EINVAL);
	config_fini(&config);
}

static void test_map_refuses(void)
{
	static const char *const bad[] = {
		"disk0",    "disk0=",	  "=x",		"disk=/a",
		"disk16=x", "disk01=x",	  "net8=a",	"net0=1234567890123456",
		"net0=a/b", "cpus=3",	  "disk2=x",	"net2=tap0",
		"initrd=x", "serial=off", "serial=tty", "disk0=/b.img"};
	struct config_map map;
	struct config config;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_test_message("%s", bad[i]);
		g_assert_cmpint(APPLY(&config, bad[i]), ==, -EINVAL);
		config_fini(&config);
	}
	g_assert_cmpint(APPLY(&config, "disk0=/x", "disk0=/y"), ==, -EINVAL);
	config_fini(&config);
	/* A file is written only where somebody here says so. */
	config_map_init(&map);
	make(&config);
	set(&config, "serial", "file=/etc/passwd");
	g_assert_cmpint(config_map_apply(&map, &config), ==, -EINVAL);
	g_assert_nonnull(strstr(fail_text(), "/etc/passwd"));
	config_fini(&config);
	/* No port: nothing to map. */
	make(&config);
	set(&config, "serial", "off");
	g_assert_cmpint(config_map_apply(&map, &config), ==, 0);
	g_assert_cmpint(config_map_add(&map, "serial=pty"), ==, 0);
	g_assert_cmpint(config_map_apply(&map, &config), ==, -EINVAL);
	config_fini(&config);
	config_map_fini(&map);
}

/* With `only`, each thing of this host must have been named here. */
static void test_map_only(void)
{
	static const char *const needed[] = {"kernel=/k", "initrd=/i", "disk0=/x", "disk1=/y",
					     "net0=tap9"};
	struct config_map map;
	struct config config;

	/* The last round leaves none out. */
	for (size_t left_out = 0; left_out <= G_N_ELEMENTS(needed); left_out++) {
		config_map_init(&map);
		map.only = true;
		for (size_t i = 0; i < G_N_ELEMENTS(needed); i++)
			if (i != left_out)
				g_assert_cmpint(config_map_add(&map, needed[i]), ==, 0);
		make(&config);
		set(&config, "initrd", "/boot/initrd");
		g_assert_cmpint(config_map_apply(&map, &config), ==,
				left_out < G_N_ELEMENTS(needed) ? -EINVAL : 0);
		config_fini(&config);
		config_map_fini(&map);
	}
}

static void test_map_host(void)
{
	struct config_map map;
	struct config config;

	config_map_init(&map);
	map.name = strdup("web2");
	map.control_path = strdup("/tmp/c.sock");
	map.sandbox = SANDBOX_LOG;
	map.dirty.mode = DIRTY_BITMAP;
	make(&config);
	g_assert_cmpint(config_map_apply(&map, &config), ==, 0);
	g_assert_cmpstr(config.name, ==, "web2");
	g_assert_cmpstr(config.control_path, ==, "/tmp/c.sock");
	g_assert_cmpint(config.sandbox, ==, SANDBOX_LOG);
	g_assert_cmpint(config.dirty.mode, ==, DIRTY_BITMAP);
	config_fini(&config);
	config_map_fini(&map);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	log_level = LOG_NONE;
	g_test_add_func("/config-wire/round-trip", test_round_trip);
	g_test_add_func("/config-wire/every-cut", test_every_cut);
	g_test_add_func("/config-wire/gaps", test_gaps);
	g_test_add_func("/config-wire/bad-values", test_bad_values);
	g_test_add_func("/config-wire/bad-bytes", test_bad_bytes);
	g_test_add_func("/config-wire/cannot-travel", test_cannot_travel);
	g_test_add_func("/config-map/apply", test_map);
	g_test_add_func("/config-map/refuses", test_map_refuses);
	g_test_add_func("/config-map/only", test_map_only);
	g_test_add_func("/config-map/host", test_map_host);
	return g_test_run();
}
