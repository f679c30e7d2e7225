// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which class of thread may make which system call, and why.
 *
 * Theory of operation. All filters are compiled once, at start-up, into BPF programs; a thread that enters the sandbox only
 * loads its class's program. Files are opened, threads created and memory mapped executable before that; afterwards
 * paths are opened by the broker alone. ioctl(2) is allowed by the driver's type byte, for the descriptors that a thread
 * has are what limits it. What io_uring does is invisible to seccomp: rings restrict themselves (devices/blk_uring.c).
 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#define MAIN   (1U << SANDBOX_MAIN)
#define VCPU   (1U << SANDBOX_VCPU)
#define IO     (1U << SANDBOX_IO)
#define WORKER (1U << SANDBOX_WORKER)
#define BROKER (1U << SANDBOX_BROKER)
#define MOVER  (1U << SANDBOX_MOVER)
#define VM     (MAIN | VCPU | IO | WORKER)
#define ALL    (VM | BROKER | MOVER)

/* clang-format off */
static const struct rule {
	unsigned int classes;
	int call;		/* __NR_, or a libseccomp pseudo number where one architecture lacks it */
	const char *reason;
} rules[] = {
	/* memory of the allocator and of stacks; nothing becomes executable, see exec_rules */
	{ALL,		SCMP_SYS(brk),		"malloc"},
	{ALL,		SCMP_SYS(munmap),	"free, and mappings given back"},
	{ALL,		SCMP_SYS(mremap),	"realloc of large blocks"},
	{VM | MOVER,	SCMP_SYS(madvise),	"malloc trims its arenas; guest memory is given back"},
	/* threads and signals */
	{ALL,		SCMP_SYS(futex),	"mutexes and condition variables"},
	{ALL,		SCMP_SYS(rt_sigreturn),	"the kick signal's handler returns"},
	{ALL,		SCMP_SYS(rt_sigprocmask), "threads block what is not theirs"},
	{ALL,		SCMP_SYS(rt_sigaction),	"abort() after a failed assertion"},
	{ALL,		SCMP_SYS(restart_syscall), "a wait goes on after a stop signal"},
	{ALL,		SCMP_SYS(gettid),	"raise() and recursive mutexes"},
	{ALL,		SCMP_SYS(getpid),	"raise(), and who owns a lock"},
	{ALL,		SCMP_SYS(tgkill),	"kicks a vCPU out of the guest; abort()"},
	{ALL,		SCMP_SYS(exit),		"a thread ends"},
	{ALL,		SCMP_SYS(exit_group),	"the process ends"},
	{VM | MOVER,	SCMP_SYS(sched_yield),	"waits for a thread that is about to park"},
	{VM | MOVER,	SCMP_SYS(rseq),		"glibc, a thread that begins or ends"},
	{VM | MOVER,	SCMP_SYS(set_robust_list), "glibc, a thread that begins or ends"},
	/* time */
	{ALL,		SCMP_SYS(clock_gettime), "without a vDSO"},
	{ALL,		SCMP_SYS(gettimeofday),	"without a vDSO"},
	{ALL,		SCMP_SYS(clock_nanosleep), "bounded waits"},
	{ALL,		SCMP_SYS(nanosleep),	"bounded waits"},
	{MAIN | IO,	SCMP_SYS(timerfd_settime), "timers of the event loop"},
	{MAIN | IO,	SCMP_SYS(timerfd_create), "timers of the event loop"},
	/* the event loop */
	{MAIN | IO,	SCMP_SYS(epoll_wait),	"the event loop"},
	{MAIN | IO,	SCMP_SYS(epoll_pwait),	"the event loop"},
	{MAIN | IO | VCPU, SCMP_SYS(epoll_ctl),	"a queue is switched on: its doorbell is watched"},
	{VM | BROKER | MOVER, SCMP_SYS(poll),		"bounded waits for a peer; a disk is drained; a masked vector's pending bit"},
	{VM | BROKER | MOVER, SCMP_SYS(ppoll),	"the same, as some C libraries make it"},
	{MAIN | VCPU | IO | MOVER, SCMP_SYS(eventfd2), "a vector or queue is given its doorbell; data threads wake the mover"},
	/* descriptors that are open already */
	{ALL,		SCMP_SYS(read),		"eventfds, taps, serial input"},
	{ALL,		SCMP_SYS(write),	"eventfds, taps, logs, serial output"},
	{ALL,		SCMP_SYS(readv),	"packets into guest memory"},
	{ALL,		SCMP_SYS(writev),	"packets from guest memory; replies"},
	{ALL,		SCMP_SYS(close),	"a connection or queue ends"},
	{ALL,		SCMP_SYS(fcntl),	"locks on images; non-blocking descriptors"},
	{MAIN,		SCMP_SYS(fadvise64),	"an image that changed hands: its cache is dropped"},
	{VM | MOVER,	SCMP_SYS(lseek),	"reads /proc/self/smaps again; finds holes in guest RAM"},
	{VM | MOVER,	SCMP_SYS(fstat),	"an image's size is read again; stdio; a saved VM's file"},
	{VM | MOVER,	SCMP_SYS(newfstatat),	"fstat, as glibc makes it"},
	{VM | MOVER,	SCMP_SYS(getrandom),	"virtio-rng; a new generation id; a migration's session"},
	{MAIN,		SCMP_SYS(memfd_create),	"memory shared with a mover"},
	{MAIN,		SCMP_SYS(ftruncate),	"memory shared with a mover"},
	/* disks */
	{IO | MAIN,	SCMP_SYS(io_uring_enter), "disk requests"},
	{IO | MAIN | WORKER, SCMP_SYS(preadv),	"disk requests without io_uring"},
	{IO | MAIN | WORKER, SCMP_SYS(pwritev),	"disk requests without io_uring"},
	{IO | MAIN | WORKER, SCMP_SYS(preadv2),	"disk requests without io_uring"},
	{IO | MAIN | WORKER, SCMP_SYS(pwritev2), "disk requests without io_uring"},
	{IO | MAIN | WORKER, SCMP_SYS(pread64),	"disk requests without io_uring"},
	{IO | MAIN | WORKER | MOVER, SCMP_SYS(pwrite64), "disk requests without io_uring; a saved VM's file; guest RAM"},
	{IO | MAIN | WORKER | MOVER, SCMP_SYS(fdatasync), "flush; a saved VM's file"},
	{IO | MAIN | WORKER, SCMP_SYS(fsync),	"flush"},
	{IO | MAIN | WORKER | MOVER, SCMP_SYS(fallocate), "discard and write zeroes; ballooned memory; a saved VM's file"},
	/* sockets */
	{MAIN | MOVER,	SCMP_SYS(accept4),	"clients of the control socket; sources"},
	{MAIN | BROKER | MOVER, SCMP_SYS(getsockopt), "a client's credentials; a connection's state"},
	{MAIN | BROKER | MOVER, SCMP_SYS(setsockopt), "a connection's limits"},
	{MAIN | IO | BROKER | MOVER, SCMP_SYS(sendmsg),	"replies; descriptors between VMM and broker; packets; pages"},
	{MAIN | IO | BROKER | MOVER, SCMP_SYS(recvmsg),	"requests; descriptors between VMM and broker; packets; pages"},
	{MAIN | IO | BROKER | MOVER, SCMP_SYS(sendto),	"replies; packets; records"},
	{MAIN | IO | BROKER | MOVER, SCMP_SYS(recvfrom), "requests; packets; records"},
	{MAIN | IO | BROKER | MOVER, SCMP_SYS(shutdown), "a connection ends"},
	{MOVER,		SCMP_SYS(uname),	"names this host's kernel to the other"},
	{MOVER,		SCMP_SYS(socket),	"a source asks a target again"},
	{MOVER,		SCMP_SYS(connect),	"a source asks a target again"},
	/* children that were started before the sandbox closed */
	{MAIN | BROKER,	SCMP_SYS(wait4),	"the end of the broker and of passt"},
	{MAIN | BROKER,	SCMP_SYS(waitid),	"the end of the broker and of passt"},
	{MAIN,		SCMP_SYS(kill),		"ends passt with its VM"},
	{MAIN,		SCMP_SYS(pidfd_send_signal), "ends passt with its VM"},
	/* what only the broker may, and a mover before it enters its own class */
	{BROKER,	SCMP_SYS(clone),	"a mover is forked"},
	{BROKER,	SCMP_SYS(setsid),	"a mover's share of the CPUs is its own"},
	{BROKER,	SCMP_SYS(socketpair),	"the links of a mover"},
	{BROKER,	SCMP_SYS(bind),		"a target listens"},
	{BROKER,	SCMP_SYS(listen),	"a target listens"},
	{BROKER,	SCMP_SYS(getsockname),	"the port that a target got"},
	{MOVER,		SCMP_SYS(unlink),	"a UNIX socket that nobody listens on any more; a saved VM's file that is not whole"},
	{MOVER,		SCMP_SYS(unlinkat),	"the same, where there is no unlink"},
	{BROKER,	SCMP_SYS(close_range),	"a mover keeps what is its own"},
	{BROKER,	SCMP_SYS(prctl),	"a mover narrows its sandbox"},
	{BROKER,	SCMP_SYS(seccomp),	"a mover narrows its sandbox"},
	{BROKER,	SCMP_SYS(openat),	"opens what the control socket names"},
	{BROKER,	SCMP_SYS(fstat),	"what kind of file it opened"},
	{BROKER,	SCMP_SYS(newfstatat),	"what kind of file it opened"},
};

/* ioctl(2) by the type byte of the request. */
static const struct ioctl_rule {
	unsigned int classes;
	unsigned char type;
	const char *reason;
} ioctl_rules[] = {
	{MAIN | VCPU | IO,	0xae,	"KVM"},
	{MAIN | VCPU | IO,	0xaf,	"vhost"},
	{MAIN | VCPU | IO | MOVER, 'T',	"tap offloads; terminal modes; bytes waiting, there or in a connection"},
	{IO | WORKER | MAIN,	0x12,	"block devices: size, discard, write zeroes"},
	{MAIN | IO | VCPU,	0xaa,	"userfaultfd"},
};

/* prctl(2) by its first argument. */
static const struct prctl_rule {
	unsigned int classes;
	int option;
	const char *reason;
} prctl_rules[] = {
	{ALL,	PR_SET_NAME,		"a thread names itself"},
#ifdef PR_SET_VMA
	{ALL,	PR_SET_VMA,		"malloc names its mappings"},
#endif
};
/* clang-format on */

/*
 * Memory is mapped and protected, but never executable memory; but for a mover that loads GnuTLS before it enters its own
 * class, and for that the broker must be allowed to map code.
 */
static const int exec_rules[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};

/*
 * A mover makes threads when a migration begins, and never a process. The flags of clone3(2) are in memory, where a filter
 * does not see them: it is said not to exist, and the C library then makes the older call.
 */
static int add_thread_rules(scmp_filter_ctx filter, unsigned int classes)
{
	int error = 0;

	if (classes & (MOVER | BROKER))
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!error && classes & MOVER && !(classes & BROKER))
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
					 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	return error;
}

struct sandbox {
	enum config_sandbox mode;
	struct sock_fprog program[SANDBOX_CLASSES];
};

static int add_rules(scmp_filter_ctx filter, unsigned int classes)
{
	int error = 0;

	for (size_t i = 0; !error && i < ARRAY_SIZE(rules); i++) {
		if (rules[i].classes & classes)
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, rules[i].call, 0);
		/* A call that this architecture does not have. */
		if (error == -EDOM)
			error = 0;
	}
	for (size_t i = 0; !error && i < ARRAY_SIZE(ioctl_rules); i++) {
		if (ioctl_rules[i].classes & classes)
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
						 SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00,
							 (unsigned int)ioctl_rules[i].type << 8));
	}
	for (size_t i = 0; !error && i < ARRAY_SIZE(prctl_rules); i++) {
		if (prctl_rules[i].classes & classes)
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
						 SCMP_A0(SCMP_CMP_EQ, prctl_rules[i].option));
	}
	for (size_t i = 0; !error && i < ARRAY_SIZE(exec_rules); i++)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, exec_rules[i], 1,
					 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!error && classes & BROKER)
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 0);
	return error ? error : add_thread_rules(filter, classes);
}

/* libseccomp hands its program out through a descriptor; a memfd is one that touches no file system. */
static int export_program(scmp_filter_ctx filter, struct sock_fprog *program)
{
	AUTO_FD fd = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat stat;
	int error;

	if (fd < 0)
		return -errno;
	error = seccomp_export_bpf(filter, fd);
	if (error)
		return error;
	if (fstat(fd, &stat) < 0)
		return -errno;
	program->filter = malloc(stat.st_size);
	if (!program->filter)
		return -ENOMEM;
	program->len = stat.st_size / sizeof(struct sock_filter);
	if (pread(fd, program->filter, stat.st_size, 0) != stat.st_size)
		return -EIO;
	return 0;
}

/* A mover is forked from the broker, whose filter stays on it: what movers may do the broker must be allowed. */
static unsigned int classes_of(enum sandbox_class class)
{
	return class == SANDBOX_BROKER ? BROKER | MOVER : 1U << class;
}

static int compile(struct sandbox *sandbox, enum sandbox_class class)
{
	uint32_t otherwise = sandbox->mode == SANDBOX_LOG ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS;
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int error;

	if (!filter)
		return -ENOMEM;
	/* A binary tree: the calls of a data path are found in a handful of steps. */
	error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!error)
		error = add_rules(filter, classes_of(class));
	if (!error)
		error = export_program(filter, &sandbox->program[class]);
	seccomp_release(filter);
	return error;
}

int sandbox_new(struct sandbox **out, enum config_sandbox mode)
{
	struct sandbox *sandbox = calloc(1, sizeof(*sandbox));

	if (!sandbox)
		return fail(-ENOMEM, "sandbox: no memory");
	sandbox->mode = mode;
	/* With heaps of their own, threads would make the C library look into /proc and /sys to manage them. */
	if (mode != SANDBOX_OFF)
		mallopt(M_ARENA_MAX, 1);
	for (int class = 0; mode != SANDBOX_OFF && class < SANDBOX_CLASSES; class ++) {
		int error = compile(sandbox, class);

		if (error) {
			sandbox_free(sandbox);
			return fail(error, "sandbox: compile the filters: %s", strerror(-error));
		}
	}
	*out = sandbox;
	return 0;
}

void sandbox_free(struct sandbox *sandbox)
{
	if (!sandbox)
		return;
	for (int class = 0; class < SANDBOX_CLASSES; class ++)
		free(sandbox->program[class].filter);
	free(sandbox);
}

int sandbox_enter(const struct sandbox *sandbox, enum sandbox_class class)
{
	if (sandbox->mode == SANDBOX_OFF)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(-errno, "sandbox: no new privileges: %s", strerror(errno));
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &sandbox->program[class]) < 0)
		return fail(-errno, "sandbox: load the filter: %s", strerror(errno));
	return 0;
}
