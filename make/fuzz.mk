# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fuzz targets: tests/fuzz/NAME.c, with seeds in tests/fuzz/seeds/NAME/.
#   make fuzz                   each target for FUZZ_SECONDS (default 20)
#   make build/fuzz/NAME        one target, to be run by hand
# A crash leaves its input in build/fuzz/crashes/.

FUZZ_SECONDS ?= 20
FUZZ_NAMES := $(patsubst tests/fuzz/%.c,%,$(filter-out tests/fuzz/$(OTHER)_%,$(wildcard tests/fuzz/*.c)))
FUZZOBJ    := $(LIB_SRCS:%.c=$(B)/fuzz/obj/%.o)
# The compiler's own headers and GLib's differ between gcc and clang in what they warn of.
FUZZFLAGS  := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
              -fno-sanitize-recover=all -Wno-unknown-warning-option

$(FUZZOBJ): $(GEN)

$(B)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	clang $(CPPFLAGS) -std=gnu11 $(FUZZFLAGS) -MMD -MP -c -o $@ $<

$(B)/fuzz/libtern.a: $(FUZZOBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/fuzz/%: tests/fuzz/%.c $(B)/fuzz/libtern.a
	clang $(CPPFLAGS) -std=gnu11 $(FUZZFLAGS) -fsanitize=fuzzer -MMD -MP -o $@ $< $(B)/fuzz/libtern.a $(PKG_LIBS) -lpthread

.PHONY: fuzz
fuzz: $(FUZZ_NAMES:%=$(B)/fuzz/%)
	@mkdir -p $(B)/fuzz/crashes
	@set -e; for name in $(FUZZ_NAMES); do \
		mkdir -p $(B)/fuzz/corpus/$$name tests/fuzz/seeds/$$name; \
		echo "fuzz: $$name for $(FUZZ_SECONDS) s"; \
		$(B)/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -close_fd_mask=1 \
			-artifact_prefix=$(B)/fuzz/crashes/$$name- \
			$(B)/fuzz/corpus/$$name tests/fuzz/seeds/$$name >$(B)/fuzz/$$name.log 2>&1 \
			|| { tail -40 $(B)/fuzz/$$name.log; exit 1; }; \
		grep -E '^(Done|stat::number)' $(B)/fuzz/$$name.log | tail -1; \
	done

-include $(FUZZOBJ:.o=.d) $(FUZZ_NAMES:%=$(B)/fuzz/%.d)
