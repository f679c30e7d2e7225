# SPDX-License-Identifier: GPL-2.0-or-later
"""tern doctor on lab hosts, whose kernels are known: it finds what is there and names what is not."""

import pytest

import json

from lab import tern_binary


def LAB(arch):
    """tern, and no guest."""
    return {"guests": False, "files": [(tern_binary(arch), "/usr/bin/tern")]}


def report(lab) -> dict:
    """What tern doctor says on this host, by name."""
    said = lab.run("tern doctor --json", check=True, timeout=120)
    return {check["name"]: check for check in json.loads(said.stdout)["checks"]}


@pytest.mark.core
def test_doctor(lab, arch, request):
    """Linux runs, every way of tracking written pages works, and KVM user faults are there with our kernel alone."""
    checks = report(lab)
    for name in ("kvm", "linux-guests", "dirty-ring", "ring-with-bitmap", "dirty-bitmap", "userfaultfd",
                 "userfaultfd-modes", "io-uring", "image-locks", "sandbox"):
        assert checks[name]["result"] == "yes", checks[name]
    patched = request.config.getoption("--host-kernel") == "patched"
    assert checks["kvm-userfault"]["result"] == ("yes" if patched else "no"), checks["kvm-userfault"]
    if arch == "arm64":
        for name in ("gicv3", "its", "sve", "counter-offset"):
            assert checks[name]["result"] == "yes", checks[name]
    unknown = [check for check in checks.values() if check["result"] == "unknown"]
    assert unknown == []


def test_huge_pages_are_found_when_reserved(lab):
    """The answer follows the host: none reserved, then some, then none again; and doctor leaves none taken."""
    pages = "/proc/sys/vm/nr_hugepages"
    assert report(lab)["hugepages-2m"]["result"] == "no"
    lab.run(f"echo 4 >{pages}", check=True)
    try:
        assert report(lab)["hugepages-2m"]["result"] == "yes"
        free = lab.run("cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", check=True)
        assert free.stdout.strip() == "4"
    finally:
        lab.run(f"echo 0 >{pages}", check=True)


def test_closed_doors_are_found(lab):
    """Without /dev/kvm it says so, tells how to mend it, and exits 1."""
    lab.run("chmod 0 /dev/kvm && mv /dev/kvm /dev/kvm.away", check=True)
    try:
        said = lab.run("tern doctor")
        assert said.status == 1
        assert "fix:" in said.stdout
    finally:
        lab.run("mv /dev/kvm.away /dev/kvm && chmod 666 /dev/kvm", check=True)
