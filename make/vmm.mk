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
