# SPDX-License-Identifier: GPL-2.0-or-later
#
# Programs that tests run beside tern, linked with its library: tests/programs/NAME.c becomes build/[ARCH/]programs/NAME.

PROGRAMS := $(patsubst tests/programs/%.c,$(B)/programs/%,$(wildcard tests/programs/*.c))

.PHONY: programs
programs: $(PROGRAMS)

$(B)/programs/%: tests/programs/%.c $(B)/libtern.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(OPT) $(HARDEN) $(LDFLAGS) -MMD -MP -o $@ $< $(B)/libtern.a $(PKG_LIBS) -lpthread

-include $(PROGRAMS:=.d)
