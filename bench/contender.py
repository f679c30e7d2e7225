# SPDX-License-Identifier: GPL-2.0-or-later
"""
The VMMs that are compared, behind one face: how each is told to run the bare-metal guest. What is chosen for QEMU is
what makes it fastest and smallest: microvm without ACPI (no firmware but qboot), no default devices.
"""

import itertools
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
_serial = itertools.count()


class Tern:
    label = "Tern"
    root = "/"

    @staticmethod
    def chroot():
        return []

    def __init__(self, binary, guest, run_dir):
        self.binary = os.path.abspath(binary)
        self.guest = os.path.abspath(guest)
        self.run_dir = run_dir
        text = subprocess.run([self.binary, "version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"\d+\.\d+\S*", text)
        self.version = f"Tern {found.group(0) if found else '?'}"

    def command(self, memory, cmdline, more=()):
        name = f"bench{os.getpid()}-{next(_serial)}"
        if "--control" not in more:
            more = ["--control", os.path.join(self.run_dir, name + ".sock"), *more]
        return [
            self.binary, "run", "--name", name, "--memory", memory, "--kernel", self.guest, "--cmdline", cmdline, *more,
        ]  # fmt: skip

    def stripped_bytes(self):
        return stripped_bytes(self.binary)


class Qemu:
    label = "QEMU"

    def __init__(self, guest, run_dir):
        self.root, self.binary = (
            subprocess.run([os.path.join(HERE, "newest-qemu")], check=True, capture_output=True, text=True)
            .stdout.strip()
            .split(" ", 1)
        )
        if self.root == "/":
            self.guest = os.path.abspath(guest)
        else:
            share = os.path.join(self.root, "share")
            os.makedirs(share, exist_ok=True)
            shutil.copy(guest, os.path.join(share, "guest.elf"))
            self.guest = "/share/guest.elf"
        text = subprocess.run(
            [*self.chroot(), self.binary, "--version"], capture_output=True, text=True, check=True
        ).stdout
        self.version = "QEMU " + re.search(r"\d+\.\d+\.\d+", text).group(0)

    def command(self, memory, cmdline, more=(), accel="kvm"):
        return [
            self.binary, "-accel", accel, "-cpu", "host,-arch-capabilities", "-M", "microvm,acpi=off", "-m", memory, "-nodefaults", "-no-user-config",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", self.guest, "-append", cmdline, *more,
        ]  # fmt: skip

    def chroot(self):
        """What to put before the command, for those who do not change root themselves."""
        return [] if self.root == "/" else ["chroot", self.root]

    def stripped_bytes(self):
        return stripped_bytes(os.path.join(self.root, self.binary.lstrip("/")))


def stripped_bytes(path):
    copy = f"/tmp/strip.{os.getpid()}"
    try:
        subprocess.run(["strip", "-o", copy, os.path.realpath(path)], check=True, capture_output=True)
        return os.path.getsize(copy)
    finally:
        if os.path.exists(copy):
            os.unlink(copy)
