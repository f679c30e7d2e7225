/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that the arm64 assembly and its C code share. */
#ifndef GUEST_ARM64_LAYOUT_H
#define GUEST_ARM64_LAYOUT_H

#define MAX_VCPUS   256
#define STACK_SHIFT 14

#endif
