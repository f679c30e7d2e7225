# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab hosts: machines under QEMU's software emulation whose Linux has a working /dev/kvm, and commands run on them.

    with LabHost("arm64") as host:
        print(host.run("ls -l /dev/kvm").stdout)

    with LabPair("x86-64") as pair:         # two hosts that share a network: 10.0.0.1 is host1, 10.0.0.2 is host2
        pair.host2.popen("nc -l -p 99")
        pair.host1.run("echo hello | nc host2 99", check=True)

A host boots once and runs any number of commands, at the same time too, each with its own input, output, exit status
and time limit. Everything ends with the host, and the host ends with this process, whatever happens to it.

What lives elsewhere: which kernel (kernels.py), the initial RAM file system's archive form (initramfs.py), waiting for
what a command prints (process.py), what a host does when it starts (init.sh), and the other end of the command protocol (agent.c, which describes it).
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import kernels
from initramfs import Initramfs
from process import LabError, LabTimeout, Process, Result, patience

TOP = Path(__file__).resolve().parent.parent
LAB = TOP / "lab"
AGENT_PORT = 7000

QEMU = {
    # No XSAVE: QEMU's SVM does not intercept XSETBV, so KVM does not learn of a guest's XCR0 and takes it away at the
    # next exit. A guest that is offered XSAVE there complains while it boots and goes on without.
    "x86-64": {"program": "qemu-system-x86_64", "machine": "q35", "cpu": "EPYC-Rome,+svm,+npt,-xsave", "console": "ttyS0",
               # More are to be had for the asking, but do not last: docs/lab.md. agent.c starts the others, and says why.
               "cpus": 1, "append": "maxcpus=1"},
    "arm64": {"program": "qemu-system-aarch64", "machine": "virt,virtualization=on,gic-version=3",
              "cpu": "max,pauth-impdef=on,sme=off,sve128=on,lpa2=off", "console": "ttyAMA0", "cpus": 2, "append": ""},
}

# What a lab host loads, in this order, when its kernel has it as modules. Built-in ones are skipped by themselves.
MODULES = {
    "x86-64": ["irqbypass", "kvm", "ccp", "kvm-amd", "msr", "cpuid"],
    "arm64": [],
}
COMMON_MODULES = ["virtio_pci", "virtio_net", "virtio_rng", "tun", "vhost_net"]
SHARE_MODULES = ["9pnet_virtio", "9p"]
DISK_MODULES = ["virtio_blk"]

# Options of a pair's hosts that may differ.
PAIRED = ("host_kernel", "cpu", "machine", "memory", "cpus")

USERS = {"root": ("0", "0", "", "/root"), "tern": ("1000", "1000", "104", "/home/tern")}

PASSWD = "root:x:0:0:root:/root:/bin/sh\ntern:x:1000:1000:tern:/home/tern:/bin/sh\nnobody:x:65534:65534:::/bin/false\n"
GROUP = "root:x:0:\ntty:x:5:\nkvm:x:104:tern\ntern:x:1000:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost\n10.0.0.1 host1\n10.0.0.2 host2\n"

# What each thread of tern does and has done.
THREADS = ("for p in $(pidof tern); do for t in /proc/$p/task/*; do "
           "echo $p $(cat $t/comm) $(cut -d' ' -f3,14,15 $t/stat) $(cat $t/wchan); done; done; cat /proc/uptime")


def tern_binary(arch: str) -> Path:
    """Where the build leaves tern for an architecture."""
    native = {"x86_64": "x86-64", "aarch64": "arm64"}[os.uname().machine]
    return TOP / "build" / ("tern" if arch == native else f"{arch}/tern")


def compile_static(source: Path, arch: str, sources=()) -> Path:
    """A C program of the lab's, static, for an architecture; in the cache, under a name made of what it is made of.

    sources: all its files when it has several, headers included.
    """
    native = {"x86_64": "x86-64", "aarch64": "arm64"}[os.uname().machine]
    compiler = "gcc" if arch == native else f"{kernels.TRIPLET[arch]}-gcc"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    sources = list(sources) or [source]
    recipe = hashlib.sha256(" ".join([compiler, *flags]).encode())
    for path in sources:
        recipe.update(path.read_bytes())
    target = kernels.cache_dir() / "lab" / f"{source.stem}-{arch}-{recipe.hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        fresh = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            subprocess.run([compiler, *flags, "-o", fresh, *(path for path in sources if path.suffix == ".c"),
                            "-pthread"], check=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            raise LabError(f"{source.name}: does not compile for {arch}: {error}") from error
        os.replace(fresh, target)
    return target


class LabProcess(Process):
    """A command running on a lab host."""

    def __init__(self, host: "LabHost", argv, *, user="root", env=None, cwd=None, pty=False, on_output=None):
        super().__init__(f"{host.name}: {argv}", on_output)
        self.host = host
        words = ["sh", "-c", argv] if isinstance(argv, str) else [os.fspath(word) for word in argv]
        uid, gid, groups, home = USERS[user]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "USER": user, "TERM": "dumb",
                       "XDG_RUNTIME_DIR": f"/run/user/{uid}", "LANG": "C.UTF-8", **(env or {})}
        strings = [host.token, uid, gid, groups, "pty" if pty else "pipe", cwd or home, str(len(environment))]
        strings += [f"{key}={value}" for key, value in environment.items()] + words
        self._sock = host.connect()
        self._frame(b"E", b"".join(os.fsencode(s) + b"\0" for s in strings))
        threading.Thread(target=self._read, daemon=True).start()

    def _frame(self, kind: bytes, data: bytes) -> None:
        try:
            self._sock.sendall(kind + struct.pack("<I", len(data)) + data)
        except OSError:
            pass  # The reader sees the end of the connection and says what there is to say.

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def _read(self) -> None:
        """The reader thread: takes frames until the last one."""
        try:
            while self.status is None:
                head = self._receive(5)
                kind, data = head[:1], self._receive(struct.unpack("<I", head[1:])[0])
                if kind == b"O" or kind == b"R":
                    self._take(data, kind == b"R")
                elif kind == b"X":
                    self._end(os.waitstatus_to_exitcode(struct.unpack("<I", data)[0]))
                elif kind == b"F":
                    self._take(data + b"\n", True)
                    self._end(127)
        except (EOFError, OSError, struct.error):
            self._lose("the connection to the lab host broke")
        finally:
            self._sock.close()

    def send(self, data) -> None:
        data = data.encode() if isinstance(data, str) else data
        for start in range(0, len(data), 1 << 19):
            self._frame(b"I", data[start:start + (1 << 19)])

    def end_input(self) -> None:
        """Tell the command that its input has ended."""
        self._frame(b"C", b"")

    def signal(self, number: int) -> None:
        """Send a signal to the command and all that it started in its process group."""
        self._frame(b"K", bytes([number]))

    def kill(self) -> None:
        if self.status is None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _context(self) -> str:
        return f"{self.host.vital_signs()}\n{self.host.console_tail()}"

    def _failed(self, what: str) -> LabError:
        return self.host.failure(what)


class LabHost:
    """One machine. The constructor starts it; wait_ready() (or entering it as a context) waits until it is up.

    files: (source here, path there) pairs that the host has from the start; programs bring their shared libraries.
    network: one end of a socket pair, the cable to the other host. disks: images the host sees as /dev/vda, vdb...
    share: a folder of this machine that the host sees as /share. cpu, machine: QEMU's words for them. timeout: seconds
    after which all of it is killed. parameters: {"kvm": "tdp_mmu=0"}, for modules as they are loaded.
    """

    def __init__(self, arch: str, *, host_kernel="stock", number=1, memory=1024, cpus=None, cpu=None, machine=None,
                 timeout=600.0, files=(), share=None, disks=(), append="", network=None, modules=(), parameters=None,
                 tern=None):
        self.arch, self.number, self.name = arch, number, f"host{number}"
        self.token = secrets.token_hex(8)
        self.deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._timed_out = self._examined = False
        self._port = 0
        self._qemu: subprocess.Popen | None = None
        self._dir = Path(tempfile.mkdtemp(prefix="tern-lab-"))
        self._console = self._dir / "console"
        try:
            self.kernel = kernels.find(arch, host_kernel)
            wanted = [*COMMON_MODULES, *(SHARE_MODULES if share else []), *(DISK_MODULES if disks else []), *modules]
            self._make_initramfs(files, wanted, parameters, tern)
            self._start(memory, cpus, cpu, machine, share, disks, append, network)
        except BaseException:
            self.close()
            raise
        self._watchdog = threading.Timer(timeout, self._expire)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _make_initramfs(self, files, modules, parameters, tern) -> None:
        """Write what the host runs from."""
        image = Initramfs(self.arch)
        for name in ("proc", "sys", "dev", "tmp", "run", "etc", "share", "newroot", "usr/bin", "usr/sbin", "sbin", "root"):
            image.directory(name)
        image.char_device("dev/console", 5, 1)
        image.busybox()
        image.file(LAB / "init.sh", "init", 0o755)
        image.file(compile_static(LAB / "agent.c", self.arch), "lab/agent", 0o755)
        image.text("etc/passwd", PASSWD)
        image.text("etc/group", GROUP)
        image.text("etc/hosts", HOSTS)
        image.modules(self.kernel, [*MODULES[self.arch], *modules], parameters)
        passt = kernels.debian_package("passt", self.arch) / "usr/bin"
        for program in sorted(passt.glob("passt*")):
            image.file(program, f"usr/bin/{program.name}", 0o755)
        tern = Path(tern) if tern else tern_binary(self.arch)
        if tern.exists():
            image.file(tern, "usr/bin/tern", 0o755)
        for source, target in files:
            image.file(source, target)
        image.save(self._dir / "initramfs")

    def _start(self, memory, cpus, cpu, machine, share, disks, append, network) -> None:
        """Start QEMU; it is killed by the kernel when this process goes."""
        qemu = QEMU[self.arch]
        argv = ["setpriv", "--pdeathsig", "KILL", "nice", qemu["program"], "-accel", "tcg,thread=multi",
                "-machine", machine or qemu["machine"], "-cpu", cpu or qemu["cpu"], "-smp", str(cpus or qemu["cpus"]), "-m", str(memory),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", str(self.kernel.image), "-initrd", str(self._dir / "initramfs"),
                "-append", f"console={qemu['console']} panic=-1 quiet loglevel=4 random.trust_cpu=on "
                           f"lab.host={self.number} lab.token={self.token} {qemu['append']} {append}",
                "-chardev", f"file,id=console,path={self._console}", "-serial", "chardev:console",
                "-qmp", f"unix:{self._dir}/qmp,server=on,wait=off",
                "-device", "virtio-rng-pci",
                # Restricted: the host reaches nothing outside but the agent's connection that comes in.
                "-netdev", f"user,id=mgmt,restrict=on,hostfwd=tcp:127.0.0.1:0-:{AGENT_PORT}",
                "-device", f"virtio-net-pci,netdev=mgmt,romfile=,mac=52:54:00:0a:00:{self.number:02x}"]
        fds = ()
        if network is not None:
            fds = (network.fileno(),)
            argv += ["-netdev", f"socket,id=lab,fd={network.fileno()}",
                     "-device", f"virtio-net-pci,netdev=lab,romfile=,mac=52:54:00:0b:00:{self.number:02x}"]
        if share:
            argv += ["-virtfs", f"local,path={share},mount_tag=share,security_model=none,multidevs=remap"]
        for index, disk in enumerate(disks):
            argv += ["-drive", f"file={disk},if=none,id=disk{index},format=raw,cache=none,file.locking=off",
                     "-device", f"virtio-blk-pci,drive=disk{index},share-rw=on"]
        self._errors = open(self._dir / "qemu", "wb")
        try:
            self._qemu = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
                                          pass_fds=fds, start_new_session=True)
        except OSError as error:
            raise LabError(f"{qemu['program']}: {error}; run ./install-deps lab") from error

    def _expire(self) -> None:
        self._timed_out = True
        if self._qemu:
            self._qemu.kill()

    def console(self) -> str:
        """All that the host has printed on its console."""
        try:
            return self._console.read_bytes().decode(errors="replace").replace("\r", "")
        except OSError:
            return ""

    def console_tail(self, lines: int = 60) -> str:
        """The end of the console, for a report of failure."""
        tail = "\n".join(self.console().splitlines()[-lines:])
        return f"--- the end of {self.name}'s console ({self.arch}):\n{tail}\n---"

    def vital_signs(self) -> str:
        """
        What tern's threads do and how much time they have had, twice, a second apart, for a report of failure: a guest that
        says nothing may sleep, spin, or have a host that is no longer there.
        """
        if self._examined:
            return ""
        self._examined = True
        try:
            said = self.run(f"{THREADS}; sleep 1; {THREADS}", timeout=10).stdout
        except LabError as error:
            said = f"not told: {str(error).splitlines()[0]}\n"
            with contextlib.suppress(LabError):
                said += self.monitor("info registers")
        finally:
            self._examined = False
        return f"--- {self.name}: threads of tern, their state, ticks as user and as kernel, where they wait:\n{said}"

    def alive(self) -> bool:
        """Whether the machine is still there."""
        return self._qemu is not None and self._qemu.poll() is None

    def failure(self, what: str) -> LabError:
        """The exception that says why the host can no longer serve, with the end of its console."""
        said = (self._dir / "qemu").read_text(errors="replace").splitlines()
        said = "\n".join(line for line in said if "TCG doesn't support requested feature" not in line)
        said = f"QEMU said: {said}\n" if said else ""
        time.sleep(0.1)  # A QEMU that has just been killed is not gone yet.
        if self._timed_out:
            return LabTimeout(f"{self.name}: {what}: the lab's time of {self._timeout:g} s is over\n"
                              f"{said}{self.console_tail()}")
        if not self.alive():
            what += "; the host is gone" + (" (panic)" if "Kernel panic" in self.console() else "")
        return LabError(f"{self.name}: {what}\n{said}{self.console_tail()}")

    def wait_ready(self, timeout: float = 120.0) -> "LabHost":
        """Wait until the host takes commands."""
        until = min(self.deadline, time.monotonic() + timeout * patience())
        while "lab: ready" not in self.console():
            if not self.alive():
                raise self.failure("did not come up")
            if time.monotonic() > until:
                raise self.failure(f"is not up after {timeout:g} s")
            time.sleep(0.03)
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", self.monitor("info usernet"))
        if not found:
            raise self.failure("QEMU forwards no port to its agent")
        self._port = int(found[1])
        return self

    def connect(self) -> socket.socket:
        """A fresh connection to the host's agent."""
        try:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        except OSError as error:
            raise self.failure(f"its agent does not answer: {error}") from error
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def qmp(self, command: str, **arguments) -> dict:
        """One command to the QEMU that is the host (not to a tern in it): its return value."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            try:
                sock.connect(str(self._dir / "qmp"))
                stream = sock.makefile("rw", encoding="utf-8")
                stream.readline()
                for name, args in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": name, "arguments": args}) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    while "event" in answer:
                        answer = json.loads(stream.readline())
            except (OSError, ValueError) as error:
                raise self.failure(f"QMP {command}: {error}") from error
        if "error" in answer:
            raise LabError(f"{self.name}: QMP {command}: {answer['error']['desc']}")
        return answer["return"]

    def monitor(self, line: str) -> str:
        """One line to QEMU's human monitor: what it prints."""
        return self.qmp("human-monitor-command", **{"command-line": line})

    def set_link(self, up: bool) -> None:
        """Plug in or pull out the cable to the other host."""
        self.qmp("set_link", name="lab", up=up)

    def popen(self, argv, **options) -> LabProcess:
        """Start a command: a list of words, or a line for the shell. Options as in LabProcess."""
        return LabProcess(self, argv, **options)

    def run(self, argv, *, timeout: float = 60, check: bool = False, input=None, **options) -> Result:
        """Run a command to its end. With check, an exit status other than 0 is an exception."""
        process = self.popen(argv, **options)
        try:
            if input is not None:
                process.send(input)
            process.end_input()
            result = process.wait(timeout)
        finally:
            process.kill()
        if check and result.status != 0:
            raise LabError(f"{self.name}: {argv}: exit status {result.status}\n{result.stdout[-4000:]}\n"
                           f"{result.stderr[-4000:]}")
        return result

    def push(self, source, target: str) -> None:
        """Copy a file or folder to the host; its parent directories are made."""
        source = Path(source)
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(source, arcname=os.path.basename(target.rstrip("/")))
            archive.seek(0)
            where = shlex.quote(os.path.dirname(target.rstrip("/")) or "/")
            self.run(f"mkdir -p {where} && tar -x -o -f - -C {where}", input=archive.read(), check=True, timeout=300)

    def pull(self, source: str, target) -> None:
        """Copy a file or folder from the host."""
        where, name = os.path.dirname(source.rstrip("/")) or "/", os.path.basename(source.rstrip("/"))
        process = self.popen(["tar", "-c", "-f", "-", "-C", where, name])
        process.end_input()
        if process.wait(300).status != 0:
            raise LabError(f"{self.name}: {source}: {process.stderr.strip()}")
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as archive:
            archive.write(process.stdout_bytes)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(folder)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            if Path(target).is_dir():
                shutil.copytree(Path(folder) / name, target, dirs_exist_ok=True)
            else:
                shutil.move(Path(folder) / name, target)

    def write(self, path: str, text) -> None:
        """Write a small file on the host."""
        self.run(["sh", "-c", 'cat >"$0"', path], input=text, check=True)

    def read(self, path: str) -> str:
        """The text of a small file on the host."""
        return self.run(["cat", path], check=True).stdout

    def power_cut(self) -> None:
        """End the host as a power failure would."""
        if self._qemu:
            self._qemu.kill()
            try:
                self._qemu.wait(60)
            except subprocess.TimeoutExpired as error:
                raise self.failure("QEMU was killed and does not end") from error

    def close(self) -> None:
        """End the host and forget it."""
        if getattr(self, "_watchdog", None):
            self._watchdog.cancel()
        try:
            self.power_cut()
        finally:
            if getattr(self, "_errors", None):
                self._errors.close()
            shutil.rmtree(self._dir, ignore_errors=True)

    def __enter__(self) -> "LabHost":
        try:
            return self.wait_ready()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_) -> None:
        self.close()


class LabPair:
    """Two hosts on one network. Takes LabHost's options; those given as a pair of two values are one for each host."""

    def __init__(self, arch: str, **options):
        ends = socket.socketpair()
        self.hosts: list[LabHost] = []
        try:
            for index in range(2):
                mine = {k: v[index] if isinstance(v, tuple) and len(v) == 2 and k in PAIRED else v for k, v in options.items()}
                self.hosts.append(LabHost(arch, number=index + 1, network=ends[index], **mine))
        except BaseException:
            self.close()
            raise
        finally:
            for end in ends:
                end.close()

    @property
    def host1(self) -> LabHost:
        """The host at 10.0.0.1."""
        return self.hosts[0]

    @property
    def host2(self) -> LabHost:
        """The host at 10.0.0.2."""
        return self.hosts[1]

    def wait_ready(self, timeout: float = 180.0) -> "LabPair":
        """Wait until both take commands."""
        for host in self.hosts:
            host.wait_ready(timeout)
        return self

    def close(self) -> None:
        """End both."""
        for host in self.hosts:
            host.close()

    def __enter__(self) -> "LabPair":
        try:
            return self.wait_ready()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_) -> None:
        self.close()
