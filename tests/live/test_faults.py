# SPDX-License-Identifier: GPL-2.0-or-later
"""
Never lost, never twice: migrations that go wrong at every stage, in every way, on either side (faults.py), from a seed that
is printed (TERN_FAULTS_SEED). One of each by default; TERN_FAULTS says how many in all.
"""

import contextlib
import copy
import os
import subprocess
import time

import faults
import pytest
from vm import Receiver

JOBS = int(os.environ.get("TERN_FAULTS_JOBS", "3"))

# Faults that were not survived once, as "seed:stage:fault:side".
REGRESSIONS = [
    # The target had it all, and the dying source's mover had it dropped by CANCEL.
    "m1:state:kill VMM:source",
    "m2:state:kill VMM:source",
    # A doubt that nothing but the operator could end, though the source was there and running the VM.
    "1.34:state:cut:target",
    "1.86:rounds:cut:target",
    # The operator decided over a dead mover, and no line said so.
    "base2.244:state:kill mover:source",
]


def run(host, rows):
    lines = []
    results = faults.run_all(rows, host.tern, host.guest, host.user, JOBS, lines.append)
    return results, lines


@pytest.mark.skipif(bool(os.environ.get("TERN_SANITIZED")), reason="its limits of time are for the program as it is used")
def test_never_lost_never_twice(host, capsys):
    seed = os.environ.get("TERN_FAULTS_SEED", str(int(time.time())))
    rows = faults.plan(seed, int(os.environ.get("TERN_FAULTS", str(len(faults.CELLS)))))
    begin = time.monotonic()
    results, lines = run(host, rows)
    text, zero = faults.table(results)
    with capsys.disabled():
        print(f"\nfaults from seed {seed}, in {time.monotonic() - begin:.0f} s\n{text}")
    assert not any(result.problems for result in results), "\n".join(lines)
    assert not zero, f"never happened: {zero}"


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_what_devices_write_goes_along(host, run, receive, tracking):
    """The used ring of a disk has a page of its own, which no vCPU writes; the guest would hardly notice an old one."""
    image = host.image("disk.img", 1 << 20)
    load = "mode=dirty wset=4M rate=1000 seconds=0 token=disk,serial token_ms=2"
    vm = run("--disk", f"path={image}", "--dirty-tracking", tracking, cmdline=load, memory="32M")
    vm.expect(r"^token: \d+")
    target = receive("--dirty-tracking", tracking)
    moved = host.command("migrate", vm.name, target.uri, "--bandwidth", "32M", "--max-downtime", "1s", "--verify-ram")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    target.wait_log("page for page")


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_what_is_written_while_it_is_sent(host, run, receive, tracking):
    """The guest comes back to each page in 50 ms, and is stopped within that time: what it wrote while the page was being read must go along."""
    load = "mode=dirty wset=2M rate=10000 words=512 seconds=0 report=100ms"
    vm = run("--dirty-tracking", tracking, cmdline=load, memory="64M")
    vm.expect(r"^guest: start")
    for move in range(3):
        target = receive("--dirty-tracking", tracking, name=f"w{move}")
        moved = host.command(
            "migrate", vm.name, target.uri, "--bandwidth", "40M", "--max-downtime", "1ms", "--deadline", "700ms", "--force",
            "--verify-ram",
        )  # fmt: skip
        assert moved.returncode == 0, moved.stdout + moved.stderr
        target.wait_log("page for page")
        vm = target
    vm.type("q")
    assert "errors=0" in vm.lines[vm.expect(r"^guest: done ", timeout=60)]


@pytest.mark.parametrize("mib", [84, 97, 99, 101, 103, 105, 107, 112])
def test_no_memory(host, run, mib):
    """A target that may have no more than so much address space takes the VM or says why not, and then it runs on."""
    limited = copy.copy(host)
    limited.prefix = ["prlimit", f"--as={mib << 20}", *host.prefix]
    vm = run(cmdline="mode=dirty wset=4M rate=1000 seconds=0 report=100ms", memory="32M")
    vm.expect(r"^guest: start")
    try:
        target = Receiver(limited, "--once")
    except AssertionError:
        pytest.skip("not even enough to begin")
    moved = host.command("migrate", vm.name, target.uri)
    runner = target if moved.returncode == 0 else vm
    if runner is vm:
        assert "not moved: " in moved.stdout and moved.stdout.endswith("it runs on here\n"), moved
        assert target.wait() in (1, 2), target.story()
        assert any("did not come" in line or "error: " in line for line in target.log), target.story()
    runner.type("q")
    done = runner.lines[runner.expect(r"^guest: done ", timeout=60)]
    assert "errors=0" in done
    target.close()


@pytest.mark.parametrize("mib", [512, 4096])
def test_no_memory_for_the_ram(host, run, mib):
    """The target may not have as much as the VM's RAM: one line says so at either end, and the VM runs on, and moves elsewhere."""
    limited = copy.copy(host)
    limited.prefix = ["prlimit", f"--as={300 << 20}", *host.prefix]
    vm = run(cmdline="mode=dirty wset=4M rate=1000 seconds=0 report=100ms", memory=f"{mib}M")
    vm.expect(r"^guest: start")
    target = Receiver(limited, "--once")
    moved = host.command("migrate", vm.name, target.uri)
    why = "Cannot allocate memory"
    assert moved.returncode == 1 and moved.stdout.endswith("it runs on here\n"), moved
    assert [why in line for line in moved.stdout.splitlines()].count(True) == 1, moved.stdout
    assert target.wait() in (1, 2), target.story()
    assert [why in line for line in target.log if "not taken" in line] == [True], target.story()
    assert len([line for line in vm.log if why in line and "failed, the VM runs on" in line]) == 1, vm.story()
    other = Receiver(host, name="t2")
    try:
        moved = host.command("migrate", vm.name, other.uri)
        assert moved.returncode == 0, moved.stdout
        other.type("q")
        assert "errors=0" in other.lines[other.expect(r"^guest: done ", timeout=60)]
    finally:
        other.close()
        target.close()


@pytest.fixture
def small_disk(host):
    """A file system, and a function that takes or gives back all room behind it: what is written then fails at the flush."""
    if os.geteuid() != 0:
        pytest.skip("mounts file systems: needs root")
    back, front = (os.path.join(host.run_dir, name) for name in ("back", "front"))
    image, filler = os.path.join(back, "fs.img"), os.path.join(back, "filler.img")
    loop = None

    def call(*words):
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def fill(full):
        if not full:
            os.unlink(filler)
            return
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    for where in (back, front):
        os.mkdir(where)
    call("mount", "-t", "tmpfs", "-o", "size=8M", "small", back)
    try:
        with open(image, "wb") as file:
            file.truncate(32 << 20)
        call("mkfs.ext4", "-q", "-m", "0", "-N", "16", "-O", "^has_journal", image)
        try:
            loop = call("losetup", "--find", "--show", image)
            call("mount", loop, front)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no loop devices here: {error.stderr.strip()}")
        yield front, fill
    finally:
        for words in (("umount", "-l", front), ("losetup", "-d", loop or "none"), ("umount", "-l", back)):
            subprocess.run(words, check=False, capture_output=True, timeout=30)
        os.rmdir(front)
        os.rmdir(back)


def test_the_disk_cannot_be_flushed(host, run, receive, small_disk):
    """No room is left for what the guest wrote: that is found before the VM is given up, and it runs on, and moves later."""
    where, fill = small_disk
    image = os.path.join(where, "disk.img")
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    if host.user is not None:
        os.chown(image, host.user.uid, host.user.gid)
    load = "mode=dirty wset=4M rate=1000 seconds=0 report=100ms token=disk,serial token_ms=2"
    vm = run("--disk", f"path={image},cached=on", cmdline=load, memory="32M")
    vm.expect(r"^token: 100$")
    fill(True)
    vm.expect(r"^token: ", after=len(vm.lines) + 300)
    target = receive()
    moved = host.command("migrate", vm.name, target.uri)
    assert moved.returncode == 1 and moved.stdout.endswith("it runs on here\n"), moved
    assert "fdatasync" in moved.stdout, moved
    assert faults.holds_lock(vm.process, image)
    target.wait_log("did not come: .*fdatasync")
    vm.expect(r"^token: ", after=len(vm.lines) + 5)
    fill(False)
    assert target.wait() == 1, target.story()
    target = receive(name="t2")
    moved = host.command("migrate", vm.name, target.uri)
    assert moved.returncode == 0, moved
    assert vm.wait() == 0 and faults.holds_lock(target.process, image)
    target.type("q")
    assert "errors=0" in target.lines[target.expect(r"^guest: done ", timeout=60)]


def test_what_was_found(host):
    results, lines = run(host, [faults.Fault(*row.split(":")) for row in REGRESSIONS])
    assert not any(result.problems for result in results), "\n".join(lines)
