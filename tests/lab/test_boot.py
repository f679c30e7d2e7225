# SPDX-License-Identifier: GPL-2.0-or-later
"""An unmodified Debian kernel boots under tern, sees the machine that was asked for, and ends as it should."""

import gzip
import re

import pytest

BAD_WORDS = "BUG:|WARNING:|Oops|Call [Tt]race|unexpected IRQ|unknown NMI|nobody cared|rcu_.*stall"
# Said under emulation by a busy machine, whatever runs in it; and of a CPU that lacks its vendor's latest microcode.
NOISE = re.compile(r"Speculative Return Stack Overflow|clocksource|soft lockup|hrtimer: interrupt took|sched: RT throttling|perf: interrupt took")


def complaints(guest) -> list[str]:
    """What the guest's kernel did not like; sought there, for a console under emulation takes 5 kB/s."""
    lines = guest.sh(f"dmesg | grep -E '{BAD_WORDS}' || true").splitlines()
    return [line for line in lines if not NOISE.search(line)]


@pytest.mark.parametrize("cpus", [1, pytest.param(4, marks=pytest.mark.core), 8])
def test_boot(vm, arch, cpus):
    """To a shell, with all CPUs and all memory, on KVM's clock, without a complaint; then off, with exit status 0."""
    guest = vm(cpus=cpus, memory="384M", rng=True)
    assert guest.sh("uname -sm").split() == ["Linux", {"x86-64": "x86_64", "arm64": "aarch64"}[arch]]
    assert int(guest.sh("nproc")) == cpus
    total_kib = int(re.search(r"MemTotal: +(\d+)", guest.sh("cat /proc/meminfo"))[1])
    assert 320 << 10 < total_kib <= 384 << 10
    clock = guest.sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip()
    assert clock == {"x86-64": "kvm-clock", "arm64": "arch_sys_counter"}[arch]
    assert complaints(guest) == []
    guest.start("guest-poweroff")
    assert guest.wait() == 0


def test_devices_use_msix(vm):
    """Every virtio device interrupts by MSI-X, and each CPU takes some of the disk's interrupts."""
    guest = vm(cpus=4, rng=True, disks=["path=/guest/root.img,readonly=on,queues=4"])
    for cpu in range(4):
        guest.sh(f"taskset -p {1 << cpu} $$ >/dev/null; dd if=/dev/vda of=/dev/null bs=64k count=20 skip={cpu * 40} "
                 "iflag=direct 2>/dev/null")
    guest.sh("head -c 16 /dev/hwrng >/dev/null")
    rows = [line for line in guest.sh("grep virtio /proc/interrupts").splitlines() if "req" in line or "input" in line]
    assert rows and all("MSI" in row for row in rows), rows
    assert all(sum(map(int, row.split()[1:5])) > 0 for row in rows), rows


@pytest.mark.any_cpus
@pytest.mark.core
def test_command_and_exit(vm):
    """A guest that is given a command runs it and turns itself off."""
    guest = vm(run="echo 6 times 7 is $((6 * 7)); false")
    guest.expect("6 times 7 is 42")
    guest.expect("guest: exit status 1")
    assert guest.wait() == 0


def test_guest_reboots(vm):
    """A reboot starts the guest again, all of it: the same kernel, the same initial RAM file system."""
    guest = vm(cpus=2, rng=True)
    guest.sh("touch /run/was-here")
    guest.start("reboot -f")
    guest.wait_up()
    assert guest.sh("ls /run/was-here", check=False).count("No such file") == 1
    assert int(guest.sh("nproc")) == 2
    guest.start("guest-poweroff")
    assert guest.wait() == 0


@pytest.mark.any_cpus
def test_panic_with_reset_limit(vm):
    """A guest that panics asks for a reset; with none allowed, tern ends and says so by its exit status."""
    guest = vm(args=["--reset-limit", "0"])
    guest.start("echo c >/proc/sysrq-trigger")
    guest.expect("Kernel panic")
    assert guest.wait() == 4


@pytest.mark.any_cpus
def test_gzipped_image(vm, lab, arch, guest_dir, tmp_path):
    """arm64: the kernel as the boot protocol has it, and as distributions compress it."""
    if arch != "arm64":
        pytest.skip("an arm64 matter: x86-64 kernels decompress themselves")
    (tmp_path / "Image.gz").write_bytes(gzip.compress((guest_dir(arch) / "kernel").read_bytes(), 1))
    lab.push(tmp_path / "Image.gz", "/tmp/Image.gz")
    guest = vm(kernel="/tmp/Image.gz", run="uname -m")
    guest.expect("guest: exit status 0")
    assert guest.wait() == 0
    lab.run("rm /tmp/Image.gz")


@pytest.mark.any_cpus
def test_serial_to_a_file(vm, lab):
    """--serial file: all of the console, and a guest that does not wait for a reader."""
    guest = vm(serial="file=/tmp/console", run="seq 1 2000")
    assert guest.wait(120) == 0
    text = lab.read("/tmp/console").replace("\r", "")
    assert "\n".join(map(str, range(1, 2001))) in text
    assert "guest: exit status 0" in text


@pytest.mark.any_cpus
def test_serial_on_a_pty(vm, lab):
    """--serial pty: tern console attaches, leaves, and attaches again."""
    guest = vm(serial="pty")
    for word in ("first", "second"):
        lab.run(f"for i in $(seq 200); do tern status {guest.name} >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1",
                user="tern", check=True)
        console = lab.popen(["tern", "console", guest.name], user="tern", pty=True)
        if word == "first":
            console.expect("guest: up", 120)
            console.expect("# ", 60)
        console.send(f"echo {word} $((100 + 11))\n")
        console.expect(f"{word} 111", 60)
        console.send("\x01x")
        console.wait(20)
    guest.tern("stop", "--force", check=True)
    assert guest.wait() == 5


BAD_INPUT = {
    "no kernel": (["--kernel", "/nowhere/vmlinux"], "/nowhere/vmlinux"),
    "truncated kernel": (["--kernel", "/tmp/short"], "/tmp/short"),
    "no initrd": (["--initrd", "/nowhere/initrd"], "/nowhere/initrd"),
    "no disk": (["--disk", "path=/nowhere/disk"], "/nowhere/disk"),
    "no tap": (["--net", "tap=notap0"], "notap0"),
    "no CPUs": (["--cpus", "0"], "cpus"),
    "too many CPUs": (["--cpus", "65"], "cpus"),
    "too much memory": (["--memory", "64T"], "memory"),
    "too little memory": (["--memory", "1M"], "memory"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(lab, case):
    """One clear line that names what is wrong, exit status 2, and nothing left behind."""
    lab.run("head -c 5000 /guest/kernel >/tmp/short", check=True)
    args, names = BAD_INPUT[case]
    good = {"--name": "bad", "--kernel": "/guest/kernel", "--initrd": "/guest/initrd", "--memory": "256M"}
    good.update(dict(zip(args[::2], args[1::2])))
    result = lab.run(["tern", "run", *(word for pair in good.items() for word in pair)], user="tern", timeout=60)
    assert result.status == 2, result
    assert result.stderr.count("\n") == 1 and names in result.stderr, result
    assert lab.run("ls /run/user/1000/tern 2>/dev/null; pidof tern").stdout.strip() == ""


@pytest.mark.any_cpus
def test_a_name_in_use(vm, lab):
    """The second VM of a name is refused; the first does not notice."""
    guest = vm()
    second = lab.run(["tern", "run", "--name", guest.name, "--kernel", "/guest/kernel", "--serial", "off"], user="tern")
    assert second.status == 2 and guest.name in second.stderr and second.stderr.count("\n") == 1, second
    assert guest.sh("echo fine").strip() == "fine"


def test_configuration_file(vm, lab):
    """Everything that is said on a command line can be said in a file."""
    lab.write("/tmp/vm.json", '{"name": "fromfile", "cpus": 2, "memory": "256M", "kernel": "/guest/kernel", "initrd": '
              '"/guest/initrd", "cmdline": "console=ttyS0 quiet \\"tern.run=nproc\\"", "rng": true, '
              '"disk": [{"path": "/guest/root.img", "readonly": true}], "serial": "stdio"}')
    process = lab.popen(["tern", "run", "--config", "/tmp/vm.json"], user="tern", pty=True)
    process.expect(r"guest: begin\r*\n2\r*\n", 120)
    assert process.wait(60).status == 0
