# SPDX-License-Identifier: GPL-2.0-or-later
#
# The bare-metal test guest (tests/guest): a freestanding ELF for PVH on x86-64, a flat Image on arm64; and the tests that
# run it (tests/live).

GUEST_ARCH   := $(if $(filter x86-64,$(ARCH)),x86,arm64)
GUEST_OTHER  := $(if $(filter x86-64,$(ARCH)),arm64,x86)
GUEST_ONLY_x86   := tests/guest/fdt.c
GUEST_ONLY_arm64 := tests/guest/acpi.c
GUEST_SRCS   := $(filter-out tests/guest/$(GUEST_OTHER)_% $(GUEST_ONLY_$(GUEST_ARCH)),\
                  $(wildcard tests/guest/*.c tests/guest/*.S))
GUEST_OBJ    := $(patsubst tests/guest/%,$(B)/guest/%.o,$(GUEST_SRCS))
# No SSE: the guest's kernel half may run where only integer instructions are emulated, and nothing here needs more.
GUEST_CFLAGS := -std=gnu11 $(WARN) -O2 -g -ffreestanding -nostdinc -isystem $(shell $(CC) -print-file-name=include) \
                -fno-stack-protector -fno-asynchronous-unwind-tables -fno-common \
                -fno-tree-loop-distribute-patterns -mgeneral-regs-only -Itests/guest
GUEST_LDFLAGS := -nostdlib -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-T,tests/guest/$(GUEST_ARCH)_guest.lds
ifeq ($(GUEST_ARCH),x86)
  GUEST_CFLAGS  += -fno-pie -fcf-protection=none -mno-red-zone
  GUEST_LDFLAGS += -static -no-pie -Wl,--no-warn-rwx-segments
  GUEST_IMAGE   := $(B)/guest/guest.elf
else
  # Loaded wherever the VMM likes: position-independent, and relocated by its own first instructions.
  GUEST_CFLAGS  += -fpie -mstrict-align -mno-outline-atomics -fvisibility=hidden
  GUEST_LDFLAGS += -static-pie -Wl,--no-dynamic-linker -Wl,-z,notext -Wl,--no-warn-rwx-segments
  GUEST_IMAGE   := $(B)/guest/guest.img
endif

.PHONY: guest
guest: $(GUEST_IMAGE)

$(B)/guest/%.c.o: tests/guest/%.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guest/%.S.o: tests/guest/%.S
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/guest/guest.elf: $(GUEST_OBJ) tests/guest/$(GUEST_ARCH)_guest.lds
	$(CC) $(GUEST_LDFLAGS) -o $@ $(GUEST_OBJ)

$(B)/guest/guest.img: $(B)/guest/guest.elf
	$(CROSS)objcopy -O binary $< $@

-include $(GUEST_OBJ:.o=.d)

# Live tests: build/tern with the guest on this host's KVM (tests/live); "live-san": the same program under
# AddressSanitizer and UndefinedBehaviorSanitizer, against the guest that writes anything anywhere.
.PHONY: live live-san
LIVE_NEEDS := $(B)/guest/guest.elf
live: $(B)/tern $(LIVE_NEEDS)
	TERN_BUILD=$(B) $(PYTHON) -m pytest -q tests/live || TERN_BUILD=$(B) $(AGAIN) tests/live

live-san: $(B)/tern-san/tern $(LIVE_NEEDS)
	@mkdir -p $(B)/tern-san/guest && cp $(B)/guest/guest.elf $(B)/tern-san/guest/
	TERN_BUILD=$(B)/tern-san TERN_SANITIZED=1 $(PYTHON) -m pytest -q $(addprefix tests/live/test_,machine.py control.py stress.py snapshot.py)

$(B)/tern-san/tern: cli/main.c $(B)/libtern-san.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(SANFLAGS) -MMD -MP -o $@ $< $(B)/libtern-san.a $(PKG_LIBS) -lpthread
