# SPDX-License-Identifier: GPL-2.0-or-later
#
# The lab (lab/, docs/lab.md) and what runs in it: `make lab-check` the lab tests on both architectures, `make demo` the
# first thing to see.

.PHONY: demo guest-image lab-check

guest-image:
	lab/guest-image --arch $(ARCH) -o $(B)/lab/guest

# Every file boots its hosts once for each architecture: LABTESTS='tests/lab/test_boot.py --arch arm64' narrows it down.
LABTESTS ?= tests/lab
lab-check:
	$(MAKE) ARCH=x86-64 all programs guest
	$(MAKE) ARCH=arm64 all programs guest
	$(PYTHON) -m pytest -q $(LABTESTS) || $(AGAIN) $(LABTESTS)

demo:
	lab/demo --arch $(ARCH)
