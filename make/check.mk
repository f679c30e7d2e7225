# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make check`: every test that this machine can run, in the order in which they say something soonest. What takes longer
# than a change should wait for is in check-full. Fuzzing judges each change by the same inputs; check-full searches anew.

# Tests that boot machines have time limits, and a busy host misses one now and then. What failed runs once more, on its
# own, in sight; the second word counts (the third in the lab, whose emulated hosts have faults of their own). AGAIN has
# exit status 5 (nothing to run) when the first run never began.
AGAIN = $(PYTHON) -m pytest -q --last-failed --last-failed-no-failures=none

.PHONY: check check-full
check:
	$(MAKE) layers fmt-check lint
	$(MAKE) all unit docs-check
	$(MAKE) live
	FUZZ_RUNS=20000 $(MAKE) fuzz FUZZ_SECONDS=60
	$(MAKE) lab-check
	$(MAKE) kernel-check

check-full: check
	TERN_BUILD=$(B) TERN_FAULTS=2000 $(PYTHON) -m pytest -q tests/live/test_faults.py
	TERN_BUILD=$(B) TERN_MOVES=100 $(PYTHON) -m pytest -q tests/live/test_migration.py -k back_and_forth
	$(PYTHON) tests/mutants.py
	$(MAKE) fuzz FUZZ_SECONDS=300
	$(MAKE) lab-full
	$(MAKE) kernel-full
