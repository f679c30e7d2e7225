# SPDX-License-Identifier: GPL-2.0-or-later
"""A running command that a program talks with: its output is collected as it comes, and can be waited for.

LocalProcess runs on this machine; lab.LabProcess on a lab host. Output is text, with what is not UTF-8 replaced.
"""

import dataclasses
import os
import pty
import re
import signal
import subprocess
import threading


class LabError(Exception):
    """The lab itself failed (no kernel, no boot, a panic, a time limit), as opposed to a command in it."""


class LabTimeout(LabError):
    """A command, an expected output, or the whole lab took longer than it may."""


def patience() -> float:
    """By how much a time limit is stretched: limits are made for a machine that is not busy with other things."""
    return min(8.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


@dataclasses.dataclass
class Result:
    """How a command ended: its exit status (128 + N when signal N ended it), and what it said."""
    status: int
    stdout: str
    stderr: str


class Process:
    """What both kinds share. on_output(is_error, data) is called with everything that comes, on the reader's thread."""

    def __init__(self, what: str, on_output=None):
        self.what = what
        self.status: int | None = None
        self._out, self._err = bytearray(), bytearray()
        self._lost: str | None = None
        self._changed = threading.Condition()
        self._on_output = on_output
        self._seen = {False: 0, True: 0}

    def _take(self, data: bytes, is_error: bool) -> None:
        """The reader: output has come."""
        with self._changed:
            if is_error:
                self._err += data
            else:
                self._out += data
            self._changed.notify_all()
        if self._on_output:
            self._on_output(is_error, data)

    def _end(self, exitcode: int) -> None:
        """The reader: the command has ended; negative when a signal did it."""
        with self._changed:
            self.status = exitcode if exitcode >= 0 else 128 - exitcode
            self._changed.notify_all()

    def _lose(self, why: str) -> None:
        """The reader: how the command goes on will never be known."""
        with self._changed:
            self._lost = why
            self._changed.notify_all()

    def send(self, data) -> None:
        """Give the command input."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the command at once; harmless when it has ended."""
        raise NotImplementedError

    def _context(self) -> str:
        """More for a report of failure."""
        return ""

    def _failed(self, what: str) -> LabError:
        """The exception for a command that was lost."""
        return LabError(what)

    @property
    def stdout(self) -> str:
        """What the command has written so far."""
        return self._out.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What the command has written to its error output so far."""
        return self._err.decode(errors="replace")

    @property
    def stdout_bytes(self) -> bytes:
        """What the command has written so far, as it came."""
        return bytes(self._out)

    def _wait_for(self, what: str, condition, timeout: float) -> None:
        """Wait until condition() is true, the command is lost, or time is up."""
        timeout *= patience()
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._lost, timeout)
            if condition():
                return
        if self._lost:
            raise self._failed(f"{self.what}: {self._lost}")
        raise LabTimeout(f"{self.what}: {what}: not within {timeout:g} s\n{self._tail()}")

    def _tail(self) -> str:
        return (f"--- its output:\n{self.stdout[-4000:]}\n--- its error output:\n{self.stderr[-4000:]}\n"
                f"{self._context()}")

    def expect(self, pattern: str, timeout: float = 60, stderr: bool = False) -> re.Match:
        """Wait until the output that has come since the last match has this pattern in it; returns the match."""
        def search():
            data = self._err if stderr else self._out
            return re.search(pattern, data[self._seen[stderr]:].decode(errors="replace"), re.MULTILINE)

        self._wait_for(f"expected {pattern!r}", lambda: search() or self.status is not None, timeout)
        match = search()
        if not match:
            raise LabError(f"{self.what}: ended with {self.status}, without {pattern!r}\n{self._tail()}")
        self._seen[stderr] += len(match.string[:match.end()].encode())
        return match

    def wait(self, timeout: float = 60) -> Result:
        """Wait for the command's end."""
        self._wait_for("its end", lambda: self.status is not None, timeout)
        return Result(self.status, self.stdout, self.stderr)


class LocalProcess(Process):
    """A command on this machine, on a terminal of its own."""

    def __init__(self, argv, on_output=None):
        super().__init__(" ".join(map(str, argv)), on_output)
        self._terminal, theirs = pty.openpty()
        try:
            self._child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        finally:
            os.close(theirs)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """The reader thread: takes output until the terminal's last user is gone, then the exit status."""
        while True:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self._take(data, False)
        self._end(self._child.wait())

    def send(self, data) -> None:
        os.write(self._terminal, data.encode() if isinstance(data, str) else data)

    def kill(self) -> None:
        if self.status is None:
            try:
                os.killpg(self._child.pid, signal.SIGKILL)
            except OSError:
                pass
