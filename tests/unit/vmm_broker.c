// SPDX-License-Identifier: GPL-2.0-or-later
/* vmm/broker: what it opens, what it refuses, and that it ends with a VMM that was killed. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/broker.h"

/* Sanitizers make system calls of their own, so the broker runs without a filter here; tests/live has it with one. */
static struct sandbox *no_sandbox(void)
{
	struct sandbox *sandbox;

	g_assert_cmpint(sandbox_new(&sandbox, SANDBOX_OFF), ==, 0);
	return sandbox;
}

static void test_open(void)
{
	struct sandbox *sandbox = no_sandbox();
	g_autofree char *dir = g_dir_make_tmp("tern-broker-XXXXXX", NULL);
	g_autofree char *path = g_build_filename(dir, "file", NULL);
	g_autofree char *longest = g_strnfill(BROKER_PATH_MAX + 1, 'x');
	struct broker broker;
	char bytes[3];
	int fd;

	g_assert_cmpint(broker_start(&broker, sandbox, NULL), ==, 0);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, path, &fd), ==, -ENOENT);
	g_assert_nonnull(strstr(fail_text(), path));
	g_assert_cmpint(broker_open(&broker, BROKER_CREATE, path, &fd), ==, 0);
	g_assert_cmpint(write(fd, "abc", 3), ==, 3);
	close(fd);
	g_assert_cmpint(broker_open(&broker, BROKER_CREATE, path, &fd), ==, -EEXIST);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, path, &fd), ==, 0);
	g_assert_cmpint(read(fd, bytes, 3), ==, 3);
	g_assert_cmpint(write(fd, "abc", 3), ==, -1);
	g_assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	g_assert_cmpint(broker_open(&broker, 77, path, &fd), ==, -EINVAL);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, "", &fd), ==, -ENAMETOOLONG);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, longest, &fd), ==, -ENAMETOOLONG);
	broker_stop(&broker);
	broker_stop(&broker); /* once more does nothing */
	g_unlink(path);
	g_rmdir(dir);
	sandbox_free(sandbox);
}

/* A request of the wrong size is an error for the sender and no reason to die. */
static void test_garbage(void)
{
	struct sandbox *sandbox = no_sandbox();
	struct broker broker;
	int32_t answer;
	int fd;

	g_assert_cmpint(broker_start(&broker, sandbox, NULL), ==, 0);
	g_assert_cmpint(send(broker.fd, "garbage", 7, 0), ==, 7);
	g_assert_cmpint(recv(broker.fd, &answer, sizeof(answer), 0), ==, sizeof(answer));
	g_assert_cmpint(answer, ==, -EINVAL);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, "/dev/null", &fd), ==, 0);
	close(fd);
	broker_stop(&broker);
	sandbox_free(sandbox);
}

/* A VMM that is killed takes its broker along: the other end of a pipe that both held closes. */
static void test_ends_with_vmm(void)
{
	struct sandbox *sandbox = no_sandbox();
	int pipe_fds[2];
	char byte;
	pid_t vmm;

	g_assert_cmpint(pipe(pipe_fds), ==, 0);
	vmm = fork();
	if (vmm == 0) {
		struct broker broker;

		/* Standard error is what a broker keeps. */
		dup2(pipe_fds[1], STDERR_FILENO);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		if (broker_start(&broker, sandbox, NULL))
			_exit(1);
		raise(SIGKILL);
	}
	close(pipe_fds[1]);
	g_assert_cmpint(waitpid(vmm, NULL, 0), ==, vmm);
	g_assert_cmpint(read(pipe_fds[0], &byte, 1), ==, 0);
	close(pipe_fds[0]);
	sandbox_free(sandbox);
}

/* A broker that is gone is an error, not a death by SIGPIPE. */
static void test_dead_broker(void)
{
	struct sandbox *sandbox = no_sandbox();
	struct broker broker;
	int fd;

	g_assert_cmpint(broker_start(&broker, sandbox, NULL), ==, 0);
	kill(broker.pid, SIGKILL);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, "/dev/null", &fd), !=, 0);
	g_assert_cmpint(broker_open(&broker, BROKER_READ, "/dev/null", &fd), !=, 0);
	broker_stop(&broker);
	sandbox_free(sandbox);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vmm/broker/open", test_open);
	g_test_add_func("/vmm/broker/garbage", test_garbage);
	g_test_add_func("/vmm/broker/ends-with-vmm", test_ends_with_vmm);
	g_test_add_func("/vmm/broker/dead-broker", test_dead_broker);
	return g_test_run();
}
