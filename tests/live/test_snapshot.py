# SPDX-License-Identifier: GPL-2.0-or-later
"""
tern save and tern restore with the bare-metal guest, which verifies its own memory: what was saved runs on in another
process, whatever else fails leaves the VM running and no file, and no damaged file is restored.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from faults import find_child
from guestline import last
from qmp import QmpError

OK, FAILED, INPUT, QUIT, CANCELLED = 0, 1, 2, 5, 5
LOAD = "mode=dirty wset=16M rate=20000 seconds=0 report=200ms"


@pytest.fixture
def files(host):
    """A directory that the unprivileged user may write."""
    path = os.path.join(host.run_dir, "saved")
    os.mkdir(path)
    if host.user is not None:
        os.chown(path, host.user.uid, host.user.gid)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def loaded(run):
    """A VM under load, past its first report."""

    def start(*options, cmdline=LOAD, **more):
        vm = run("--cpus", "2", *options, cmdline=cmdline, memory="64M", **more)
        vm.expect("guest: report")
        return vm

    return start


def save(host, path, *options, name="t0", timeout=60):
    return host.command("save", name, path, *options, timeout=timeout)


def saved(host, path, *options, **more):
    said = save(host, path, *options, **more)
    assert said.returncode == OK, said.stdout + said.stderr
    assert os.stat(path).st_mode & 0o777 == 0o600
    return said


def restored(run, path, *options, name="r0"):
    vm = run(name=name, words=["restore", path, *options])
    vm.expect("guest: report")
    return vm


def finish(vm):
    """Has the guest check all of its memory and end; returns its last words."""
    vm.type("q")
    assert vm.wait() == OK, vm.story()
    done = last(vm.lines, "done")
    assert done["errors"] == 0 and done["clock_back"] == 0, vm.story()
    return done


def still_runs(vm):
    """The guest goes on after now."""
    vm.expect("guest: report", after=len(vm.lines))


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_live_save(host, run, loaded, files, tracking):
    """The VM runs on; what it was in the middle of goes on in another process too, from the same moment, twice."""
    path = os.path.join(files, "live")
    vm = loaded("--dirty-tracking", tracking)
    before = last(vm.lines, "report")
    said = saved(host, path, "--max-downtime", "200ms")
    assert re.search(r"in [3-9]\d* rounds, [1-9]\d* pages sent again", said.stdout), said.stdout
    assert "; the guest stood still for " in said.stdout and ("full ring" in said.stdout) == (tracking == "ring"), said.stdout
    still_runs(vm)
    vm.close()
    for name in ("r0", "r1"):
        again = restored(run, path, name=name)
        assert not any("guest: hello" in line for line in again.lines), "it booted instead of running on"
        assert last(again.lines, "report")["pages"] > before["pages"]
        done = finish(again)
        assert done["sweeps"] >= before["sweeps"]


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_many_rounds(host, run, loaded, files, tracking):
    """A page that is dirty in one round and not in the next: each round's pages must be in the file."""
    loaded("--dirty-tracking", tracking, cmdline="mode=dirty wset=16M rate=2000 seconds=0 report=200ms")
    for deadline in ("2s", "8s", "30s"):  # a busy host needs longer for as many rounds
        path = os.path.join(files, deadline)
        said = saved(host, path, "--max-downtime", "1ms", "--deadline", deadline, "--force")
        if re.search(r"in \d\d+ rounds, \d{3,} pages sent again", said.stdout):
            break
    else:
        pytest.fail(said.stdout)
    finish(restored(run, path))


def test_quit_and_a_chain_of_restores(host, run, loaded, files):
    """Saved and ended, five times over: each process takes up where the one before stopped."""
    vm = loaded()
    for number in range(5):
        path = os.path.join(files, str(number))
        pages = last(vm.lines, "report")["pages"]
        saved(host, path, "--quit", name=vm.name)
        assert vm.wait() == OK, vm.story()
        assert "guest: done" not in vm.lines
        vm = restored(run, path, name=f"r{number}")
        assert last(vm.lines, "report")["pages"] > pages
    finish(vm)


def test_pause(host, run, loaded, files):
    vm = loaded()
    said = saved(host, os.path.join(files, "paused"), "--pause")
    assert "stood still" not in said.stdout and "ring" not in said.stdout, said.stdout
    with vm.qmp() as qmp:
        assert qmp.command("query-status")["status"] == "paused"
        reports = len(vm.lines)
        # One that is paused can be saved as it is, and stays so.
        saved(host, os.path.join(files, "again"))
        assert qmp.command("query-status")["status"] == "paused"
        assert len(vm.lines) == reports
        qmp.command("cont")
    still_runs(vm)
    finish(vm)
    again = run(name="r0", words=["restore", os.path.join(files, "again"), "--paused"])
    with again.qmp() as qmp:
        assert qmp.command("query-status")["status"] == "paused"
        assert not again.lines
        qmp.command("cont")
    again.expect("guest: report")
    finish(again)


def refused(host, path, *options):
    if os.environ.get("TERN_SANITIZED"):
        options += ("--sandbox", "off")  # the sanitizers' own calls are not in the lists
    said = host.command("restore", path, "--name", "x0", *options)
    assert said.returncode == INPUT, said
    assert said.stderr.count("\n") == 1, said.stderr
    return said.stderr


def test_spoilt_files(host, run, loaded, files):
    """Cut off or flipped anywhere: refused with one line, and inspect says so too."""
    path, spoilt = os.path.join(files, "good"), os.path.join(files, "spoilt")
    vm = loaded()
    saved(host, path, "--quit")
    vm.wait()
    inspected = host.command("inspect", "--verify", path)
    assert inspected.returncode == OK, inspected.stderr
    assert re.search(r"pages     \d{4,} hold data, 0 of them damaged", inspected.stdout)
    size = os.path.getsize(path)
    parts = [int(at) for at in re.findall(r"^part .* at (\d+),", inspected.stdout, re.M)]
    assert len(parts) == 5
    rand = random.Random(5)
    cuts = [0, 1, 4095, 4096, 8192, parts[0], size - 1, *(rand.randrange(size) for _ in range(5))]
    for cut in cuts:
        shutil.copyfile(path, spoilt)
        os.truncate(spoilt, cut)
        refused(host, spoilt)
        assert host.command("inspect", spoilt).returncode == INPUT
    with open(path, "rb") as file:
        data = os.lseek(file.fileno(), 2 << 20, os.SEEK_DATA)
    for at in [0, 9, 4000, 4096, 4200, 8191, data, *(part + 1 for part in parts), size - 1]:
        shutil.copyfile(path, spoilt)
        with open(spoilt, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << rand.randrange(8)]))
        line = refused(host, spoilt)
        assert spoilt in line, line
        assert host.command("inspect", "--verify", spoilt).returncode in (FAILED, INPUT)
    for other in ("/dev/null", files, os.path.join(files, "nothing")):
        refused(host, other)
    finish(restored(run, path))


def test_no_second_file_of_that_name(host, loaded, files):
    path = os.path.join(files, "there")
    with open(path, "w", encoding="ascii") as file:
        file.write("mine")
    vm = loaded()
    said = save(host, path)
    assert said.returncode == FAILED and "File exists" in said.stdout, said
    with open(path, encoding="ascii") as file:
        assert file.read() == "mine"
    assert save(host, os.path.join(files, "no", "such", "directory")).returncode == FAILED
    still_runs(vm)
    finish(vm)


def test_disks_must_be_what_they_were(host, run, loaded, files):
    path = os.path.join(files, "with-disk")
    image = host.image("disk.img", 4 << 20)
    vm = loaded("--disk", image, cmdline=LOAD + " token=disk")
    time.sleep(0.3)
    saved(host, path, "--quit")
    assert vm.wait() == OK
    was = os.stat(image)
    # As it was: runs, and goes on writing.
    again = restored(run, path, name="r0")
    time.sleep(0.3)
    finish(again)
    assert os.stat(image).st_mtime_ns > was.st_mtime_ns
    # It has been written to since: both values are named.
    now = os.stat(image)
    line = refused(host, path)
    assert f"changed at ns {was.st_mtime_ns} then, {now.st_mtime_ns} now" in line, line
    # Another file of the same size and time.
    other = host.image("other.img", 4 << 20)
    os.utime(other, ns=(was.st_mtime_ns, was.st_mtime_ns))
    line = refused(host, path, "--map", f"disk0={other}")
    assert f"inode {was.st_ino} then, {os.stat(other).st_ino} now" in line, line
    os.truncate(image, 8 << 20)
    assert f"bytes {4 << 20} then, {8 << 20} now" in refused(host, path)
    # The user knows better.
    again = restored(run, path, "--disks-as-they-are", name="r1")
    assert any("is taken as it is" in line for line in again.log), again.log
    finish(again)


def test_a_disk_in_use_is_refused(host, loaded, files):
    path = os.path.join(files, "with-disk")
    vm = loaded("--disk", host.image("used.img", 1 << 20))
    saved(host, path, "--pause")
    assert "used.img" in refused(host, path)
    with vm.qmp() as qmp:
        qmp.command("cont")
    finish(vm)


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_too_fast_for_the_disk(host, run, loaded, files, tracking):
    """More is written than the bandwidth takes: given up at the deadline, or paused for the rest; the file is bounded."""
    path = os.path.join(files, "fast")
    vm = loaded("--dirty-tracking", tracking, cmdline="mode=dirty wset=16M rate=max seconds=0 report=200ms")
    slow = ("--bandwidth", "16M", "--max-downtime", "1ms", "--deadline", "3s")
    begin = time.monotonic()
    said = save(host, path, *slow)
    assert said.returncode == FAILED and "the deadline of 3.0 s has passed" in said.stdout, said
    assert "it runs on here" in said.stdout
    assert time.monotonic() - begin < 15
    assert not os.path.exists(path)
    still_runs(vm)
    saved(host, path, *slow, "--force")
    assert os.path.getsize(path) < (64 << 20) + (8 << 20)
    still_runs(vm)
    finish(vm)
    finish(restored(run, path))


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
def test_deadline_within_a_round(host, run, loaded, files, tracking):
    """
    The first round alone would take half a minute. What the guest never writes again it would have sent alone: no harvest
    tells of it.
    """
    path = os.path.join(files, "slow")
    vm = loaded("--dirty-tracking", tracking, cmdline=f"{LOAD} cold=8M")
    slow = ("--bandwidth", "512K", "--deadline", "2s")
    begin = time.monotonic()
    said = save(host, path, *slow)
    assert said.returncode == FAILED and "the deadline of 2.0 s has passed" in said.stdout, said
    assert time.monotonic() - begin < 8
    assert not os.path.exists(path)
    still_runs(vm)
    begin = time.monotonic()
    saved(host, path, *slow, "--force")
    assert time.monotonic() - begin < 8
    still_runs(vm)
    finish(vm)
    finish(restored(run, path))


def test_cancelled(host, loaded, files):
    path = os.path.join(files, "cancelled")
    vm = loaded()
    asked = subprocess.Popen(
        [*host.prefix, host.tern, "save", "t0", path, "--bandwidth", "1M"], env=host.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with vm.qmp() as qmp:
        end = time.monotonic() + 10
        while qmp.command("query-migrate")["status"] != "active" and time.monotonic() < end:
            time.sleep(0.02)
        # While a slow file is written the VM answers at once.
        begin = time.monotonic()
        qmp.command("query-status")
        assert time.monotonic() - begin < 1
        with pytest.raises(QmpError, match="in progress"):
            qmp.command("x-tern-save", path=path + "2")
    asked.send_signal(signal.SIGINT)
    output, _ = asked.communicate(timeout=20)
    assert asked.returncode == CANCELLED and "cancelled" in output, output
    assert not os.path.exists(path)
    still_runs(vm)
    saved(host, path)
    finish(vm)


def test_the_saver_is_killed(host, loaded, files):
    """Its file has no seal, and the VM runs on as if nothing had been."""
    path = os.path.join(files, "killed")
    vm = loaded()
    with vm.qmp() as qmp:
        qmp.command("x-tern-save", path=path, max_bandwidth=1 << 20)
        end = time.monotonic() + 10
        while qmp.command("query-migrate")["status"] != "active" and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(find_child(vm.process.pid, ("tern-saver",)), signal.SIGKILL)
        while qmp.command("query-migrate")["status"] == "active" and time.monotonic() < end:
            time.sleep(0.02)
        assert "has died" in qmp.command("query-migrate")["error-desc"]
    assert "not complete" in refused(host, path)
    still_runs(vm)
    saved(host, path + "2")
    finish(vm)


@pytest.mark.parametrize("lacking", [0.99, 0.5, 8 << 10], ids=["most", "half", "the-end"])
def test_full_disk(host, run, loaded, files, lacking):
    """Wherever the room ends, in the pages or beside them: one line, no file, and the VM stays; with that much more it fits."""
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system: needs root")
    small = os.path.join(files, "small")
    path = os.path.join(small, "file")

    def resize(size, *options):
        words = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "small", small]
        subprocess.run(words, check=True, timeout=10)

    vm = loaded()
    with vm.qmp() as qmp:
        qmp.command("stop")
    os.mkdir(small)
    resize(64 << 20, "mode=777")
    try:
        saved(host, path)
        need = os.stat(path).st_blocks * 512
        os.unlink(path)
        resize((need - (int(need * lacking) if lacking < 1 else lacking)) & -4096, "remount")
        said = save(host, path)
        assert said.returncode == FAILED and said.stdout.count("No space left on device") == 1, said
        assert os.listdir(small) == []
        resize(need, "remount")
        saved(host, path)
        with vm.qmp() as qmp:
            qmp.command("cont")
        still_runs(vm)
        finish(vm)
        again = run(name="r0", words=["restore", path])
        with again.qmp() as qmp:
            qmp.command("cont")
        finish(again)
    finally:
        subprocess.run(["umount", "-l", small], check=True, timeout=10)


def test_names_and_words(host, loaded, files):
    assert save(host, os.path.join(files, "none"), name="nobody").returncode == INPUT
    for arguments in ([], ["t0"], ["t0", "a", "b"], ["t0", "a", "--what"], ["t0", "a", "--deadline"]):
        assert host.command("save", *arguments).returncode == INPUT
    for arguments in ([], ["a", "b"], ["a", "--what"], ["a", "--map", "disk99=x"]):
        assert host.command("restore", *arguments).returncode == INPUT
    vm = loaded()
    path = os.path.join(files, "a")
    with vm.qmp() as qmp:
        for wrong, why in (({"path": path, "then": "sleep"}, "one of run-on, pause and quit"), ({"path": ""}, "a path of 1 to"),
                           ({"path": "x" * 3000}, "a path of 1 to"), ({}, "path")):  # fmt: skip
            with pytest.raises(QmpError, match=why):
                qmp.command("x-tern-save", **wrong)
    saved(host, path)
    # The name is in use: by the VM that was saved.
    said = host.command("restore", path)
    assert said.returncode == INPUT and "in use" in said.stderr
    finish(vm)
