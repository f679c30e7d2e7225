# SPDX-License-Identifier: GPL-2.0-or-later
#
# Measurements (bench/): `make bench` runs those that take minutes; each script also runs by itself, --help says how.

.PHONY: bench bench-footprint

$(B)/bench/%: bench/%.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE $(CFLAGS) $(OPT) -o $@ $< -lpthread

bench: bench-footprint
bench-footprint: $(B)/tern $(B)/guest/guest.elf $(B)/bench/first-byte
	$(PYTHON) bench/footprint.py --tern $(B)/tern --guest $(B)/guest/guest.elf --first-byte $(B)/bench/first-byte

# Live migration: the full matrix takes long; BENCH_MIGRATION narrows it (bench/migration.py --help).
.PHONY: bench-migration
bench-migration: $(B)/tern $(B)/guest/guest.elf $(B)/bench/raw-stream
	$(PYTHON) bench/migration.py --tern $(B)/tern --guest $(B)/guest/guest.elf --raw-stream $(B)/bench/raw-stream \
		$(BENCH_MIGRATION)
