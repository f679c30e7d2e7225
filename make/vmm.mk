# SPDX-License-Identifier: GPL-2.0-or-later
#
# The machine's generated files: ACPI byte code from vmm/*.asl, as a C array (x86-64 only).
ifeq ($(ARCH),x86-64)
GEN += $(B)/gen/vmm/x86_dsdt.h

$(B)/gen/vmm/x86_dsdt.h: vmm/x86_dsdt.asl
	@mkdir -p $(@D)
	$(call say,IASL,$<)
	$(Q)iasl -ve -we -tc -p $(@D)/x86_dsdt $< >$(@D)/x86_dsdt.log || { cat $(@D)/x86_dsdt.log; false; }
	$(Q)sed 's/^unsigned char/static const unsigned char/' $(@D)/x86_dsdt.hex >$@
endif

# Saves a machine in one process and runs on in another (tests/live/test_state.py, tests/lab/test_state.py); uses the heap
# in sandboxed threads (tests/live/test_heap.py).
LIVE_TOOLS := $(B)/tests/live/machine-state $(B)/tests/live/thread-heap
$(B)/tests/live/machine-state: tests/live/machine_state.c
$(B)/tests/live/thread-heap: tests/live/thread_heap.c
$(LIVE_TOOLS): $(B)/libtern.a
	@mkdir -p $(@D)
	$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(OPT) $(HARDEN) $(LDFLAGS) -o $@ $(filter %.c,$^) $(B)/libtern.a $(PKG_LIBS) -lpthread

live: $(LIVE_TOOLS)
all: $(LIVE_TOOLS)
