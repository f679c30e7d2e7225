/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scratch VM of the probes, and what an architecture supplies for it (x86_probe.c, arm64_probe.c). Private to
 * the probe files of kvm/.
 */
#ifndef KVM_PROBE_GUEST_H
#define KVM_PROBE_GUEST_H

#include "kvm/probe.h"
#include "kvm/vcpu.h"

#define PROBE_RAM_BYTES	 (16ULL << 20)
#define PROBE_CODE_GPA	 0x1000ULL
#define PROBE_TABLES_GPA 0x2000ULL /* x86: page tables, three pages */
#define PROBE_DATA_GPA	 0x8000ULL
#define PROBE_PAGES_GPA	 0x100000ULL   /* pages that programs write */
#define PROBE_END_GPA	 0x3fe00000ULL /* nobody answers: a store there ends a program */

enum probe_program {
	PROBE_COUNT,  /* turns `count` times */
	PROBE_WRITE,  /* writes one byte in each of `count` pages from `gpa` on */
	PROBE_KERNEL, /* x86: cmpxchg16b at `gpa`; then as PROBE_COUNT */
};

struct probe_vm {
	struct kvm_host host;
	struct kvm_vm vm;
	struct kvm_vcpu vcpu;
	uint8_t *memory; /* slot 0, from gpa 0 on, but for what a probe takes out */
};

/* The type for KVM_CREATE_VM. */
unsigned long probe_arch_vm_type(const struct kvm_host *host);
/* Before memslots; after the vCPU. kernel_mode: what programs will run in. */
int probe_arch_prepare_vm(struct probe_vm *probe) must_check;
int probe_arch_prepare_vcpu(struct probe_vm *probe, bool kernel_mode) must_check;
/* Puts the program's code into memory and the vCPU at its start. */
int probe_arch_start(struct probe_vm *probe, enum probe_program program, uint64_t gpa,
		     uint64_t count) must_check;

/* How a probe's VM differs from the plainest. */
struct probe_shape {
	bool kernel_mode;
	uint32_t ring_entries; /* 0: no ring */
	bool ring_bitmap;
	bool manual_protect;
	uint32_t memslot_flags;
	uint64_t slot_bytes; /* of slot 0; 0: all of PROBE_RAM_BYTES */
};
/* 0, or -errno; fini takes a half-built one. */
int probe_vm_init(struct probe_vm *probe, const struct probe_shape *shape) must_check;
void probe_vm_fini(struct probe_vm *probe);

#endif
