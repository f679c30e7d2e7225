# SPDX-License-Identifier: GPL-2.0-or-later
"""Who asks for a migration and watches it: a client made for QEMU, `tern migrate` on a terminal, a target that is told to end."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest
from qmp import Qmp, QmpError
from test_cli import Terminal

OK, FAILED, INPUT, QUIT = 0, 1, 2, 5
LOAD = "mode=dirty wset=16M rate={rate} seconds=0 report=100ms"


def statuses(qmp):
    return [event["data"]["status"] for event in qmp.events if event["event"] == "MIGRATION"]


def wait_status(qmp, status, timeout=30):
    """Asks from time to time, as clients do that do not listen to events."""
    end = time.monotonic() + timeout
    while True:
        info = qmp.command("query-migrate")
        if info["status"] == status:
            return info
        assert info["status"] != "failed" and time.monotonic() < end, info
        time.sleep(0.02)


def story(qmp, timeout=30):
    """The events that a client has had, once MIGRATION has said how it ended, in order; MIGRATION by its status."""
    end = time.monotonic() + timeout
    while not {"completed", "failed", "cancelled"} & set(statuses(qmp)[-1:]) and time.monotonic() < end:
        qmp.command("query-migrate")
        time.sleep(0.02)
    return [event["data"]["status"] if event["event"] == "MIGRATION" else event["event"] for event in qmp.events]


def test_client_made_for_qemu(host, run, receive):
    """Capabilities, parameters, migrate, polling, and quit at both ends, with QEMU's names and units."""
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    target = receive()
    with vm.qmp() as qmp:
        assert qmp.command("query-migrate")["status"] == "none"
        wanted = [{"capability": name, "state": state} for name, state in (("events", True), ("xbzrle", False))]
        qmp.command("migrate-set-capabilities", capabilities=wanted)
        qmp.command("migrate-set-parameters", downtime_limit=500, max_bandwidth=1 << 30)
        assert qmp.command("query-migrate-parameters")["downtime-limit"] == 500
        qmp.command("migrate", uri=target.uri, detach=True)
        info = wait_status(qmp, "completed")
        assert info["total-time"] >= info["downtime"] and info["downtime"] < 500, info
        ram = info["ram"]
        assert ram["total"] == 128 << 20 and ram["page-size"] == 4096, ram
        assert ram["normal"] * 4096 == ram["normal-bytes"] <= ram["transferred"], ram
        # The holes of guest memory are among them: each page was sent at least once.
        assert ram["normal"] + ram["duplicate"] >= ram["total"] // 4096, ram
        parts = ("pause", "harvest", "pages", "state", "handover", "resume")
        tern = info["x-tern"]
        assert 0 <= tern["downtime-us"] - sum(tern[f"{part}-us"] for part in parts) < 100000, tern
        assert qmp.command("query-status") == {"status": "postmigrate", "running": False}
        with pytest.raises(QmpError):
            qmp.command("cont")
        qmp.command("quit")
        # On a busy host a switch-over may be taken back, and the rounds go on.
        assert re.fullmatch("(active device )+completed", " ".join(s for s in statuses(qmp) if s != "setup")), qmp.events
        assert "STOP" in [event["event"] for event in qmp.events]
    assert vm.wait() == OK, vm.story()
    with target.qmp() as qmp:
        assert qmp.command("query-status") == {"status": "running", "running": True}
        assert qmp.command("query-migrate")["status"] == "completed"
        qmp.command("quit")
    assert target.wait() == QUIT, target.story()


def test_events_at_the_target(host, run, receive):
    """The target's control socket is there while memory comes; RESUME says that the guest runs there."""
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    target = receive()
    with vm.qmp() as source:
        source.command("migrate-set-parameters", max_bandwidth=20 << 20)
        source.command("migrate", uri=target.uri)
        with target.qmp() as qmp:
            assert qmp.command("query-status")["status"] == "inmigrate"
            for command in ("cont", "system_reset", "system_powerdown"):
                with pytest.raises(QmpError):
                    qmp.command(command)
            with pytest.raises(QmpError, match="waiting for an incoming migration"):
                qmp.command("migrate", uri="tcp:127.0.0.1:1")
            source.command("migrate-set-parameters", max_bandwidth=0)
            assert story(qmp)[-2:] == ["RESUME", "completed"], qmp.events
            assert qmp.command("query-status")["running"]
    assert vm.wait() == OK, vm.story()


EVENTS = [{"capability": "events", "state": True}]


def listening_at(qmp):
    """The address that QEMU's query-migrate tells, as a client makes a URI of it."""
    (address,) = qmp.command("query-migrate")["socket-address"]
    return f"tcp:{address['host']}:{address['port']}"


def test_both_ends_as_qemus(host, run, receive):
    """A target that is told where to listen; both ends' events in QEMU's order, and the guest goes on."""
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    target = receive(listen="defer")
    with vm.qmp() as source, target.qmp() as qmp:
        assert qmp.command("query-status") == {"status": "inmigrate", "running": False}
        assert qmp.command("query-migrate")["status"] == "none"
        assert qmp.command("query-name") == {"name": "t1"}
        for side in (source, qmp):
            side.command("migrate-set-capabilities", capabilities=EVENTS)
        for command in ("cont", "query-cpus-fast", "migrate_cancel"):
            with pytest.raises(QmpError, match="waiting for an incoming migration"):
                qmp.command(command)
        qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        assert qmp.command("query-migrate")["status"] == "setup"
        with pytest.raises(QmpError, match="already been started"):
            qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        source.command("migrate-set-parameters", downtime_limit=2000)  # no switch-over is to be taken back
        source.command("migrate", uri=listening_at(qmp))
        assert story(source) == ["setup", "active", "STOP", "device", "completed"], source.events
        assert story(qmp) == ["setup", "active", "RESUME", "completed"], qmp.events
        assert qmp.command("query-status")["status"] == "running"
        with pytest.raises(QmpError, match="already been started"):
            qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        with pytest.raises(QmpError, match="does not wait"):
            source.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        source.command("quit")
        target.expect(r"^guest: report")
        qmp.command("stop")
        assert "t1 " in host.command("list").stdout
    assert vm.wait() == OK, vm.story()


def test_where_it_cannot_listen(host, run, receive):
    """Each refusal by its name; the target waits on, and listens where it can."""
    first, target = receive(name="t1"), receive("--control", f"{host.run_dir}/c.img", name="t2", listen="defer")
    target_qmp = host_qmp(host, target)
    refusals = {
        "exec:cat": "exec:cat", "tcp:127.0.0.1:x": "127.0.0.1:x", "tcp:192.0.2.1:4444": "unencrypted",
        first.uri: "in use", f"unix:{host.run_dir}/no/such/socket": "No such file",
    }  # fmt: skip
    with target_qmp as qmp:
        for uri, words in refusals.items():
            with pytest.raises(QmpError, match=words):
                qmp.command("migrate-incoming", uri=uri)
            assert qmp.command("query-migrate") == {"status": "none"}
        with pytest.raises(QmpError, match="ca-cert.pem"):
            qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0", x_tern_tls=host.run_dir)
        qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        vm = run(cmdline=LOAD.format(rate=1000))
        vm.expect(r"^guest: report")
        assert host.command("migrate", vm.name, listening_at(qmp)).returncode == OK
        target.expect(r"^guest: report")
        qmp.command("quit")
    assert target.wait() == QUIT, target.story()


def host_qmp(host, target):
    """The client of a target whose control socket is elsewhere."""
    target.wait_log("waiting for migrate-incoming")
    return Qmp(f"{host.run_dir}/c.img")


def test_attempts_that_come_to_nothing(host, run, receive):
    """The client stays connected, sees each end, and the next VM comes to the same target."""
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: report")
    target = receive(listen="defer")
    with vm.qmp() as source, target.qmp() as qmp:
        qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        uri = listening_at(qmp)
        assert host.command("migrate", vm.name, uri, "--dry-run").returncode == OK
        assert story(qmp) == ["setup", "cancelled"], qmp.events
        assert qmp.command("query-status")["status"] == "inmigrate"
        qmp.events.clear()
        source.command("migrate-set-parameters", max_bandwidth=4 << 20)
        source.command("migrate", uri=uri)
        wait_status(qmp, "active")
        source.command("migrate_cancel")
        assert story(qmp) == ["setup", "active", "failed"], qmp.events
        assert "gave up" in qmp.command("query-migrate")["error-desc"]
        qmp.events.clear()
        wait_status(source, "cancelled")
        source.command("migrate-set-parameters", max_bandwidth=0)
        assert host.command("migrate", vm.name, uri).returncode == OK
        assert story(qmp) == ["setup", "active", "RESUME", "completed"], qmp.events
        assert qmp.command("query-cpus-fast")
    target.expect(r"^guest: report")


def test_quit_while_it_waits(host, receive):
    """Nothing is left behind, whether it listens or not."""
    for listen in (False, True):
        target = receive(listen="defer")
        with target.qmp() as qmp:
            if listen:
                qmp.command("migrate-incoming", uri=f"unix:{host.run_dir}/move")
            assert "inmigrate" in host.command("status", "t1").stdout
            qmp.command("quit")
            assert qmp.event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        assert target.wait() == QUIT, target.story()
        end = time.monotonic() + 10
        while host.leftovers() and time.monotonic() < end:
            time.sleep(0.02)  # the process that listened sees the end on its own
        assert host.leftovers() == []


def test_on_a_terminal(host, run, receive):
    """One line that is written over, cut to the terminal's width; Ctrl-C cancels and the VM runs on."""
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: report")
    target = receive()
    with contextlib.closing(Terminal(host, "migrate", vm.name, target.uri, "--bandwidth", "4M")) as terminal:
        terminal.expect(b"round 0: ")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == QUIT, terminal.output
        text = terminal.output.decode()
        assert f"{vm.name}: cancelled: it runs on here" in text, text
        lines = [re.sub(r"\x1b\[K", "", part) for line in text.split("\n") for part in line.split("\r")]
        assert all(len(line) < 80 for line in lines if line.startswith("round")), lines
    vm.expect(r"^guest: report", after=len(vm.lines) + 1)


def test_target_is_told_to_end(host, run, receive):
    """While memory comes: the source says so and runs on; the target leaves nothing behind."""
    vm = run(cmdline=LOAD.format(rate=1000), memory="256M")
    vm.expect(r"^guest: report")
    target = receive()
    with vm.qmp() as qmp:
        qmp.command("migrate-set-parameters", max_bandwidth=4 << 20)
        qmp.command("migrate", uri=target.uri)
        target.qmp().close()
        target.process.send_signal(signal.SIGTERM)
        assert target.wait() == QUIT, target.story()
        end = time.monotonic() + 20
        while qmp.command("query-migrate")["status"] != "failed":
            assert time.monotonic() < end
            time.sleep(0.02)
        assert qmp.command("query-migrate")["error-desc"]
        assert qmp.command("query-status")["running"]
    assert [os.path.basename(path) for path in host.leftovers()] == [f"{vm.name}.sock", f"{vm.name}.sock.lock"]


def test_killed_client_changes_nothing(host, run, receive):
    """The migration is the VM's own: it goes on without the command that asked for it."""
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    target = receive()
    client = subprocess.Popen(
        [*host.prefix, host.tern, "migrate", vm.name, target.uri, "--bandwidth", "20M", "--json"],
        env=host.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with client:
        while json.loads(client.stdout.readline())["migration"]["status"] != "active":
            pass
        client.kill()
    target.expect(r"^guest: report", timeout=30)
    assert vm.wait() == OK, vm.story()


def test_file_is_written_only_where_somebody_says_so(host, run, receive):
    """A source's words alone do not have the target write a file."""
    log = os.path.join(host.run_dir, "serial.img")
    vm = run("--serial", f"file={log}", cmdline=LOAD.format(rate=1000))
    vm.qmp().close()
    target = receive()
    result = host.command("migrate", vm.name, target.uri)
    assert result.returncode == FAILED and "--map serial=" in result.stdout, result
    target = receive("--serial", "stdio", name="t2")
    assert host.command("migrate", vm.name, target.uri).returncode == OK
    target.expect(r"^guest: report")


def test_only_mapped(host, run, receive):
    """Nothing is opened because a source named it."""
    image = host.image("disk.img", 1 << 20)
    vm = run("--disk", f"path={image}", cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    target = receive("--only-mapped", "--map", f"kernel={host.guest}")
    result = host.command("migrate", vm.name, target.uri)
    assert result.returncode == FAILED and "disk0 is not mapped" in result.stdout, result
    target = receive("--only-mapped", "--map", f"kernel={host.guest}", "--map", f"disk0={image}", name="t2")
    assert host.command("migrate", vm.name, target.uri).returncode == OK
    target.expect(r"^guest: report")


class ReceivingTerminal(Terminal):
    """`tern receive` with the guest's console on a terminal."""

    def uri(self):
        at = self.expect(b"listening at ")
        self.expect(b"\n", after=at)
        return self.output[at:].split()[2].decode()


def test_console_comes_to_the_terminal(host, run):
    """Cooked until the VM is here, then the guest's; Ctrl-A x ends the VM and puts the terminal back."""
    vm = run(cmdline=LOAD.format(rate=1000))
    vm.expect(r"^guest: report")
    words = ("receive", "--listen", "tcp:127.0.0.1:0", "--name", "t1")
    with contextlib.closing(ReceivingTerminal(host, *words)) as terminal:
        uri = terminal.uri()
        assert not terminal.raw()
        assert host.command("migrate", vm.name, uri).returncode == OK
        terminal.expect(b"guest: report")
        assert terminal.raw()
        terminal.type(b"\x01x")
        assert terminal.wait() == QUIT, terminal.output
        terminal.expect_restored()


def test_paths_mean_the_same_elsewhere(host, run, receive):
    """A relative path is the source's own: what travels is absolute."""
    image = host.image("relative.img", 1 << 20)
    vm = run("--disk", "path=relative.img", cmdline=LOAD.format(rate=1000))
    with vm.qmp() as qmp:
        assert qmp.command("query-block")[0]["inserted"]["file"] == image
    target = receive()
    assert host.command("migrate", vm.name, target.uri).returncode == OK
    with target.qmp() as qmp:
        assert qmp.command("query-block")[0]["inserted"]["file"] == image
