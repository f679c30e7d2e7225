// SPDX-License-Identifier: GPL-2.0-or-later
/* Finds the test that `mode=ktest:NAME` names ("all": every one but fuzz), runs it, and says how it ended. */
#include "ktest.h"

static const struct {
	const char *name;
	void (*run)(struct ktest *t);
	bool in_all;
} tests[] = {
	/* clang-format off */
	{"memory", ktest_memory, true},
	{"smp",    ktest_smp,    true},
	{"pci",    ktest_pci,    true},
	{"virtio", ktest_virtio, true},
#if defined(__x86_64__)
	{"restart", ktest_restart, true},
	{"serial", ktest_serial, true},
	{"cmos",   ktest_cmos,   true},
#else
	{"lpi",    ktest_lpi,    true},
#endif
	{"fuzz",   ktest_fuzz,   false},
	/* clang-format on */
};

static void run_one(unsigned int i)
{
	struct ktest t = {.name = tests[i].name};

	tests[i].run(&t);
	if (t.skipped)
		say("ktest: skip %s: %s\n", t.name, t.skipped);
	else if (!t.failures)
		say("ktest: ok %s checks=%u\n", t.name, t.checks);
	console_flush();
}

void ktest_run(void)
{
	size_t n;
	const char *mode = param_find("mode", &n);
	bool found = false;

	for (unsigned int i = 0; i < ARRAY_SIZE(tests); i++) {
		const char *name = tests[i].name;
		bool all = n == 9 && memcmp(mode, "ktest:all", 9) == 0 && tests[i].in_all;

		if (!all && (n != 6 + strlen(name) || memcmp(mode + 6, name, n - 6) != 0))
			continue;
		found = true;
		run_one(i);
	}
	if (!found)
		fatal("no such test");
	say("ktest: end\n");
}
