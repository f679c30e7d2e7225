# SPDX-License-Identifier: GPL-2.0-or-later
"""
What goes wrong while a Linux guest moves between two lab hosts: it runs on where it was, one line says why, and it can
still move. (A far larger set, with the bare-metal guest on the host's own KVM, is tests/live/faults.py.)
"""

from load import COMPLAINTS_BUT_TIME, Load
from vm import Arriving

SILENCE_S = 20


def signal(host, name, signo) -> None:
    """To each process of that name."""
    host.run(f"for comm in $(grep -lx {name} /proc/[0-9]*/comm); do pid=${{comm#/proc/}}; kill -{signo} ${{pid%/comm}}; done",
             check=True)


def kill_target(pair):
    """The target's VMM dies."""
    signal(pair.host2, "tern", "KILL")


def kill_mover(pair):
    """The source's mover dies."""
    signal(pair.host1, "tern-source", "KILL")


def stop_target(pair):
    """The target's processes stand still for longer than a peer may be silent."""
    for name in ("tern", "tern-target"):
        signal(pair.host2, name, "STOP")
    pair.host2.run(f"sleep {SILENCE_S + 10}", timeout=120)
    for name in ("tern", "tern-target"):
        signal(pair.host2, name, "CONT")


def pull_cable(pair):
    """Nothing comes through for longer than a peer may be silent; then the cable is back."""
    pair.host1.set_link(False)
    pair.host1.run(f"sleep {SILENCE_S + 10}", timeout=120)
    pair.host1.set_link(True)


def power_cut(pair):
    """The target's host loses its power."""
    pair.host2.power_cut()


def migrate(guest, target, *options):
    """tern migrate, started: its process, once pages are on their way."""
    uri = f"tcp:10.0.0.{target.host.number}:{target.port}"
    process = guest.popen("migrate", uri, "--insecure", "--silence", f"{SILENCE_S}s", "--max-downtime", "2s", *options)
    process.expect("round 0", 120)
    return process


def test_runs_on_where_it_was(pair, vm):
    """Each fault in the middle of the rounds; before the last, the guest moves there and back all the same."""
    guest = vm(host=pair.host1, cpus=2, name="lucky")
    load = Load(guest, mib=16, rate=300, vectors=False)
    for fault in (kill_target, kill_mover, stop_target, pull_cable, power_cut):
        if fault is power_cut:
            for host in (pair.host2, pair.host1):
                target = Arriving(host, name="lucky")
                assert migrate(guest, target).wait(300).status == 0
                assert guest.wait() == 0
                guest = target
        target = Arriving(pair.host2, name="lucky")
        process = migrate(guest, target, "--bandwidth", "2M")
        fault(pair)
        result = process.wait(180)
        last = result.stderr.splitlines()[-1] if result.stderr else result.stdout.splitlines()[-1]
        print(f"{fault.__name__}: {result.status}: {last}")
        assert result.status == 1, result
        assert guest.status()["status"] == "running"
        guest.sh("true", 120)
        if fault is not power_cut:
            target.process.signal(15)
            target.process.wait(60)
    load.end(guest, COMPLAINTS_BUT_TIME)
