// SPDX-License-Identifier: GPL-2.0-or-later
/* Doctor's checks of memory: userfaultfd as post-copy uses it, and huge pages. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "cli/doctor.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define FLAGS	    (O_CLOEXEC | O_NONBLOCK)
#define FAULT_MS    2000
#define SHMEM_BYTES (8ULL << 20)
#define HUGE_BYTES  (2ULL << 20)

/* A userfaultfd that also gets the kernel's own faults, and how it was come by; -errno. */
static int open_full(const char **how)
{
	AUTO_FD device = -1;
	int fd = (int)syscall(SYS_userfaultfd, FLAGS);

	*how = "by system call";
	if (fd >= 0)
		return fd;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	*how = "by /dev/userfaultfd";
	fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, FLAGS) : -1;
	return fd >= 0 ? fd : -errno;
}

static void try_privileges(struct doctor_result *result)
{
	const char *how;
	int fd = open_full(&how);

	if (fd >= 0) {
		doctor_note(result, DOCTOR_YES, "%s, kernel faults included", how);
		return;
	}
	if (syscall(SYS_userfaultfd, FLAGS | UFFD_USER_MODE_ONLY) >= 0)
		doctor_note(result, DOCTOR_NO,
			    "only for faults of user mode; KVM's own would fail");
	else
		doctor_note(result, DOCTOR_NO, "not offered: %s", strerror(errno));
}

/* Two mappings of a memfd, as post-copy has them: faults are watched on the first and filled through the second. */
struct watched {
	int uffd, pipe[2];
	bool user_only; /* without the privilege: the kernel's own faults cannot be tried */
	size_t page_bytes;
	uint8_t *first, *second;
};

/* false: errno says why. */
static bool watch(struct watched *w)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING |
						UFFDIO_REGISTER_MODE_MINOR};
	int memfd = memfd_create("tern-doctor", MFD_CLOEXEC);
	const char *how;

	w->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	w->uffd = open_full(&how);
	w->user_only = w->uffd < 0;
	if (w->user_only)
		w->uffd = (int)syscall(SYS_userfaultfd, FLAGS | UFFD_USER_MODE_ONLY);
	if (w->uffd < 0 || memfd < 0 || ftruncate(memfd, (off_t)w->page_bytes * 4) < 0 ||
	    pipe(w->pipe) < 0)
		return false;
	w->first = mmap(NULL, w->page_bytes * 4, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	w->second = mmap(NULL, w->page_bytes * 4, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (w->first == MAP_FAILED || w->second == MAP_FAILED)
		return false;
	range.range.start = (uintptr_t)w->first;
	range.range.len = w->page_bytes * 4;
	return ioctl(w->uffd, UFFDIO_API, &api) == 0 &&
	       ioctl(w->uffd, UFFDIO_REGISTER, &range) == 0;
}

/* Touches page 0 and 1 itself, and has the kernel touch page 2. */
static void *toucher(void *opaque)
{
	struct watched *w = opaque;
	bool right = ((volatile uint8_t *)w->first)[0] == 0x10 &&
		     ((volatile uint8_t *)w->first)[w->page_bytes] == 0x11;

	if (!w->user_only)
		right &= write(w->pipe[1], w->first + 2 * w->page_bytes, 1) == 1;
	return right ? w : NULL;
}

/* The next fault is to be on that page, minor or not; fills it and lets the toucher go on. */
static bool serve(struct watched *w, size_t page, bool minor)
{
	struct pollfd polled = {.fd = w->uffd, .events = POLLIN};
	struct uffdio_continue go = {};
	struct uffd_msg message;

	if (poll(&polled, 1, FAULT_MS) != 1 ||
	    read(w->uffd, &message, sizeof(message)) != sizeof(message))
		return false;
	if (message.event != UFFD_EVENT_PAGEFAULT ||
	    message.arg.pagefault.address / w->page_bytes !=
		    (uintptr_t)w->first / w->page_bytes + page ||
	    !!(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR) != minor)
		return false;
	w->second[page * w->page_bytes] = (uint8_t)(0x10 + page);
	go.range.start = (uintptr_t)w->first + page * w->page_bytes;
	go.range.len = w->page_bytes;
	return ioctl(w->uffd, UFFDIO_CONTINUE, &go) == 0;
}

static void try_modes(struct doctor_result *result)
{
	struct watched w;
	pthread_t thread;
	bool missing, minor, kernel;
	void *right = NULL;
	char byte = 0;

	if (!watch(&w)) {
		doctor_note(result, DOCTOR_NO, "missing and minor faults on shared memory: %s",
			    strerror(errno));
		return;
	}
	w.second[0] = 1; /* page 0 is there, and not yet in the first mapping: a minor fault */
	if (pthread_create(&thread, NULL, toucher, &w)) {
		doctor_note(result, DOCTOR_UNKNOWN, "no thread");
		return;
	}
	minor = serve(&w, 0, true);
	missing = minor && serve(&w, 1, false);
	kernel = missing && !w.user_only && serve(&w, 2, false) && read(w.pipe[0], &byte, 1) == 1 &&
		 byte == 0x12;
	if (kernel || (missing && w.user_only))
		pthread_join(thread, &right);
	doctor_note(result,
		    !right	  ? DOCTOR_NO
		    : w.user_only ? DOCTOR_PARTLY
				  : DOCTOR_YES,
		    "minor faults %s, missing ones %s, the kernel's own %s",
		    minor ? "served" : "failed", missing ? "served" : "failed",
		    w.user_only ? "not tried without the privilege"
		    : kernel	? "served"
				: "failed");
}

/* A number out of a file of /sys; -1. */
static long read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[32] = "";

	if (!file)
		return -1;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	return line[0] ? strtol(line, NULL, 10) : -1;
}

static void try_hugetlb(struct doctor_result *result, unsigned int flag, size_t bytes,
			const char *directory)
{
	char path[96];
	AUTO_FD fd = memfd_create("tern-doctor", MFD_CLOEXEC | MFD_HUGETLB | flag);
	long total, spare;
	void *memory;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/nr_hugepages", directory);
	total = read_number(path);
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages", directory);
	spare = read_number(path);
	if (fd < 0 || total < 0) {
		doctor_note(result, DOCTOR_NO, "this kernel has no pages of that size");
		return;
	}
	if (ftruncate(fd, (off_t)bytes) < 0)
		memory = MAP_FAILED;
	else
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED || madvise(memory, bytes, MADV_POPULATE_WRITE) < 0)
		doctor_note(result, DOCTOR_NO, "%ld reserved, %ld free: %s", total, spare,
			    strerror(errno));
	else
		doctor_note(result, DOCTOR_YES,
			    "%ld reserved, %ld free; one was taken and given back", total, spare);
}

static void try_hugetlb_2m(struct doctor_result *result)
{
	try_hugetlb(result, MFD_HUGE_2MB, 2 << 20, "hugepages-2048kB");
}

static void try_hugetlb_1g(struct doctor_result *result)
{
	try_hugetlb(result, MFD_HUGE_1GB, 1 << 30, "hugepages-1048576kB");
}

/* How much shared memory this process has mapped by huge pages. */
static long huge_shmem_kib(void)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	static const char key[] = "ShmemPmdMapped:";
	char line[256];
	long kib = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, sizeof(key) - 1))
			kib += strtol(line + sizeof(key) - 1, NULL, 10);
	fclose(file);
	return kib;
}

/* The chosen word of "always [advise] never". */
static void read_setting(const char *path, char word[16])
{
	FILE *file = fopen(path, "re");
	char line[128] = "", *open, *close;

	snprintf(word, 16, "unknown");
	if (!file)
		return;
	if (fgets(line, sizeof(line), file) && (open = strchr(line, '[')) &&
	    (close = strchr(open, ']'))) {
		*close = '\0';
		snprintf(word, 16, "%.15s", open + 1);
	}
	fclose(file);
}

static void try_shmem_huge(struct doctor_result *result)
{
	AUTO_FD fd = memfd_create("tern-doctor", MFD_CLOEXEC);
	char setting[16];
	uint8_t *memory;
	long huge;

	read_setting("/sys/kernel/mm/transparent_hugepage/shmem_enabled", setting);
	if (fd < 0 || ftruncate(fd, SHMEM_BYTES) < 0) {
		doctor_note(result, DOCTOR_UNKNOWN, "memfd: %s", strerror(errno));
		return;
	}
	/* Only where file and address line up does a huge page fit. */
	memory =
		mmap(NULL, SHMEM_BYTES + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory != MAP_FAILED) {
		memory += -(uintptr_t)memory % HUGE_BYTES;
		memory = mmap(memory, SHMEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      fd, 0);
	}
	if (memory == MAP_FAILED) {
		doctor_note(result, DOCTOR_UNKNOWN, "mmap: %s", strerror(errno));
		return;
	}
	madvise(memory, SHMEM_BYTES, MADV_HUGEPAGE);
	memset(memory, 1, SHMEM_BYTES);
	huge = huge_shmem_kib();
	if (huge > 0) {
		doctor_note(result, DOCTOR_YES, "setting %s: %ld of %llu KiB came in huge pages",
			    setting, huge, SHMEM_BYTES / 1024);
		return;
	}
	if (madvise(memory, SHMEM_BYTES, MADV_COLLAPSE) == 0 && (huge = huge_shmem_kib()) > 0)
		doctor_note(result, DOCTOR_PARTLY,
			    "setting %s: none by themselves, %ld of %llu KiB when collapsed",
			    setting, huge, SHMEM_BYTES / 1024);
	else
		doctor_note(result, DOCTOR_NO, "setting %s: none, and collapsing failed", setting);
}

/* clang-format off */
const struct doctor_check doctor_memory_checks[] = {
	{"userfaultfd", try_privileges, "no post-copy and no lazy restore without KVM user faults",
	 "let the user open /dev/userfaultfd (Linux 6.1), or sysctl vm.unprivileged_userfaultfd=1, or CAP_SYS_PTRACE"},
	{"userfaultfd-modes", try_modes, "no post-copy and no lazy restore without KVM user faults",
	 "Linux 5.13 or newer, and the privilege above"},
	{"hugepages-2m", try_hugetlb_2m, "--memory ...,hugetlb=2M is refused", "sysctl vm.nr_hugepages=N"},
	{"hugepages-1g", try_hugetlb_1g, "--memory ...,hugetlb=1G is refused",
	 "boot with hugepagesz=1G hugepages=N, or write to /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"},
	{"shmem-hugepages", try_shmem_huge, "guest memory is in 4 KiB pages unless hugetlb is asked for",
	 "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"},
	{NULL},
};
/* clang-format on */
