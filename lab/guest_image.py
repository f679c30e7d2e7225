# SPDX-License-Identifier: GPL-2.0-or-later
"""Make what a lab guest boots from: a Debian kernel, an initial RAM file system, and a small ext4 root disk.

Writes into the folder given by -o:
    kernel        the kernel, as its package has it (a link)
    initrd        busybox, the modules that the kernel lacks, our test programs (guest/), and guest/init.sh as /init
    root.img      the same programs as an ext4 file system, for tern.root=/dev/vda
Needs no root and no loop devices. guest/init.sh says which words on the kernel's command line it obeys.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kernels
from initramfs import Initramfs, busybox_applets
from lab import LAB, compile_static
from process import LabError

MODULES = {
    "x86-64": ["button", "msr", "virtio_vsock"],
    "arm64": ["gpio_keys"],
}
COMMON_MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "virtio_balloon", "evdev", "crc32c_generic",
                  "ext4"]
TOOLS = ("memstress", "cpudump", "disk-check", "disk-zero", "powerkey", "vectors")
FOLDERS = ("proc", "sys", "dev", "tmp", "run", "etc", "root", "sysroot", "mnt", "usr/bin", "usr/sbin", "sbin")
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"


def programs(arch: str):
    """What both the RAM file system and the disk hold: (path there, file here, mode)."""
    yield "init", LAB / "guest/init.sh", 0o755
    yield "usr/bin/guest-tools", compile_static(LAB / "guest/tools.c", arch, sorted((LAB / "guest").glob("*.[ch]"))), 0o755
    for script in sorted((LAB / "guest/bin").iterdir()):
        yield f"usr/sbin/{script.name}", script, 0o755


def make_initrd(arch: str, kernel: kernels.Kernel, path: Path) -> None:
    """Write the initial RAM file system."""
    image = Initramfs(arch)
    for folder in FOLDERS:
        image.directory(folder)
    image.char_device("dev/console", 5, 1)
    image.busybox()
    for name, source, mode in programs(arch):
        image.file(source, name, mode)
    for tool in TOOLS:
        image.link(f"usr/bin/{tool}", "guest-tools")
    image.link("etc/udhcpc.script", "/usr/sbin/udhcpc.script")
    image.text("etc/passwd", PASSWD)
    image.modules(kernel, [*COMMON_MODULES, *MODULES[arch]], where="guest")
    image.save(path)


def make_disk(arch: str, path: Path, mib: int) -> None:
    """Write the root disk: an ext4 file system filled from a folder."""
    with tempfile.TemporaryDirectory() as work:
        top = Path(work)
        for folder in (*FOLDERS, "bin"):
            (top / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(kernels.debian_package("busybox-static", arch) / "bin/busybox", top / "bin/busybox")
        for applet in busybox_applets():
            if applet != "bin/busybox":
                (top / applet).parent.mkdir(parents=True, exist_ok=True)
                (top / applet).symlink_to("/bin/busybox")
        for name, source, mode in programs(arch):
            shutil.copy(source, top / name)
            os.chmod(top / name, mode)
        for tool in TOOLS:
            (top / "usr/bin" / tool).symlink_to("guest-tools")
        (top / "etc/udhcpc.script").symlink_to("/usr/sbin/udhcpc.script")
        (top / "etc/passwd").write_text(PASSWD, encoding="ascii")
        fresh = Path(f"{path}.{os.getpid()}")
        mke2fs = shutil.which("mke2fs") or "/sbin/mke2fs"
        subprocess.run([mke2fs, "-q", "-q", "-F", "-t", "ext4", "-L", "tern-guest", "-m", "0", "-E",
                        "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", "-d", work, str(fresh), f"{mib}M"],
                       check=True, timeout=120, stdout=subprocess.DEVNULL)
        os.replace(fresh, path)


def make(arch: str, out: Path, kernel_name: str = "stock", disk_mib: int = 24) -> Path:
    """Make all three in a folder; what is there already and younger than its sources is made anew all the same."""
    kernel = kernels.find(arch, kernel_name)
    out.mkdir(parents=True, exist_ok=True)
    link = out / f".kernel.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(kernel.image)
    os.replace(link, out / "kernel")
    make_initrd(arch, kernel, out / "initrd")
    make_disk(arch, out / "root.img", disk_mib)
    return out


def main() -> int:
    """Parse the command line and make the image."""
    parser = argparse.ArgumentParser(prog="lab/guest-image", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=kernels.ARCHES, default="x86-64")
    parser.add_argument("--kernel", default="stock", help="stock, cloud, 6.1, patched, or a path (default: stock)")
    parser.add_argument("--disk-size", type=int, default=24, metavar="MIB", help="size of the root disk (default: 24)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    try:
        make(args.arch, args.out, args.kernel, args.disk_size)
    except (kernels.KernelError, LabError, subprocess.SubprocessError) as error:
        print(f"lab/guest-image: {error}", file=sys.stderr)
        return 1
    print(f"lab/guest-image: {args.out}: kernel, initrd, root.img", file=sys.stderr)
    return 0

