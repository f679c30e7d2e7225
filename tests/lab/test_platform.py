# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Linux guest makes of what every machine has: PCI, drivers that come and go, the clock, the serial port."""

import re

import pytest


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


@pytest.mark.any_cpus
def test_clock(vm, lab):
    """The real-time clock tells the host's time; a guest that sets it keeps what it set over its own reset."""
    guest = vm()
    host = int(lab.run("date +%s", check=True).stdout)
    rtc = int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch"))
    assert abs(rtc - host) < 60, (rtc, host)
    guest.sh("date -u -s '2031-05-06 07:08:09' >/dev/null && hwclock -u -w -f /dev/rtc0")
    rtc = int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch"))
    assert 0 <= rtc - 1935817689 < 60, rtc
    guest.start("reboot -f")
    guest.wait_up()
    rtc = int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch"))
    assert 0 <= rtc - 1935817689 < 600, rtc


def test_serial_keeps_every_byte(vm, lab):
    """A long output, also while the guest is paused and resumed, and a long input: all of both arrives, in order."""
    guest = vm(cpus=2)
    text = guest.sh("for i in $(seq 1 800); do echo line $i of many; done", timeout=180)
    assert re.findall(r"line (\d+) of many", text) == [str(i) for i in range(1, 801)]
    guest.start("for i in $(seq 1 600); do echo row $i; done; echo all rows")
    for _ in range(5):
        guest.tern("pause", check=True)
        guest.tern("resume", check=True)
    guest.expect(r"^all rows\r*\n", 180)
    rows = re.findall(r"^row (\d+)\r*\n", guest.console, re.MULTILINE)
    assert rows == [str(i) for i in range(1, 601)]
    lines = [" ".join(f"{i:04x}" for i in range(n, n + 20)) for n in range(0, 600, 20)]
    guest.start("cat >/tmp/typed <<'END'\n" + "\n".join(lines) + "\nEND")
    assert guest.sh("cat /tmp/typed", timeout=180).splitlines() == lines
