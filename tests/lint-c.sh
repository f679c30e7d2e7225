#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Static analysis of the C sources: clang-tidy (checks in .clang-tidy) and cppcheck. Warnings are errors; an exception
# stands at its line and carries a reason.   usage: lint-c.sh [FILE...]
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t sources < <(printf '%s\n' "${@:-$(git ls-files base kvm memory devices vmm migration cli | grep '\.c$' | grep -v '/arm64_')}")
read -r -a glib < <(pkg-config --cflags glib-2.0)
export FLAGS=build/lint-flags
mkdir -p build
printf '%s\n' -std=gnu11 -I. -Ibuild/gen -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 '-DTERN_VERSION="lint"' \
	-DTERN_ARCH_x86_64=1 "${glib[@]}" >"$FLAGS"

# shellcheck disable=SC2016  # the inner shell expands these
printf '%s\0' "${sources[@]}" | xargs -0 -P 2 -n 4 bash -c '
	mapfile -t flags <"$FLAGS"
	clang-tidy --quiet --warnings-as-errors="*" "$@" -- "${flags[@]}" 2> >(grep -v "warnings generated" >&2)' lint
cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr \
	--suppress=missingInclude --suppress=missingIncludeSystem --suppress=unknownMacro \
	-j 2 -I. -D__x86_64__ "${sources[@]}"
echo "lint: ${#sources[@]} C files clean"
