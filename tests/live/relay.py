# SPDX-License-Identifier: GPL-2.0-or-later
"""
Stands between the two ends of a migration and does harm: cuts, swallows, delays, holds one connection back, chops, and
flips bits. It follows the records (docs/wire.md), so that it can act at the boundary of a stage.

A relay forwards until its trigger is met; then it calls `act`, on the thread of that connection, with what was about to be
sent held back or just sent. What the network does from then on is set by the methods that `act` calls. It knows nothing
of processes; faults.py does. Where both ends use TLS it has keys of theirs (tls_ends.py), to see the records; harm is done to
the encrypted bytes.
"""

import collections
import random
import socket
import struct
import threading
import time

import tls_ends

HEADER_BYTES = 32
HELLO, CONFIG, STATE, OWN, DONE, CANCEL, ASK = range(1, 8)
HELLO_OK, CONFIG_OK, REFUSE, ROUND_DONE, READY, TAKEN, REFUSED_OWN, UNKNOWN = range(32, 40)
HEARTBEAT, DATA_HELLO, PAGES, ROUND_END = range(64, 68)
WITH_ROUND = (STATE, ROUND_DONE, PAGES, ROUND_END)
SOURCE, TARGET = "source", "target"
OTHER = {SOURCE: TARGET, TARGET: SOURCE}

# When a fault comes: before or after a record of that kind that `side` sends has been passed on (round: 0, or 1 for any
# later one); or, with kind None, after so many bytes of the source's.
Trigger = collections.namedtuple("Trigger", "side kind round after offset", defaults=(None, False, 0))


class Splitter:
    """Cuts a stream at the ends of its records' heads, and bodies: feed() yields (kind, round, bytes), kind None: body."""

    def __init__(self):
        self.waiting = b""
        self.body = 0
        self.lost = False  # what was seen is no record: everything passes

    def feed(self, data):
        self.waiting += data
        while self.waiting:
            if self.lost:
                yield None, None, self.take(len(self.waiting))
            elif self.body:
                piece = self.take(min(self.body, len(self.waiting)))
                self.body -= len(piece)
                yield None, None, piece
            else:
                if len(self.waiting) < HEADER_BYTES:
                    return
                kind, head, body = struct.unpack_from("<IIQ", self.waiting)
                if head > 1 << 20 or body > 1 << 26:
                    self.lost = True
                    continue
                if len(self.waiting) < HEADER_BYTES + head:
                    return
                piece = self.take(HEADER_BYTES + head)
                self.body = body
                number = struct.unpack_from("<I", piece, HEADER_BYTES)[0] if kind in WITH_ROUND and head >= 4 else None
                yield kind, number, piece

    def take(self, count):
        piece, self.waiting = self.waiting[:count], self.waiting[count:]
        return piece


class Connection:
    def __init__(self, relay, source, number):
        self.relay = relay
        self.number = number
        self.is_data = False
        self.ends = {SOURCE: source, TARGET: socket.create_connection(relay.target, timeout=5)}
        for end in self.ends.values():
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.swallows = False
        self.held_until = 0
        self.tls = {}
        if relay.keys:
            self.tls = {
                SOURCE: tls_ends.End(relay.keys.answers, server=True),
                TARGET: tls_ends.End(relay.keys.speaks, server=False),
            }

    def start(self):
        try:
            for side in self.tls:
                self.shake(side)
        except OSError:
            self.end(SOURCE)
            self.end(TARGET)
            return
        for side in (SOURCE, TARGET):
            threading.Thread(target=self.run, args=(side,), daemon=True).start()

    def shake(self, side):
        done, said = self.tls[side].shake(b"")
        while True:
            if said:
                self.relay.pass_on_sealed(self, OTHER[side], said)
            if done:
                return
            heard = self.ends[side].recv(65536)
            if not heard:
                raise OSError("ended in the handshake")
            done, said = self.tls[side].shake(heard)

    def heard(self, side):
        """What `side` says, in the clear."""
        if self.tls:
            yield self.tls[side].open(b"")
        while data := self.ends[side].recv(65536):
            yield self.tls[side].open(data) if self.tls else data

    def run(self, side):
        """Passes on what `side` says."""
        splitter = Splitter()
        try:
            for data in self.heard(side):
                for kind, number, piece in splitter.feed(data):
                    self.is_data |= kind == DATA_HELLO
                    self.relay.pass_on(self, side, kind, number, piece)
        except OSError:
            pass
        self.end(side)

    def end(self, side):
        """`side` says nothing more."""
        if self.relay.quiet_end(self):
            return
        for end, how in ((self.ends[OTHER[side]], socket.SHUT_WR), (self.ends[side], socket.SHUT_RD)):
            try:
                end.shutdown(how)
            except OSError:
                pass

    def cut(self):
        for end in self.ends.values():
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Relay:
    """
    uri is where the source is to be sent. seen: how many records of each kind have come here, passed on or not. keys: both
    ends use TLS, with these.
    """

    def __init__(self, target_uri, trigger, act, seed, keys=None):
        host, port = target_uri.removeprefix("tcp:").rsplit(":", 1)
        self.target = (host, int(port))
        self.trigger = trigger
        self.act = act
        self.keys = keys
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self.fired = False
        self.fired_at = None
        self.seen = collections.Counter()
        self.seen_at = {}  # when the first of a kind came
        self.bytes = 0
        self.connections = []
        self.closed = False
        self.down_until = 0  # new connections find nobody
        self.swallow_until = 0  # they, too, are swallowed
        self.delay_until = 0
        self.chopped = False
        self.flip_side = None  # a bit of what this side says next, or of the next body
        self.flip_body = False
        self.flipped = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.uri = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return
            now = time.monotonic()
            try:
                if now < self.down_until:
                    raise OSError("down")
                connection = Connection(self, source, len(self.connections))
            except OSError:
                source.close()
                continue
            connection.swallows = now < self.swallow_until
            with self.lock:
                self.connections.append(connection)
            threading.Thread(target=connection.start, daemon=True).start()

    # ---- Passing on ----

    def meets(self, side, kind, number, piece):
        trigger = self.trigger
        if trigger.kind is None:
            self.bytes += len(piece) if side == SOURCE else 0
            return side == SOURCE and self.bytes > trigger.offset
        if side != trigger.side or kind not in trigger.kind:
            return False
        return trigger.round is None or (number == 0) == (trigger.round == 0)

    def fires(self, side, kind, number, piece):
        with self.lock:
            if kind is not None:
                self.seen[kind] += 1
                self.seen_at.setdefault(kind, time.monotonic())
            if self.fired or not self.meets(side, kind, number, piece):
                return False
            self.fired = True
            self.fired_at = time.monotonic()
            return True

    def pass_on(self, connection, side, kind, number, piece):
        fire = self.fires(side, kind, number, piece)
        if fire and not self.trigger.after:
            self.act(self, connection)
        self.send(connection, side, piece, kind is None, bool(connection.tls))
        if fire and self.trigger.after:
            self.act(self, connection)

    def pass_on_sealed(self, connection, side, piece):
        """What TLS itself says; no record."""
        if self.fires(side, None, None, piece):
            self.act(self, connection)
        self.send(connection, side, piece, False, False)

    def send(self, connection, side, piece, is_body, seal):
        writer = connection.ends[OTHER[side]]
        while not self.closed:
            until = max(self.delay_until, connection.held_until)
            left = until - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.05))
        with self.lock:
            if connection.swallows:
                return
            if seal:
                piece = connection.tls[OTHER[side]].close(piece)
            if self.flip_side == side and (is_body or not self.flip_body):
                self.flip_side = None
                self.flipped = True
                changed = bytearray(piece)
                at = self.random.randrange(len(changed) * 8)
                changed[at // 8] ^= 1 << (at % 8)
                piece = bytes(changed)
            chopped = self.chopped and (len(piece) < 600 or self.random.random() < 0.2)
        if not chopped:
            writer.sendall(piece)
            return
        at, largest = 0, 7 if len(piece) < 600 else 4099
        while at < len(piece):
            count = self.random.randint(1, largest)
            writer.sendall(piece[at : at + count])
            at += count
            if self.random.random() < 0.1:
                time.sleep(0.0005)

    def quiet_end(self, connection):
        """The end of one side is not to be told to the other."""
        return connection.swallows and not self.closed

    # ---- Harm ----

    def cut(self, down_s=0):
        with self.lock:
            self.down_until = time.monotonic() + down_s
            connections = list(self.connections)
        for connection in connections:
            connection.cut()

    def swallow(self, seconds):
        """Everything that is connected now, for ever; what connects within so many seconds, too."""
        with self.lock:
            self.swallow_until = time.monotonic() + seconds
            for connection in self.connections:
                connection.swallows = True

    def swallow_data(self):
        """The data connections alone: heartbeats go on."""
        with self.lock:
            for connection in self.connections:
                connection.swallows |= connection.is_data

    def delay(self, seconds):
        self.delay_until = time.monotonic() + seconds

    def hold(self, connection, seconds):
        connection.held_until = time.monotonic() + seconds

    def chop(self):
        self.chopped = True

    def flip(self, side, body=False):
        self.flip_side, self.flip_body = side, body

    def close(self):
        self.closed = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            connection.cut()
            for end in connection.ends.values():
                end.close()
