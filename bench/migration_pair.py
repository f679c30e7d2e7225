# SPDX-License-Identifier: GPL-2.0-or-later
"""
Two VMMs on one host, one of which has a guest that is to move to the other: how QEMU and Tern are told to do it. A pair
is a context manager; whatever it started ends with it.
"""

import contextlib
import functools
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time

from contender import Qemu, Tern

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "live"))
import guestline  # noqa: E402
from qmp import Qmp  # noqa: E402

_number = itertools.count()


class Side:
    """One VMM process: its serial line as text, its control socket, its CPU time."""

    def __init__(self, argv, control):
        self.lines = []
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.control = control
        self.vcpus = None
        self.ticks = {}

    @functools.cached_property
    def qmp(self):
        """Connected when it is first needed: a tern that waits for a VM has a control socket when that has come."""
        return self._connect(self.control)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())

    def _connect(self, control):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return Qmp(control, timeout=20)
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"no control socket {control}: {self.lines}")

    def expect(self, start, timeout=30):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for line in self.lines:
                if line.startswith(start):
                    return line
            time.sleep(0.01)
        raise RuntimeError(f"no line {start!r} within {timeout} s: {self.lines[-5:]}")

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def cpu_seconds(self):
        """
        Of the process and its children, ended threads too, without vCPU threads, which spin whatever happens. What has
        ended counts as it was when it was last asked: processes that end with a migration are asked all the while.
        """
        if self.vcpus is None and os.path.exists(self.control):
            self.vcpus = {cpu["thread-id"] for cpu in self.qmp.command("query-cpus-fast")}
        for pid in self._family(self.process.pid):
            ticks = self._ticks(f"/proc/{pid}/stat")
            ticks -= sum(self._ticks(f"/proc/{pid}/task/{vcpu}/stat") for vcpu in self.vcpus or ())
            self.ticks[pid] = max(ticks, self.ticks.get(pid, 0))
        return sum(self.ticks.values()) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _ticks(path):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, "rb") as stat:
            fields = stat.read().rsplit(b")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        return 0

    def _family(self, pid):
        found = [pid]
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as kids:
                    for kid in kids.read().split():
                        found += self._family(int(kid))
        return found

    def page_kind(self):
        """How the kernel backs the largest mapping of the process."""
        best, best_size, fields = {}, 0, None
        with open(f"/proc/{self.process.pid}/smaps", encoding="utf-8", errors="replace") as smaps:
            for line in smaps:
                head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
                if head:
                    size = int(head.group(2), 16) - int(head.group(1), 16)
                    fields = {} if size > best_size else None
                    if fields is not None:
                        best, best_size = fields, size
                elif fields is not None and line.split()[1].isdigit():
                    fields[line.split(":")[0]] = int(line.split()[1])
        huge = sum(best.get(name, 0) for name in ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"))
        if best.get("KernelPageSize", 4) > 4:
            return f"hugetlb {best['KernelPageSize']} KiB"
        return f"4 KiB, {100 * huge // max(best.get('Rss', 1), 1)} % in huge pages"

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._thread.join(5)
        if "qmp" in self.__dict__:
            self.qmp.close()
        self.process.stdin.close()
        self.process.stdout.close()


class Pair:
    """What is alike for both VMMs: QMP's migration commands and the guest's lines."""

    def __init__(self, settings, case):
        self.settings_of = settings
        self.case = case
        self.source = self.target = None
        self.id = f"m{os.getpid()}-{next(_number)}"
        self.info = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for side in (self.source, self.target):
            if side is not None:
                side.kill()

    def source_lines(self):
        return list(self.source.lines)

    def source_type(self, text):
        self.source.type(text)

    def page_kind(self):
        return self.source.page_kind()

    def cpu_seconds(self):
        return self.source.cpu_seconds() + self.target.cpu_seconds()

    def _wait_migrated(self):
        """None when it has completed, else why not."""
        end = time.monotonic() + self.case.limit_s
        while True:
            self.info = self.source.qmp.command("query-migrate")
            self.cpu_seconds()
            if self.info.get("status") == "completed":
                return None
            if self.info.get("status") in ("failed", "cancelled"):
                return self.info.get("error-desc", self.info["status"])
            if time.monotonic() > end:
                self.source.qmp.command("migrate_cancel")
                return f"does not converge within {self.case.limit_s} s"
            time.sleep(0.005)

    def numbers(self):
        ram = self.info.get("ram", {})
        return {
            "total_s": self.info.get("total-time", 0) / 1000,
            "bytes": ram.get("transferred", 0),
            "downtime_ms": self.info.get("downtime"),
            "rounds": ram.get("dirty-sync-count"),
        }

    def finish(self, side):
        """Has the guest, which is at that side, check its memory and end; its last words."""
        side.type("q")
        side.expect("guest: done")
        return guestline.last(side.lines, "done")


class QemuPair(Pair):
    @staticmethod
    def settings(guest, run_dir):
        qemu = Qemu(guest, run_dir)
        return {"qemu": qemu, "version": qemu.version}

    def _side(self, name, *more):
        qemu = self.settings_of["qemu"]
        share = os.path.dirname(qemu.guest) if qemu.root == "/" else "/share"
        control = os.path.join(share, f"{self.id}-{name}.sock")
        argv = qemu.command(
            self.case.memory, self.case.cmdline(), accel=self._accel(),
            more=["-qmp", f"unix:{control},server=on,wait=off", *more],
        )  # fmt: skip
        return Side(qemu.chroot() + argv, qemu.root.rstrip("/") + control)

    def _accel(self):
        return "kvm,dirty-ring-size=65536" if self.case.tracking == "ring" else "kvm"

    def start_source(self):
        self.source = self._side("source")
        self.source.expect("guest: start")

    def start_target(self):
        self.target = self._side("target", "-incoming", "defer")

    def _set_up(self, side):
        if self.case.channels > 1:
            side.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            side.qmp.command("migrate-set-parameters", multifd_channels=self.case.channels)
        side.qmp.command("migrate-set-parameters", max_bandwidth=0, downtime_limit=self.case.max_downtime_ms)

    def migrate(self):
        for side in (self.target, self.source):
            self._set_up(side)
        self.target.qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        address = self.target.qmp.command("query-migrate")["socket-address"][0]
        self.source.qmp.command("migrate", uri=f"tcp:127.0.0.1:{address['port']}")
        return self._wait_migrated()


class TernPair(Pair):
    @staticmethod
    def settings(binary, guest, run_dir):
        tern = Tern(binary, guest, run_dir)
        return {"tern": tern, "version": tern.version}

    def start_source(self):
        tern = self.settings_of["tern"]
        control = os.path.join(tern.run_dir, f"{self.id}-source.sock")
        argv = tern.command(
            self.case.memory, self.case.cmdline(),
            more=["--control", control, "--dirty-tracking", self.case.tracking],
        )  # fmt: skip
        self.source = Side(argv, control)
        self.source.expect("guest: start")

    def start_target(self):
        tern = self.settings_of["tern"]
        control = os.path.join(tern.run_dir, f"{self.id}-target.sock")
        self.port = 20000 + os.getpid() % 10000 + next(_number) % 1000
        argv = [
            tern.binary, "receive", "--listen", f"tcp:127.0.0.1:{self.port}", "--control", control,
            "--name", f"{self.id}-target", "--dirty-tracking", self.case.tracking,
        ]  # fmt: skip
        self.target = Side(argv, control)
        self.target.expect("tern: receive: listening")

    def migrate(self):
        self.source.qmp.command(
            "migrate-set-parameters", downtime_limit=self.case.max_downtime_ms, multifd_channels=self.case.channels
        )
        self.source.qmp.command("migrate", uri=f"tcp:127.0.0.1:{self.port}")
        return self._wait_migrated()
