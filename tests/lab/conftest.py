# SPDX-License-Identifier: GPL-2.0-or-later
"""What lab tests get: a lab host, or two, booted once per test file and architecture.

    def test_something(lab):        # LabHost, see lab/lab.py
        lab.run("ls /dev/kvm", check=True)

    def test_more(pair):            # LabPair
        pair.host1.run("ping -c 1 host2", check=True)

    def test_a_guest(lab, vm):      # vm(...) boots a guest under tern on the lab host, see vm.py
        guest = vm(cpus=4)

A test file may change its hosts: LAB = {"memory": 2048} at its top gives options of LabHost; a function of the
architecture may stand there too. {"guests": False}: its hosts need no tern and no guest. ARCHES = ["arm64"] there: the
file is about that architecture alone.
Options: --arch x86-64|arm64 (both when not given), --host-kernel NAME, --core (the tests marked core alone), --cpus N
(the tests marked any_cpus alone, with guests of so many CPUs).
"""

import os
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "lab"), str(TOP / "tests/lab")]

import guest_image  # noqa: E402
import kernels  # noqa: E402
from lab import LabHost, LabPair, compile_static, tern_binary  # noqa: E402
from process import patience  # noqa: E402
from vm import GUEST_FILES, Vm  # noqa: E402


def pytest_addoption(parser):
    """The choices of a test run."""
    parser.addoption("--arch", choices=kernels.ARCHES, help="test this architecture only")
    parser.addoption("--core", action="store_true", help="only the tests marked core: what a change waits for")
    parser.addoption("--cpus", type=int, help="only the tests marked any_cpus, their guests with so many")
    parser.addoption("--host-kernel", default="stock", help="the lab hosts' kernel: stock, patched, 6.1, a path...")


def pytest_configure(config):
    """The marks: of the tests that every change waits for, and of those that are for any number of CPUs."""
    config.addinivalue_line("markers", "core: of the short run")
    config.addinivalue_line("markers", "any_cpus: the guest has one CPU, or as many as --cpus says")


def pytest_collection_modifyitems(config, items):
    """With --core or --cpus, the rest is not for this run."""
    for option, mark in (("--core", "core"), ("--cpus", "any_cpus")):
        if config.getoption(option):
            rest = [item for item in items if not item.get_closest_marker(mark)]
            config.hook.pytest_deselected(items=rest)
            items[:] = [item for item in items if item.get_closest_marker(mark)]


def pytest_generate_tests(metafunc):
    """Every lab test runs on each chosen architecture; all tests of a file on one before those on the next."""
    if "arch" in metafunc.fixturenames:
        only = metafunc.config.getoption("--arch")
        arches = getattr(metafunc.module, "ARCHES", kernels.ARCHES)
        metafunc.parametrize("arch", [arch for arch in arches if only in (None, arch)], scope="module")


@pytest.fixture(scope="session")
def guest_dir():
    """A function from an architecture to the folder with its guest's kernel, initrd and root.img, made once."""
    made = {}

    def get(arch: str) -> Path:
        if arch not in made:
            made[arch] = guest_image.make(arch, TOP / "build/lab" / f"guest-{arch}")
        return made[arch]
    return get


def options(request, arch: str, guest_dir) -> dict:
    """The options of a file's lab hosts."""
    chosen = getattr(request.module, "LAB", {})
    chosen = dict(chosen(arch) if callable(chosen) else chosen)
    chosen["timeout"] = chosen.get("timeout", 900.0) * patience()
    chosen.setdefault("host_kernel", request.config.getoption("--host-kernel"))
    files = [*chosen.get("files", ())]
    files += [(compile_static(TOP / f"lab/{tool}.c", arch), f"/usr/bin/{tool}") for tool in ("unixcat", "mktap")]
    if chosen.pop("guests", True):
        if not tern_binary(arch).exists():
            pytest.fail(f"{tern_binary(arch)} is missing: run `make ARCH={arch}` first", pytrace=False)
        files += [(guest_dir(arch) / name, f"{GUEST_FILES}/{name}") for name in ("kernel", "initrd", "root.img")]
        chosen.setdefault("memory", 1536)
    chosen["files"] = files
    return chosen


def show_consoles(request, hosts) -> None:
    """Print what the hosts' kernels had to complain about; pytest shows it with a failure only."""
    if request.session.testsfailed:
        for host in hosts:
            print(host.console_tail())


@pytest.fixture(scope="module")
def lab(request, arch, guest_dir):
    """One lab host for a test file."""
    with LabHost(arch, **options(request, arch, guest_dir)) as host:
        yield host
        show_consoles(request, [host])


@pytest.fixture(scope="module")
def pair(request, arch, guest_dir):
    """Two lab hosts for a test file."""
    with LabPair(arch, **options(request, arch, guest_dir)) as both:
        yield both
        show_consoles(request, both.hosts)


@pytest.fixture
def vm(request, arch):
    """A function that boots a guest under tern; what it has booted ends with the test."""
    started = []

    def start(host=None, **kwargs) -> Vm:
        kwargs.setdefault("cpus", request.config.getoption("--cpus") or 1)
        guest = Vm(host or request.getfixturevalue("lab"), **kwargs)
        started.append(guest)
        return guest
    yield start
    for guest in started:
        guest.close()


if os.geteuid() != 0 and not os.access("/usr/bin/qemu-system-x86_64", os.X_OK):
    pytest.exit("QEMU is missing: run ./install-deps lab")
