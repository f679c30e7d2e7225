/* SPDX-License-Identifier: GPL-2.0-or-later WITH Linux-syscall-note */
/*
 * The numbers of KVM userfault, in one place for the kernel patches, the VMM and the tests. Only numbers live here.
 *
 * They are those of the public v3 series (message id 20250618042424.330664-1-jthoughton@google.com), except for the
 * capability: every number that the series took was later given to something else upstream, so this one stands far
 * outside the sequence. Who wants to know whether a kernel has the feature tries it (a flag and a bitmap on a scratch
 * slot, a run, the flagged exit); the capability is a hint.
 *
 *   KVM_SET_USER_MEMORY_REGION2: flags |= KVM_MEM_USERFAULT, and the bitmap's address in the first word of padding
 *   (pad2[0] of struct kvm_userspace_memory_region2, at byte KVM_USERFAULT_BITMAP_OFFSET).
 *   KVM_RUN: -1/EFAULT, KVM_EXIT_MEMORY_FAULT, memory_fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT.
 */
#ifndef KVM_USERFAULT_ABI_H
#define KVM_USERFAULT_ABI_H

#ifndef KVM_MEM_USERFAULT
#define KVM_MEM_USERFAULT (1UL << 3)
#endif

#ifndef KVM_MEMORY_EXIT_FLAG_USERFAULT
#define KVM_MEMORY_EXIT_FLAG_USERFAULT (1ULL << 4)
#endif

#ifndef KVM_CAP_USERFAULT
#define KVM_CAP_USERFAULT 0x7465726e
#endif

#define KVM_USERFAULT_BITMAP_OFFSET 48

#endif
