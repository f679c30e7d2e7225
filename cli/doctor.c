// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tern doctor: what this host can do, found out by trying. Runs the checks of the tables, each in a child with a time
 * limit, and prints what came of it. What is tried is in doctor_*.c, and in kvm/probe.c for KVM.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "cli/command.h"
#include "kvm/probe.h"

#define CHECK_SECONDS 10

/* What children write and the parent reads. */
struct board {
	struct doctor_result result;
	struct probe_fact facts[KVM_PROBE_FACTS_MAX];
};

struct report {
	bool as_json;
	json_t *checks;
	bool kvm_works;
};

void doctor_note(struct doctor_result *result, enum doctor_verdict verdict, const char *format, ...)
{
	va_list args;

	result->verdict = verdict;
	va_start(args, format);
	vsnprintf(result->detail, sizeof(result->detail), format, args);
	va_end(args);
}

static const char *verdict_name(enum doctor_verdict verdict)
{
	static const char *const names[] = {
		[DOCTOR_UNKNOWN] = "unknown",
		[DOCTOR_YES] = "yes",
		[DOCTOR_PARTLY] = "partly",
		[DOCTOR_NO] = "no",
	};
	return names[verdict];
}

/* In the child: what a failed call says belongs into the report, not onto the terminal. */
static _Noreturn void be_child(void (*work)(void *opaque), void *opaque)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, STDERR_FILENO);
	dup2(null, STDOUT_FILENO);
	work(opaque);
	_exit(0);
}

/* true: the child ended by itself and well. */
static bool run_child(void (*work)(void *opaque), void *opaque, int *how)
{
	struct timespec tick = {.tv_nsec = 2000000};
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		be_child(work, opaque);
	if (pid < 0)
		return false;
	for (int waited = 0; waited < CHECK_SECONDS * 500; waited++) {
		if (waitpid(pid, how, WNOHANG) == pid)
			return *how == 0;
		nanosleep(&tick, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, how, 0);
	*how = -ETIMEDOUT;
	return false;
}

static void print_row(struct report *report, const char *name, const struct doctor_result *result,
		      const char *instead, const char *fix)
{
	bool fine = result->verdict == DOCTOR_YES;

	if (!fine && result->instead[0])
		instead = result->instead;
	if (report->as_json) {
		json_t *row = json_pack("{s:s, s:s, s:s}", "name", name, "result",
					verdict_name(result->verdict), "detail", result->detail);

		if (instead && !fine)
			json_object_set_new(row, "instead", json_string(instead));
		if (fix && !fine)
			json_object_set_new(row, "fix", json_string(fix));
		json_array_append_new(report->checks, row);
		return;
	}
	printf("%-18s %-8s %s\n", name, verdict_name(result->verdict), result->detail);
	if (instead && !fine)
		printf("%27s tern: %s\n", "", instead);
	if (fix && !fine)
		printf("%27s fix:  %s\n", "", fix);
}

struct job {
	const struct doctor_check *check;
	struct board *board;
};

static void do_check(void *opaque)
{
	struct job *job = opaque;

	job->check->try(&job->board->result);
}

static void explain_end(struct doctor_result *result, int how)
{
	if (how == -ETIMEDOUT)
		doctor_note(result, DOCTOR_UNKNOWN, "did not end within %d s", CHECK_SECONDS);
	else if (WIFSIGNALED(how))
		doctor_note(result, DOCTOR_UNKNOWN, "the attempt was killed by signal %d",
			    WTERMSIG(how));
	else
		doctor_note(result, DOCTOR_UNKNOWN, "the attempt failed");
}

static void run_table(struct report *report, struct board *board, const struct doctor_check *checks)
{
	for (const struct doctor_check *check = checks; check->name; check++) {
		struct job job = {check, board};
		int how = 0;

		memset(board, 0, sizeof(*board));
		if (!run_child(do_check, &job, &how))
			explain_end(&board->result, how);
		print_row(report, check->name, &board->result, check->instead, check->fix);
		if (!strcmp(check->name, "kvm"))
			report->kvm_works = board->result.verdict == DOCTOR_YES;
	}
}

static void do_facts(void *opaque)
{
	struct board *board = opaque;

	/* The texts that facts point to are the program's, and at the same place in the parent. */
	if (kvm_probe_arch_facts(board->facts))
		memset(board->facts, 0, sizeof(board->facts));
}

static void run_facts(struct report *report, struct board *board)
{
	int how;

	memset(board, 0, sizeof(*board));
	if (!run_child(do_facts, board, &how))
		return;
	for (const struct probe_fact *fact = board->facts; fact->name; fact++) {
		struct doctor_result result;

		doctor_note(&result, fact->good ? DOCTOR_YES : DOCTOR_NO, "%s", fact->detail);
		result.instead[0] = '\0';
		print_row(report, fact->name, &result, fact->instead, fact->fix);
	}
}

static void print_json(struct report *report)
{
	struct utsname host;
	json_t *root;

	uname(&host);
	root = json_pack("{s:s, s:{s:s, s:s}, s:O}", "tern", TERN_VERSION, "host", "kernel",
			 host.release, "machine", host.machine, "checks", report->checks);
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

int command_doctor(int argc, char **argv)
{
	struct report report = {.as_json = argc == 2 && !strcmp(argv[1], "--json")};
	struct board *board;
	struct utsname host;

	if (argc > 1 && !report.as_json)
		return command_usage("doctor");
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED) {
		log_error("doctor: no memory");
		return CLI_FAILED;
	}
	report.checks = json_array();
	if (!report.as_json && uname(&host) == 0)
		printf("tern %s on Linux %s, %s\n\n", TERN_VERSION, host.release, host.machine);
	run_table(&report, board, doctor_kvm_checks);
	run_facts(&report, board);
	run_table(&report, board, doctor_cpu_checks);
	run_table(&report, board, doctor_memory_checks);
	run_table(&report, board, doctor_io_checks);
	if (report.as_json)
		print_json(&report);
	json_decref(report.checks);
	munmap(board, sizeof(*board));
	return report.kvm_works ? CLI_OK : CLI_FAILED;
}
