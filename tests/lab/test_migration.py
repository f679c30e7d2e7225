# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Linux guest at work moves between two lab hosts, over TCP, and does not notice: memory, vectors, a shared disk, timers,
the clock. TERN_LAB_MOVES says how often.
"""

import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from vm import Arriving

TOP = Path(__file__).resolve().parents[2]
MOVES = int(os.environ.get("TERN_LAB_MOVES", "5"))
MOVE_S = 400


def LAB(arch):
    """Both hosts see one disk, as hosts on a storage network do."""
    disk = TOP / f"build/lab/shared-{arch}.img"
    shutil.copy(TOP / f"build/lab/guest-{arch}/root.img", disk)
    return {"disks": [disk], "memory": 1024}


def move(guest, target) -> dict:
    """
    From the one to the other: what the source said at the end. The hosts' network is emulated too and carries some MB/s;
    a downtime of its own would say nothing about Tern, so the move may force it.
    """
    uri = f"tcp:10.0.0.{target.host.number}:{target.port}"
    result = guest.tern("migrate", uri, "--insecure", "--max-downtime", "2s", "--deadline", "90s", "--force",
                        "--silence", "60s", "--json", timeout=MOVE_S)
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["event"] == "completed", result
    assert guest.wait() == 0
    return last["migration"]["x-tern"]


def interrupts(guest) -> dict:
    """How often each device's interrupts have come, over all its queues (which one is used depends on the CPU)."""
    counts = {}
    for line in guest.sh("grep -e virtio -e arch_timer -e LOC: /proc/interrupts").splitlines():
        name = line.split()[-1].split("-")[0]
        counts[name] = counts.get(name, 0) + sum(int(word) for word in line.split()[1:] if word.isdigit())
    return counts


@pytest.mark.core
def test_linux_at_work(pair, vm, arch):
    """There and back again, under load."""
    for host in pair.hosts:
        host.run("chown tern /dev/vda", check=True)
    guest = vm(host=pair.host1, cpus=2, rng=True, disks=["path=/dev/vda"], name="moves")
    guest.sh("memstress -m 24 -t 1 -r 500 >/tmp/memory 2>&1 & vectors 100000 >/tmp/vectors & sleep 2")
    uptime = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
    complaints = guest.sh("dmesg | wc -l")
    for index in range(MOVES):
        before = interrupts(guest)
        target = Arriving(pair.hosts[(index + 1) % 2], name="moves")
        told = move(guest, target)
        guest = target
        print(f"move {index + 1}: {told}")
        assert told["round"] >= 2
        guest.sh("disk-check /dev/vda 1 && head -c 64 /dev/hwrng >/dev/null", 240)
        after = interrupts(guest)
        assert all(after[name] > count for name, count in before.items() if count), (before, after)
        now = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
        assert now > uptime
        uptime = now
    guest.sh("killall memstress vectors; sleep 2")
    memory, vectors = guest.sh("tail -n 1 /tmp/memory"), guest.sh("cat /tmp/vectors")
    assert re.search(r"end writes=[1-9]\d* errors=0 ", memory), memory
    assert set(re.findall(r"errors=(\d+)", vectors)) == {"0"}, vectors
    assert abs(int(guest.sh("date +%s")) - time.time()) < 60
    said = guest.sh(f"dmesg | tail -n +{int(complaints) + 1}", check=False)
    assert not re.search(r"BUG|WARNING|Oops|lockup|stall|I/O error", said), said
    guest.start("guest-poweroff")
    assert guest.wait() == 0
