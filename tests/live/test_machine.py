# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine as its guest sees it: the guest's own tests, and a guest that means harm."""

import shutil

import pytest

import guestline

OK = 0
# A network card where there is somebody behind it without any privilege.
NET = ("--net", "passt") if shutil.which("passt") else ()


def outcomes(vm):
    return [line for line in vm.lines if line.startswith("ktest:")]


@pytest.mark.parametrize("name", ["memory", "smp", "restart", "pci", "virtio", "serial", "cmos"])
def test_ktest(run, host, name):
    image = host.image("disk0.img", 4 << 20)
    vm = run("--cpus", "2", "--disk", f"path={image}", "--rng", *NET, cmdline=f"mode=ktest:{name}")
    assert vm.wait(60) == OK, vm.story()
    assert any(line.startswith(f"ktest: ok {name}") for line in outcomes(vm)), vm.story()
    assert not any("not ok" in line for line in outcomes(vm)), vm.story()


@pytest.mark.parametrize("seed", range(1, 5))
def test_fuzz_harms_only_the_guest(run, host, seed):
    image = host.image("disk0.img", 4 << 20)
    readonly = host.image("disk1.img", 1 << 20)
    vm = run(
        "--disk", f"path={image}", "--disk", f"path={readonly},readonly=on", "--rng", *NET,
        cmdline=f"mode=ktest:fuzz seconds=4 seed={seed}",
    )  # fmt: skip
    with vm.qmp() as qmp:
        vm.expect("ktest: (not )?ok fuzz|ktest: end", timeout=40)
        assert vm.wait(30) == OK, vm.story()
        assert qmp is not None
    assert not any("not ok" in line for line in outcomes(vm)), vm.story()
    with open(readonly, "rb") as image_file:
        assert not any(image_file.read()), "a read-only disk was written"


def test_token_on_disk(run, host):
    image = host.image("disk0.img", 1 << 20)
    vm = run("--disk", f"path={image}", cmdline="mode=idle seconds=1 token=serial,disk token_ms=5")
    assert vm.wait() == OK, vm.story()
    said = guestline.last(vm.lines, "token last")
    assert said["last"] > 10 and said["failed"] == 0
    tokens = [int(line.split()[1]) for line in vm.lines if line.startswith("token: ")]
    assert tokens == list(range(1, said["last"] + 1))
    # A second run goes on where the first one stopped: the image kept all of it.
    vm = run("--disk", f"path={image}", cmdline="mode=idle seconds=100ms token=disk token_ms=5")
    assert vm.wait() == OK, vm.story()
    assert guestline.last(vm.lines, "token disk")["last"] == said["last"]
