# SPDX-License-Identifier: GPL-2.0-or-later
"""A named CPU level looks the same on two different hosts, byte for byte, and is refused where it cannot be had."""

import itertools

import pytest

from vm import BOOT_S


def LAB(arch):
    """Two hosts whose processors differ in name, features, caches and topology."""
    if arch == "x86-64":
        return {"cpu": ("EPYC-Rome,+svm,+npt", "max,+svm,+npt,vendor=AuthenticAMD,family=25,model=1,stepping=1"),
                "cpus": (2, 3)}
    return {"cpu": ("max,pauth-impdef=on,sme=off,sve128=on,lpa2=off", "max,pauth=off,sme=off,sve=off,lpa2=off"),
            "cpus": (2, 3)}


LEVELS = {"x86-64": ["x86-64-v2", "x86-64-v3"], "arm64": ["armv8-base"]}


def dump(vm, host, level, cpus=2) -> str:
    """All that the CPUs tell a program in a guest of that level on that host."""
    guest = vm(host=host, cpus=cpus, args=["--cpu", level], run="cpudump >/tmp/dump; wc -l </tmp/dump; cat /tmp/dump",
               wait=False)
    guest.expect("guest: begin", BOOT_S)
    text = guest.expect(r"(?s)^(cpu 0\r*\n.*?)guest: exit status 0", 120)[1].replace("\r", "")
    assert guest.wait() == 0
    return text


@pytest.mark.parametrize("index", [0, 1])
def test_a_level_is_the_same_everywhere(vm, pair, arch, index):
    """Every leaf, subleaf, feature MSR or ID register."""
    if index >= len(LEVELS[arch]):
        pytest.skip("this architecture has one level")
    level = LEVELS[arch][index]
    one, two = (dump(vm, host, level) for host in pair.hosts)
    assert len(one.splitlines()) > 40
    differ = [pair for pair in itertools.zip_longest(one.splitlines(), two.splitlines()) if pair[0] != pair[1]]
    assert differ == []
    assert "cannot be opened" not in one


def test_host_differs(vm, pair):
    """The comparison can fail: the hosts' own CPUs are different."""
    one, two = (dump(vm, host, "host", 1) for host in pair.hosts)
    assert one != two


def test_a_level_beyond_the_host_is_refused(pair, arch):
    """No AVX-512 here: said by name, exit status 2."""
    if arch == "arm64":
        pytest.skip("arm64 has one level, which every host here has")
    result = pair.host1.run(["tern", "run", "--kernel", "/guest/kernel", "--cpu", "x86-64-v4", "--serial", "off"],
                            user="tern")
    assert result.status == 2 and "avx512" in result.stderr.lower() and result.stderr.count("\n") == 1, result
