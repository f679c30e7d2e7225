# SPDX-License-Identifier: GPL-2.0-or-later
"""virtio-blk and virtio-rng under Linux: data keep, flushes reach the image, locks hold."""

import pytest


@pytest.fixture(scope="module")
def images(lab):
    """Images that the unprivileged user owns."""
    lab.run("mkdir -p /home/tern/img && cp /guest/root.img /home/tern/img/root.img && "
            "truncate -s 8M /home/tern/img/data.img && chown -R tern /home/tern/img", check=True, timeout=120)
    return "/home/tern/img"


@pytest.mark.core
def test_root_on_disk(vm, lab, images):
    """The guest lives on an ext4 disk; what it wrote is there after a power-off, and the file system is clean."""
    guest = vm(cpus=2, disks=[f"path={images}/root.img"], cmdline="tern.root=/dev/vda")
    assert "/dev/vda on / type ext4" in guest.sh("mount")
    guest.sh("seq 1 20000 >/root/numbers && sync")
    guest.start("guest-poweroff")
    assert guest.wait() == 0
    guest = vm(disks=[f"path={images}/root.img"], cmdline="tern.root=/dev/vda")
    assert guest.sh("seq 1 20000 | cmp - /root/numbers && echo same").strip() == "same"
    assert "recovery" not in guest.sh("dmesg | grep -i ext4", check=False)


@pytest.mark.parametrize("options", ["", ",queues=1", ",cached=on"])
def test_data_keep(vm, images, options):
    """A whole disk of numbers, written and read back past the guest's cache, through each way to the image."""
    guest = vm(cpus=4, disks=[f"path={images}/data.img,serial=numbers-1{options}"])
    assert guest.sh("cat /sys/block/vda/serial").strip() == "numbers-1"
    assert int(guest.sh("cat /sys/block/vda/size")) == 8 << 11
    assert "disk-check: ok" in guest.sh("disk-check /dev/vda 4", timeout=120)


def test_four_writers(vm, images):
    """Four processes on four CPUs at once, each its own part."""
    guest = vm(cpus=4, disks=[f"path={images}/data.img,queues=4"])
    guest.sh("for i in 0 1 2 3; do taskset $((1 << i)) disk-check /dev/vda 2 $((i * 2)) $i >/tmp/said$i & done; wait",
             timeout=120)
    assert guest.sh("cat /tmp/said*").split("\n")[:4] == ["disk-check: ok"] * 4


@pytest.mark.any_cpus
def test_discard_and_zeroes(vm, lab, images):
    """What the guest throws away is returned to the host, and reads as zeros where it said so."""
    lab.run(f"seq 1 2000000 | head -c 8388608 >{images}/data.img", check=True, timeout=120)
    before = int(lab.run(f"stat -c %b {images}/data.img").stdout)
    guest = vm(disks=[f"path={images}/data.img"])
    guest.sh("blkdiscard -o 0 -l 4194304 /dev/vda")
    guest.sh("disk-zero /dev/vda 2 4")
    assert guest.sh("dd if=/dev/vda bs=1M skip=4 count=2 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c").strip() == "0"
    guest.start("guest-poweroff")
    assert guest.wait() == 0
    after = int(lab.run(f"stat -c %b {images}/data.img").stdout)
    assert after <= before - (4 << 11), (before, after)
    tail = lab.run(f"tail -c 2097152 {images}/data.img | md5sum").stdout
    assert tail == lab.run("seq 1 2000000 | head -c 8388608 | tail -c 2097152 | md5sum", timeout=120).stdout


@pytest.mark.any_cpus
def test_read_only(vm, images):
    """A read-only disk refuses writes in the guest, and two VMs may share it."""
    guest = vm(disks=[f"path={images}/data.img,readonly=on"])
    other = vm(disks=[f"path={images}/data.img,readonly=on"])
    for each in (guest, other):
        assert each.sh("cat /sys/block/vda/ro").strip() == "1"
        assert "ead-only" in each.sh("dd if=/dev/zero of=/dev/vda count=1 2>&1", check=False) or \
            "not permitted" in each.sh("dd if=/dev/zero of=/dev/vda count=1 2>&1", check=False)


@pytest.mark.any_cpus
def test_an_image_in_use(vm, lab, images):
    """One writer excludes everybody else, in one line; when it has gone, the next may come."""
    guest = vm(disks=[f"path={images}/data.img"])
    for more in ("", ",readonly=on"):
        second = lab.run(["tern", "run", "--name", "second", "--kernel", "/guest/kernel", "--serial", "off", "--disk",
                          f"path={images}/data.img{more}"], user="tern")
        assert second.status == 2 and "data.img" in second.stderr and second.stderr.count("\n") == 1, second
    guest.close()
    lab.run("while pidof tern; do sleep 0.1; done", check=True)
    third = vm(disks=[f"path={images}/data.img"])
    assert third.sh("head -c 1 /dev/vda | wc -c").strip() == "1"


@pytest.mark.any_cpus
def test_entropy(vm):
    """/dev/hwrng is ours and gives what it should."""
    guest = vm(rng=True)
    assert guest.sh("cat /sys/class/misc/hw_random/rng_current").strip().startswith("virtio_rng")
    first, second = guest.sh("for i in 1 2; do head -c 4096 /dev/hwrng | md5sum; done").split()[0::2]
    assert first != second
