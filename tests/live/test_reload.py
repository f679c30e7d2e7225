# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM's state, saved and loaded by a fresh process again and again, while the bare-metal guest checks its memory."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import BUILD

import guestline


@pytest.fixture
def reload_program(host):
    """The program beside tern, where the unprivileged user can read it."""
    return shutil.copy(os.path.join(BUILD, "programs", "reload"), host.directory)


@pytest.mark.parametrize("cpus", [1, 4, 64])
@pytest.mark.parametrize("mode", [[], ["--restore"]], ids=["migrate", "restore"])
def test_goes_on_in_fresh_processes(host, reload_program, cpus, mode):
    """Three moves: no page is wrong, time does not go back, and the guest ends as if nothing had been."""
    vm = subprocess.Popen(
        [*host.prefix, reload_program, *mode, "--kernel", host.guest, "--memory", "256M", "--cpus", str(cpus),
         "--rng", "--cmdline", "mode=dirty wset=16M rate=20000 seconds=0 report=300ms"],
        env=host.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert vm.stderr.readline() == "reload: generation 0\n"
        lines = []
        for generation in range(1, 4):
            lines += _until(vm, "report", 2)
            os.kill(vm.pid, signal.SIGUSR1)
            assert vm.stderr.readline() == f"reload: generation {generation}\n"
        lines += _until(vm, "report", 2)
        output, log = vm.communicate("q", timeout=60)
    finally:
        vm.kill()
        vm.wait()
    lines += output.splitlines()
    assert vm.returncode == 0, "\n".join(lines[-10:]) + log
    done = guestline.last(lines, "done")
    assert done["errors"] == 0 and done["clock_back"] == 0 and done["pages"] > 0, lines[-5:]


def _until(process, word, times):
    """Serial lines up to the so-many-th that says the word."""
    lines = []
    end = time.monotonic() + 60
    while times and time.monotonic() < end:
        line = process.stdout.readline()
        assert line, "the VM ended early: " + process.stderr.read()
        lines.append(line.rstrip())
        times -= f"guest: {word}" in line
    return lines
