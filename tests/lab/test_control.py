# SPDX-License-Identifier: GPL-2.0-or-later
"""A running Linux guest and the control socket: pause, power button, reset, quit, and what clients see of it."""

import json
import re
import time

import pytest

from vm import QmpError


@pytest.mark.core
def test_pause_and_resume(vm):
    """A paused guest stands still, says so, and goes on with every byte of its memory as it was."""
    guest = vm(cpus=2, rng=True)
    guest.start("memstress -m 32 -t 2 & echo")
    guest.expect(r"memstress: passes=\d+ writes=\d+ errors=0")
    guest.tern("pause", check=True)
    assert guest.status()["status"] == "paused"
    guest.tern("pause", check=True)
    time.sleep(1)
    before = guest.console
    time.sleep(4)
    assert guest.console == before
    guest.tern("resume", check=True)
    assert guest.status()["status"] == "running"
    guest.expect(r"memstress: passes=\d+ writes=\d+ errors=0")
    guest.start("killall memstress")
    assert "errors=0" in guest.expect(r"memstress: end .*\n")[0]


def test_many_pauses(vm):
    """Fifty pauses at any moment under load on disk and memory: no error, no hang."""
    guest = vm(cpus=2, disks=["path=/guest/root.img,readonly=on"], rng=True)
    guest.start("memstress -m 16 -t 2 & while true; do dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct "
                "2>/dev/null || echo disk failed; done & echo")
    with_qmp = guest.qmp()
    for _ in range(50):
        with_qmp.command("stop")
        assert with_qmp.command("query-status")["status"] == "paused"
        with_qmp.command("cont")
    guest.expect(r"memstress: passes=\d+ writes=\d+ errors=0")
    guest.start("killall memstress")
    assert "errors=0" in guest.expect(r"memstress: end .*\n")[0]
    assert "disk failed" not in guest.console


@pytest.mark.any_cpus
@pytest.mark.core
def test_power_button(vm):
    """The guest's kernel sees the button and turns itself off; events tell the client in order."""
    guest = vm()
    guest.wait_for_powerkey()
    qmp = guest.qmp()
    qmp.command("system_powerdown")
    assert qmp.wait_event("POWERDOWN")
    guest.expect("guest: power button")
    shutdown = qmp.wait_event("SHUTDOWN")
    assert shutdown["data"] == {"guest": True, "reason": "guest-shutdown"}
    assert guest.wait() == 0


def test_reset(vm):
    """A reset starts the guest over, also out of a paused state, and tells clients."""
    guest = vm(cpus=2)
    qmp = guest.qmp()
    guest.sh("touch /run/was-here")
    guest.tern("reset", check=True)
    assert qmp.wait_event("RESET")["data"]["guest"] is False
    guest.wait_up()
    assert guest.sh("test -e /run/was-here || echo gone").strip() == "gone"
    assert int(guest.sh("nproc")) == 2


@pytest.mark.any_cpus
def test_quit_and_stop(vm):
    """quit ends it at once; tern stop asks the guest first."""
    guest = vm()
    guest.qmp().command("quit")
    assert guest.wait() == 5
    guest = vm()
    guest.wait_for_powerkey()
    assert guest.tern("stop", timeout=90).status == 0
    assert guest.wait() == 0


@pytest.mark.any_cpus
def test_keys_on_the_terminal(vm):
    """Ctrl-A x ends tern run; Ctrl-A twice gives the guest one."""
    guest = vm()
    guest.process.send("\x01x")
    assert guest.wait(20) == 5


def test_list_and_status(vm, lab):
    """What runs is listed; status tells what a VM really is."""
    guests = [vm(name=f"listed-{i}", cpus=i + 1) for i in range(2)]
    rows = json.loads(lab.run(["tern", "list", "--json"], user="tern", check=True).stdout)
    assert {row["name"] for row in rows} >= {"listed-0", "listed-1"}
    table = lab.run(["tern", "list"], user="tern", check=True).stdout
    assert re.search(r"^listed-0\s.*running", table, re.MULTILINE)
    status = guests[1].status()
    assert (status["cpus"], status["status"], status["memory"]["size-bytes"]) == (2, "running", 256 << 20)
    assert status["sandbox"] == "on"
    for guest in guests:
        guest.close()
    lab.run("while pidof tern; do sleep 0.1; done", check=True)
    assert json.loads(lab.run(["tern", "list", "--json"], user="tern", check=True).stdout) == []


@pytest.mark.any_cpus
def test_clients_that_misbehave(vm):
    """Garbage, a flood, and a client that never reads hurt neither the guest nor the others."""
    guest = vm()
    good = guest.qmp()
    garbage = guest.qmp(negotiate=False)
    garbage.process.send("\x00\xff{]]}\n{\"execute\": 3}\n")
    flood = guest.qmp()
    flood.process.send('{"execute": "query-commands"}\n' * 3000)
    assert good.command("query-status")["status"] == "running"
    with pytest.raises(QmpError) as error:
        good.command("no-such-command")
    assert error.value.args[0] == "CommandNotFound"
    assert guest.sh("echo alive").strip() == "alive"


def test_cpus_are_threads(vm):
    """query-cpus-fast names a live thread for each CPU."""
    guest = vm(cpus=4)
    cpus = guest.qmp().command("query-cpus-fast")
    assert [cpu["cpu-index"] for cpu in cpus] == [0, 1, 2, 3]
    threads = {cpu["thread-id"] for cpu in cpus}
    alive = guest.host.run("ls /proc/$(pidof tern | tr ' ' '\\n' | sort -n | head -1)/task || true; "
                           "for p in $(pidof tern); do ls /proc/$p/task; done", user="tern").stdout.split()
    assert len(threads) == 4 and threads <= set(map(int, alive))
