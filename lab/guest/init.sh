#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Process 1 of a lab guest, from the initial RAM file system and then, if a root disk is named, from that disk.
#
# Words on the kernel's command line (a word with blanks is put into double quotes as a whole value: tern.run="a b"):
#   tern.root=/dev/vda     go on from that disk (ext4)
#   tern.ip=ADDRESS/BITS[,GATEWAY]   the first network card's address;  tern.ip=dhcp  ask for one
#   tern.run=COMMAND       run it with the shell, say how it ended, and power off
#   tern.quiet             no powerkey daemon, no heartbeat
# Without tern.run there is a shell on the console; when it ends, the guest powers off.
#
# What it prints is for programs to read: "guest: up", "guest: begin", "guest: exit status N", "guest: powering off".

export PATH=/etc/tern-guest:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb

# The value of a word, or nothing.
word() {
	sed -n -e "s/.*[\" ]$1=\"\([^\"]*\)\".*/\1/p" -e t -e "s/.*\"$1=\([^\"]*\)\".*/\1/p" -e t \
		-e "s/.* $1=\([^ \"]*\).*/\1/p" /tmp/cmdline
}

# The first thing in every file system: the kernel's own file systems.
if [ ! -e /proc/mounts ]; then
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
fi
mkdir -p /dev/pts
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
echo " $(cat /proc/cmdline) " >/tmp/cmdline

# The modules are in the initial RAM file system alone.
if [ -e /guest/modules.order ]; then
	while read -r module parameters; do
		# shellcheck disable=SC2086
		insmod "/guest/modules/$module" $parameters || echo "guest: $module does not load"
	done </guest/modules.order
	root=$(word tern.root)
	if [ -n "$root" ]; then
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -b "$root" ] && break
			sleep 0.1
		done
		if mount -t ext4 "$root" /sysroot; then
			umount /run /tmp /dev/pts
			mount --move /dev /sysroot/dev
			mount --move /sys /sysroot/sys
			mount --move /proc /sysroot/proc
			exec switch_root /sysroot /init
		fi
		echo "guest: $root cannot be mounted"
	fi
fi

hostname guest
ip link set lo up
address=$(word tern.ip)
if [ -n "$address" ] && [ -e /sys/class/net/eth0 ]; then
	ip link set eth0 up
	if [ "$address" = dhcp ]; then
		udhcpc -q -n -t 10 -T 1 -i eth0 -s /etc/udhcpc.script
	else
		ip addr add "${address%,*}" dev eth0
		case $address in
		*,*) ip route add default via "${address#*,}" ;;
		esac
	fi
fi

grep -q ' tern.quiet ' /tmp/cmdline || powerkey /run/powerkey powerkey-pressed &
read -r uptime _ </proc/uptime
echo "guest: up after $uptime s, $(grep -c '^processor' /proc/cpuinfo) CPUs, $(uname -sr)"

command=$(word tern.run)
if [ -n "$command" ]; then
	echo "guest: begin"
	sh -c "$command"
	echo "guest: exit status $?"
else
	setsid -c sh -l </dev/console >/dev/console 2>&1
fi
exec guest-poweroff
