# SPDX-License-Identifier: GPL-2.0-or-later
"""
Migrations that end in every way, recorded and checked against docs/wire.md by tests/wirecheck.py, which shares no code
with Tern. Whole ones with 1 and 3 channels: test_migration.py.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from recorder import Recorder

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOAD = "mode=dirty wset=16M rate=20000 seconds=0 report=200ms"

sys.path.insert(0, os.path.join(ROOT, "tests"))
import wirecheck  # noqa: E402  (the path comes first)


class Between:
    """A source, a target, and the recorder between them."""

    def __init__(self, host, run, receive, directory, cmdline=LOAD, options=(), **more):
        self.host = host
        self.target = receive(**more)
        self.recorder = Recorder("tcp:127.0.0.1:0", self.target.uri, directory)
        self.vm = run("--cpus", "2", *options, cmdline=cmdline, memory="64M")
        self.vm.expect("guest: report")

    def migrate(self, *options):
        return self.host.command("migrate", "t0", self.recorder.uri, *options, timeout=60)

    def checked(self, **options):
        """The names of all records of the attempt, by file, once nothing is wrong with them."""
        self.recorder.wait(10)
        checker = wirecheck.Checker(self.recorder.attempts[-1], **options)
        checker.check()
        assert checker.problems == []
        return {name: [record.name for record in records] for name, records in checker.streams.items()}

    def still_runs(self):
        self.vm.expect("guest: report", after=len(self.vm.lines))


@pytest.fixture
def between(host, run, receive, tmp_path):
    made = []

    def make(**options):
        made.append(Between(host, run, receive, str(tmp_path / "recorded"), **options))
        return made[-1]

    yield make
    for one in made:
        one.recorder.close()


@pytest.mark.parametrize("tracking", ["ring", "bitmap"])
@pytest.mark.parametrize("channels", ["2", "8"])
def test_moved_with_its_memory_compared(between, tracking, channels):
    pair = between(options=("--dirty-tracking", tracking))
    said = pair.migrate("--channels", channels, "--verify-ram", "--max-downtime", "1s")
    assert said.returncode == 0, said.stdout + said.stderr
    records = pair.checked()
    assert "RAM_HASH" in records["control.s2t"] and records["control.s2t"][-1] == "DONE"
    assert len([name for name in records if name.startswith("data")]) == int(channels)


def test_paused(between):
    pair = between()
    with pair.vm.qmp() as qmp:
        qmp.command("stop")
    said = pair.migrate()
    assert said.returncode == 0, said.stdout + said.stderr
    pair.checked()


def test_dry_run(between):
    pair = between()
    assert pair.migrate("--dry-run").returncode == 0
    assert set(pair.checked()) == {"control.s2t", "control.t2s"}
    pair.still_runs()


def test_refused(between):
    """The name is taken where it should go."""
    pair = between(name="t0")
    said = pair.migrate()
    assert said.returncode == 1, said.stdout
    assert "REFUSE" in pair.checked()["control.t2s"]
    pair.still_runs()


def test_given_up(between):
    """At the deadline, in the middle of rounds."""
    pair = between(cmdline="mode=dirty wset=16M rate=max seconds=0 report=200ms")
    said = pair.migrate("--bandwidth", "16M", "--max-downtime", "1ms", "--deadline", "2s")
    assert said.returncode == 1 and "deadline" in said.stdout, said.stdout
    assert pair.checked()["control.s2t"][-1] == "CANCEL"
    pair.still_runs()


def test_deadline_within_a_round(between):
    """The first round alone would take half a minute."""
    pair = between()
    begin = time.monotonic()
    said = pair.migrate("--bandwidth", "512K", "--deadline", "2s")
    assert said.returncode == 1 and "the deadline of 2.0 s has passed" in said.stdout, said.stdout
    assert time.monotonic() - begin < 8
    assert pair.checked()["control.s2t"][-1] == "CANCEL"
    pair.still_runs()


def test_cancelled_and_tried_again(host, between):
    pair = between()
    asked = subprocess.Popen(
        [*host.prefix, host.tern, "migrate", "t0", pair.recorder.uri, "--bandwidth", "2M"], env=host.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with pair.vm.qmp() as qmp:
        end = time.monotonic() + 10
        while qmp.command("query-migrate")["status"] != "active" and time.monotonic() < end:
            time.sleep(0.02)
    time.sleep(0.5)
    asked.send_signal(signal.SIGINT)
    output, _ = asked.communicate(timeout=20)
    assert "cancelled" in output, output
    assert pair.checked()["control.s2t"][-1] == "CANCEL"
    pair.still_runs()
    said = pair.migrate("--max-downtime", "500ms")
    assert said.returncode == 0, said.stdout + said.stderr
    pair.checked()
    assert len(pair.recorder.attempts) == 2


@pytest.mark.parametrize("whom", ["vm", "target"])
def test_killed(between, whom):
    """One end goes away in the middle: what was said until then was right."""
    pair = between()
    with pair.vm.qmp() as qmp:
        qmp.command("migrate", uri=pair.recorder.uri, max_bandwidth=4 << 20)
        end = time.monotonic() + 10
        while qmp.command("query-migrate")["status"] != "active" and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)
    os.kill(getattr(pair, whom).process.pid, signal.SIGKILL)
    pair.checked(cut=True)
