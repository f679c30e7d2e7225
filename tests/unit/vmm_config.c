// SPDX-License-Identifier: GPL-2.0-or-later
/* vmm/config*: every option by command line and by file, what is refused, and that nothing refused leaks or crashes. */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "vmm/config_option.h"

static void expect_config(int error, const char *key, const char *value)
{
	struct config config;

	config_init(&config);
	g_test_message("%s %s", key, value);
	g_assert_cmpint(config_set(&config, key, value), ==, error);
	config_fini(&config);
}

static int load(struct config *config, const char *json)
{
	char *path;
	int fd = g_file_open_tmp("tern-config-XXXXXX", &path, NULL), error;

	g_assert_cmpint(fd, >=, 0);
	close(fd);
	g_assert_true(g_file_set_contents(path, json, -1, NULL));
	config_init(config);
	error = config_load_file(config, path);
	g_unlink(path);
	g_free(path);
	return error;
}

static void refuse_file(const char *json)
{
	struct config config;

	g_test_message("%s", json);
	g_assert_cmpint(load(&config, json), ==, -EINVAL);
	config_fini(&config);
}

static void test_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"1K", 1024},
		{"512M", 512ULL << 20},
		{"2g", 2ULL << 30},
		{"16T", 16ULL << 40},
		{"18446744073709551615", UINT64_MAX},
		{"16777215T", 16777215ULL << 40},
	};
	static const char *const bad[] = {"",	       "M",    "-1",   "2GB",
					  "2 G",       "1.5G", "0x10", "18446744073709551616",
					  "16777216T", "2X"};
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		g_assert_true(config_parse_size(good[i].text, &bytes));
		g_assert_cmpuint(bytes, ==, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		g_assert_false(config_parse_size(bad[i], &bytes));
}

static void set_everything(struct config *config)
{
	static const char *const words[][2] = {
		{"name", "web-1.a_b"},
		{"cpus", "4"},
		{"memory", "2G,hugetlb=2M,prealloc=on"},
		{"kernel", "/boot/vmlinuz"},
		{"initrd", "/boot/initrd"},
		{"cmdline", "console=ttyS0 root=/dev/vda,x"},
		{"disk", "path=a,,b.img,serial=S1,queues=2"},
		{"disk", "c.img,readonly,cached=on"},
		{"net", "tap=tap0,mac=52:54:00:12:34:56,queues=2,vhost=off"},
		{"net", "passt"},
		{"rng", NULL},
		{"serial", "file=/tmp/log"},
		{"control", "/tmp/c.sock"},
		{"sandbox", "log"},
		{"dirty-tracking", "ring=4096"},
		{"reset-limit", "3"},
		{"uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f"},
	};

	config_init(config);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		g_assert_cmpint(config_set(config, words[i][0], words[i][1]), ==, 0);
	g_assert_cmpint(config_check(config), ==, 0);
}

static void assert_everything(const struct config *config)
{
	static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

	g_assert_cmpstr(config->name, ==, "web-1.a_b");
	g_assert_cmpuint(config->cpus, ==, 4);
	g_assert_cmpuint(config->memory_bytes, ==, 2ULL << 30);
	g_assert_cmpint(config->backing, ==, RAM_HUGETLB_2M);
	g_assert_true(config->prealloc);
	g_assert_cmpstr(config->kernel, ==, "/boot/vmlinuz");
	g_assert_cmpstr(config->initrd, ==, "/boot/initrd");
	g_assert_cmpstr(config->cmdline, ==, "console=ttyS0 root=/dev/vda,x");
	g_assert_cmpuint(config->ndisks, ==, 2);
	g_assert_cmpstr(config->disk[0].path, ==, "a,b.img");
	g_assert_cmpstr(config->disk[0].serial, ==, "S1");
	g_assert_cmpuint(config->disk[0].nqueues, ==, 2);
	g_assert_false(config->disk[0].readonly);
	g_assert_cmpstr(config->disk[1].path, ==, "c.img");
	g_assert_true(config->disk[1].readonly);
	g_assert_true(config->disk[1].cached);
	g_assert_cmpuint(config->nnets, ==, 2);
	g_assert_cmpint(config->net[0].kind, ==, NET_TAP);
	g_assert_cmpstr(config->net[0].tap, ==, "tap0");
	g_assert_cmpmem(config->net[0].mac, 6, mac, 6);
	g_assert_cmpuint(config->net[0].npairs, ==, 2);
	g_assert_false(config->net[0].vhost);
	g_assert_cmpint(config->net[1].kind, ==, NET_PASST);
	g_assert_true(config->net[1].vhost);
	g_assert_true(config->rng);
	g_assert_cmpint(config->serial, ==, SERIAL_FILE);
	g_assert_cmpstr(config->serial_path, ==, "/tmp/log");
	g_assert_cmpstr(config->control_path, ==, "/tmp/c.sock");
	g_assert_cmpint(config->sandbox, ==, SANDBOX_LOG);
	g_assert_cmpstr(config->cpu, ==, "host");
	g_assert_cmpint(config->dirty.mode, ==, DIRTY_RING);
	g_assert_cmpuint(config->dirty.ring_entries, ==, 4096);
	g_assert_cmpuint(config->reset_limit, ==, 3);
	g_assert_cmpuint(config->uuid[15], ==, 15);
}

static void test_command_line(void)
{
	struct config config, copy;

	set_everything(&config);
	assert_everything(&config);
	g_assert_cmpint(config_copy(&copy, &config), ==, 0);
	config_fini(&config);
	assert_everything(&copy);
	config_fini(&copy);
}

/* The same as set_everything(), in the file's ways of saying it: text, number, truth value, object, list. */
static void test_file(void)
{
	struct config config;

	g_assert_cmpint(
		load(&config,
		     "{\"name\": \"web-1.a_b\", \"cpus\": 4, \"cpu\": \"host\","
		     "\"memory\": {\"size\": \"2G\", \"hugetlb\": \"2M\", \"prealloc\": true},"
		     "\"kernel\": \"/boot/vmlinuz\", \"initrd\": \"/boot/initrd\","
		     "\"cmdline\": \"console=ttyS0 root=/dev/vda,x\","
		     "\"disk\": [{\"path\": \"a,b.img\", \"serial\": \"S1\", \"queues\": 2},"
		     "           \"c.img,readonly,cached=on\"],"
		     "\"net\": [{\"tap\": \"tap0\", \"mac\": \"52:54:00:12:34:56\", \"queues\": 2, "
		     "\"vhost\": false},"
		     "          {\"passt\": true}],"
		     "\"rng\": true, \"serial\": {\"file\": \"/tmp/log\"}, \"control\": "
		     "\"/tmp/c.sock\","
		     "\"sandbox\": \"log\", \"dirty-tracking\": {\"ring\": 4096}, \"reset-limit\": "
		     "3,"
		     "\"uuid\": \"00010203-0405-0607-0809-0a0b0c0d0e0f\"}"),
		==, 0);
	g_assert_cmpint(config_check(&config), ==, 0);
	assert_everything(&config);
	config_fini(&config);
}

/* Every row of the table is reachable by file under its own name. */
static void test_file_knows_every_option(void)
{
	for (const struct config_option *option = config_options(); option->key; option++) {
		g_autofree char *json = g_strdup_printf("{\"%s\": null}", option->key);

		refuse_file(json); /* for its value, which the message names; not for its key */
		g_assert_nonnull(config_option_find(option->key));
		g_assert_nonnull(option->syntax);
		g_assert_nonnull(option->help);
	}
}

static void test_refused(void)
{
	static const char *const bad[][2] = {
		{"nonsense", "1"},
		{"name", ""},
		{"name", "a/b"},
		{"name", ".hidden"},
		{"name", "-x"},
		{"name", "0123456789012345678901234567890123456789012345678901234567890123"},
		{"cpus", "0"},
		{"cpus", "65"},
		{"cpus", "1K"},
		{"cpus", "-1"},
		{"cpus", ""},
		{"memory", "lots"},
		{"memory", "2G,hugetlb=4M"},
		{"memory", "2G,hugetlb"},
		{"memory", "2G,prealloc=maybe"},
		{"memory", "2G,what=1"},
		{"kernel", ""},
		{"disk", ""},
		{"disk", "readonly=on"},
		{"disk", "path=a,serial=0123456789abcdef01234"},
		{"disk", "path=a,serial="},
		{"disk", "path=a,serial=\x01"},
		{"disk", "path=a,queues=0"},
		{"disk", "path=a,readonly=2"},
		{"net", "mac=52:54:00:12:34:56"},
		{"net", "tap=tap0,passt"},
		{"net", "tap=0123456789abcdef"},
		{"net", "tap=a/b"},
		{"net", "passt,mac=52:54:00:12:34"},
		{"net", "passt,mac=52:54:00:12:34:5"},
		{"net", "passt,mac=53:54:00:12:34:56"},
		{"net", "passt,mac=00:00:00:00:00:00"},
		{"net", "passt,mac=52:54:00:12:34:56x"},
		{"net", "passt=off"},
		{"rng", "perhaps"},
		{"serial", "file"},
		{"serial", "file="},
		{"serial", "tty"},
		{"sandbox", "none"},
		{"cpu", "pentium"},
		{"dirty-tracking", "ring=1000"},
		{"dirty-tracking", "ring=131072"},
		{"dirty-tracking", "log"},
		{"reset-limit", "-1"},
		{"uuid", "00010203-0405-0607-0809-0a0b0c0d0e"},
		{"uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f0"},
		{"uuid", "000102030405060708090a0b0c0d0e0f"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_config(-EINVAL, bad[i][0], bad[i][1]);
	expect_config(-EINVAL, "kernel", NULL);
}

static void test_refused_files(void)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{",
		"{\"cpus\": 1, \"cpus\": 2}",
		"{\"cpus\": 1.5}",
		"{\"cpus\": [1]}",
		"{\"cpus\": {\"n\": 1}}",
		"{\"nonsense\": 1}",
		"{\"memory\": {\"size\": {}}}",
		"{\"memory\": {\"what\": 1}}",
		"{\"disk\": [[]]}",
		"{\"disk\": [{}]}",
		"{\"disk\": {\"readonly\": true}}",
		"{\"kernel\": {\"path\": \"x\"}}",
		"{\"kernel\": \"a\\u0000b\"}",
	};
	struct config config;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse_file(bad[i]);
	config_init(&config);
	g_assert_cmpint(config_load_file(&config, "/nonexistent/file"), ==, -EINVAL);
	g_assert_cmpint(config_load_file(&config, "/dev/zero"), ==, -EINVAL); /* endless */
	g_assert_cmpint(config_load_file(&config, "/"), ==, -EINVAL);
	config_fini(&config);
}

static void expect_check(int error, const char *key, const char *value)
{
	struct config config;

	set_everything(&config);
	g_test_message("%s %s", key, value);
	g_assert_cmpint(config_set(&config, key, value), ==, 0);
	g_assert_cmpint(config_check(&config), ==, error);
	config_fini(&config);
}

static void test_cross_checks(void)
{
	struct config config;

	expect_check(0, "cpus", "64");
	expect_check(0, "memory", "2M");
	expect_check(-EINVAL, "memory", "1M");
	expect_check(-EINVAL, "memory", "2097153");
	expect_check(-EINVAL, "memory", "3M,hugetlb=2M");
	expect_check(-EINVAL, "memory", "512M,hugetlb=1G");
	expect_check(-EINVAL, "memory", "18446744073709547520");
	expect_check(-EINVAL, "disk", "c.img");
	expect_check(0, "disk", "c.img,readonly=on");
	expect_check(-EINVAL, "net", "passt,queues=2");
	expect_check(-EINVAL, "net", "passt,mac=52:54:00:12:34:56");
	config_init(&config);
	g_assert_cmpint(config_check(&config), ==, -EINVAL); /* no kernel */
	config_fini(&config);
}

static void test_lists_end(void)
{
	struct config config;

	config_init(&config);
	for (int i = 0; i < CONFIG_DISKS_MAX; i++)
		g_assert_cmpint(config_set(&config, "disk", "x,readonly=on"), ==, 0);
	g_assert_cmpint(config_set(&config, "disk", "x,readonly=on"), ==, -EINVAL);
	for (int i = 0; i < CONFIG_NETS_MAX; i++)
		g_assert_cmpint(config_set(&config, "net", "passt"), ==, 0);
	g_assert_cmpint(config_set(&config, "net", "passt"), ==, -EINVAL);
	config_fini(&config);
}

/* The last word counts, and does not keep parts of the one before. */
static void test_said_twice(void)
{
	struct config config;

	config_init(&config);
	g_assert_cmpint(config_set(&config, "memory", "2G,hugetlb=1G,prealloc=on"), ==, 0);
	g_assert_cmpint(config_set(&config, "memory", "1G"), ==, 0);
	g_assert_cmpint(config.backing, ==, RAM_SHMEM);
	g_assert_false(config.prealloc);
	g_assert_cmpint(config_set(&config, "dirty-tracking", "ring=4096"), ==, 0);
	g_assert_cmpint(config_set(&config, "dirty-tracking", "ring"), ==, 0);
	g_assert_cmpuint(config.dirty.ring_entries, ==, 0);
	g_assert_cmpint(config_set(&config, "kernel", "a"), ==, 0);
	g_assert_cmpint(config_set(&config, "kernel", "b"), ==, 0);
	g_assert_cmpstr(config.kernel, ==, "b");
	config_fini(&config);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/config/sizes", test_sizes);
	g_test_add_func("/config/command-line", test_command_line);
	g_test_add_func("/config/file", test_file);
	g_test_add_func("/config/file-knows-every-option", test_file_knows_every_option);
	g_test_add_func("/config/refused", test_refused);
	g_test_add_func("/config/refused-files", test_refused_files);
	g_test_add_func("/config/cross-checks", test_cross_checks);
	g_test_add_func("/config/lists-end", test_lists_end);
	g_test_add_func("/config/said-twice", test_said_twice);
	return g_test_run();
}
