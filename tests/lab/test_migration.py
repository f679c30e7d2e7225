# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Linux guest at work moves between two lab hosts, over TCP, and does not notice: memory, vectors, a shared disk, its
network, timers, the clock. TERN_LAB_MOVES says how often.
"""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from lab import compile_static
from load import Load
from vm import Arriving

TOP = Path(__file__).resolve().parents[2]
MOVES = int(os.environ.get("TERN_LAB_MOVES", "5"))
MOVE_S = 400
GUEST_IP, GUEST_MAC = "10.0.0.100", "52:54:00:77:00:01"
# Pages written a second: a host's emulated network can just outrun them.
RATE = {"x86-64": 1500, "arm64": 900}
# A move must do that much before it may come to its end, however fast the machine is.
ROUNDS, PAGES_AGAIN = 3, 10000
# At its full speed, which depends on the machine, a sender on x86-64 leaves the guest too little of the host's one CPU to
# write anything.
SENDING = {"x86-64": ("--bandwidth", "10M"), "arm64": ()}
WATCH_MS = 20
# Packets that cross an emulated network, a bridge and a tap wait for each of them, and so does word of the guest's new place.
SLACK_MS = 1500


def LAB(arch):
    """Both hosts see one disk, as hosts on a storage network do, and bridge their network to a tap."""
    disk = TOP / f"build/lab/shared-{arch}.img"
    shutil.copy(TOP / f"build/lab/guest-{arch}/root.img", disk)
    return {"disks": [disk], "memory": 1024, "modules": ["bridge"], "timeout": 300 + 120 * MOVES,
            "files": [(compile_static(TOP / "lab/netwatch.c", arch), "/usr/bin/netwatch")]}


def bridge(host) -> None:
    """The host's network card and a tap of the VM's user, joined; the host's own address goes on from the bridge."""
    host.run(f"mktap tap0 1000 && brctl addbr br0 && ip addr flush dev lab0 && brctl addif br0 lab0 && "
             f"brctl addif br0 tap0 && ip addr add 10.0.0.{host.number}/24 dev br0 && ip link set tap0 up && "
             "ip link set br0 up", check=True)


class Watch:
    """Packets from the first host to the guest and back, all the time; what was lost, and when, comes with the end."""

    def __init__(self, host):
        self.process = host.popen(["netwatch", GUEST_IP, str(WATCH_MS)])
        self.process.expect("at_ms=0")

    def now(self) -> int:
        """The time on its clock, in ms."""
        self.process.send("\n")
        return int(self.process.expect(r"at_ms=(\d+)")[1])

    def end(self) -> tuple[dict, list[dict]]:
        """Totals, and each run of packets that were never answered."""
        self.process.end_input()
        self.process.wait(30)
        lines = [{key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
                 for line in self.process.stdout.splitlines() if "at_ms" not in line]
        return lines[0], lines[1:]


def check_losses(losses, moves) -> None:
    """Packets were lost while the guest stood still for a move, and at no other time."""
    print(f"losses: {losses}\nmoves: {moves}")
    for lost in losses:
        begin, end, told = next(((begin, end, told) for begin, end, told in moves
                                 if begin <= lost["from_ms"] and lost["to_ms"] <= end + SLACK_MS), (0, 0, None))
        assert told, f"packets were lost while nothing moved: {lost}"
        assert lost["to_ms"] - lost["from_ms"] <= told["downtime-us"] // 1000 + SLACK_MS, (lost, told)


def move(guest, target) -> dict:
    """
    From the one to the other: what the source said at the end. It is not let go before it has had its rounds and pages: no
    downtime is short enough. Then a long one is allowed, as an operator may; the hosts' network is emulated too and carries
    some MB/s, so a downtime of its own would say nothing about Tern.
    """
    uri = f"tcp:10.0.0.{target.host.number}:{target.port}"
    source = guest.popen("migrate", uri, "--insecure", "--max-downtime", "0ms", "--deadline", "120s", "--force",
                         "--silence", "60s", "--json", *SENDING[guest.host.arch])
    operator, allowed = guest.qmp(), False
    while True:
        said = json.loads(source.expect(r"^.*\n", MOVE_S)[0])
        told = said.get("migration", {}).get("x-tern", {})
        if said["event"] == "completed":
            break
        assert said["event"] == "progress", said
        if not allowed and told.get("round", 0) >= ROUNDS - 1 and told["pages-again"] >= PAGES_AGAIN:
            operator.command("migrate-set-parameters", **{"downtime-limit": 60000})
            allowed = True
    assert guest.wait() == 0
    assert told["round"] >= ROUNDS - 1 and told["pages-again"] >= PAGES_AGAIN, told
    return told


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
        bridge(host)
    guest = vm(host=pair.host1, cpus=2, rng=True, disks=["path=/dev/vda"], net=[f"tap=tap0,mac={GUEST_MAC}"],
               cmdline=f"tern.ip={GUEST_IP}/24", name="moves")
    load = Load(guest, mib=24, rate=RATE[arch])
    stream = pair.host1.popen("nc -l -p 7001")
    guest.sh("(n=0; while sleep 0.2; do n=$((n + 1)); echo line $n; done | nc 10.0.0.1 7001) >/dev/null 2>&1 &")
    stream.expect(r"line \d+")
    watch = Watch(pair.host1)
    moves = []
    uptime = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
    for index in range(MOVES):
        before = interrupts(guest)
        target = Arriving(pair.hosts[(index + 1) % 2], name="moves", maps=["net0=tap0"])
        begin = watch.now()
        told = move(guest, target)
        moves.append((begin, watch.now(), told))
        guest = target
        print(f"move {index + 1}: {told}")
        guest.sh("disk-check /dev/vda 1 && head -c 64 /dev/hwrng >/dev/null", 240)
        after = interrupts(guest)
        assert all(after[name] > count for name, count in before.items() if count), (before, after)
        now = float(guest.sh("cut -d' ' -f1 /proc/uptime"))
        assert now > uptime
        uptime = now
    totals, losses = watch.end()
    assert totals["answered"] > 0 and totals["wrong"] == 0, totals
    check_losses(losses, moves)
    # A connection of the guest's lived through all of it, and every byte came once, in order.
    guest.sh("killall nc; sleep 2")
    numbers = [int(number) for number in re.findall(r"^line (\d+)$", stream.stdout, re.MULTILINE)]
    assert len(numbers) > 20 and numbers == list(range(1, len(numbers) + 1)), numbers
    load.end(guest)
