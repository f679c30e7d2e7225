# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest at work is saved to a file while it runs, and runs on from that file, in other processes."""

import json

import pytest

from load import Load
from vm import GUEST_FILES, Restored

DISK = "/tmp/disk.img"
FILE = "/tmp/saved"


@pytest.fixture
def guest(lab, vm):
    """With a disk of its own."""
    lab.run(f"cp {GUEST_FILES}/root.img {DISK} && chown tern {DISK}", check=True)
    return vm(cpus=2, memory="160M", rng=True, disks=[f"path={DISK}"], name="kept")


def uptime(guest) -> float:
    return float(guest.sh("cut -d' ' -f1 /proc/uptime"))


def generation(guest) -> str:
    """What the guest's kernel heard of VM generations: each one reseeds its random numbers."""
    return guest.sh("dmesg | grep -c 'crng reseeded due to virtual machine fork'", check=False).strip()


def save(guest, *options) -> dict:
    """tern save: what it said at the end."""
    result = guest.tern("save", FILE, "--max-downtime", "1s", "--deadline", "120s", "--force", "--json", *options, timeout=300)
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["event"] == "completed", result
    return last["migration"]["x-tern"]


@pytest.mark.core
def test_saved_and_restored(lab, guest):
    """
    Saved live, the VM runs on. Saved and ended, it goes on from that moment in another process, as another generation of
    itself; and once more from the same file, but not by mistake: the disk has moved on meanwhile.
    """
    load = Load(guest, mib=16, rate=300)
    forks = generation(guest)
    before = uptime(guest)
    print(f"live: {save(guest)}")
    assert uptime(guest) > before
    assert generation(guest) == forks
    lab.run(f"rm {FILE}", check=True)
    print(f"ended: {save(guest, '--quit')}")
    assert guest.wait() == 0
    for options in ([], ["--disks-as-they-are"]):
        again = Restored(lab, FILE, name="kept", args=options)
        assert generation(again) != forks
        assert uptime(again) > before
        again.sh("disk-check /dev/vda 1 && head -c 64 /dev/hwrng >/dev/null", 240)
        load.end(again)
        refused = lab.run(["tern", "restore", FILE, "--name", "other"], user="tern")
        assert refused.status == 2 and DISK in refused.stderr and refused.stderr.count("\n") == 1, refused
