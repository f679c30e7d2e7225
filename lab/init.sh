#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Process 1 of a lab host: makes a small but whole system of the initramfs, then becomes the agent, which runs the
# commands. Anything that fails here is printed and left: the tests say what they miss.
#
# Words on the kernel's command line: lab.host=NUMBER lab.token=TOKEN

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
if [ "$1" != again ]; then
	# The first file system cannot be left by pivot_root(2), which sandboxes want to call; a second mount of the same
	# files, put over it, can.
	mount --bind / /newroot
	cd /newroot || exit 1
	mount --move . /
	exec chroot . /init again
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm /dev/hugepages /tmp /run /var
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t hugetlbfs -o mode=1777 hugetlbfs /dev/hugepages 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ln -sf /run /var/run

number=1
token=
# The words of a kernel command line hold no quotes here.
# shellcheck disable=SC2013
for word in $(cat /proc/cmdline); do
	case $word in
	lab.host=*) number=${word#lab.host=} ;;
	lab.token=*) token=${word#lab.token=} ;;
	esac
done

# One line each: a file under /lab/modules, in the order in which they must go in, with its parameters.
while read -r module parameters; do
	# shellcheck disable=SC2086
	insmod "/lab/modules/$module" $parameters || echo "lab: $module does not load"
done </lab/modules.order

for node in kvm net/tun vhost-net userfaultfd; do
	[ -e "/dev/$node" ] || continue
	chown root:kvm "/dev/$node"
	chmod 660 "/dev/$node"
done
[ -e /dev/net/tun ] && chmod 666 /dev/net/tun
[ -e /dev/vsock ] && chmod 666 /dev/vsock

mkdir -p /run/user/0 /run/user/1000 /root /home/tern
chmod 700 /run/user/0 /run/user/1000 /root /home/tern
chown tern:tern /run/user/1000 /home/tern

hostname "host$number"
ip link set lo up
syslogd -O /run/messages
# The host side finds a card by the address it gave it: 0a is the way in for the agent, 0b the network of the hosts.
for card in /sys/class/net/*; do
	name=${card##*/}
	case $(cat "$card/address") in
	52:54:00:0a:*)
		ip link set "$name" name mgmt0
		ip addr add 10.0.2.15/24 dev mgmt0
		ip link set mgmt0 up
		ip route add default via 10.0.2.2
		;;
	52:54:00:0b:*)
		ip link set "$name" name lab0
		ip addr add "10.0.0.$number/24" dev lab0
		ip link set lab0 up
		;;
	esac
done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /share 2>/dev/null || rmdir /share

exec /lab/agent 7000 "$token" </dev/null
