# SPDX-License-Identifier: GPL-2.0-or-later
"""tern inspect on recorded migrations, made here and spoilt: without KVM. Saved VMs: test_snapshot.py."""

import os
import random
import subprocess

import pytest
import test_wirecheck

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TERN = os.path.join(os.environ.get("TERN_BUILD", os.path.join(ROOT, "build")), "tern")
OK, DAMAGED, INPUT = 0, 1, 2


@pytest.fixture
def recording(tmp_path):
    if not os.path.exists(TERN):
        pytest.skip(f"{TERN}: not built")
    test_wirecheck.hashed().write(tmp_path)
    return tmp_path


def inspect(path, *options):
    return subprocess.run([TERN, "inspect", *options, str(path)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=20, check=False)  # fmt: skip


def test_every_record_and_field(recording):
    said = inspect(recording / "control.s2t")
    assert said.returncode == OK, said.stderr
    for expected in ("HELLO", "architecture x86-64", "region 0x100000000 + 0x200000", '"cpus": 1', "RAM_HASH", "final round 2",
                     "section cpu.1, version 1", "2 optional u8  0x1 (1)", "OWN", "DONE"):  # fmt: skip
        assert expected in said.stdout, expected
    said = inspect(recording / "control.t2s")
    assert said.returncode == OK and "damaged 1" in said.stdout and "1000 us" in said.stdout
    said = inspect(recording / "data0.s2t")
    assert said.returncode == OK and "8 + 504 zero" in said.stdout and "channel 0" in said.stdout


def test_what_is_no_recording(tmp_path):
    for content in (b"", b"x", b"hello\n" * 100):
        (tmp_path / "file").write_bytes(content)
        said = inspect(tmp_path / "file")
        assert said.returncode == INPUT
        assert "neither a saved VM nor a recorded migration" in said.stderr
        assert said.stderr.count("\n") == 1
    assert inspect(tmp_path / "nothing").returncode == INPUT
    assert inspect(tmp_path).returncode == INPUT


def test_spoilt_recordings(recording):
    """Cut off and flipped anywhere: one line says so, what came before is printed, nothing crashes."""
    whole = (recording / "control.s2t").read_bytes()
    rand = random.Random(3)
    for at in [*range(1, 100, 7), *(rand.randrange(100, len(whole)) for _ in range(20))]:
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << rand.randrange(8)
        for content in (whole[:at], spoilt):
            (recording / "spoilt").write_bytes(content)
            said = inspect(recording / "spoilt")
            if said.returncode == OK:
                assert content == whole[: len(content)], "what is damaged was not noticed"  # cut between two records
            else:
                assert said.returncode in (DAMAGED, INPUT), said
                assert said.stderr.count("\n") == 1, said.stderr


def test_no_byte_of_a_file_reaches_the_terminal(recording):
    evil = test_wirecheck.hashed()
    evil.find("control.s2t", test_wirecheck.CONFIG).head = test_wirecheck.config(
        json=b'{"name": "\\u001b[2J", "\xc2\x9b": 1}',
        told=test_wirecheck.section("cpu", [(1, 1, list(b"\x1b[2J"))]),
    )
    evil.find("control.s2t", test_wirecheck.HELLO).head = test_wirecheck.hello()[:-15] + b"\x1b[31m" + b"x" * 10
    evil.find("control.s2t", test_wirecheck.DONE)
    os.remove(recording / "control.s2t")
    evil.write(recording)
    said = inspect(recording / "control.s2t")
    assert "\x1b" not in said.stdout + said.stderr
    assert "\x9b" not in said.stdout
