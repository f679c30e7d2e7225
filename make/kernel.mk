# SPDX-License-Identifier: GPL-2.0-or-later
#
# The companion kernel patch set: kernel/README.md.
#   make kernel          the patched kernels of both architectures, into the cache
#   make kernel-check    them and the stock ones against the regression programs, each of these against its mutants
#   make kernel-full     everything that can be checked; takes hours; goes on where it was cut off

.PHONY: kernel kernel-check kernel-full

kernel:
	kernel/build patched x86-64 arm64

# Two lab hosts at a time: the programs wait a lot.
kernel-check:
	kernel/check -j 2

kernel-full:
	kernel/full
