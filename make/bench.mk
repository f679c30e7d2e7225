# SPDX-License-Identifier: GPL-2.0-or-later
#
# Measurements (bench/): `make bench` runs those that take minutes; each script also runs by itself, --help says how.

.PHONY: bench bench-footprint

$(B)/bench/%: bench/%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(CFLAGS) $(OPT) -o $@ $<

bench: bench-footprint
bench-footprint: $(B)/tern $(B)/guest/guest.elf $(B)/bench/first-byte
	$(PYTHON) bench/footprint.py --tern $(B)/tern --guest $(B)/guest/guest.elf --first-byte $(B)/bench/first-byte
