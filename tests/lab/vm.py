# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest under tern on a lab host, driven by its console and its control socket.

    guest = vm(cpus=4, disks=["path=/tmp/a.img"])       # the fixture of conftest.py; waits for the guest's shell
    assert guest.sh("nproc").strip() == "4"
    guest.tern("pause", check=True)                     # tern pause NAME
    guest.powerdown()

What lives elsewhere: the guest's own side (lab/guest/), the lab host (lab/lab.py).
"""

import itertools
import json
import re

from lab import LabHost, LabProcess
from process import LabError, Result

GUEST_FILES = "/guest"
# Where a guest's start may take that long on a busy machine; it is 5 to 10 s on an idle one.
BOOT_S = 150
SHELL_S = 60

_names = itertools.count(1)


class QmpError(Exception):
    """An error answer; args[0] is its class, args[1] its text."""


class Qmp:
    """A client of a control socket. Events that come between answers are kept in .events."""

    def __init__(self, host: LabHost, path: str, user: str = "tern", negotiate: bool = True):
        self.process: LabProcess = host.popen(["unixcat", path], user=user)
        self.events: list[dict] = []
        self.greeting = self.message()
        if negotiate:
            self.command("qmp_capabilities")

    def message(self, timeout: float = 30) -> dict:
        """The next message, whatever it is."""
        return json.loads(self.process.expect(r"^.*\n", timeout)[0])

    def command(self, name: str, timeout: float = 30, **arguments):
        """Run a command: its return value, or QmpError."""
        request = {"execute": name, "arguments": arguments} if arguments else {"execute": name}
        self.process.send(json.dumps(request) + "\n")
        while True:
            message = self.message(timeout)
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(message["error"]["class"], message["error"]["desc"])
            else:
                return message["return"]

    def wait_event(self, name: str, timeout: float = 60) -> dict:
        """The first event of that name that has come or comes; those before it are dropped."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name:
                    return event
            message = self.message(timeout)
            if "event" in message:
                self.events.append(message)

    def close(self) -> None:
        """Hang up."""
        self.process.kill()


class Vm:
    """One `tern run`. Options that are given go to its command line; the rest are a small guest with a shell.

    run: a command for the guest instead of a shell; it then powers off by itself, see wait().
    net, disks: lists of option values as on the command line. user: who runs tern. program: what takes the options.
    """

    def __init__(self, host: LabHost, *, name=None, cpus=1, memory="256M", kernel=None, initrd=None, cmdline="",
                 disks=(), net=(), rng=False, serial="stdio", run=None, args=(), user="tern", wait=True, boot_s=BOOT_S,
                 program=("tern", "run")):
        self.host, self.user = host, user
        self.name = name or f"vm{next(_names)}"
        words = ["panic=-1", "quiet", "loglevel=4", "console=ttyS0", cmdline]
        if run is not None:
            words.append(f'tern.run="{run}"')
        argv = [*program, "--name", self.name, "--cpus", str(cpus), "--memory", memory,
                "--kernel", kernel or f"{GUEST_FILES}/kernel", "--initrd", initrd or f"{GUEST_FILES}/initrd",
                "--cmdline", " ".join(word for word in words if word), "--serial", serial]
        for disk in disks:
            argv += ["--disk", disk]
        for card in net:
            argv += ["--net", card]
        argv += ["--rng"] if rng else []
        self.argv = [*argv, *args]
        # On a terminal, so that --serial stdio is what a person sees.
        self.process = host.popen(self.argv, user=user, pty=serial == "stdio")
        if wait and serial == "stdio":
            self.wait_up(boot_s)

    def wait_up(self, timeout: float = BOOT_S) -> None:
        """Wait until the guest's init is through, and make its shell fit for sh()."""
        self.process.expect(r"guest: up", timeout)
        if "tern.run=" not in " ".join(self.argv):
            self.process.expect(r"# ", SHELL_S)
            self.process.send("stty -echo; PS1=; PS2=\n")
            self.sh("true")

    def sh(self, command: str, timeout: float = SHELL_S, check: bool = True) -> str:
        """Run a command in the guest's shell: what it printed. With check, a status other than 0 is an error."""
        self.process.send(f"echo '<''<'; {command}\necho \"<$?>\"\n")
        match = self.process.expect(r"(?s)<<\r*\n(.*?)<(\d+)>\r*\n", timeout)
        output, status = match[1].replace("\r", ""), int(match[2])
        if check and status != 0:
            raise LabError(f"{self.name}: {command}: exit status {status}\n{output}")
        return output

    def start(self, command: str) -> None:
        """Give the guest's shell a command, without waiting for it."""
        self.process.send(command + "\n")

    def expect(self, pattern: str, timeout: float = SHELL_S) -> re.Match:
        """Wait until the console shows that."""
        return self.process.expect(pattern, timeout)

    def tern(self, command: str, *args: str, check: bool = False, timeout: float = 60) -> Result:
        """tern COMMAND NAME ARGS... as the VM's user."""
        return self.host.run(["tern", command, self.name, *args], user=self.user, check=check, timeout=timeout)

    def popen(self, command: str, *args: str) -> LabProcess:
        """tern COMMAND NAME ARGS... as the VM's user, without waiting for its end."""
        return self.host.popen(["tern", command, self.name, *args], user=self.user)

    def status(self) -> dict:
        """tern status --json."""
        return json.loads(self.tern("status", "--json", check=True).stdout)

    def qmp(self, negotiate: bool = True) -> Qmp:
        """A fresh connection to the control socket."""
        uid = "1000" if self.user == "tern" else "0"
        return Qmp(self.host, f"/run/user/{uid}/tern/{self.name}.sock", self.user, negotiate)

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end of tern run: its exit status."""
        return self.process.wait(timeout).status

    def wait_for_powerkey(self) -> None:
        """Wait until the guest watches its power button."""
        self.sh("until [ -e /run/powerkey ]; do sleep 0.1; done")

    def powerdown(self, timeout: float = 60) -> int:
        """Press the power button and wait for the end: the exit status."""
        self.tern("powerdown", check=True)
        self.expect("guest: powering off", timeout)
        return self.wait(timeout)

    @property
    def console(self) -> str:
        """All that came on the console."""
        return self.process.stdout

    def close(self) -> None:
        """End it, if it is still there."""
        self.process.kill()


class Arriving(Vm):
    """A VM to be: `tern receive` on a host. Once one has come it is used like any other, its console where it was."""

    def __init__(self, host: LabHost, *, name, maps=(), port=4444, args=(), user="tern"):
        self.host, self.user, self.name, self.port = host, user, name, port
        self.argv = ["tern", "receive", "--listen", f"tcp:0.0.0.0:{port}", "--insecure", "--name", name,
                     "--silence", "60s", "--map", "serial=stdio"]
        for mapping in maps:
            self.argv += ["--map", mapping]
        self.argv += args
        self.process = host.popen(self.argv, user=user, pty=True)
        self.process.expect(r"listening at", 60)


class Restored(Vm):
    """`tern restore` of a file on a host, its console where it was."""

    def __init__(self, host: LabHost, file, *, name, args=(), user="tern"):
        self.host, self.user, self.name = host, user, name
        self.argv = ["tern", "restore", file, "--name", name, "--map", "serial=stdio", *args]
        self.process = host.popen(self.argv, user=user, pty=True)
