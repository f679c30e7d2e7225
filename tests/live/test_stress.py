# SPDX-License-Identifier: GPL-2.0-or-later
"""
A guest that works or means harm, and an operator who pauses, resumes, resets and asks all the while: what one of them
does in the middle of the other's doing.
"""

import random
import shutil
import time

import pytest

QUIT = 5
NET = ("--net", "passt") if shutil.which("passt") else ()
COMMANDS = ("stop", "cont", "cont", "cont", "query-status", "query-block", "query-cpus-fast", "system_reset")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "cmdline",
    ["mode=ktest:fuzz seconds=100", "mode=dirty seconds=0 wset=16M token=disk,serial token_ms=1", "mode=ktest:restart seconds=100"],
    ids=["fuzz", "tokens", "starting"],
)
def test_restless_operator(run, host, cmdline, seed):
    image = host.image("disk0.img", 4 << 20)
    vm = run(
        "--cpus", "2", "--disk", f"path={image}", "--rng", *NET, "--reset-limit", "4000000000", cmdline=cmdline
    )  # fmt: skip
    chance = random.Random(seed)
    counts = dict.fromkeys(COMMANDS, 0)
    try:
        with vm.qmp(timeout=20) as qmp:
            qmp.socket.settimeout(20)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                command = chance.choice(COMMANDS)
                qmp.command(command)
                counts[command] += 1
                if command == "cont":
                    time.sleep(chance.random() * 0.03)
            qmp.command("cont")
            assert qmp.command("query-status")["running"]
            if "dirty" in cmdline:
                qmp.command("system_reset")
                seen = len(vm.lines)
                vm.expect("guest: start", after=seen)
                vm.expect("token: ", after=seen)
            qmp.command("quit")
    except (OSError, EOFError) as error:
        pytest.fail(f"{error!r} after {counts}; {vm.story()}")
    assert vm.wait() == QUIT, vm.story()
    assert min(counts.values()) > 0, counts
    assert not any("guest: error" in line for line in vm.lines), vm.story()
