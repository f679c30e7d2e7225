# SPDX-License-Identifier: GPL-2.0-or-later
"""A QMP client: one connection to a control socket, commands, and the events that came meanwhile."""

import json
import socket
import time


class QmpError(Exception):
    """The error that the VMM answered with."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('class')}: {error.get('desc')}")
        self.kind = error.get("class")
        self.desc = error.get("desc")


class Qmp:
    def __init__(self, path, negotiate=True, timeout=10):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self._bytes = b""
        self.events = []
        self.greeting = self.receive()
        if negotiate:
            self.command("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def receive(self, timeout=None):
        """The next message, whatever it is; EOFError when the other end has closed."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        while b"\n" not in self._bytes:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError("the control socket was closed")
            self._bytes += more
        line, self._bytes = self._bytes.split(b"\n", 1)
        return json.loads(line)

    def send(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def command(self, name, **arguments):
        self.send(name, **arguments)
        while True:
            message = self.receive()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(name, message["error"])
            else:
                return message["return"]

    def event(self, name, timeout=10):
        """Waits for an event of that name (one that has come already counts) and takes it."""
        end = time.monotonic() + timeout
        while True:
            for number, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(number)
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {name} event within {timeout} s, but {[e['event'] for e in self.events]}")
            try:
                message = self.receive(left)
            except socket.timeout:
                continue
            if "event" in message:
                self.events.append(message)
