# SPDX-License-Identifier: GPL-2.0-or-later
"""
Hand-overs that go wrong in ways that chance would not hit: a lock that somebody else has, an operator who decides the wrong
way round, another VM's source at a target in doubt. What fails by chance is test_faults.py's.
"""

import fcntl
import os
import re
import signal
import struct
import time

import pytest
import relay as wire
from relay import SOURCE, TARGET, Relay, Trigger

LOAD = "mode=dirty wset=4M rate=1000 seconds=0 report=100ms token=disk token_ms=5"
SILENCE = "500ms"
NEVER = 3600


@pytest.fixture
def pair(host, run, receive):
    """pair(trigger, act): a VM with a disk, a target, and a relay between them that does `act` at the trigger."""
    relays = []

    def make(trigger, act, ends=None, load=LOAD):
        image = host.image("disk.img", 1 << 20)
        vm = run("--disk", f"path={image}", cmdline=load, memory="32M")
        target = receive("--silence", SILENCE, "--map", f"disk0={image}")
        vm.expect(r"^guest: start")
        (ends if ends is not None else {}).update(vm=vm, target=target)
        relays.append(Relay(target.uri, trigger, act, 1))
        with vm.qmp() as qmp:
            qmp.command("migrate-set-parameters", x_tern_silence=500)
            qmp.command("migrate", uri=relays[-1].uri)
        return vm, target, relays[-1], image

    yield make
    for relay in relays:
        relay.close()


def phase(vm):
    with vm.qmp() as qmp:
        return qmp.command("query-migrate").get("x-tern", {}).get("phase", "")


def wait_phase(vm, pattern, seconds=10):
    end = time.monotonic() + seconds
    while not re.search(pattern, phase(vm)):
        assert time.monotonic() < end, f"{phase(vm)}; {vm.story()}"
        time.sleep(0.05)


def wait_until(done, what, seconds=10):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def verify(vm):
    vm.expect(r"^guest: report", after=len(vm.lines) + 1)
    vm.type("q")
    assert re.search(r"\berrors=0\b", vm.lines[vm.expect(r"^guest: done ", timeout=30)]), vm.story()
    assert vm.wait() == 0, vm.story()


def steal(path):
    """Takes the image's lock; closing what is returned gives it back."""
    image = os.open(path, os.O_RDWR)
    fcntl.fcntl(image, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return image


def test_somebody_else_has_the_disk(host, pair):
    """Between release and take: the target refuses, the source cannot have its disk back and says so, until it can."""
    thief = []
    vm, target, _, image = pair(Trigger(SOURCE, (wire.OWN,)), lambda *_: thief.append(steal(image_path(host))))
    wait_until(lambda: any("disks are not to be had back" in line for line in vm.log), vm.story())
    wait_phase(vm, "doubt")
    wait_until(lambda: any(re.search(r"did not come: .*in use", line) for line in target.log), target.story())
    assert host.command("resolve", vm.name, "--own").returncode != 0
    assert "doubt" in phase(vm)
    os.close(thief[0])
    assert host.command("resolve", vm.name, "--own").returncode == 0
    verify(vm)


def image_path(host):
    return os.path.join(host.run_dir, "disk.img")


def test_wrong_way_round(host, pair):
    """TAKEN never comes, and the operator says own although the target runs: the lock stands against it, and drop is left."""
    vm, target, _, _ = pair(Trigger(TARGET, (wire.TAKEN,)), lambda relay, _: relay.swallow(NEVER))
    target.wait_log("runs here")
    wait_phase(vm, "doubt")
    host.command("resolve", vm.name, "--own")
    wait_until(lambda: any("disks are not to be had back" in line for line in vm.log), vm.story())
    wait_phase(vm, "doubt")
    with vm.qmp() as qmp:
        assert qmp.command("query-status")["status"] == "paused"
    assert host.command("resolve", vm.name, "--drop").returncode == 0
    assert vm.wait() == 0, vm.story()
    verify(target)


def test_another_source_settles_no_doubt(host, pair, run):
    """A VM whose source was killed waits for the operator, whoever else comes."""
    ends = {}

    def act(*_):
        ends["vm"].process.kill()

    vm, target, _, _ = pair(Trigger(TARGET, (wire.READY,)), act, ends)
    target.wait_log("it waits, paused")
    vm.wait()
    other = run(cmdline="mode=dirty wset=4M rate=1000 seconds=0 report=100ms", name="other", memory="32M")
    other.expect(r"^guest: start")
    moved = host.command("migrate", other.name, target.uri)
    assert moved.returncode == 1 and "in doubt" in moved.stdout, moved
    assert host.command("resolve", target.name, "--own").returncode == 0
    verify(target)
    verify(other)


def test_target_hangs_in_take(pair):
    """The target's VMM is stopped when OWN comes: the source says after a while that it is in doubt, and learns the end."""
    ends = {}

    def act(*_):
        os.kill(ends["target"].process.pid, signal.SIGSTOP)

    vm, target, _, _ = pair(Trigger(SOURCE, (wire.OWN,)), act, ends)
    wait_phase(vm, "doubt")
    os.kill(target.process.pid, signal.SIGCONT)
    assert vm.wait() == 0, vm.story()
    target.wait_log("runs here")
    verify(target)


def test_a_bit_flips_in_memory_that_stays(pair):
    """The page is never written again, so it does not come again: the target must know, and refuse."""
    vm, target, relay, _ = pair(
        Trigger(SOURCE, None, offset=4 << 20), lambda relay, _: relay.flip(SOURCE, body=True),
        load="mode=dirty wset=1M rate=0 cold=16M seconds=0 report=100ms",
    )  # fmt: skip
    wait_phase(vm, "failed")
    assert relay.flipped
    target.wait_log("did not come: .*damaged")
    verify(vm)


def test_data_goes_nowhere(pair):
    """Heartbeats go on, and nothing else arrives: the source notices, and the VM runs on."""
    vm, target, relay, _ = pair(Trigger(SOURCE, (wire.PAGES,), 0), lambda relay, _: relay.swallow_data())
    wait_until(lambda: any("has had no data for" in line for line in vm.log), vm.story())
    wait_phase(vm, "failed")
    assert relay.seen[wire.HEARTBEAT] > 5
    target.wait_log("did not come: the source gave up")
    verify(vm)
