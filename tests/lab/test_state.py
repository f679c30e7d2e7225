# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux saved in one process and run on in another on the same lab host, by library code alone (machine_state.c)."""

import re

import pytest

from conftest import TOP


def LAB(arch):
    """The program that saves and loads, for this architecture."""
    build = TOP / "build" if arch == "x86-64" else TOP / "build" / arch
    return {"files": [(build / "tests/live/machine-state", "/usr/bin/machine-state")]}


# A second's worth of everything that must survive: the console, a timer, memory, the disk, all CPUs, and the clock.
GUEST = """
dmesg -c >/dev/null
sum=$(md5sum </dev/vda)
i=0
before=0
while [ $i -lt 8 ]; do
    i=$((i + 1))
    now=$(date +%s)
    [ $now -ge $before ] || echo clock went back
    before=$now
    for cpu in $(seq 0 $(($(nproc) - 1))); do taskset $((1 << cpu)) true; done
    echo 3 >/proc/sys/vm/drop_caches
    [ "$(md5sum </dev/vda)" = "$sum" ] || echo disk differs
    head -c 16 /dev/hwrng >/dev/null
    echo count $i at $(cut -d. -f1 /proc/uptime)
    sleep 1
done
dmesg | grep -E 'BUG|Oops|Call Trace|nobody cared' | grep -v soft.lockup
echo state: done
"""

SCRIPT = """
set -e
cd /tmp
rm -rf saved; mkdir saved; : >out
set -- name=s cpus={cpus} memory=320M rng=on kernel=/guest/kernel initrd=/guest/initrd \
    disk=path=/guest/root.img,readonly=on,queues={cpus} disk=path=/tmp/script.img,readonly=on
(while ! grep -q "count 3" out; do sleep 1; done) |
    machine-state save saved stdin "$@" "cmdline=console=ttyS0 panic=-1 quiet tern.run=\\"sh /dev/vdb\\"" >out ||
    {{ cat out; exit 9; }}
cat out
echo "== saved $(wc -c <saved/state) bytes of state"
sleep {away}
machine-state load saved {mode} "$@"
"""


def counts(text):
    """The numbers counted, and the uptimes at them."""
    return [(int(n), int(at)) for n, at in re.findall(r"count (\d+) at (\d+)", text)]


@pytest.mark.parametrize("cpus, mode, away", [(1, "restore", 20), (4, "migrate", 0)])
def test_linux_runs_on(lab, cpus, mode, away):
    """The shell goes on counting where it was; with a restore the time away never happened."""
    guest = GUEST.strip() + "\nexit 0\n"
    guest += "\n" * (-len(guest) % 512)
    lab.run(["sh", "-c", "cat >/tmp/script.img"], input=guest.encode(), check=True)
    result = lab.run(["sh", "-c", SCRIPT.format(cpus=cpus, mode=mode, away=away)], timeout=600)
    assert result.status == 0, result
    before, after = result.stdout.split("== saved")
    assert "state: done" in after and "guest: up" not in after, result
    assert not re.search(r"clock went back|disk differs|BUG|Oops|Call Trace|nobody cared", after), result
    assert [n for n, _ in counts(before) + counts(after)] == list(range(1, 9)), result
    if mode == "restore":
        assert counts(after)[0][1] - counts(before)[-1][1] < away, result
