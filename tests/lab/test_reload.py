# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest's whole state, saved and loaded by a fresh process while the guest works: memory, vectors, disk, clock."""

import re
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
MOVES = 3


def LAB(arch):
    """The program that moves a VM into a fresh process at SIGUSR1 comes along."""
    build = TOP / ("build" if arch == "x86-64" else f"build/{arch}")
    return {"files": [(build / "programs/reload", "/usr/bin/reload")], "memory": 2048}


def move(lab, guest, generation):
    """Signal it, and wait until the next process runs the VM."""
    lab.run("killall -USR1 reload", check=True)
    guest.expect(rf"reload: generation {generation}\b", 120)


@pytest.mark.core
def test_goes_on(lab, vm, arch):
    """Under load, through several processes, the guest sees no wrong byte, no lost interrupt and no step back in time."""
    lab.run("cp /guest/root.img /tmp/disk.img && chown tern /tmp/disk.img", check=True)
    guest = vm(cpus=2, rng=True, program=("reload",), disks=["path=/tmp/disk.img"])
    guest.sh("memstress -m 48 -t 1 -r 2000 >/tmp/memory 2>&1 & vectors 100000 >/tmp/vectors & sleep 2")
    before = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
    for generation in range(1, MOVES + 1):
        guest.sh("disk-check /dev/vda 1", 240)
        move(lab, guest, generation)
        after = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
        assert after > before
        before = after
    guest.sh("disk-check /dev/vda 1 && head -c 64 /dev/hwrng >/dev/null && sleep 2", 240)
    guest.sh("killall memstress vectors; sleep 2")
    memory, vectors = guest.sh("tail -n 1 /tmp/memory"), guest.sh("cat /tmp/vectors")
    assert re.search(r"end writes=[1-9]\d* errors=0 ", memory), memory
    assert re.findall(r"errors=(\d+)", vectors) and set(re.findall(r"errors=(\d+)", vectors)) == {"0"}, vectors
    assert ("kind=sve" in vectors) == (arch == "arm64"), vectors
    # The wall clock was carried over with the counters.
    assert abs(int(guest.sh("date +%s")) - time.time()) < 30
    guest.start("guest-poweroff")
    assert guest.wait() == 0


@pytest.mark.parametrize("how, new", [((), False), (("--restore",), True)])
def test_generation_id(vm, lab, how, new):
    """A guest that was restored is told so, and mixes it into its random numbers; one that moved is not."""
    guest = vm(program=("reload", *how))
    assert "vmgenid" in guest.sh("ls -d /sys/bus/*/drivers/vmgenid/* | grep -v -e uevent -e bind -e module"), "no driver"
    move(lab, guest, 1)
    told = guest.sh("sleep 1; dmesg | grep -c 'virtual machine fork'", check=False).strip()
    assert told == ("1" if new else "0")
