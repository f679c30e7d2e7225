// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmm/sandbox: in each class the forbidden kills the process and the allowed does not; log makes the call; off changes
 * nothing. Children do it, built without sanitizers' help: they only make raw system calls and _exit.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/sandbox.h"

typedef void call_fn(void);

static void call_open(void)
{
	syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static void call_socket(void)
{
	syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void call_execve(void)
{
	syscall(SYS_execve, "/bin/true", NULL, NULL);
}

static void call_map_code(void)
{
	syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_map_data(void)
{
	syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_kvm_ioctl(void)
{
	syscall(SYS_ioctl, -1, 0xae80, 0); /* KVM_RUN on nothing: EBADF, not death */
}

static void call_mount_ioctl(void)
{
	syscall(SYS_ioctl, -1, 0x9409, 0); /* FICLONE */
}

static void call_ptrace(void)
{
	syscall(SYS_ptrace, 0, 0, 0, 0);
}

static void call_clone(void)
{
	if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0)
		_exit(0);
}

static void call_write(void)
{
	syscall(SYS_write, -1, "", 0);
}

static const struct {
	const char *name;
	call_fn *fn;
	unsigned int allowed; /* mask of classes */
} calls[] = {
	{"openat", call_open, 1U << SANDBOX_BROKER},
	{"socket", call_socket, 1U << SANDBOX_BROKER | 1U << SANDBOX_MOVER},
	{"execve", call_execve, 0},
	{"mmap executable", call_map_code, 1U << SANDBOX_BROKER},
	{"mmap data", call_map_data, ~0U},
	{"KVM ioctl", call_kvm_ioctl, 1U << SANDBOX_MAIN | 1U << SANDBOX_VCPU | 1U << SANDBOX_IO},
	{"another ioctl", call_mount_ioctl, 0},
	{"ptrace", call_ptrace, 0},
	{"clone", call_clone, 1U << SANDBOX_BROKER},
	{"write", call_write, ~0U},
};

/* How a child that enters the sandbox and makes the call ends: waitpid's status. */
static int child_status(const struct sandbox *sandbox, enum sandbox_class class, call_fn *fn)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (sandbox_enter(sandbox, class))
			_exit(99);
		fn();
		syscall(SYS_exit_group, 0);
	}
	g_assert_cmpint(pid, >, 0);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static void test_on(void)
{
	struct sandbox *sandbox;

	g_assert_cmpint(sandbox_new(&sandbox, SANDBOX_ON), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		for (int class = 0; class < SANDBOX_CLASSES; class ++) {
			int status = child_status(sandbox, class, calls[i].fn);

			g_test_message("%s in class %d", calls[i].name, class);
			if (calls[i].allowed >> class & 1)
				g_assert_cmpint(status, ==, 0);
			else
				g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		}
	}
	sandbox_free(sandbox);
}

static void test_log_and_off(void)
{
	static const enum config_sandbox modes[] = {SANDBOX_LOG, SANDBOX_OFF};

	for (size_t m = 0; m < G_N_ELEMENTS(modes); m++) {
		struct sandbox *sandbox;

		g_assert_cmpint(sandbox_new(&sandbox, modes[m]), ==, 0);
		g_assert_cmpint(child_status(sandbox, SANDBOX_VCPU, call_open), ==, 0);
		sandbox_free(sandbox);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vmm/sandbox/on", test_on);
	g_test_add_func("/vmm/sandbox/log-and-off", test_log_and_off);
	return g_test_run();
}
