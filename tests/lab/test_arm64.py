# SPDX-License-Identifier: GPL-2.0-or-later
"""What only arm64 has: hosts without every way of tracking or without a GICv3, 64 vCPUs, ID and firmware registers."""

import json
import struct

import pytest

from conftest import TOP
from lab import LabHost
from vm import BOOT_S, GUEST_FILES, Arriving

ARCHES = ["arm64"]
pytestmark = pytest.mark.usefixtures("arch")  # also those that start their own host
BUILD = TOP / "build/arm64"
LAB = {"files": [(BUILD / "tests/live/machine-state", "/usr/bin/machine-state"),
                 (BUILD / "guest/guest.img", "/usr/bin/bare-guest"),
                 (BUILD / "ring-alone/tern", "/usr/bin/tern-ring-alone")], "memory": 2048}

NO_RING = "the kernel offers no dirty ring"
RING_ALONE = "a ring without bitmap would drop what the interrupt controller writes"


def checks(host, tern="tern") -> dict:
    """What doctor says there, by name."""
    said = host.run([tern, "doctor", "--json"], check=True, timeout=120)
    return {check["name"]: check for check in json.loads(said.stdout)["checks"]}


def assert_fallback(host, guest, why, tern="tern"):
    """Doctor, the log and the VM's status tell of the bitmap, and why."""
    said = checks(host, tern)
    assert said["ring-with-bitmap"]["result"] == "no", said
    assert said["dirty-tracking"]["detail"] == f"auto takes the bitmap: {why}", said
    assert f"dirty tracking: bitmap: {why}" in guest.console
    status = guest.tern("status", check=True).stdout
    assert f"bitmap: {why}" in status, status
    dirty = guest.status()["dirty-tracking"]
    assert dirty["mode"] == "bitmap" and dirty["reason"] == why and dirty["manual-protect"], dirty


def assert_ring_refused(host, why, tern="tern"):
    """Who asks for the ring by name is refused."""
    result = host.run([tern, "run", "--kernel", f"{GUEST_FILES}/kernel", "--serial", "off", "--dirty-tracking", "ring"],
                      user="tern")
    assert result.status == 2 and why in result.stderr and result.stderr.count("\n") == 1, result


def test_a_ring_alone_is_not_taken(lab, vm):
    """A host whose ring has no bitmap beside it (hidden from this build of tern)."""
    guest = vm(program=("tern-ring-alone", "run"))
    assert checks(lab, "tern-ring-alone")["dirty-ring"]["result"] == "yes"
    assert_fallback(lab, guest, RING_ALONE, "tern-ring-alone")
    assert_ring_refused(lab, RING_ALONE, "tern-ring-alone")
    assert guest.sh("uname -m").strip() == "aarch64"


@pytest.mark.core
def test_what_no_vcpu_writes(lab, vm):
    """
    The interrupt controller writes ITS and pending tables into the guest's memory when its state is saved, without a vCPU:
    with a ring they are in the bitmap alone, and only a harvest after the save finds them. Here none of them has been
    written before. Memory is the same on both sides, the interrupt that was pending comes once, and the next is translated.
    """
    guest = vm(memory="64M", kernel="/usr/bin/bare-guest", cmdline="mode=ktest:lpi seconds=3600", name="here", wait=False,
               args=["--dirty-tracking", "ring"])
    guest.expect("ktest: lpi is pending", BOOT_S)
    target = Arriving(lab, name="there")
    result = guest.tern("migrate", f"tcp:127.0.0.1:{target.port}", "--insecure", "--silence", "60s", "--verify-ram",
                        "--max-downtime", "10s", timeout=120)
    assert result.status == 0, f"{result}\n{target.console}"
    assert "guest memory is the source's, page for page" in target.console
    target.process.send("q")
    said = target.expect(r"ktest: (ok|not ok) lpi.*\n")
    assert said[1] == "ok", said[0]
    assert guest.wait() == 0 and target.wait() == 0


@pytest.fixture(scope="module")
def old_host(guest_dir):
    """A host with Debian 12's first kernel, which has neither ring, nor ID registers that can be written."""
    files = [(guest_dir("arm64") / name, f"{GUEST_FILES}/{name}") for name in ("kernel", "initrd")]
    with LabHost("arm64", host_kernel="6.1", memory=1536, files=files) as host:
        yield host


def test_a_host_without_ring(old_host, vm):
    """Linux boots there all the same; what lacks is told."""
    guest = vm(host=old_host, cpus=2)
    said = checks(old_host)
    assert said["dirty-ring"]["result"] == "no" and said["cpu-armv8-base"]["result"] == "no", said
    assert said["id-registers"]["result"] == "no" and "6.7" in said["cpu-armv8-base"]["fix"], said
    assert_fallback(old_host, guest, NO_RING)
    assert_ring_refused(old_host, NO_RING)
    assert guest.sh("nproc").strip() == "2"


def test_the_named_cpu_needs_a_newer_kernel(old_host):
    """One line, exit status 2."""
    result = old_host.run(["tern", "run", "--kernel", f"{GUEST_FILES}/kernel", "--serial", "off", "--cpu", "armv8-base"],
                          user="tern")
    lines = [line for line in result.stderr.splitlines() if "dirty tracking" not in line]
    assert result.status == 2 and len(lines) == 1 and "armv8-base" in lines[0] and "Linux 6.7" in lines[0], result


def test_gicv2_is_refused(guest_dir):
    """A host whose interrupt controller is a GICv2: the reason in one line."""
    files = [(guest_dir("arm64") / "kernel", f"{GUEST_FILES}/kernel")]
    with LabHost("arm64", machine="virt,virtualization=on,gic-version=2", files=files) as host:
        assert checks(host)["gicv3"]["result"] == "no"
        result = host.run(["tern", "run", "--kernel", f"{GUEST_FILES}/kernel", "--serial", "off"], user="tern")
        assert result.status == 2 and result.stderr.count("\n") == 1, result
        assert "GICv3" in result.stderr and "GICv2" in result.stderr, result


def test_armv8_base(lab, vm):
    """Linux on the named CPU: no SVE, no pointer authentication; the host's own has them. Doctor offers it."""
    assert checks(lab)["cpu-armv8-base"]["result"] == "yes"
    features = {}
    for cpu in ("armv8-base", "host"):
        guest = vm(cpus=2, args=["--cpu", cpu], run="grep Features /proc/cpuinfo", wait=False)
        features[cpu] = [set(guest.expect(r"Features\s*: (.*)\r*\n", BOOT_S)[1].split()) for _ in range(2)]
        assert guest.wait() == 0
        assert features[cpu][0] == features[cpu][1]
    assert {"fp", "asimd"} <= features["armv8-base"][0]
    assert not {"sve", "paca", "atomics", "aes"} & features["armv8-base"][0], features
    assert {"sve", "atomics", "aes"} <= features["host"][0], features


def save(lab, cpus, cmdline):
    """A bare-metal guest that ran for a while, in /tmp/saved; returns its options."""
    options = ["name=s", f"cpus={cpus}", "memory=128M", "kernel=/usr/bin/bare-guest", f"cmdline={cmdline}"]
    lab.run("rm -rf /tmp/saved && mkdir /tmp/saved", check=True)
    lab.run(["machine-state", "save", "/tmp/saved", "4000", *options], check=True, timeout=120)
    return options


def test_64_vcpus_saved_and_loaded(lab):
    """A VM of that size in a fresh process; the load on its first vCPU goes on with every page as it was."""
    options = save(lab, 64, "mode=dirty vcpus=1 wset=4M rate=1000 seconds=8")
    state = lab.run("grep -ao arm64_vcpu /tmp/saved/state | wc -l", check=True).stdout
    assert int(state) == 64
    result = lab.run(["machine-state", "load", "/tmp/saved", "migrate", *options], timeout=120)
    done = [line for line in result.stdout.splitlines() if line.startswith("guest: done")]
    assert result.status == 0 and done and " errors=0 " in done[0], result


def patched(state: bytes, register: int, value: int) -> bytes:
    """A saved VM whose first vCPU has another value in a 64-bit register. The layout is base/state.h's."""
    at = state.index(b"\x0a\x00arm64_vcpu") + 12 + 10
    fields = {}
    for _ in range(8):
        number, width, _, count = struct.unpack_from("<HBBI", state, at)
        fields[number] = (at + 8, width, count)
        at += 8 + width * count
    ids, _, count = fields[7]
    where = fields[8][0]
    for identifier in struct.unpack_from(f"<{count}Q", state, ids):
        if identifier == register:
            return state[:where] + struct.pack("<Q", value) + state[where + 8:]
        where += 1 << (identifier >> 52 & 15)
    raise AssertionError(f"register {register:#x} was not saved")


@pytest.mark.parametrize("name, register, value", [
    pytest.param("MIDR_EL1", 0x6030_0000_0013_c000, 0x410f_d0c1, id="midr"),
    pytest.param("firmware register 0", 0x6030_0000_0014_0000, 0x7fff_0000, id="psci"),
])
def test_what_cannot_be_set_back_is_refused(lab, name, register, value):
    """Another processor's MIDR, a version of PSCI that this kernel does not know: by name, in one line."""
    options = save(lab, 1, "mode=dirty wset=1M rate=1000 seconds=8")
    lab.pull("/tmp/saved/state", TOP / "build/lab/arm64-state")
    state = (TOP / "build/lab/arm64-state").read_bytes()
    (TOP / "build/lab/arm64-state").write_bytes(patched(state, register, value))
    lab.push(TOP / "build/lab/arm64-state", "/tmp/saved/state")
    result = lab.run(["machine-state", "load", "/tmp/saved", "migrate", *options], timeout=120)
    assert result.status != 0 and f"{name}: another value than this host's" in result.stderr, result
    assert result.stderr.count("\n") == 1, result
