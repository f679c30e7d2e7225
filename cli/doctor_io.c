// SPDX-License-Identifier: GPL-2.0-or-later
/* Doctor's checks of what disks, networks and the sandbox stand on. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "cli/doctor.h"

/* The result of one operation on the ring; 1: it could not even be waited for. */
static int complete(struct io_uring *ring, bool forbidden)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct __kernel_timespec limit = {.tv_sec = 2};
	struct io_uring_cqe *cqe;
	int result;

	if (forbidden)
		io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY, 0);
	else
		io_uring_prep_nop(sqe);
	if (io_uring_submit(ring) < 0 || io_uring_wait_cqe_timeout(ring, &cqe, &limit))
		return 1;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static void try_io_uring(struct doctor_result *result)
{
	struct io_uring_restriction only_nop = {.opcode = IORING_RESTRICTION_SQE_OP,
						.sqe_op = IORING_OP_NOP};
	struct io_uring ring;
	int error = io_uring_queue_init(8, &ring, IORING_SETUP_R_DISABLED);

	if (error) {
		doctor_note(result, DOCTOR_NO, "no ring: %s", strerror(-error));
		return;
	}
	/* liburing 2.3's shared library does not export its functions for these two. */
	if (syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_RESTRICTIONS, &only_nop,
		    1) < 0 ||
	    syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		error = -errno;
	if (error)
		doctor_note(result, DOCTOR_NO, "a ring cannot be restricted: %s", strerror(-error));
	else if (complete(&ring, false) != 0)
		doctor_note(result, DOCTOR_NO, "an allowed operation failed");
	else if (complete(&ring, true) != -EACCES)
		doctor_note(result, DOCTOR_NO, "a forbidden operation was not refused");
	else
		doctor_note(result, DOCTOR_YES,
			    "works, and refuses what a restricted ring may not do");
}

static void try_ofd_locks(struct doctor_result *result)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int one = memfd_create("tern-doctor", MFD_CLOEXEC), other;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", one);
	other = open(path, O_RDWR | O_CLOEXEC);
	if (one < 0 || other < 0 || fcntl(one, F_OFD_SETLK, &whole) < 0)
		doctor_note(result, DOCTOR_NO, "%s", strerror(errno));
	else if (fcntl(other, F_OFD_SETLK, &whole) == 0)
		doctor_note(result, DOCTOR_NO, "two holders of one lock");
	else
		doctor_note(result, DOCTOR_YES,
			    "work between processes of this host (other hosts are excluded by a "
			    "lease only)");
}

static void try_vhost_net(struct doctor_result *result)
{
	int fd = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	__u64 features = 0;

	if (fd < 0) {
		doctor_note(result, DOCTOR_NO, "/dev/vhost-net: %s", strerror(errno));
		return;
	}
	if (ioctl(fd, VHOST_SET_OWNER, NULL) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0)
		doctor_note(result, DOCTOR_NO, "/dev/vhost-net opens, but: %s", strerror(errno));
	else if (!(features & (1ULL << VHOST_F_LOG_ALL)))
		doctor_note(result, DOCTOR_NO, "cannot log what it writes");
	else
		doctor_note(result, DOCTOR_YES, "works and can log what it writes (features %#llx)",
			    (unsigned long long)features);
}

static void try_tap(struct doctor_result *result)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		doctor_note(result, DOCTOR_NO, "/dev/net/tun: %s", strerror(errno));
	else
		doctor_note(result, DOCTOR_YES,
			    "/dev/net/tun opens; a tap made for this user can be used");
}

static void try_passt(struct doctor_result *result)
{
	FILE *pipe = popen("passt --version 2>&1", "re");
	char line[100] = "";

	if (pipe && fgets(line, sizeof(line), pipe) && !strncmp(line, "passt", 5)) {
		line[strcspn(line, "\n")] = '\0';
		doctor_note(result, DOCTOR_YES, "%s", line);
	} else {
		doctor_note(result, DOCTOR_NO, "not found");
	}
	if (pipe)
		pclose(pipe);
}

static void try_seccomp(struct doctor_result *result)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = {.len = 1, .filter = &allow};
	__u32 kill = SECCOMP_RET_KILL_PROCESS, log = SECCOMP_RET_LOG;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
		doctor_note(result, DOCTOR_NO, "%s", strerror(errno));
	else if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill) < 0)
		doctor_note(result, DOCTOR_NO, "filters cannot end a process");
	else
		doctor_note(result, DOCTOR_YES, "filters work%s",
			    syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &log) < 0
				    ? "; --sandbox log does not"
				    : ", for --sandbox log too");
}

/* clang-format off */
const struct doctor_check doctor_io_checks[] = {
	{"io-uring", try_io_uring, "disks are served by threads", "sysctl kernel.io_uring_disabled=0, or Linux 5.10 or newer"},
	{"image-locks", try_ofd_locks, "images are not locked", NULL},
	{"vhost-net", try_vhost_net, "Tern itself moves the packets of taps", "modprobe vhost_net, and let the user open /dev/vhost-net"},
	{"tap", try_tap, "networks only by passt", "modprobe tun, and let the user open /dev/net/tun"},
	{"passt", try_passt, "networks only by tap", "install passt"},
	{"sandbox", try_seccomp, "--sandbox off is needed", "a kernel with CONFIG_SECCOMP_FILTER"},
	{NULL},
};
/* clang-format on */
