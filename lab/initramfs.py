# SPDX-License-Identifier: GPL-2.0-or-later
"""Initial RAM file systems: an archive in cpio's "newc" form, made without root, and what a program needs to run in it.

Used for the lab host (lab.py) and for the guests that run in it (guest-image). What lives elsewhere: which files those
two want.
"""

import functools
import os
import re
import stat
import subprocess
from pathlib import Path

import kernels


class Initramfs:
    """An archive being filled. Parent directories appear by themselves; the last file added under a name wins."""

    def __init__(self, arch: str):
        self.arch = arch
        self._entries: dict[str, tuple[int, int, int, bytes]] = {}

    def _add(self, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)) -> None:
        name = name.strip("/")
        parent = os.path.dirname(name)
        if parent and parent not in self._entries:
            self.directory(parent)
        self._entries[name] = (mode, *rdev, data)

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory; one that exists stays as it is."""
        if name.strip("/") and name.strip("/") not in self._entries:
            self._add(name, stat.S_IFDIR | mode)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        """Add a file with that text."""
        self.data(name, text.encode(), mode)

    def data(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file with those bytes."""
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._add(name, stat.S_IFCHR | mode, b"", (major, minor))

    def file(self, source: Path, name: str, mode: int | None = None) -> None:
        """Add a copy of a file, or of a folder with all in it; programs bring the shared libraries they need."""
        source = Path(source)
        if source.is_dir():
            self.directory(name)
            for child in sorted(source.iterdir()):
                self.file(child, f"{name}/{child.name}")
            return
        self.data(name, source.read_bytes(), mode or (stat.S_IMODE(source.stat().st_mode) | 0o444))
        for library, path in needed_libraries(str(source), self.arch).items():
            if library.strip("/") not in self._entries:
                self.data(library, Path(path).read_bytes(), 0o755)

    def busybox(self) -> None:
        """Add busybox under all its names."""
        self.file(kernels.debian_package("busybox-static", self.arch) / "bin/busybox", "bin/busybox", 0o755)
        for applet in busybox_applets():
            if applet != "bin/busybox":
                self.link(applet, "/bin/busybox")

    def modules(self, kernel: "kernels.Kernel", names, parameters=None, where: str = "lab") -> None:
        """Add the named modules of a kernel and what they depend on, and WHERE/modules.order, the order to load them."""
        order = []
        for path in kernel.closure(names):
            name = kernels.module_name(path)
            self.data(f"{where}/modules/{name}.ko", kernels.module_bytes(path))
            order.append(f"{name}.ko {(parameters or {}).get(name, '')}".strip())
        self.text(f"{where}/modules.order", "".join(line + "\n" for line in order))

    def write(self, out) -> None:
        """Write the archive to an open binary file."""
        for number, name in enumerate(sorted(self._entries), start=1):
            mode, major, minor, data = self._entries[name]
            _write_entry(out, number, name, mode, (major, minor), data)
        _write_entry(out, 0, "TRAILER!!!", 0, (0, 0), b"")

    def save(self, path: Path) -> None:
        """Write the archive to a file; readers never see half of it."""
        fresh = Path(f"{path}.{os.getpid()}")
        with open(fresh, "wb") as out:
            self.write(out)
        os.replace(fresh, path)


def _write_entry(out, number: int, name: str, mode: int, rdev: tuple[int, int], data: bytes) -> None:
    """One member: the header (thirteen fields of eight hexadecimal digits), the name and the data, each padded to 4."""
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    out.write(head + b"\0" * (-len(head) % 4))
    out.write(data)
    out.write(b"\0" * (-len(data) % 4))


@functools.cache
def busybox_applets() -> list[str]:
    """The paths, without the leading slash, at which busybox wants to be found."""
    native = {"x86_64": "x86-64", "aarch64": "arm64"}[os.uname().machine]
    program = kernels.debian_package("busybox-static", native) / "bin/busybox"
    text = subprocess.run([program, "--list-full"], stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    return text.split()


def _library_dirs(arch: str) -> list[Path]:
    """Where Debian keeps an architecture's shared libraries: its own place, then that of the cross compiler's."""
    triplet = kernels.TRIPLET[arch]
    return [Path(top) / triplet for top in ("/lib", "/usr/lib")] + [Path(f"/usr/{triplet}/lib")]


@functools.cache
def needed_libraries(program: str, arch: str) -> dict[str, str]:
    """What a program loads when it starts: the place each library must have, and the file here to copy there."""
    with open(program, "rb") as start:
        if start.read(4) != b"\x7fELF":
            return {}
    text = subprocess.run(["readelf", "--wide", "--program-headers", "--dynamic", program], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False, timeout=60).stdout
    found: dict[str, str] = {}
    interpreter = re.search(r"program interpreter: ([^\]]+)\]", text)
    if interpreter:
        found[interpreter[1]] = str(_find_library(Path(interpreter[1]).name, arch, program))
    for name in re.findall(r"\(NEEDED\).*\[([^\]]+)\]", text):
        path = _find_library(name, arch, program)
        found[f"/lib/{kernels.TRIPLET[arch]}/{name}"] = str(path)
        found.update(needed_libraries(str(path), arch))
    return found


def _find_library(name: str, arch: str, program: str) -> Path:
    """The file of a shared library for an architecture."""
    for directory in _library_dirs(arch):
        if (directory / name).exists():
            return (directory / name).resolve()
    raise kernels.KernelError(f"{program} needs {name}, which is not installed for {arch}; run ./install-deps")
