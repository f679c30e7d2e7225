# SPDX-License-Identifier: GPL-2.0-or-later
"""vhost-net for real: the unit tests that this machine cannot run, for want of the kernel's module, on a lab host."""

from pathlib import Path

import pytest

TEST = Path(__file__).resolve().parents[2] / "build/tests/unit/devices_vhost_net"


def LAB(arch: str) -> dict:
    """The test program goes along; it is built for this machine's architecture."""
    return {"files": [(TEST, "/usr/bin/vhost-test")] if arch == "x86-64" and TEST.exists() else [], "guests": False}


def test_vhost_net(lab, arch):
    """Frames, the log of dirty pages, pauses and a queue's reset, with the kernel serving the queues."""
    if arch != "x86-64" or not TEST.exists():
        pytest.skip("`make unit` builds the test program for this machine only")
    result = lab.run("vhost-test", timeout=120)
    assert result.status == 0 and "SKIP" not in result.stdout, result
    assert result.stdout.count("\nok ") == 4, result
