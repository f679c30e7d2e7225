# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fuzz targets: tests/fuzz/NAME.c, with seeds in tests/fuzz/seeds/NAME/.
#   make fuzz                   each target for FUZZ_SECONDS (default 20), and how many passed
#   make fuzz FUZZ_RUNS=N       N inputs for each, the same each time
#   make build/fuzz/NAME        one target, to be run by hand
# A crash leaves its input in build/fuzz/crashes/.

FUZZ_SECONDS ?= 20
FUZZ_NAMES := $(patsubst tests/fuzz/%.c,%,$(filter-out tests/fuzz/$(OTHER)_%,$(wildcard tests/fuzz/*.c)))
FUZZOBJ    := $(LIB_SRCS:%.c=$(B)/fuzz/obj/%.o)
# The compiler's own headers and GLib's differ between gcc and clang in what they warn of.
FUZZFLAGS  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
              -fno-sanitize-recover=all -Wno-unknown-warning-option -Wno-gnu-variable-sized-type-not-at-end

$(FUZZOBJ): $(GEN)

$(B)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 $(FUZZFLAGS) -MMD -MP -c -o $@ $<

$(B)/fuzz/libtern.a: $(FUZZOBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/fuzz/%: tests/fuzz/%.c $(B)/fuzz/libtern.a
	clang $(CPPFLAGS) -std=gnu11 $(FUZZFLAGS) -fsanitize=fuzzer -MMD -MP -o $@ $< $(B)/fuzz/libtern.a $(PKG_LIBS) -lpthread

.PHONY: fuzz fuzz-build
fuzz-build: $(FUZZ_NAMES:%=$(B)/fuzz/%)
fuzz: fuzz-build
	tests/fuzz/run.sh $(B)/fuzz $(FUZZ_SECONDS) $(FUZZ_NAMES)

-include $(FUZZOBJ:.o=.d) $(FUZZ_NAMES:%=$(B)/fuzz/%.d)
