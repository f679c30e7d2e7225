#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Stands between the source and the target of a migration and records what they say, for tests/wirecheck.py (which has the
names of the files). It looks at nothing but the beginning of each connection, to name its file.

Each HELLO begins a new attempt, in DIRECTORY/0, DIRECTORY/1...

usage: recorder.py LISTEN TARGET DIRECTORY      (tcp:HOST:PORT, port 0: any; unix:PATH)
Prints the address that it listens on, then relays until it is interrupted.
"""

import argparse
import os
import signal
import socket
import struct
import sys
import threading
import time

HELLO, ASK, DATA_HELLO = 1, 7, 65
HEADER_BYTES = 32
CHANNEL_AT = HEADER_BYTES + 8 + 16  # in DATA_HELLO: after magic and session


def open_socket(uri, listen):
    """A socket that listens at, or is connected to, tcp:HOST:PORT or unix:PATH."""
    kind, _, rest = uri.partition(":")
    if kind == "unix":
        made, address = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), rest
    elif kind == "tcp":
        host, _, port = rest.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made, address = socket.socket(family, socket.SOCK_STREAM), (host, int(port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        raise ValueError(f"{uri}: neither tcp:HOST:PORT nor unix:PATH")
    if listen:
        made.bind(address)
        made.listen(32)
    else:
        made.connect(address)
    return made


class Connection:
    """One connection and its two files."""

    def __init__(self, recorder, source):
        self.recorder = recorder
        self.source = source
        self.target = open_socket(recorder.target, listen=False)
        self.files = {}
        self.attempt = None
        self.name = None
        self.beginning = b""
        self.open_ways = 2
        for end in (self.source, self.target):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self):
        return [
            threading.Thread(target=self.relay, args=(self.source, self.target, "s2t"), daemon=True),
            threading.Thread(target=self.relay, args=(self.target, self.source, "t2s"), daemon=True),
        ]

    def relay(self, reader, writer, way):
        room = bytearray(1 << 20)
        view = memoryview(room)
        try:
            while count := reader.recv_into(room):
                self.record(view[:count], way)
                writer.sendall(view[:count])
        except OSError:
            pass  # the other direction was closed by its end; what passed is recorded
        for end, how in ((writer, socket.SHUT_WR), (reader, socket.SHUT_RD)):
            try:
                end.shutdown(how)
            except OSError:
                pass
        with self.recorder.lock:
            if self.name is None and way == "s2t" and self.beginning:
                self.settle(self.recorder.name_for(self.beginning, whole=False))
            self.open_ways -= 1
            if not self.open_ways:
                for file, _ in self.files.values():
                    file.close()
                self.source.close()
                self.target.close()

    def record(self, piece, way):
        with self.recorder.lock:
            if self.name is None and way == "s2t":
                self.beginning += piece
                name = self.recorder.name_for(self.beginning, whole=True)
                if name is None:
                    return
                self.settle(name)
                return
            if self.name is None:
                self.settle(self.recorder.name_for(b"", whole=False))
            self.write(piece, way)

    def settle(self, name):
        self.attempt, self.name = name
        if self.beginning:
            self.write(self.beginning, "s2t")
        self.beginning = b""

    def write(self, piece, way):
        file_name = f"{self.name}.{way}"
        if way not in self.files:
            self.files[way] = [open(os.path.join(self.attempt, file_name), "wb"), 0]  # noqa: SIM115
        file, offset = self.files[way]
        file.write(piece)
        file.flush()
        self.files[way][1] += len(piece)
        with open(os.path.join(self.attempt, "order"), "a", encoding="ascii") as order:
            order.write(f"{time.monotonic_ns()} {file_name} {offset} {len(piece)}\n")


class Recorder:
    """Relays from `listen` to `target` until close(); attempts is the list of their directories."""

    def __init__(self, listen, target, directory):
        self.target = target
        self.directory = directory
        self.lock = threading.Lock()
        self.attempts = []
        self.counts = {"ask": 0, "other": 0}
        self.threads = []
        self.listener = open_socket(listen, listen=True)
        if listen.startswith("unix:"):
            self.uri = listen
        else:
            host, port = self.listener.getsockname()[:2]
            self.uri = f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return  # closed
            try:
                connection = Connection(self, source)
            except OSError:
                source.close()  # there is no target: the source sees that
                continue
            threads = connection.start()
            self.threads += threads
            for thread in threads:
                thread.start()

    def new_attempt(self):
        path = os.path.join(self.directory, str(len(self.attempts)))
        os.makedirs(path)
        self.attempts.append(path)
        self.counts = {"ask": 0, "other": 0}
        return path

    def name_for(self, beginning, whole):
        """(directory, name) of the connection that begins so; None: more must be seen (not when it is the whole)."""
        kind = struct.unpack_from("<I", beginning)[0] if len(beginning) >= 4 else None
        if kind == HELLO:
            return self.new_attempt(), "control"
        if kind == DATA_HELLO and len(beginning) >= CHANNEL_AT + 4:
            name = f"data{struct.unpack_from('<I', beginning, CHANNEL_AT)[0]}"
        elif kind == ASK:
            name = f"ask{self.counts['ask']}"
            self.counts["ask"] += 1
        elif whole and len(beginning) < CHANNEL_AT + 4:
            return None
        else:
            name = f"other{self.counts['other']}"
            self.counts["other"] += 1
        attempt = self.attempts[-1] if self.attempts else self.new_attempt()
        if os.path.exists(os.path.join(attempt, f"{name}.s2t")):
            name = f"{name}again{len(os.listdir(attempt))}"  # a channel that is there already: the reader will say so
        return attempt, name

    def wait(self, seconds):
        """Until every connection that was made has ended; False when one has not in time."""
        end = time.monotonic() + seconds
        for thread in list(self.threads):
            thread.join(max(0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.accepting.join(5)


def main():
    parser = argparse.ArgumentParser(description="relays a migration and records it")
    parser.add_argument("listen")
    parser.add_argument("target")
    parser.add_argument("directory")
    arguments = parser.parse_args()
    recorder = Recorder(arguments.listen, arguments.target, arguments.directory)
    print(recorder.uri, flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        recorder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
