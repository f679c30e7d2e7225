# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels and Debian packages that the lab boots and carries: where they are, and getting them into the cache.

A *kernel directory* has one shape, whoever made it:

    bzImage (x86-64) or Image (arm64)    the kernel; arm64's is uncompressed or gzipped, as its maker likes
    modules/                             optional: what is /lib/modules/VERSION on an installed system, with modules.dep
    config                               optional: the kernel's configuration

Debian's packages are downloaded and unpacked, never installed. What lives elsewhere: building kernels (kernel/),
booting them (lab.py).
"""

import contextlib
import fcntl
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

ARCHES = ("x86-64", "arm64")
DEB_ARCH = {"x86-64": "amd64", "arm64": "arm64"}
TRIPLET = {"x86-64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
IMAGE_NAME = {"x86-64": "bzImage", "arm64": "Image"}

# What a name means: the Debian metapackage whose dependency is the kernel.
DEBIAN_KERNELS = {
    "stock": {"x86-64": "linux-image-6.12-amd64", "arm64": "linux-image-6.12-arm64"},
    "cloud": {"x86-64": "linux-image-6.12-cloud-amd64", "arm64": "linux-image-6.12-cloud-arm64"},
    "6.1": {"x86-64": "linux-image-amd64", "arm64": "linux-image-arm64"},
    "6.1-cloud": {"x86-64": "linux-image-cloud-amd64", "arm64": "linux-image-cloud-arm64"},
}


class KernelError(Exception):
    """A kernel or package that cannot be had; the message is for the user."""


def cache_dir() -> Path:
    """The folder outside the tree that keeps what is downloaded or built once."""
    base = os.environ.get("TERN_CACHE")
    if not base:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tern"
    path = Path(base)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name: str):
    """Hold the cache's lock of that name: one process fetches or builds, the others wait and find it done."""
    locks = cache_dir() / "locks"
    locks.mkdir(exist_ok=True)
    with open(locks / name, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _call(*argv: str, cwd=None) -> str:
    """Run a command to its end; its output, or KernelError with what it said."""
    try:
        done = subprocess.run(argv, cwd=cwd, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise KernelError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _qualified(package: str, arch: str) -> str:
    """The package's name as apt wants it, with the architecture where it is a foreign one."""
    native = _call("dpkg", "--print-architecture").strip()
    return package if DEB_ARCH[arch] == native else f"{package}:{DEB_ARCH[arch]}"


def _real_kernel_package(metapackage: str, arch: str) -> str:
    """The linux-image package that a metapackage depends on."""
    text = _call("apt-cache", "depends", "--important", _qualified(metapackage, arch))
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "Depends:" and words[1].startswith("linux-image-"):
            return words[1].split(":")[0]
    raise KernelError(f"{metapackage}: apt knows no such package for {arch}; run ./install-deps lab "
                      "(it adds the architecture and updates the lists)")


def debian_package(package: str, arch: str) -> Path:
    """The unpacked tree of a Debian package, in the cache (downloaded on the first call, never installed)."""
    top = cache_dir() / "debs"
    tree = top / f"{package}_{arch}"
    if tree.is_dir():
        return tree
    with locked(f"deb-{package}-{arch}"):
        if tree.is_dir():
            return tree
        work = top / f".{package}_{arch}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        (work / "tree").mkdir(parents=True)
        try:
            print(f"lab: fetching {package} ({arch})", file=sys.stderr, flush=True)
            options = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
            _call("apt-get", *options, "download", "-q", _qualified(package, arch), cwd=work)
            debs = list(work.glob("*.deb"))
            if len(debs) != 1:
                raise KernelError(f"{package}: apt-get download left {len(debs)} packages")
            _call("dpkg", "-x", str(debs[0]), str(work / "tree"))
            os.rename(work / "tree", tree)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return tree


def _make_kernel_dir(package: str, arch: str, target: Path) -> None:
    """Turn an unpacked kernel package into a kernel directory (moves the files: they are large)."""
    tree = debian_package(package, arch)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    image = next((tree / "boot").glob("vmlinuz-*"))
    release = image.name.removeprefix("vmlinuz-")
    modules = next(p for p in (tree / "lib/modules" / release, tree / "usr/lib/modules" / release) if p.is_dir())
    # depmod wants lib/modules/RELEASE; modules/ in the kernel directory is a link into that.
    _call("depmod", "-b", str(modules.parents[2]), release)
    os.rename(modules, work / release)
    os.symlink(release, work / "modules")
    os.rename(image, work / IMAGE_NAME[arch])
    os.rename(tree / "boot" / f"config-{release}", work / "config")
    (work / "release").write_text(release + "\n", encoding="ascii")
    os.rename(work, target)
    shutil.rmtree(tree, ignore_errors=True)


def _debian_kernel(name: str, arch: str, refresh: bool) -> Path:
    """The kernel directory of a stock kernel; the name is resolved by apt once and then kept until refreshed."""
    top = cache_dir() / "kernels"
    top.mkdir(exist_ok=True)
    link = top / f"{name}-{arch}"
    if link.exists() and not refresh:
        return link.resolve()
    with locked(f"kernel-{name}-{arch}"):
        if link.exists() and not refresh:
            return link.resolve()
        package = _real_kernel_package(DEBIAN_KERNELS[name][arch], arch)
        target = top / f"{package}_{arch}"
        if not target.is_dir():
            with locked(f"kernel-{package}-{arch}"):
                if not target.is_dir():
                    _make_kernel_dir(package, arch, target)
        fresh = top / f".{link.name}.{os.getpid()}"
        fresh.symlink_to(target.name)
        os.replace(fresh, link)
        return target


class Kernel:
    """A bootable kernel and, where it has any, its modules."""

    def __init__(self, arch: str, image: Path, modules: Path | None):
        self.arch, self.image, self.modules = arch, image, modules
        self._deps: dict[str, list[str]] | None = None

    def _load_deps(self) -> dict[str, list[str]]:
        """modules.dep as a map from a module's name to the files to load for it, itself last."""
        if self._deps is None:
            self._deps = {}
            dep = self.modules / "modules.dep" if self.modules else None
            if dep and dep.is_file():
                for line in dep.read_text(encoding="utf-8").splitlines():
                    path, _, needs = line.partition(":")
                    # modules.dep names the nearest dependency first: load from the far end.
                    self._deps[module_name(path)] = needs.split()[::-1] + [path]
            order = self.modules / "order" if self.modules else None
            if order and order.is_file() and not self._deps:
                # kernel/build's flat form: few files, listed so that each comes after those that it needs.
                files = order.read_text(encoding="utf-8").split()
                self._deps = {module_name(path): [path] for path in files}
        return self._deps

    def closure(self, names) -> list[Path]:
        """The module files to insert, in order, for the named modules; a name that is no module is built in or absent."""
        deps, files = self._load_deps(), []
        for name in names:
            for path in deps.get(name.replace("-", "_"), []):
                if path not in files:
                    files.append(path)
        return [self.modules / path for path in files]


def module_name(path) -> str:
    """The name that the kernel gives the module in that file."""
    return Path(path).name.split(".ko")[0].replace("-", "_")


def module_bytes(path: Path) -> bytes:
    """A module's contents, uncompressed: busybox's insmod and the kernel's own loader take it as it is."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    return data


def _kernel_of_dir(directory: Path, arch: str) -> Kernel:
    """The kernel in a kernel directory."""
    image = directory / IMAGE_NAME[arch]
    if not image.is_file():
        raise KernelError(f"{directory}: no {IMAGE_NAME[arch]} in it")
    modules = directory / "modules"
    return Kernel(arch, image, modules.resolve() if modules.is_dir() else None)


def find(arch: str, name: str, refresh: bool = False) -> Kernel:
    """The kernel of that name (stock, cloud, 6.1, patched...), or at that path; fetched when it is a Debian one."""
    if arch not in ARCHES:
        raise KernelError(f"{arch}: not one of {', '.join(ARCHES)}")
    if name in DEBIAN_KERNELS:
        return _kernel_of_dir(_debian_kernel(name, arch, refresh), arch)
    built = cache_dir() / "kernels" / f"{name}-{arch}"
    if "/" not in name and built.is_dir():
        return _kernel_of_dir(built.resolve(), arch)
    path = Path(name)
    if path.is_dir():
        return _kernel_of_dir(path, arch)
    if path.is_file():
        modules = path.parent / "modules"
        return Kernel(arch, path, modules.resolve() if (modules / "modules.dep").is_file() else None)
    if name == "patched" or name.startswith("patched"):
        raise KernelError(f"no patched kernel for {arch} yet: run `make -C kernel ARCH={arch}` (it writes {built})")
    raise KernelError(f"{name}: neither a path nor one of {', '.join(DEBIAN_KERNELS)}, patched")
