# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: QMP as clients know it, pause and resume as the guest feels them, and clients that mean harm."""

import json
import os
import socket
import time

import pytest

import guestline
from qmp import QmpError

OK, QUIT = 0, 5


@pytest.fixture
def idle(run):
    vm = run(cmdline="mode=idle seconds=0 report=50ms")
    vm.expect("guest: boot")
    return vm


def test_greeting_and_negotiation(idle):
    with idle.qmp(negotiate=False) as qmp:
        assert "version" in qmp.greeting["QMP"] and "capabilities" in qmp.greeting["QMP"]
        with pytest.raises(QmpError) as error:
            qmp.command("query-status")
        assert error.value.kind == "CommandNotFound"
        qmp.command("qmp_capabilities")
        assert qmp.command("query-status")["status"] == "running"


def test_queries(run, host):
    image = host.image("disk0.img", 1 << 20)
    vm = run("--cpus", "2", "--disk", f"path={image}", cmdline="mode=idle seconds=0", name="asked")
    vm.expect("guest: boot")
    with vm.qmp() as qmp:
        assert qmp.command("query-status") == {"running": True, "status": "running", "singlestep": False} or (
            qmp.command("query-status")["running"] and qmp.command("query-status")["status"] == "running"
        )
        assert qmp.command("query-name") == {"name": "asked"}
        assert {"major", "minor", "micro"} <= set(qmp.command("query-version")["qemu"])
        cpus = qmp.command("query-cpus-fast")
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1]
        for cpu in cpus:
            assert os.path.isdir(f"/proc/{vm.process.pid}/task/{cpu['thread-id']}") or cpu["thread-id"] > 0
        blocks = qmp.command("query-block")
        assert len(blocks) == 1 and image in json.dumps(blocks)
        names = {command["name"] for command in qmp.command("query-commands")}
        assert {
            "qmp_capabilities", "query-status", "query-version", "query-commands", "query-name", "query-cpus-fast",
            "query-block", "stop", "cont", "system_powerdown", "system_reset", "quit",
        } <= names  # fmt: skip


def test_pause_and_resume_are_felt(run):
    vm = run(cmdline="mode=dirty wset=16M rate=50000 seconds=0 report=100ms")
    vm.expect("guest: report")
    with vm.qmp() as qmp:
        vm.type("g")
        time.sleep(0.3)
        qmp.command("stop")
        qmp.event("STOP")
        assert qmp.command("query-status")["status"] == "paused"
        time.sleep(0.2)
        quiet_from = len(vm.lines)
        time.sleep(0.8)
        assert len(vm.lines) == quiet_from, "the guest ran while it was paused"
        qmp.command("cont")
        qmp.event("RESUME")
        vm.expect("guest: report", after=quiet_from)
    vm.type("q")
    assert vm.wait() == OK, vm.story()
    done = guestline.last(vm.lines, "done")
    assert done["errors"] == 0
    assert 900_000 < done["gap_us"] < 2_000_000, vm.story()


def test_pause_twice_is_one_pause(idle):
    with idle.qmp() as qmp:
        for _ in range(2):
            qmp.command("stop")
        assert qmp.command("query-status")["status"] == "paused"
        qmp.command("cont")
        qmp.command("cont")
        assert qmp.command("query-status")["running"]


def test_many_pauses(run):
    vm = run("--cpus", "2", cmdline="mode=dirty wset=16M seconds=0")
    vm.expect("guest: start")
    with vm.qmp() as qmp:
        for _ in range(200):
            qmp.command("stop")
            qmp.command("cont")
    vm.type("q")
    assert vm.wait() == OK, vm.story()
    assert guestline.last(vm.lines, "done")["errors"] == 0


def test_reset(idle):
    with idle.qmp() as qmp:
        qmp.command("system_reset")
        event = qmp.event("RESET")
        assert event["data"]["guest"] is False
        idle.expect("guest: hello", after=2)
        assert qmp.command("query-status")["running"]


def test_reset_under_load_keeps_nothing(run):
    vm = run("--cpus", "2", cmdline="mode=dirty wset=32M seconds=0 report=100ms")
    for _ in range(3):
        after = vm.expect("guest: report")
        with vm.qmp() as qmp:
            qmp.command("system_reset")
        vm.expect("guest: hello", after=after)
        vm.lines.clear()
    vm.expect("guest: start")
    vm.type("q")
    assert vm.wait() == OK, vm.story()
    assert guestline.last(vm.lines, "done")["errors"] == 0


def test_quit(idle, host):
    with idle.qmp() as qmp:
        qmp.command("quit")
        assert qmp.event("SHUTDOWN")["data"]["guest"] is False
    assert idle.wait(5) == QUIT, idle.story()
    assert host.leftovers() == []


def test_power_off_is_an_event(run):
    vm = run(cmdline="mode=dirty wset=8M seconds=0")
    vm.expect("guest: start")
    with vm.qmp() as qmp:
        vm.type("q")
        event = qmp.event("SHUTDOWN")
        assert event["data"]["guest"] is True and event["data"]["reason"] == "guest-shutdown"
        assert {"seconds", "microseconds"} == set(event["timestamp"])
    assert vm.wait() == OK, vm.story()


def test_powerdown_presses_the_button(idle):
    # This guest has no driver for the button: that nothing breaks is what can be seen.
    with idle.qmp() as qmp:
        qmp.command("system_powerdown")
        qmp.event("POWERDOWN")
        assert qmp.command("query-status")["running"]


@pytest.mark.parametrize(
    "message,kind",
    [
        (b'{"execute":"no-such-command"}', "CommandNotFound"),
        (b'{"execute":"stop","arguments":{"x":1}}', "GenericError"),
        (b'{"arguments":{}}', "GenericError"),
        (b'{"execute":3}', "GenericError"),
        (b"[]", "GenericError"),
        (b"{nonsense}", "GenericError"),
        (b'{"execute":"query-status","surplus":1}', "GenericError"),
    ],
)
def test_errors_have_qmps_form(idle, message, kind):
    with idle.qmp() as qmp:
        qmp.socket.sendall(message + b"\n")
        answer = qmp.receive()
        assert answer["error"]["class"] == kind and answer["error"]["desc"]
        assert qmp.command("query-status")["running"]


def test_ids_come_back(idle):
    with idle.qmp() as qmp:
        for number in (7, "seven", {"n": [7]}):
            qmp.socket.sendall(json.dumps({"execute": "query-name", "id": number}).encode())
            assert qmp.receive()["id"] == number


def test_events_reach_all_clients(idle):
    with idle.qmp() as one, idle.qmp() as two:
        one.command("stop")
        one.event("STOP")
        two.event("STOP")


def connect(vm):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(10)
    client.connect(vm.control_path)
    return client


def test_garbage_harms_nobody(idle):
    with idle.qmp() as good:
        for garbage in (os.urandom(100_000), b"\0" * 100_000, b"{" * 200_000, b'"' + b"x" * 300_000, b"\xff\xfe" * 1000):
            with connect(idle) as bad:
                try:
                    bad.sendall(garbage)
                except OSError:
                    pass  # thrown out half-way, which is as it should be
            assert good.command("query-status")["running"]


def test_flood_without_reading(idle):
    with idle.qmp() as good, idle.qmp() as flooder:
        flooder.socket.setblocking(False)
        sent = 0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                sent += flooder.socket.send(b'{"execute":"query-commands"}\n' * 100)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        begin = time.monotonic()
        assert good.command("query-status")["running"]
        assert time.monotonic() - begin < 1
        assert sent > 0
    with open(f"/proc/{idle.process.pid}/status", encoding="ascii") as status:
        rss_kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    assert rss_kib < 64 << 10, "the flood was kept"


def test_crowd(idle):
    crowd = []
    with idle.qmp() as good:
        for _ in range(100):
            try:
                crowd.append(connect(idle))
            except OSError:
                break
        assert good.command("query-status")["running"]
        for client in crowd:
            client.close()
        time.sleep(0.2)
    with idle.qmp() as again:
        assert again.command("query-status")["running"]


def test_clients_that_leave_in_the_middle(idle):
    for _ in range(50):
        with connect(idle) as client:
            client.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-sta')
    with idle.qmp() as qmp:
        assert qmp.command("query-status")["running"]
