/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /dev/kvm itself: opening it and what it offers. Only kvm/ issues ioctl(2) on KVM's descriptors.
 * Source: Documentation/virt/kvm/api.rst, sections 4.4 (KVM_CHECK_EXTENSION) and 8.
 */
#ifndef KVM_HOST_H
#define KVM_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"

struct kvm_host {
	int fd;
	int vcpu_mmap_bytes;	/* KVM_GET_VCPU_MMAP_SIZE */
	unsigned int max_vcpus; /* KVM_CAP_MAX_VCPUS */
	unsigned int max_memslots;
	/* Dirty tracking, see memory/dirty.h. Sizes in bytes of one vCPU's ring, 0: not offered. */
	uint32_t ring_max_bytes;    /* the larger of KVM_CAP_DIRTY_LOG_RING and _ACQ_REL */
	bool ring_acq_rel;	    /* 223 is offered (else 192) */
	bool ring_with_bitmap;	    /* 225 */
	uint64_t manual_protect;    /* flags of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 0: none */
	bool memory_fault_info;	    /* KVM_CAP_MEMORY_FAULT_INFO */
	bool user_memory2;	    /* KVM_CAP_USER_MEMORY2 */
	uint64_t eager_split_sizes; /* arm64: KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES, 0: none */
};

/*
 * Opens /dev/kvm (fd >= 0: takes that one over instead, ownership moves even on failure) and reads what it offers.
 * Errors: -errno of open; -ENOTSUP for an API version other than 12, or without the capabilities that Tern cannot do without, named.
 */
int kvm_host_open(struct kvm_host *host, int fd) must_check;
void kvm_host_close(struct kvm_host *host);
/* KVM_CHECK_EXTENSION; 0 when not offered. */
int kvm_host_extension(const struct kvm_host *host, int capability);

#endif
