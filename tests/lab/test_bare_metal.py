# SPDX-License-Identifier: GPL-2.0-or-later
"""
The bare-metal guest (docs/testing.md) on a host whose KVM runs guest kernels natively, on both architectures: the
machine's own tests, and memory that keeps what was written.
"""

from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
LAB = {"guests": False, "memory": 1024}
IMAGES = {"x86-64": "build/guest/guest.elf", "arm64": "build/arm64/guest/guest.img"}
TESTS = ["memory", "smp", "pci", "virtio", "serial", "cmos", "restart", "lpi"]
ONLY = {"serial": "x86-64", "cmos": "x86-64", "restart": "x86-64", "lpi": "arm64"}


@pytest.fixture(scope="module")
def guest(lab, arch):
    """run(cmdline, options) -> the lines that the guest said; it must have ended by a power-off."""
    image = TOP / IMAGES[arch]
    if not image.exists():
        pytest.fail(f"{image} is missing: run `make ARCH={arch} guest` first", pytrace=False)
    lab.push(image, "/home/tern/guest")
    lab.run("chmod 644 /home/tern/guest; truncate -s 256K /home/tern/disk.img; chown tern /home/tern/disk.img", check=True)

    def run(cmdline, *options, timeout=120):
        result = lab.run(
            ["tern", "run", "--name", "bare", "--memory", "32M", "--kernel", "/home/tern/guest", "--cmdline", cmdline,
             *options],
            user="tern", env={"XDG_RUNTIME_DIR": "/home/tern"}, input=b"", timeout=timeout,
        )
        assert result.status == 0, result
        return result.stdout.splitlines()
    return run


@pytest.fixture(scope="module")
def ktest_lines(guest):
    """What the machine's own tests say, all in one run, with two vCPUs, a disk and a source of random numbers."""
    return guest("mode=ktest:all", "--cpus", "2", "--disk", "path=/home/tern/disk.img", "--rng")


@pytest.mark.parametrize("name", TESTS)
def test_ktest(ktest_lines, arch, name):
    """One of the machine's own tests."""
    if ONLY.get(name, arch) != arch:
        pytest.skip(f"{ONLY[name]} only")
    assert any(line.startswith(f"ktest: ok {name}") for line in ktest_lines), ktest_lines


@pytest.mark.parametrize("tracking", ["auto", "bitmap"])
def test_load_verifies(guest, tracking):
    """A working set on two vCPUs, cold memory beside it, tokens to the disk."""
    lines = guest("mode=dirty wset=4M cold=4M words=8 seconds=2 token=disk", "--cpus", "2", "--disk",
                  "path=/home/tern/disk.img", "--dirty-tracking", tracking)
    done = next(line for line in lines if line.startswith("guest: done"))
    assert " errors=0 " in done and done.endswith(" clock_back=0"), lines


def test_fuzz(guest):
    """A guest that writes anything anywhere harms only itself."""
    lines = guest("mode=ktest:fuzz seconds=3 seed=9", "--disk", "path=/home/tern/disk.img", "--rng")
    assert any(line.startswith("ktest: ok fuzz") for line in lines), lines
