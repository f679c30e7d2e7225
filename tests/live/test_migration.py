# SPDX-License-Identifier: GPL-2.0-or-later
"""
A VM moves between two processes of this host: with its memory verified, in every way of tracking and with several channels;
and everything that can stand against it leaves it running where it is.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

import tls_keys
from huge_pages import setting
from recorder import Recorder

OK, FAILED, INPUT, CANCELLED = 0, 1, 2, 5
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MOVES = int(os.environ.get("TERN_MOVES", "6"))
LEAST_ROUNDS, LEAST_AGAIN = 3, 10000
SHMEM_ENABLED = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
LOAD = "mode=dirty wset=16M rate={rate} seconds=0 report=100ms"


def verify(vm):
    """The guest compares its memory with what it wrote, and ends."""
    vm.type("q")
    line = vm.lines[vm.expect(r"^guest: done ", timeout=60)]
    assert re.search(r"\berrors=0\b", line), line
    assert re.search(r"\bclock_back=0\b", line), line
    assert vm.wait(60) == OK, vm.story()


def migrate(host, name, uri, *options, timeout=60):
    return host.command("migrate", name, uri, *options, timeout=timeout)


def wirecheck(attempt):
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "wirecheck.py"), str(attempt)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def assert_moved(result):
    assert result.returncode == OK, result.stdout + result.stderr


def assert_alive(vm):
    """It makes progress from now on."""
    vm.expect(r"^guest: report", after=len(vm.lines) + 1)


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("tracking", ["ring=4096", "ring", "bitmap"])
def test_back_and_forth(host, run, receive, capsys, tracking, channels):
    """
    Under a load that dirties all that is sent, until the deadline; the memory is compared at each hand-over, and by the guest
    all the time. A move counts when it had LEAST_ROUNDS, and LEAST_AGAIN pages were sent again: else the next has more time.
    """
    vm = run("--dirty-tracking", tracking, cmdline=LOAD.replace("16M", "32M").format(rate="max"), memory="64M")
    vm.expect(r"^guest: start")
    counted, moves, deadline_ms = [], 0, 400
    while len(counted) < MOVES:
        assert moves < 2 * MOVES + 4, f"of {moves} moves these were long enough (rounds, pages again): {counted}"
        target = receive("--dirty-tracking", tracking, name=f"m{moves}")
        limits = ("--max-downtime", "1ms", "--deadline", f"{deadline_ms}ms", "--force")
        result = migrate(host, vm.name, target.uri, "--channels", str(channels), *limits, "--verify-ram")
        assert_moved(result)
        assert vm.wait() == OK, vm.story()
        target.wait_log("page for page")
        assert_alive(target)
        vm.close()
        vm, moves = target, moves + 1
        seen = tuple(int(n) for n in re.search(r"in (\d+) rounds, (\d+) pages sent again", result.stdout).groups())
        if seen[0] >= LEAST_ROUNDS and seen[1] >= LEAST_AGAIN:
            counted.append(seen)
        else:
            deadline_ms = min(2 * deadline_ms, 20000)
    verify(vm)
    with capsys.disabled():
        rounds, again = zip(*counted)
        print(
            f"\n{tracking}, {channels} channels: {len(counted)} of {moves} moves count, {min(rounds)} to {max(rounds)} rounds, "
            f"{min(again)} to {max(again)} pages sent again"
        )


@pytest.fixture(name="huge_pages")
def _huge_pages():
    """The host gives shared memory huge pages while the test lasts."""
    if not os.access(SHMEM_ENABLED, os.W_OK):
        pytest.skip(f"{SHMEM_ENABLED} cannot be written")
    with setting("shmem_enabled", "advise"):
        yield


def huge_mib(host, name):
    status = host.command("status", "--json", name)
    assert status.returncode == OK, status.stderr
    return json.loads(status.stdout)["memory"]["huge-bytes"] >> 20


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages(host, run, receive):
    """What was in huge pages at the source is in huge pages at the target. A host may be short of some, not of all."""
    vm = run(cmdline=LOAD.format(rate=100000), memory="64M")
    vm.expect(r"^guest: report.* sweeps=[1-9]")
    before = huge_mib(host, vm.name)
    if before < 16:
        pytest.skip(f"this host gave the guest {before} MiB in huge pages")
    target = receive()
    assert_moved(migrate(host, vm.name, target.uri))
    # The VMM maps what the guest touches: all of it in a moment.
    end = time.monotonic() + 10
    while huge_mib(host, target.name) < before // 2:
        assert time.monotonic() < end, f"{huge_mib(host, target.name)} of {before} MiB"
        assert_alive(target)
    verify(target)


def test_several_vcpus(host, run, receive):
    vm = run("--cpus", "4", cmdline=LOAD.format(rate=200000))
    vm.expect(r"^guest: start vcpus=4")
    for move in range(2):
        target = receive(name=f"m{move}")
        assert_moved(migrate(host, vm.name, target.uri, "--max-downtime", "2s"))
        assert_alive(target)
        vm = target
    verify(vm)


def tokens(path):
    with open(path, "rb") as image:
        return image.read(512)


def test_disk_goes_along(host, run, receive):
    """The image's lock changes hands: at each moment one process has it, and the guest's token goes on."""
    image = host.image("disk.img", 1 << 20)
    vm = run("--disk", f"path={image}", cmdline="mode=idle seconds=0 token=disk,serial token_ms=5")
    vm.expect(r"^token: \d+")
    target = receive("--map", f"disk0={image}")
    assert_moved(migrate(host, vm.name, target.uri))
    assert vm.wait() == OK
    before = [int(line.split()[1]) for line in vm.lines if re.match(r"^token: \d+$", line)]
    target.expect(r"^token: \d+$", after=20)
    after = [int(line.split()[1]) for line in target.lines if re.match(r"^token: \d+$", line)]
    assert before and after and after[0] > before[-1] and after == sorted(set(after))
    other = host.command("run", "--name", "thief", "--kernel", host.guest, "--disk", f"path={image}")
    assert other.returncode == INPUT and "in use" in other.stderr, other.stderr


def test_paused_stays_paused(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    with vm.qmp() as qmp:
        qmp.command("stop")
    target = receive()
    assert_moved(migrate(host, vm.name, target.uri))
    with target.qmp() as qmp:
        assert qmp.command("query-status")["status"] == "paused"
        lines = len(target.lines)
        time.sleep(0.3)
        assert len(target.lines) == lines
        qmp.command("cont")
    assert_alive(target)
    verify(target)


def test_unix_socket(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    target = receive(listen=f"unix:{host.run_dir}/move.img")
    assert_moved(migrate(host, vm.name, target.uri))
    assert_alive(target)
    verify(target)
    assert not os.path.exists(f"{host.run_dir}/move.img")


def test_summary_line(host, run, receive):
    """The last line has time, bytes, rounds and the parts of the downtime; --json says the same to programs."""
    vm = run(cmdline=LOAD.format(rate=10000))
    vm.expect(r"^guest: start")
    target = receive()
    result = migrate(host, vm.name, target.uri, "--json")
    assert_moved(result)
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["event"] == "completed" and last["migration"]["x-tern"]["downtime-us"] > 0, last
    verify(target)


@pytest.mark.parametrize("tracking", ["ring=1024", "bitmap"])
def test_what_the_guest_felt(host, run, receive, tracking):
    """The standstill is within the downtime; vCPUs that wait for a small ring are counted, where there is one."""
    vm = run("--dirty-tracking", tracking, cmdline=LOAD.format(rate="max"), memory="64M")
    vm.expect(r"^guest: start")
    target = receive()
    result = migrate(host, vm.name, target.uri, "--max-downtime", "2s", "--bandwidth", "40M", "--json")
    assert_moved(result)
    last = json.loads(result.stdout.splitlines()[-1])
    felt = last["migration"]["x-tern"]
    assert felt["pages-us"] < felt["standstill-us"] <= felt["downtime-us"], felt
    assert "the guest stood still for " in last["text"], last
    if tracking == "bitmap":
        assert "ring-waits" not in felt and "ring" not in last["text"], last
    else:
        assert felt["ring-waits"] > 1, felt
        assert 0 < felt["ring-wait-longest-us"] < felt["ring-wait-us"] < felt["elapsed-us"], felt
        assert f"waited {felt['ring-waits']} times for a full ring" in last["text"], last
    verify(target)


# ---- What stands against it ----


def test_dry_run(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    target = receive()
    for _ in range(2):
        result = migrate(host, vm.name, target.uri, "--dry-run")
        assert result.returncode == OK and "would work" in result.stdout, result.stdout + result.stderr
    assert_moved(migrate(host, vm.name, target.uri))
    verify(target)


def test_dry_run_names_what_is_missing(host, run, receive):
    image = host.image("disk.img", 1 << 20)
    vm = run("--disk", f"path={image}", cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    target = receive("--map", "disk0=/nowhere/disk")
    result = migrate(host, vm.name, target.uri, "--dry-run")
    assert result.returncode == FAILED and "/nowhere/disk" in result.stdout + result.stderr, result
    assert_alive(vm)
    verify(vm)


def test_nobody_listens(host, run):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    result = migrate(host, vm.name, "tcp:127.0.0.1:1")
    assert result.returncode == FAILED and "refused" in result.stdout + result.stderr, result
    assert_alive(vm)
    verify(vm)


def test_name_in_use(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    target = receive(name=vm.name)
    result = migrate(host, vm.name, target.uri)
    assert result.returncode == FAILED and vm.name in result.stdout, result
    assert_alive(vm)
    verify(vm)


def test_cannot_converge(host, run, receive):
    """The guest writes faster than the connection carries: it says so with both rates, and the VM runs on."""
    vm = run(cmdline=LOAD.format(rate="max"), memory="64M")
    vm.expect(r"^guest: start")
    target = receive()
    result = migrate(host, vm.name, target.uri, "--bandwidth", "40M", "--max-downtime", "5ms")
    assert result.returncode == FAILED and "dirty rate" in result.stdout, result
    assert_alive(vm)
    # What stood against it was the limit: without it, and by force if need be, the VM moves to the same target.
    assert_moved(migrate(host, vm.name, target.uri, "--max-downtime", "5ms", "--deadline", "2s", "--force"))
    verify(target)


def wait_status(qmp, status):
    """The migration is, or gets, there."""
    end = time.monotonic() + 10
    while qmp.command("query-migrate").get("status") != status:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_deadline_within_a_round(host, run, receive, tmp_path, tracking, channels):
    """The first round alone would take four times as long: given up then, or the guest paused then for what is left of it."""
    vm = run("--dirty-tracking", tracking, cmdline=LOAD.format(rate=20000), memory="64M")
    vm.expect(r"^guest: report")
    target = receive("--dirty-tracking", tracking)
    recorder = Recorder("tcp:127.0.0.1:0", target.uri, str(tmp_path))
    slow = ("--bandwidth", "3M", "--max-downtime", "20ms", "--deadline", "1500ms", "--channels", str(channels))
    begin = time.monotonic()
    result = migrate(host, vm.name, recorder.uri, *slow)
    assert result.returncode == FAILED and "before the end of round 0" in result.stdout, result
    assert time.monotonic() - begin < 4
    assert_alive(vm)
    begin = time.monotonic()
    result = migrate(host, vm.name, recorder.uri, *slow, "--force", "--verify-ram")
    assert_moved(result)
    assert vm.wait() == OK, vm.story()
    paused_s = vm.times[-2] - begin  # the last line may be half of one, and counts when the process ends
    assert 1 < paused_s < 3, f"the guest ran on for {paused_s:.1f} s; {result.stdout}"
    assert " in 2 rounds, " in result.stdout, result.stdout
    target.wait_log("page for page")
    verify(target)
    assert recorder.wait(10)
    recorder.close()
    check = wirecheck(tmp_path / "1")
    assert check.returncode == 0, check.stdout + check.stderr


def test_cancel(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: start")
    target = receive()
    with vm.qmp() as qmp:
        qmp.command("migrate-set-parameters", max_bandwidth=4 << 20)
        qmp.command("migrate", uri=target.uri)
        wait_status(qmp, "active")
        qmp.command("migrate_cancel")
        wait_status(qmp, "cancelled")
        assert qmp.command("query-status")["status"] == "running"
        qmp.command("migrate-set-parameters", max_bandwidth=0)
    assert_alive(vm)
    target.wait_log("gave up|cancelled")
    assert_moved(migrate(host, vm.name, target.uri))
    verify(target)


def test_target_dies(host, run, receive):
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: start")
    target = receive()
    with vm.qmp() as qmp:
        qmp.command("migrate-set-parameters", max_bandwidth=4 << 20)
        qmp.command("migrate", uri=target.uri)
        wait_status(qmp, "active")
        target.process.kill()
        wait_status(qmp, "failed")
        assert qmp.command("query-status")["status"] == "running"
    assert_alive(vm)
    verify(vm)


def test_source_dies(host, run, receive):
    """The target says so in one line, and takes the next VM."""
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: start")
    target = receive()
    with vm.qmp() as qmp:
        qmp.command("migrate-set-parameters", max_bandwidth=4 << 20)
        qmp.command("migrate", uri=target.uri)
        wait_status(qmp, "active")
    vm.process.kill()
    target.wait_log("not taken|did not come")
    vm.close()
    vm = run(cmdline=LOAD.format(rate=1000), name="t2")
    vm.expect(r"^guest: start")
    assert_moved(migrate(host, vm.name, target.uri))
    verify(target)


def test_garbage(host, run, receive):
    """Whoever talks to a target without knowing how harms nobody."""
    target = receive()
    address = target.uri.rsplit(":", 2)
    where = (address[1], int(address[2]))
    quiet = [socket.create_connection(where) for _ in range(40)]
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\xff" * 70000, os.urandom(5000)):
        with socket.create_connection(where) as peer:
            try:
                peer.sendall(garbage)
            except (BrokenPipeError, ConnectionResetError):
                pass
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    assert_moved(migrate(host, vm.name, target.uri))
    verify(target)
    for connection in quiet:
        connection.close()


@pytest.mark.parametrize("channels", [1, 3])
def test_wire_is_as_written(host, run, receive, channels, tmp_path):
    """A recorded migration, read by a program that was written from docs/wire.md alone."""
    target = receive()
    recorder = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "tests", "live", "recorder.py"), "tcp:127.0.0.1:0", target.uri, str(tmp_path)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        uri = recorder.stdout.readline().strip()
        vm = run(cmdline=LOAD.format(rate="max"), memory="64M")
        vm.expect(r"^guest: start")
        assert_moved(migrate(host, vm.name, uri, "--channels", str(channels), "--max-downtime", "2s"))
        verify(target)
    finally:
        recorder.terminate()
        recorder.wait(10)
    check = wirecheck(tmp_path / "0")
    assert check.returncode == 0, check.stdout + check.stderr


# ---- Encrypted ----


@pytest.fixture
def keys(tmp_path_factory):
    """A function that makes a directory of keys, each with a CA of its own."""

    def make():
        directory = str(tmp_path_factory.mktemp("keys"))
        tls_keys.make(directory)
        for where in (directory, os.path.dirname(directory), os.path.dirname(os.path.dirname(directory))):
            os.chmod(where, 0o755)
        return directory

    return make


@pytest.mark.parametrize("channels", [1, 4])
def test_tls(host, run, receive, keys, channels):
    pool = keys()
    vm = run(cmdline=LOAD.format(rate=5000))
    vm.expect(r"^guest: start")
    target = receive("--tls", pool)
    assert_moved(migrate(host, vm.name, target.uri, "--tls", pool, "--channels", str(channels), "--max-downtime", "2s"))
    assert_alive(target)
    verify(target)


def test_tls_strangers(host, run, receive, keys):
    """Who has no certificate, or another pool's, is not let in; and a target of another pool gets nothing."""
    pool, other = keys(), keys()
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    target = receive("--tls", pool)
    for options in ((), ("--tls", other)):
        result = migrate(host, vm.name, target.uri, *options)
        assert result.returncode == FAILED, result.stdout + result.stderr
        assert_alive(vm)
    assert_moved(migrate(host, vm.name, target.uri, "--tls", pool))
    verify(target)


def test_tls_keys_missing(host, run):
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: start")
    result = migrate(host, vm.name, "tcp:127.0.0.1:1", "--tls", host.run_dir)
    assert result.returncode == FAILED and "ca-cert.pem" in result.stdout, result
    assert migrate(host, vm.name, "tcp:192.0.2.1:1").returncode == INPUT  # in the clear over a network: not unless asked
    assert_alive(vm)
    verify(vm)
