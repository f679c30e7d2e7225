# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine saved in one process and run on in another, by library code alone (machine_state.c)."""

import os
import re
import shutil
import subprocess

import pytest

OK, FAILED = 0, 1
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TERN_BUILD", os.path.join(ROOT, "build"))


class Tool:
    def __init__(self, host, directory, tool):
        self.host = host
        self.directory = directory
        self.tool = tool

    def options(self, cpus, memory, **more):
        options = {"name": "s0", "cpus": cpus, "memory": memory, "kernel": self.host.guest, **more}
        return [f"{key}={value}" for key, value in options.items()]

    def run(self, what, how, options, timeout=60):
        return subprocess.run(
            [*self.host.prefix, self.tool, what, self.directory, str(how), *options],
            env=self.host.environment(), cwd=self.host.run_dir, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip

    def state(self):
        return os.path.join(self.directory, "state")


@pytest.fixture
def tool(host):
    source = os.path.join(BUILD, "tests", "live", "machine-state")
    if not os.path.exists(source):
        pytest.skip(f"{source}: not built")
    directory = os.path.join(host.run_dir, "saved")
    os.mkdir(directory)
    if host.user is not None:
        os.chown(directory, host.user.uid, host.user.gid)
    yield Tool(host, directory, shutil.copy(source, host.directory))
    shutil.rmtree(directory)



def numbers(line):
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}


def reports(output):
    return [numbers(line) for line in output.splitlines() if re.match(r"guest: (report|done)", line)]


# That a restored TSC does not count the time away is for the lab: hosts that run guest kernels in software show the
# host's own TSC.
CASES = [(1, "128M", "migrate"), (2, "128M", "migrate"), (2, "128M", "restore"), (4, "5G", "migrate")]


@pytest.mark.parametrize("cpus, memory, mode", CASES)
def test_runs_on_in_another_process(tool, cpus, memory, mode):
    options = tool.options(cpus, memory, rng="on")
    saved = tool.run("save", 2500, [*options, "cmdline=mode=dirty duration=5 wset=16M"])
    assert saved.returncode == OK, saved.stdout + saved.stderr
    before = reports(saved.stdout)
    assert before, saved.stdout
    loaded = tool.run("load", mode, options)
    assert loaded.returncode == OK, loaded.stdout + loaded.stderr
    after = reports(loaded.stdout)
    assert "guest: done" in loaded.stdout, loaded.stdout
    assert "guest: hello" not in loaded.stdout, "it booted instead of running on"
    assert after[0]["sweeps"] > before[-1]["sweeps"]
    assert after[-1]["errors"] == 0
    assert after[-1]["clock_back"] == 0


def test_64_vcpus(tool):
    """Wherever the 64 are in starting up, what is loaded is what was saved (the tool compares), and the guest goes on."""
    options = tool.options(64, "256M")
    saved = tool.run("save", 1500, [*options, "cmdline=mode=dirty duration=1 wset=4M"])
    assert saved.returncode == OK, saved.stdout + saved.stderr
    assert "vcpus=64" in saved.stdout, saved.stdout
    loaded = tool.run("load", "migrate", options, timeout=120)
    assert loaded.returncode == OK, loaded.stdout + loaded.stderr
    assert "guest:" in loaded.stdout and "guest: hello" not in loaded.stdout, loaded.stdout


def test_another_machine_is_refused(tool):
    saved = tool.run("save", 1000, [*tool.options(2, "128M", rng="on"), "cmdline=mode=dirty duration=60 wset=4M"])
    assert saved.returncode == OK, saved.stderr
    for options, why in (
        (tool.options(1, "128M", rng="on"), "/1 belongs to no device of this machine"),
        (tool.options(4, "128M", rng="on"), "/2: missing"),
        (tool.options(2, "128M"), "belongs to no device of this machine"),
    ):
        loaded = tool.run("load", "migrate", options)
        assert loaded.returncode == FAILED, loaded.stdout + loaded.stderr
        assert why in loaded.stderr, loaded.stderr


def test_truncated_state_is_refused(tool):
    options = tool.options(1, "128M", rng="on")
    saved = tool.run("save", 1000, [*options, "cmdline=mode=dirty duration=60 wset=4M"])
    assert saved.returncode == OK, saved.stderr
    with open(tool.state(), "rb") as file:
        state = file.read()
    for length in (1, len(state) // 3, len(state) // 2, len(state) - 1):
        with open(tool.state(), "wb") as file:
            file.write(state[:length])
        loaded = tool.run("load", "migrate", options)
        assert loaded.returncode == FAILED, f"{length} of {len(state)} bytes: {loaded.stdout}{loaded.stderr}"
        assert loaded.stderr.count("\n") == 1, loaded.stderr
