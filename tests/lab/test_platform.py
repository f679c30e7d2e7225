# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Linux guest makes of PCI: what it finds, and drivers that come and go."""

import re


def test_pci_as_linux_sees_it(vm, lab):
    """The kernel finds every function, is content with every BAR, and moves none."""
    guest = vm(cpus=2, rng=True, disks=["path=/guest/root.img,readonly=on"])
    dmesg = guest.sh("dmesg | grep -i pci")
    assert not re.search(r"can't|failed|no compatible|conflict|bogus|invalid", dmesg), dmesg
    ids = guest.sh("cat /sys/bus/pci/devices/*/vendor | sort | uniq -c").split()
    assert ids[ids.index("0x1af4") - 1] == "2"
    assert guest.sh("cat /sys/bus/pci/devices/0000:00:00.0/class").strip() == "0x060000"


def test_drivers_come_and_go(vm, lab):
    """A driver that is unbound and bound again resets its device, negotiates anew, and it works."""
    guest = vm(cpus=2, rng=True)
    device = guest.sh("basename $(readlink -f /sys/bus/virtio/drivers/virtio_rng/virtio*)").strip()
    guest.sh(f"cd /sys/bus/virtio/drivers/virtio_rng && for i in $(seq 20); do echo {device} >unbind && "
             f"echo {device} >bind && head -c 64 /dev/hwrng >/dev/null || exit 1; done")
    pci = guest.sh(f"basename $(readlink -f /sys/bus/virtio/devices/{device}/..)").strip()
    guest.sh(f"cd /sys/bus/pci/drivers/virtio-pci && for i in $(seq 10); do echo {pci} >unbind && echo {pci} >bind && "
             "head -c 64 /dev/hwrng >/dev/null || exit 1; done")
    assert "rror" not in guest.sh("dmesg | grep -i virtio", check=False)


def test_a_function_reset_and_rescan(vm, lab):
    """A function that is removed and found again has its BARs placed anew, and works."""
    guest = vm(cpus=1, rng=True)
    guest.sh("cd /sys/bus/pci/devices && for d in *; do [ $(cat $d/vendor) = 0x1af4 ] && echo 1 >$d/remove; done; "
             "echo 1 >/sys/bus/pci/rescan")
    assert len(guest.sh("head -c 32 /dev/hwrng | md5sum").split()[0]) == 32
