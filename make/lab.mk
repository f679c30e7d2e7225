# SPDX-License-Identifier: GPL-2.0-or-later
#
# The lab (lab/, docs/lab.md) and what runs in it: `make lab-check` the tests marked core on both architectures, `make
# lab-full` all of them, and whether they find what is broken on purpose, `make demo` the first thing to see.

.PHONY: demo guest-image lab-check lab-full lab-programs

guest-image:
	lab/guest-image --arch $(ARCH) -o $(B)/lab/guest

# Every file boots its hosts once for each architecture: LABTESTS='tests/lab/test_boot.py --arch arm64' narrows it down.
LABTESTS ?= tests/lab --core
lab-programs:
	$(MAKE) ARCH=x86-64 all programs guest
	$(MAKE) ARCH=arm64 all programs guest ring-alone

# tern as on a host that offers a dirty ring but no bitmap beside it (KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 225).
.PHONY: ring-alone
ring-alone: $(B)/ring-alone/tern
$(B)/ring-alone/tern: kvm/host.c $(B)/obj/cli/main.o $(B)/libtern.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) -DTERN_HIDDEN_CAPABILITY=225 $(CFLAGS) $(OPT) $(HARDEN) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lpthread
lab-check: lab-programs
	$(PYTHON) -m pytest -q --durations=12 $(LABTESTS) || $(AGAIN) $(LABTESTS) || $(AGAIN) $(LABTESTS)
lab-full:
	$(MAKE) lab-check LABTESTS=tests/lab
	$(MAKE) lab-check LABTESTS="tests/lab --cpus=4"
	$(PYTHON) tests/mutants.py --lab

demo:
	lab/demo --arch $(ARCH)

# A VM moves while it works; a dozen seconds.
.PHONY: demo-move
demo-move:
	./install-deps build
	$(MAKE) all guest
	lab/demo-move
