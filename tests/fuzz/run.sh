#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs fuzz targets one after the other, each for so many seconds, and says how many found nothing. An input that breaks a
# target is left in DIR/crashes/.   usage: run.sh DIR SECONDS NAME...
#
#   FUZZ_RUNS=N   N inputs a target, from the seeds alone and the same each time, whatever the machine's speed; SECONDS
#                 then only ends a target that is far too slow for it
#   otherwise     searches where no run before has, and keeps what it found of interest in DIR/corpus/ for the next
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$1 seconds=$2
shift 2

passed=0 failed=0
mkdir -p "$dir/crashes"
for name in "$@"; do
	corpus=$dir/corpus/$name repeat=()
	if [ -n "${FUZZ_RUNS:-}" ]; then
		corpus=$dir/repeat/$name repeat=(-runs="$FUZZ_RUNS" -seed=1)
		rm -rf "$corpus"
	fi
	mkdir -p "$corpus"
	seeds=()
	[ -d "tests/fuzz/seeds/$name" ] && seeds=("tests/fuzz/seeds/$name")
	# The target bounds its own time; if it hangs where it cannot see that, it is ended.
	if timeout --kill-after=5 $((seconds + 60)) "$dir/$name" -max_total_time="$seconds" -timeout=10 \
		-rss_limit_mb=2048 "${repeat[@]}" -print_final_stats=1 -close_fd_mask=1 \
		-artifact_prefix="$dir/crashes/$name-" "$corpus" "${seeds[@]}" \
		>"$dir/$name.log" 2>&1; then
		passed=$((passed + 1))
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
		echo "fuzz: $name: $runs inputs"
	else
		failed=$((failed + 1))
		tail -40 "$dir/$name.log"
		echo "fuzz: $name: FAILED, see $dir/$name.log and $dir/crashes/"
	fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$failed" = 0 ]
