# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest starts, finds what it was promised, works, and ends; exit statuses say how."""

import os
import re
import signal

import pytest

import guestline

OK, FAILED, INPUT, PANIC, RESETS, QUIT = range(6)


def test_hello_and_power_off(run, host):
    vm = run(cmdline="mode=hello")
    assert vm.wait() == OK, vm.story()
    assert vm.lines[0] == "guest: hello arch=x86-64"
    assert host.leftovers() == []


@pytest.mark.parametrize("memory,mib", [("16M", 16), ("1G", 1024), ("5G", 5120)])
def test_memory_is_all_there(run, memory, mib):
    vm = run(cmdline="mode=hello", memory=memory)
    assert vm.wait() == OK, vm.story()
    # The memory map leaves out at most the first MiB's reserved part.
    assert mib - 1 <= guestline.last(vm.lines, "boot")["ram_mib"] <= mib


def test_command_line_arrives_whole(run):
    words = "mode=hello " + " ".join(f"w{n}=abcdefghijklmnop{n:04}" for n in range(60))
    vm = run(cmdline=words)
    assert vm.wait() == OK, vm.story()
    boot = next(line for line in vm.lines if line.startswith("guest: boot"))
    assert f'cmdline="{words}"' in boot


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
def test_vcpus_start(run, cpus):
    vm = run("--cpus", str(cpus), cmdline="mode=ktest:smp")
    assert vm.wait(90) == OK, vm.story()
    assert guestline.last(vm.lines, "boot")["vcpus"] == cpus
    assert any(line.startswith("ktest: ok smp") for line in vm.lines), vm.story()


@pytest.mark.parametrize("tracking", ["auto", "ring", "bitmap"])
def test_load_verifies(run, tracking):
    vm = run("--dirty-tracking", tracking, cmdline="mode=dirty wset=32M cold=16M seconds=2 words=8", memory="128M")
    assert vm.wait() == OK, vm.story()
    done = guestline.last(vm.lines, "done")
    assert done["errors"] == 0 and done["clock_back"] == 0
    assert done["sweeps"] > 10


def test_64_vcpus_work(run):
    vm = run("--cpus", "64", cmdline="mode=dirty wset=64M rate=6400 seconds=4", memory="256M")
    assert vm.wait(120) == OK, vm.story()
    done = guestline.last(vm.lines, "done")
    assert done["errors"] == 0 and done["pages"] > 200


def test_rate_is_kept(run):
    vm = run(cmdline="mode=dirty wset=32M rate=20000 seconds=3")
    assert vm.wait() == OK, vm.story()
    # Other work on the machine takes time that is not made up for: only the upper bound is sharp.
    assert 5000 < guestline.last(vm.lines, "done")["rate"] <= 20200


def test_guest_crash_is_a_panic(run, host):
    # Without tables to find a power-off and with none named, the guest ends in a triple fault.
    vm = run(cmdline="mode=hello poweroff=port:0x80,0x0")
    assert vm.wait() == PANIC, vm.story()
    assert host.leftovers() == []


def test_reset_starts_anew(run):
    vm = run("--reset-limit", "2", cmdline="mode=hello end=reset")
    assert vm.wait() == RESETS, vm.story()
    assert sum(line.startswith("guest: hello") for line in vm.lines) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(run, host, number):
    vm = run(cmdline="mode=idle seconds=0")
    vm.expect("guest: boot")
    os.kill(vm.process.pid, number)
    assert vm.wait(5) == QUIT, vm.story()
    assert host.leftovers() == []


def test_serial_input_reaches_the_guest(run):
    vm = run(cmdline="mode=dirty wset=8M seconds=0")
    vm.expect("guest: start")
    vm.type("r")
    vm.expect("guest: report")
    vm.type("q")
    assert vm.wait() == OK, vm.story()
    assert guestline.last(vm.lines, "done")["errors"] == 0


def test_serial_to_file(run, host):
    path = os.path.join(host.run_dir, "serial.img")
    vm = run("--serial", f"file={path}", cmdline="mode=hello")
    assert vm.wait() == OK, vm.story()
    with open(path, encoding="ascii") as text:
        assert text.readline() == "guest: hello arch=x86-64\n"
    assert vm.lines == []


def test_serial_to_pty(run):
    vm = run("--serial", "pty", cmdline="mode=dirty wset=8M seconds=0 report=100ms")
    with vm.qmp() as qmp:
        path = None
        for entry in qmp.command("query-commands"):
            if entry["name"] == "query-chardev":
                path = qmp.command("query-chardev")[0]["filename"].removeprefix("pty:")
    if path is None:
        path = next((m.group(0) for m in (re.search(r"/dev/pts/\d+", line) for line in vm.log) if m), None)
    assert path, vm.story()
    with open(path, "r+b", buffering=0) as pty:
        text = b""
        while b"guest: report" not in text:
            text += pty.read(4096)
        pty.write(b"q")
    assert vm.wait() == OK, vm.story()
