# SPDX-License-Identifier: GPL-2.0-or-later
"""
One `tern run` as a test sees it: started as an unprivileged user, its serial line read by a thread, its control socket,
its end. Everything has a time limit, and nothing outlives its test.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

from qmp import Qmp


class Host:
    """Where and as whom tern is run: a directory that the unprivileged user can read, with copies of what it needs."""

    def __init__(self, directory, tern, guest, user):
        self.directory = directory
        self.run_dir = os.path.join(directory, "run")
        os.mkdir(self.run_dir)
        self.tern = shutil.copy(tern, directory)
        self.guest = shutil.copy(guest, directory)
        self.prefix = []
        self.user = user
        if user is not None:
            os.chmod(directory, 0o755)
            os.chown(self.run_dir, user.uid, user.gid)
            self.prefix = [
                "setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", f"--groups={user.kvm_gid}",
                "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs",
            ]  # fmt: skip

    def environment(self):
        return {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": self.run_dir, "HOME": self.run_dir, "LC_ALL": "C"}

    def command(self, *arguments, timeout=20):
        """Runs a tern command to its end."""
        return subprocess.run(
            [*self.prefix, self.tern, *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def image(self, name, size_bytes):
        """A sparse disk image that the unprivileged user may write."""
        path = os.path.join(self.run_dir, name)
        with open(path, "wb") as image:
            image.truncate(size_bytes)
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)
        return path

    def leftovers(self):
        """What is in the runtime directory but images of tests."""
        return sorted(
            os.path.join(where, name)
            for where, _, names in os.walk(self.run_dir)
            for name in names
            if not name.endswith(".img")
        )


class Vm:
    def __init__(self, host, *options, cmdline="mode=hello", name="t0", memory="128M", kernel=None, words=None):
        """words: of another command that becomes a VM's process, with its name; else tern run with what is given."""
        self.host = host
        self.name = name
        self.lines = []
        self.times = []
        argv = [host.tern, "run", "--name", name, "--memory", memory, "--kernel", kernel or host.guest]
        if words is not None:
            argv = [host.tern, *words, "--name", name]
        elif cmdline is not None:
            argv += ["--cmdline", cmdline]
        self._start([*argv, *options])

    def _start(self, argv):
        if os.environ.get("TERN_SANITIZED"):
            argv += ["--sandbox", "off"]  # the sanitizers' own calls are not in the lists
        self.process = subprocess.Popen(
            [*self.host.prefix, *argv], env=self.host.environment(), cwd=self.host.run_dir,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._changed = threading.Condition()
        self.log = []
        self._threads = [
            threading.Thread(target=self._read, args=args, daemon=True)
            for args in ((self.process.stdout, self._serial_line), (self.process.stderr, self.log.append))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream, take):
        for line in stream:
            take(line.decode(errors="replace").rstrip("\r\n"))
        stream.close()

    def _serial_line(self, line):
        with self._changed:
            self.lines.append(line)
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def story(self):
        tail = "\n".join(self.lines[-15:])
        return f"exit {self.process.poll()}; serial:\n{tail}\nlog:\n" + "\n".join(self.log[-15:])

    def expect(self, pattern, timeout=20, after=0):
        """Waits for a serial line that matches, from line number `after` on; returns its number."""
        end = time.monotonic() + timeout
        seen = after
        with self._changed:
            while True:
                for number in range(seen, len(self.lines)):
                    if re.search(pattern, self.lines[number]):
                        return number
                seen = max(seen, len(self.lines))
                left = end - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._threads[0].is_alive()):
                    raise AssertionError(f"no serial line like {pattern!r} within {timeout} s; {self.story()}")
                self._changed.wait(min(left, 0.2))

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_log(self, pattern, timeout=20):
        """Waits for a line of its log that matches, and returns it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for line in list(self.log):
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no log line like {pattern!r} within {timeout} s; {self.story()}")

    @property
    def control_path(self):
        return os.path.join(self.host.run_dir, "tern", self.name + ".sock")

    def qmp(self, timeout=10, **options):
        end = time.monotonic() + timeout
        while True:
            try:
                return Qmp(self.control_path, **options)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end or self.process.poll() is not None:
                    raise AssertionError(f"no control socket {self.control_path}; {self.story()}") from None
                time.sleep(0.01)

    def wait(self, timeout=30):
        """Its exit status, once all of its output has been read."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"tern did not end within {timeout} s; {self.story()}") from None
        for thread in self._threads:
            thread.join(5)
        return status

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process.stdin.close()
        for thread in self._threads:
            thread.join(5)


class Receiver(Vm):
    """
    `tern receive`: a VM to be. Its lines are the guest's once it is here; `uri` is where it listens; None: it waits to be
    told where (listen="defer").
    """

    def __init__(self, host, *options, name="t1", listen="tcp:127.0.0.1:0"):
        self.host = host
        self.name = name
        self.lines = []
        self.times = []
        self._start([host.tern, "receive", "--listen", listen, "--name", name, *options])
        self.uri = self.wait_log("listening at").rsplit(" ", 1)[1] if listen != "defer" else None
