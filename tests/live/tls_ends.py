# SPDX-License-Identifier: GPL-2.0-or-later
"""
TLS as a relay has it that stands between two ends with keys of their pool: what one end says is opened, so that the relay
knows at which record it is, and closed again for the other. The bytes that travel are handed to the relay, which does its
harm to them, as a network would. No sockets here.
"""

import os
import ssl
import threading


class Keys:
    """Those of one directory, as tls_keys.make() leaves them: to answer a source, and to speak to a target."""

    def __init__(self, directory):
        self.directory = directory
        self.answers = self.context(ssl.PROTOCOL_TLS_SERVER, "server")
        self.answers.num_tickets = 0
        self.speaks = self.context(ssl.PROTOCOL_TLS_CLIENT, "client")

    def context(self, protocol, who):
        made = ssl.SSLContext(protocol)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(os.path.join(self.directory, "ca-cert.pem"))
        made.load_cert_chain(*(os.path.join(self.directory, f"{who}-{what}.pem") for what in ("cert", "key")))
        return made


class End:
    """One end's TLS; both directions' threads use it. What is wrong with the bytes is an ssl.SSLError, an OSError."""

    def __init__(self, context, server):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_side=server)
        self.lock = threading.Lock()

    def shake(self, data):
        """Takes what the end said; returns whether the handshake is over, and what is to be said to it."""
        with self.lock:
            self.incoming.write(data)
            try:
                self.object.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            return done, self.outgoing.read()

    def open(self, data):
        """What the end said, in the clear."""
        pieces = []
        with self.lock:
            self.incoming.write(data)
            try:
                while piece := self.object.read(1 << 16):
                    pieces.append(piece)
            except ssl.SSLWantReadError:
                pass
        return b"".join(pieces)

    def close(self, data):
        """What travels to say this to the end."""
        with self.lock:
            self.object.write(data)
            return self.outgoing.read()
