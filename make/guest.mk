# SPDX-License-Identifier: GPL-2.0-or-later
#
# The bare-metal test guest (tests/guest): one freestanding ELF for PVH on x86-64.

GUEST_ARCH   := $(if $(filter x86-64,$(ARCH)),x86,arm64)
GUEST_OTHER  := $(if $(filter x86-64,$(ARCH)),arm64,x86)
GUEST_SRCS   := $(filter-out tests/guest/$(GUEST_OTHER)_%,$(wildcard tests/guest/*.c tests/guest/*.S))
GUEST_OBJ    := $(patsubst tests/guest/%,$(B)/guest/%.o,$(GUEST_SRCS))
# No SSE: the guest's kernel half may run where only integer instructions are emulated, and nothing here needs more.
GUEST_CFLAGS := -std=gnu11 $(WARN) -O2 -g -ffreestanding -nostdinc -isystem $(shell $(CC) -print-file-name=include) \
                -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fno-common \
                -fno-tree-loop-distribute-patterns -mgeneral-regs-only -Itests/guest
ifeq ($(GUEST_ARCH),x86)
  GUEST_CFLAGS += -fcf-protection=none -mno-red-zone
endif

.PHONY: guest
guest: $(B)/guest/guest.elf

$(B)/guest/%.c.o: tests/guest/%.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guest/%.S.o: tests/guest/%.S
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guest/guest.elf: $(GUEST_OBJ) tests/guest/$(GUEST_ARCH)_guest.lds
	$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
		-Wl,-T,tests/guest/$(GUEST_ARCH)_guest.lds -o $@ $(GUEST_OBJ)

-include $(GUEST_OBJ:.o=.d)

# Live tests: build/tern with the guest on this host's KVM (tests/live).
.PHONY: live
live: $(B)/tern $(B)/guest/guest.elf
	TERN_BUILD=$(B) $(PYTHON) -m pytest -q tests/live
