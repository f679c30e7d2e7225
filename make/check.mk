# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make check`: every test that this machine can run, in the order in which they say something soonest. What takes longer
# than a change should wait for is in check-full.

.PHONY: check check-full
check:
	$(MAKE) layers fmt-check lint
	$(MAKE) all unit docs-check
	$(MAKE) live
	$(MAKE) fuzz FUZZ_SECONDS=$(or $(FUZZ_SECONDS),10)
	$(MAKE) lab-check
	$(MAKE) kernel-check

check-full: check
	$(MAKE) fuzz FUZZ_SECONDS=300
	$(MAKE) kernel-full
