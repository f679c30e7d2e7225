// SPDX-License-Identifier: GPL-2.0-or-later
/* On arm64 what can be said of CPUs needs a vCPU, and is among the facts of kvm/arm64_probe.c. */
#include <stddef.h>

#include "cli/doctor.h"

const struct doctor_check doctor_cpu_checks[] = {{NULL}};
