#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Static analysis of the C sources: clang-tidy (checks in .clang-tidy) and cppcheck. Warnings are errors; an exception
# stands at its line and carries a reason.   usage: lint-c.sh "CPPFLAGS"
set -euo pipefail
cd "$(dirname "$0")/.."
read -r -a cppflags <<<"${1:-}"

mapfile -t sources < <(git ls-files base kvm memory devices vmm migration cli | grep '\.c$' | grep -v '/arm64_')
[ ${#sources[@]} -gt 0 ] || exit 0
printf '%s\n' "${sources[@]}" | xargs -P 2 -n 4 sh -c '
	clang-tidy --quiet --warnings-as-errors="*" "$@" -- -std=gnu11 '"$(printf '%q ' "${cppflags[@]}" | sed "s/'/'\\\\''/g")"' 2>/dev/null' lint
cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr \
	--suppress=missingInclude --suppress=missingIncludeSystem --suppress=unknownMacro \
	-j 2 -I. -D__x86_64__ "${sources[@]}"
echo "lint: ${#sources[@]} C files clean"
