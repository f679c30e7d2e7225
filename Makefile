# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds tern, its library and its tests. Sources are found by folder and name, so that a new file needs no line here:
#   <folder>/x.c           built for every architecture
#   <folder>/x86_*.c       for x86-64 only;   <folder>/arm64_*.c for arm64 only
#   tests/unit/*.c         one GLib test program each, under ASan and UBSan
#   tests/fuzz/*.c         one libFuzzer target each
# What a folder adds beyond that (the lab, the kernel, guests, benches) stands in its own make/*.mk fragment.

ARCH     ?= x86-64
HOSTARCH := $(patsubst x86_64,x86-64,$(patsubst aarch64,arm64,$(shell uname -m)))
FOLDERS  := base kvm memory devices vmm migration cli
PYTHON   ?= /usr/bin/python3

ifeq ($(ARCH),$(HOSTARCH))
  CROSS  :=
else ifeq ($(ARCH),arm64)
  CROSS  := aarch64-linux-gnu-
else ifeq ($(ARCH),x86-64)
  CROSS  := x86_64-linux-gnu-
endif
ifeq ($(filter $(ARCH),x86-64 arm64),)
  $(error ARCH=$(ARCH): not one of x86-64, arm64)
endif

# The architecture of this machine builds into build/, another one into build/ARCH/.
B        := $(if $(filter $(ARCH),$(HOSTARCH)),build,build/$(ARCH))
OTHER    := $(if $(filter x86-64,$(ARCH)),arm64,x86)
MINE     := $(if $(filter x86-64,$(ARCH)),x86,arm64)
TRIPLET  := $(if $(filter x86-64,$(ARCH)),x86_64-linux-gnu,aarch64-linux-gnu)

CC       := $(if $(CROSS),$(CROSS)gcc,gcc)
AR       := $(CROSS)ar
STRIP    := $(CROSS)strip
PKGS     := glib-2.0 libfdt libseccomp jansson liburing zlib $(if $(filter x86-64,$(ARCH)),libxxhash)
PKGCONF  := PKG_CONFIG_LIBDIR=/usr/lib/$(TRIPLET)/pkgconfig:/usr/share/pkgconfig pkg-config
# libfdt has no pkg-config file in Debian 12, and its development package cannot be installed for two architectures at
# once: the headers are the same for both, and a cross build links the run-time library by its name.
FDT        := $(if $(CROSS),-l:libfdt.so.1,-lfdt)
PKG_CFLAGS := $(shell $(PKGCONF) --cflags $(filter-out libfdt,$(PKGS)) 2>/dev/null)
PKG_LIBS   := $(shell $(PKGCONF) --libs $(filter-out libfdt,$(PKGS)) 2>/dev/null) $(FDT)

WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
            -Wpointer-arith -Wwrite-strings -Wundef -Wno-unused-parameter -Wno-missing-field-initializers
OPT      ?= -O2 -g
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
TERN_VERSION := $(shell cat VERSION)
CPPFLAGS += -I. -I$(B)/gen -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DTERN_VERSION='"$(TERN_VERSION)"' \
            -DTERN_ARCH_$(subst -,_,$(ARCH))=1 $(PKG_CFLAGS)
CFLAGS   += -std=gnu11 $(WARN)
LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--as-needed
SANFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

SRCS     := $(filter-out $(foreach f,$(FOLDERS),$(wildcard $(f)/$(OTHER)_*.c)),$(foreach f,$(FOLDERS),$(wildcard $(f)/*.c)))
CLI_SRCS := $(filter cli/%,$(SRCS))
LIB_SRCS := $(filter-out cli/main.c,$(SRCS))

OBJ      := $(LIB_SRCS:%.c=$(B)/obj/%.o)
SANOBJ   := $(LIB_SRCS:%.c=$(B)/san/%.o)
UNIT     := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(filter-out tests/unit/$(OTHER)_% tests/unit/%_$(OTHER).c,$(wildcard tests/unit/*.c)))

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' '$(1)' '$(2)')

.DELETE_ON_ERROR:
.PHONY: all lib unit clean fmt fmt-check layers lint lint-shell lint-c deps
.DEFAULT_GOAL := all

all: $(B)/tern
lib: $(B)/libtern.a

# Fragments of folders: generated files (GEN), extra targets.
GEN      :=
-include $(sort $(wildcard make/*.mk))

$(OBJ) $(SANOBJ): $(GEN)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(OPT) $(HARDEN) -MMD -MP -c -o $@ $<

$(B)/libtern.a: $(OBJ)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

$(B)/tern: $(B)/obj/cli/main.o $(B)/libtern.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lpthread

# Unit tests: the same sources under AddressSanitizer and UndefinedBehaviorSanitizer.
$(B)/san/%.o: %.c
	@mkdir -p $(@D)
	$(call say,SAN,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(SANFLAGS) -MMD -MP -c -o $@ $<

$(B)/libtern-san.a: $(SANOBJ)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

$(B)/tests/unit/%: tests/unit/%.c $(B)/libtern-san.a
	@mkdir -p $(@D)
	$(call say,TEST,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(SANFLAGS) -MMD -MP -o $@ $< $(B)/libtern-san.a $(PKG_LIBS) -lpthread

unit: $(UNIT)
	G_DEBUG=fatal-warnings prove --timer $(UNIT)

layers:
	tests/layers.sh

fmt:
	clang-format -i $(shell git ls-files '*.c' '*.h' | grep -v '^kernel/')
fmt-check:
	clang-format --dry-run -Werror $(shell git ls-files '*.c' '*.h' | grep -v '^kernel/')

lint: lint-shell lint-c
lint-shell:
	shellcheck -x $(shell git ls-files | xargs -r grep -lE '^#!.*(bash|/sh)' 2>/dev/null)
lint-c: $(GEN)
	tests/lint-c.sh

deps:
	./install-deps

clean:
	rm -rf build

-include $(OBJ:.o=.d) $(SANOBJ:.o=.d) $(B)/obj/cli/main.d $(UNIT:=.d)
