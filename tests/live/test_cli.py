# SPDX-License-Identifier: GPL-2.0-or-later
"""
The command line around a real VM: list, status, pause, resume, reset, stop, console, doctor; the terminal of `tern run`,
with its escape key, and put back however tern ends.
"""

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

IDLE = "mode=dirty wset=8M seconds=0 report=100ms"


@pytest.fixture
def idle(run):
    vm = run("--serial", "pty", cmdline=IDLE)
    vm.qmp().close()
    return vm


class Terminal:
    """A tern command on a terminal of its own."""

    def __init__(self, host, *arguments):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            [*host.prefix, host.tern, *arguments], env=host.environment(), cwd=host.run_dir,
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
        )  # fmt: skip

    def pump(self, seconds=0.05):
        if select.select([self.master], [], [], seconds)[0]:
            self.output += os.read(self.master, 65536)

    def expect(self, text, timeout=20, after=0):
        end = time.monotonic() + timeout
        while self.output.find(text, after) < 0:
            assert time.monotonic() < end, f"no {text!r} in {self.output[-500:]!r}"
            self.pump()
        return self.output.find(text, after)

    def type(self, keys):
        os.write(self.master, keys)

    def wait(self, timeout=20):
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"still there; {self.output[-500:]!r}"
            self.pump()
        return self.process.returncode

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def expect_restored(self):
        end = time.monotonic() + 5
        while termios.tcgetattr(self.slave) != self.before:
            assert time.monotonic() < end, "the terminal is not as it was"
            time.sleep(0.01)

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


class Shell(Terminal):
    """An interactive shell, with job control."""

    def __init__(self, host):
        self.master, self.slave = pty.openpty()
        self.output = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noediting", "-i"], env=host.environment(), cwd=host.run_dir,
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
        )  # fmt: skip

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(host):
    opened = []

    def start(*arguments):
        opened.append(Terminal(host, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def run_words(host, cmdline=IDLE):
    return ["run", "--name", "t0", "--memory", "64M", "--kernel", host.guest, "--cmdline", cmdline]


def test_status_says_what_the_vm_is(idle, host):
    result = host.command("status", "--json", "t0")
    assert result.returncode == 0, result.stderr
    status = json.loads(result.stdout)
    assert status["status"] == "running"
    assert status["name"] == "t0"
    assert status["pid"] == int(open(idle.control_path + ".lock").read())
    assert status["dirty-tracking"]["mode"] in ("ring", "bitmap")
    assert status["dirty-tracking"]["reason"]
    assert os.path.exists(status["serial"]["pty"])
    assert status["sandbox"] == "on"
    # The guest writes 8 MiB; the sandbox does not keep them from being counted.
    end = time.monotonic() + 20
    while status["memory"]["resident-bytes"] < 8 << 20:
        assert time.monotonic() < end, status["memory"]
        time.sleep(0.05)
        status = json.loads(host.command("status", "--json", "t0").stdout)
    words = host.command("status", "t0").stdout
    assert "status    running" in words and "resident" in words


def test_pause_list_resume_reset(idle, host):
    assert host.command("pause", "t0").returncode == 0
    listed = json.loads(host.command("list", "--json").stdout)
    assert [(vm["name"], vm["status"]) for vm in listed] == [("t0", "paused")]
    assert host.command("resume", "t0").returncode == 0
    assert "running" in host.command("list").stdout
    assert host.command("reset", "t0").returncode == 0
    assert host.command("pause", "other").returncode == 2


def test_stop_waits_until_the_name_is_free(idle, host, run):
    result = host.command("stop", "--force", "t0")
    assert result.returncode == 0, result.stderr
    assert not host.leftovers()
    assert idle.wait(5) == 5
    again = run(cmdline="mode=hello")
    assert again.wait() == 0


def test_stop_that_the_guest_does_not_hear(idle, host):
    result = host.command("stop", "--timeout", "1", "t0")
    assert result.returncode == 1
    assert "--force" in result.stderr
    assert host.command("status", "t0").returncode == 0


def test_console(idle, host, terminal):
    console = terminal("console", "t0")
    console.expect(b"at the console of t0")
    seen = console.expect(b"guest: ")
    assert console.raw()
    second = host.command("console", "t0")
    assert second.returncode == 1 and "somebody else" in second.stderr
    console.type(b"\x01h")
    console.expect(b"leaves the console", after=seen)
    console.type(b"\x01x")
    assert console.wait() == 0
    console.expect_restored()
    assert host.command("status", "t0").returncode == 0
    # It can be attached to again, and ends with the VM.
    console = terminal("console", "t0")
    console.expect(b"guest: ")
    host.command("stop", "--force", "t0")
    assert console.wait() == 0
    console.expect_restored()


def test_console_needs_a_pty(run, host):
    vm = run(cmdline=IDLE)
    vm.qmp().close()
    result = host.command("console", "t0")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "stdio" in result.stderr


def test_escape_key(host, terminal):
    vm = terminal(*run_words(host))
    vm.expect(b"guest: ")
    assert vm.raw()
    vm.type(b"\x01h")
    vm.expect(b"presses the power button")
    vm.type(b"\x01x")
    assert vm.wait() == 5
    vm.expect_restored()
    assert not host.leftovers()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGSYS])
def test_terminal_is_restored_however_it_ends(host, terminal, how):
    vm = terminal(*run_words(host))
    vm.expect(b"guest: ")
    assert vm.raw()
    pid = int(open(os.path.join(host.run_dir, "tern", "t0.sock.lock")).read())
    os.kill(pid, how)
    assert vm.wait() == (5 if how == signal.SIGTERM else -how)
    vm.expect_restored()
    end = time.monotonic() + 5
    while host.leftovers():
        assert time.monotonic() < end, host.leftovers()
        time.sleep(0.01)


def test_terminal_is_restored_when_the_guest_ends(host, terminal):
    vm = terminal(*run_words(host, "mode=hello"))
    assert vm.wait() == 0
    vm.expect_restored()


def test_background_job_leaves_the_terminal_alone(host, terminal):
    """As a shell starts `tern run ... &`: in a process group that is not the terminal's."""
    words = " ".join(f"'{word}'" for word in [*host.prefix, host.tern, *run_words(host)])
    shell = Shell(host)
    try:
        os.write(shell.master, (words + " &\n").encode())
        shell.expect(b"in the background")
        shell.expect(b"guest: ")
        assert not shell.raw()
    finally:
        host.command("stop", "--force", "t0")
        shell.close()


def test_config_file(run, host):
    path = os.path.join(host.run_dir, "vm.img")  # a name that is not counted as left over
    with open(path, "w") as file:
        json.dump({"cpus": 2, "memory": {"size": "96M"}, "rng": True, "serial": "pty"}, file)
    vm = run("--config", path, cmdline=IDLE)
    vm.qmp().close()
    status = json.loads(host.command("status", "--json", "t0").stdout)
    assert status["cpus"] == 2
    assert status["memory"]["size-bytes"] == 128 << 20  # the command line's, which is taken after the file
    assert "rng0" in [device["id"] for device in status["devices"]] or any(
        "rng" in device["type"] for device in status["devices"]
    )


def test_doctor(host):
    result = host.command("doctor", "--json", timeout=120)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert checks["kvm"]["result"] == "yes"
    assert checks.get("user-mode", {"result": "yes"})["result"] == "yes"
    assert "2048 of 2048" in checks["dirty-ring"]["detail"] or checks["dirty-ring"]["result"] == "no"
    assert "64 of 64" in checks["dirty-bitmap"]["detail"]
    for check in report["checks"]:
        assert check["result"] in ("yes", "partly", "no", "unknown")
        assert check["detail"]
        # What could not be tried is a fault of doctor's, not of the host.
        assert check["result"] != "unknown", check
    words = host.command("doctor", timeout=120)
    assert words.returncode == 0
    assert all(name in words.stdout for name in checks)
