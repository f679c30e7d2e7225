# SPDX-License-Identifier: GPL-2.0-or-later
"""
A migration and a saved VM as the first version wrote them (tests/golden/migration-1.tar.xz, snapshot-1.xz): later versions
read them, load them and run them on. The guest is the bare-metal one, in the middle of its load, and checks its memory.

They are of one kind of host: another may be refused for its CPU, which is then what the skipped test says.
TERN_GOLDEN_WRITE=1 makes them anew, for a version that no release has had.
"""

import lzma
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import tarfile
import time

import pytest
from guestline import last

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests", "golden")
MIGRATION, SNAPSHOT = os.path.join(GOLDEN, "migration-1.tar.xz"), os.path.join(GOLDEN, "snapshot-1.xz")
LOAD = "mode=dirty wset=1M rate=2000 seconds=0 report=200ms"
OPTIONS = {"cmdline": LOAD, "memory": "32M", "name": "golden"}
WRITE = bool(os.environ.get("TERN_GOLDEN_WRITE"))

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the golden files are of an x86-64 VM")

sys.path.insert(0, os.path.join(ROOT, "tests"))
import wirecheck  # noqa: E402  (the path comes first)
from recorder import Recorder  # noqa: E402


def finish(vm):
    """Has the guest check all of its memory, and end."""
    seen = len(vm.lines)
    vm.expect("guest: report", after=seen)
    assert not any("guest: hello" in line for line in vm.lines), "it booted instead of running on"
    vm.type("q")
    assert vm.wait() == 0, vm.story()
    assert last(vm.lines, "done")["errors"] == 0, vm.story()


def skip_if_the_cpu_is_another(words):
    """What only the host can be blamed for; everything else is a failure."""
    if re.search(r"(cpu|CPU|TSC|told)", words):
        pytest.skip(f"this host cannot be that VM's: {words.strip()[:200]}")


def write_migration(host, run, receive, directory):
    target = receive(name="golden2")
    recorder = Recorder("tcp:127.0.0.1:0", target.uri, directory)
    vm = run(**OPTIONS)
    vm.expect("guest: report")
    said = host.command("migrate", "golden", recorder.uri, "--max-downtime", "500ms")
    assert said.returncode == 0, said.stdout + said.stderr
    finish(target)
    assert recorder.wait(10)
    recorder.close()
    with tarfile.open(MIGRATION, "w:xz", preset=9) as tar:
        for name in sorted(os.listdir(recorder.attempts[0])):
            info = tar.gettarinfo(os.path.join(recorder.attempts[0], name), name)
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            with open(os.path.join(recorder.attempts[0], name), "rb") as file:
                tar.addfile(info, file)


@pytest.fixture
def recording(host, run, receive, tmp_path):
    if WRITE:
        write_migration(host, run, receive, str(tmp_path / "recorded"))
    directory = tmp_path / "golden"
    with tarfile.open(MIGRATION) as tar:
        for member in tar:
            assert member.isreg() and "/" not in member.name
            directory.mkdir(exist_ok=True)
            with tar.extractfile(member) as file:
                (directory / member.name).write_bytes(file.read())
    return str(directory)


def test_recording_is_as_written(host, recording):
    checker = wirecheck.Checker(recording)
    checker.check()
    assert checker.problems == []
    assert checker.rounds >= 2 and checker.kinds[wirecheck.DATA] > 256
    for name in sorted(os.listdir(recording)):
        if name != "order" and os.path.getsize(os.path.join(recording, name)):
            said = subprocess.run([host.tern, "inspect", os.path.join(recording, name)], capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL, timeout=20, check=False)  # fmt: skip
            assert said.returncode == 0, said.stderr


class Peer:
    """One connection to the target, and what it answers, record by record."""

    def __init__(self, uri):
        host, port = uri[len("tcp:") :].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the target hung up"
            data += more
        return data

    def record(self):
        """(name, head) of the target's next record that is no heartbeat."""
        while True:
            kind, head_bytes, body_bytes, _, _ = wirecheck.HEADER.unpack(self.exactly(wirecheck.HEADER.size))
            head = self.exactly(head_bytes)
            self.exactly(body_bytes)
            name = wirecheck.TYPES[kind].name
            if name == "REFUSE":
                (length,) = struct.unpack_from("<H", head)
                skip_if_the_cpu_is_another(head[2 : 2 + length].decode())
                raise AssertionError(f"the target refuses: {head[2:]}")
            if name != "HEARTBEAT":
                return name


def replay(recording, uri):
    """Says what the source said, in the order in which it passed, waiting for the target wherever the source did."""
    checker = wirecheck.Checker(recording)
    checker.check()
    passed = wirecheck.Passed(os.path.join(recording, "order"))
    records = [record for stream in checker.streams.values() for record in stream]
    records.sort(key=lambda record: passed.byte(record.file, record.end - 1))
    peers = {}
    for record in records:
        name = record.file.split(".")[0]
        if record.file.endswith("t2s"):
            if record.name != "HEARTBEAT":
                assert peers[name].record() == record.name
            continue
        peers.setdefault(name, None)
        peers[name] = peers[name] or Peer(uri)
        with open(os.path.join(recording, record.file), "rb") as file:
            file.seek(record.start)
            peers[name].socket.sendall(file.read(record.end - record.start))
    for peer in peers.values():
        peer.socket.close()


def test_recorded_migration_runs_on(host, recording, receive):
    target = receive("--map", f"kernel={host.guest}", name="golden1")
    replay(recording, target.uri)
    finish(target)


@pytest.fixture
def snapshot(host, run):
    path = os.path.join(host.run_dir, "golden.img")
    if WRITE:
        vm = run(**OPTIONS)
        vm.expect("guest: report")
        said = host.command("save", "golden", path, "--max-downtime", "500ms")
        assert said.returncode == 0, said.stdout + said.stderr
        vm.close()
        with open(path, "rb") as file, lzma.open(SNAPSHOT, "wb", preset=9) as packed:
            packed.write(file.read())
        os.unlink(path)
    with lzma.open(SNAPSHOT) as packed, open(path, "wb") as file:
        while block := packed.read(4096):
            if block.count(0) == len(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        file.truncate()
    if host.user is not None:
        os.chown(path, host.user.uid, host.user.gid)
    return path


def test_saved_vm_runs_on(host, run, snapshot):
    said = host.command("inspect", "--verify", snapshot)
    assert said.returncode == 0, said.stderr
    vm = run(name="golden1", words=["restore", snapshot, "--map", f"kernel={host.guest}"])
    end = time.monotonic() + 10
    while vm.process.poll() is None and not vm.lines and time.monotonic() < end:
        time.sleep(0.02)
    if vm.process.poll() is not None:
        vm.wait()
        skip_if_the_cpu_is_another("\n".join(vm.log))
    finish(vm)
