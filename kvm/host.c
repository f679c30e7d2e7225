// SPDX-License-Identifier: GPL-2.0-or-later
/* /dev/kvm: opening it, and reading once what it offers. */
#include "kvm/host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "kvm/uapi.h"

/* One that a test build takes this host not to have (make/lab.mk); -1: none. */
#ifndef TERN_HIDDEN_CAPABILITY
#define TERN_HIDDEN_CAPABILITY (-1)
#endif

int kvm_host_extension(const struct kvm_host *host, int capability)
{
	int value = ioctl(host->fd, KVM_CHECK_EXTENSION, capability);

	return value > 0 && capability != TERN_HIDDEN_CAPABILITY ? value : 0;
}

/* What Tern cannot do without, with the name that an error message gives it. */
static const struct {
	int capability;
	const char *name;
} required[] = {
	{KVM_CAP_USER_MEMORY, "user memory"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	{KVM_CAP_IRQFD, "irqfd"},
	{KVM_CAP_IOEVENTFD, "ioeventfd"},
	{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
	{KVM_CAP_SIGNAL_MSI, "MSI"},
	{KVM_CAP_MP_STATE, "MP state"},
	{KVM_CAP_VCPU_EVENTS, "vCPU events"},
	{KVM_CAP_CHECK_EXTENSION_VM, "per-VM capabilities"},
};

static void read_capabilities(struct kvm_host *host)
{
	uint32_t acq_rel = kvm_host_extension(host, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	uint32_t plain = kvm_host_extension(host, KVM_CAP_DIRTY_LOG_RING);

	host->max_vcpus = kvm_host_extension(host, KVM_CAP_MAX_VCPUS);
	host->max_memslots = kvm_host_extension(host, KVM_CAP_NR_MEMSLOTS);
	host->ring_acq_rel = acq_rel != 0;
	host->ring_max_bytes = acq_rel ? acq_rel : plain;
	host->ring_with_bitmap = kvm_host_extension(host, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP);
	host->manual_protect = kvm_host_extension(host, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	host->memory_fault_info = kvm_host_extension(host, KVM_CAP_MEMORY_FAULT_INFO);
	host->user_memory2 = kvm_host_extension(host, KVM_CAP_USER_MEMORY2);
	host->eager_split_sizes =
		(uint32_t)kvm_host_extension(host, KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES);
}

static int check_host(struct kvm_host *host)
{
	int version = ioctl(host->fd, KVM_GET_API_VERSION, 0);

	if (version < 0)
		return fail(-errno, "kvm: not a KVM device: %s", strerror(errno));
	if (version != KVM_API_VERSION)
		return fail(-ENOTSUP, "kvm: API version %d, not %d", version, KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
		if (!kvm_host_extension(host, required[i].capability))
			return fail(-ENOTSUP, "kvm: this kernel does not offer %s (capability %d)",
				    required[i].name, required[i].capability);
	}
	host->vcpu_mmap_bytes = ioctl(host->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (host->vcpu_mmap_bytes < (int)sizeof(struct kvm_run))
		return fail(-ENOTSUP, "kvm: vCPU mapping of %d bytes", host->vcpu_mmap_bytes);
	return 0;
}

int kvm_host_open(struct kvm_host *host, int fd)
{
	int error;

	*host = (struct kvm_host){.fd = fd};
	if (fd < 0)
		host->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (host->fd < 0)
		return fail(-errno, "kvm: /dev/kvm: %s", strerror(errno));
	error = check_host(host);
	if (error) {
		kvm_host_close(host);
		return error;
	}
	read_capabilities(host);
	return 0;
}

void kvm_host_close(struct kvm_host *host)
{
	close_fd(&host->fd);
}
