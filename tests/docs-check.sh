#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Manual pages, completion and docs/control.md know every command and option that the program knows, and no others;
# and the pages are free of formatter warnings.   usage: docs-check.sh TERN
set -euo pipefail
cd "$(dirname "$0")/.."
tern=$1
bad=0

complain() {
	echo "docs-check: $*" >&2
	bad=1
}

mapfile -t commands < <("$tern" help | sed -n 's/^  \([a-z]\+\) .*/\1/p')
[ ${#commands[@]} -ge 10 ] || complain "tern help lists ${#commands[@]} commands"
for command in "${commands[@]}"; do
	[ -f "docs/man/tern-$command.1" ] || complain "docs/man/tern-$command.1 is missing"
	grep -q "tern-$command" docs/man/tern.1 || complain "tern.1 does not name tern-$command"
	grep -qE "commands=\".*\b$command\b" completion/tern.bash || complain "completion does not know $command"
done
for page in docs/man/tern-*.1; do
	command=${page#docs/man/tern-}
	[[ " ${commands[*]} " == *" ${command%.1} "* ]] || complain "$page is about no command"
done

mapfile -t options < <("$tern" help run | sed -n 's/^  --\([a-z-]\+\).*/\1/p')
[ ${#options[@]} -ge 15 ] || complain "tern help run lists ${#options[@]} options"
for option in "${options[@]}"; do
	grep -q -- "\\\\-\\\\-$option\b" docs/man/tern-run.1 || complain "tern-run.1 does not name --$option"
	grep -q -- "--$option\b" completion/tern.bash || complain "completion does not know --$option"
done
# What is no option of tern run stands in the help of its command.
mapfile -t others < <(for command in migrate receive resolve save restore inspect; do "$tern" help "$command"; done |
	grep -o -- '--[a-z][a-z-]*' | sed 's/^--//' | sort -u)
for option in "${others[@]}"; do
	grep -q -- "--$option\b" completion/tern.bash || complain "completion does not know --$option"
	grep -q -- "\\\\-\\\\-${option//-/\\\\-}\b" docs/man/tern-{migrate,receive,resolve,save,restore,inspect}.1 ||
		complain "no page of those about moving and saving names --$option"
done
# shellcheck disable=SC2016  # a literal dollar sign
while read -r option; do
	[[ " ${options[*]} ${others[*]} quiet help force timeout json " == *" $option "* ]] || complain "completion knows --$option, tern does not"
done < <(grep -o -- '--[a-z][a-z-]*' completion/tern.bash | sed 's/^--//' | sort -u)

while read -r name; do
	grep -q "\`$name\`" docs/control.md || complain "docs/control.md does not name $name"
done < <(sed -n 's/^\t{"\([a-zA-Z_-]*\)", run_.*/\1/p' cli/qmp_*.c)
while read -r name; do
	grep -q "\`$name\`" docs/control.md || complain "docs/control.md does not name the event $name"
done < <(grep -ho 'qmp_server_event([^,]*, "[A-Z_]*"' cli/*.c | sed 's/.*"\(.*\)"/\1/' | sort -u)

if command -v man >/dev/null; then
	pages=$(mktemp -d)
	trap 'rm -rf "$pages"' EXIT
	mkdir "$pages/man1"
	cp docs/man/*.1 "$pages/man1"
	for page in "$pages"/man1/*.1; do
		warnings=$(cd "$pages" && MANWIDTH=100 man --warnings -l "$page" 2>&1 >/dev/null)
		[ -z "$warnings" ] || complain "$(basename "$page"): $warnings"
	done
fi
[ $bad = 0 ] && echo "docs-check: ${#commands[@]} commands and ${#options[@]} options documented"
exit $bad
