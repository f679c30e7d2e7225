# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: a host has what Tern needs, and what a command does there comes back as it was."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from lab import LabHost, compile_static
from process import LabError, LabTimeout

LAB = {"guests": False}
TOP = Path(__file__).resolve().parents[2]


def test_kvm_runs_a_guest(lab, arch):
    """/dev/kvm is real, and open to the unprivileged user too."""
    lab.push(compile_static(TOP / "tests/lab/kvm_smoke.c", arch), "/tmp/kvm-smoke")
    for user in ("root", "tern"):
        result = lab.run(["/tmp/kvm-smoke"], user=user)
        assert (result.status, result.stdout) == (0, "kvm-smoke: ok\n"), result


def test_devices_are_there(lab):
    """The nodes that Tern opens, and who may open them."""
    lab.run("for i in kvm net/tun vhost-net userfaultfd ptmx; do test -c /dev/$i || exit 1; done", check=True)
    assert "104(kvm)" in lab.run("id", user="tern", check=True).stdout
    assert lab.run("for i in kvm net/tun userfaultfd; do exec 3<>/dev/$i || exit 1; done", user="tern").status == 0
    assert lab.run("touch /root/x", user="tern").status != 0


def test_output_and_status_come_back(lab):
    """Both outputs, apart, and how the command ended."""
    result = lab.run("echo out; echo err >&2; exit 7")
    assert (result.status, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert lab.run("kill -9 $$").status == 128 + 9
    missing = lab.run(["no-such-command"])
    assert missing.status == 127 and "No such file" in missing.stderr


def test_large_output_is_whole(lab):
    """More than any buffer in between holds, in both directions at once, to a command that reads slowly."""
    data = os.urandom(1 << 20)
    process = lab.popen("sleep 1; cat")
    process.send(data)
    process.end_input()
    assert process.wait(60).status == 0
    assert process.stdout_bytes == data


def test_files_go_there_and_back(lab, tmp_path):
    """A folder with a program, an empty file and a link."""
    (tmp_path / "there/sub").mkdir(parents=True)
    (tmp_path / "there/sub/data").write_bytes(bytes(range(256)) * 999)
    (tmp_path / "there/empty").touch()
    (tmp_path / "there/program").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "there/program").chmod(0o755)
    (tmp_path / "there/link").symlink_to("program")
    lab.push(tmp_path / "there", "/tmp/deep/down/there")
    assert lab.run(["/tmp/deep/down/there/link"], check=True).stdout == "ran\n"
    lab.pull("/tmp/deep/down/there", tmp_path / "back")
    assert subprocess.run(["diff", "-r", tmp_path / "there", tmp_path / "back"], check=False).returncode == 0


def test_terminal(lab):
    """A command that wants a terminal has one: it is asked, answers, and sees the interrupt character."""
    process = lab.popen(["sh", "-c", "tty; read line; echo got $line; sleep 100"], pty=True)
    process.expect("/dev/pts/[0-9]")
    process.send("hello\n")
    process.expect("got hello")
    process.send("\x03")
    assert process.wait(10).status == 128 + 2


def test_time_limit_ends_the_command(lab):
    """A command that takes too long is an error, and nothing of it stays behind."""
    with pytest.raises(LabTimeout):
        lab.run("sleep 1234 & sleep 1234", timeout=1)
    time.sleep(0.5)
    assert lab.run("ps | grep '[s]leep 1234'").stdout == ""


def test_a_daemon_does_not_hold_its_starter(lab):
    """A command ends when it ends, though what it left behind holds its output open."""
    started = time.monotonic()
    assert lab.run("sleep 50 & echo started").stdout == "started\n"
    assert time.monotonic() - started < 20


def test_many_commands_at_once(lab):
    """Sixteen at a time do not get in each other's way."""
    processes = [lab.popen(f"sleep 1; echo {i}; exit {i}") for i in range(16)]
    assert [(p.wait(60).status, p.stdout) for p in processes] == [(i, f"{i}\n") for i in range(16)]


def test_sandboxes_can_leave_the_root(lab):
    """passt and Tern's processes call pivot_root(2), which the first file system of a kernel refuses."""
    lab.run("mkdir -p /tmp/new; unshare -m sh -c 'mount -t tmpfs none /tmp/new && cd /tmp/new && mkdir old && "
            "pivot_root . old'", check=True)


def test_panic_is_reported(arch):
    """A host that panics says so at once, with its console."""
    with LabHost(arch, timeout=120) as host:
        started = time.monotonic()
        with pytest.raises(LabError, match=r"(?s)the host is gone \(panic\).*sysrq"):
            host.run("echo c >/proc/sysrq-trigger", timeout=60)
        assert time.monotonic() - started < 30


def test_hang_is_reported(arch):
    """When the time of the lab is over, the command's error shows the console."""
    with LabHost(arch, timeout=25) as host:
        host.run("echo the last words >/dev/console")
        with pytest.raises(LabTimeout, match="(?s)time of 25 s is over.*the last words"):
            host.run("sleep 1000", timeout=100)


def run_command(*argv, **kwargs):
    """lab/run as a user calls it."""
    return subprocess.run([TOP / "lab/run", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, check=False, **kwargs)


def test_run_command(arch, tmp_path):
    """The command: two hosts, files in both directions, exit status."""
    (tmp_path / "in").write_text("some text\n")
    done = run_command("--arch", arch, "--hosts", "2", "--timeout", "100", "--file", f"{tmp_path}/in",
                       "--fetch", f"/root/out:{tmp_path}/out", "--on2", "nc -l -p 9 >/tmp/x; echo got $(cat /tmp/x)",
                       "--", "cat in >out; until nc host2 9 <in; do sleep 0.2; done; sleep 3; exit 5")
    assert done.returncode == 5, done
    assert "host2| got some text" in done.stdout
    assert (tmp_path / "out").read_text() == "some text\n"


def test_run_command_refuses_a_missing_kernel(arch):
    """One line, exit status 125."""
    done = run_command("--arch", arch, "--host-kernel", "/nowhere/kernel", "--", "true")
    assert done.returncode == 125 and done.stderr.count("\n") == 1 and "/nowhere/kernel" in done.stderr
