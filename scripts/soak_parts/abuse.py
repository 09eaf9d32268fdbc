"""Clients that mean no good, or have bad luck: each does its thing once, and leaves."""

import contextlib
import random
import socket
import ssl
import struct
import time

RESET = struct.pack("ii", 1, 0)
FLOOD = 120
HANDSHAKES = 24
HELD = 24
HELD_S = 4


class Abuse:
    def __init__(self, server, seed):
        self.server = server
        self.random = random.Random(seed)
        self.counts = {}

    def connect(self, address, small=False):
        connection = socket.socket()
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        # Several clients, as a server sees it.
        connection.bind((f"127.0.0.{self.random.randrange(2, 10)}", 0))
        connection.connect(address)
        return connection

    def request(self, name="steady-24m"):
        return f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    def once(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            KINDS[kind](self, stack)

    def resets(self, stack):
        for _ in range(8):
            connection = stack.enter_context(self.connect(self.server.plain))
            connection.sendall(self.random.choice([self.request(), b"steady-24m\n", self.request("tree/0/")]))
            connection.recv(self.random.randrange(1, 1 << 16))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()

    def stalls(self, stack):
        for _ in range(HELD):
            connection = stack.enter_context(self.connect(self.server.plain, small=True))
            connection.sendall(self.random.choice([self.request(), b"steady-24m\n", self.request("tree/1/")]))
        time.sleep(HELD_S)

    def slow_heads(self, stack):
        address = self.random.choice([self.server.plain, self.server.secure])
        held = [stack.enter_context(self.connect(address)) for _ in range(HELD)]
        head = b"\x16\x03\x01\x02\x00\x01" if address == self.server.secure else self.request()
        for byte in head[: HELD_S * 5]:
            for connection in held:
                connection.sendall(bytes([byte]))
            time.sleep(0.2)

    def connects(self, stack):
        for _ in range(FLOOD):
            address = self.random.choice([self.server.plain, self.server.secure])
            connection = stack.enter_context(self.connect(address))
            if self.random.random() < 0.3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()
        time.sleep(0.5)

    def handshakes(self, stack):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for _ in range(HANDSHAKES):
            raw = stack.enter_context(self.connect(self.server.secure))
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            with contextlib.suppress(ssl.SSLError):
                session.do_handshake()
            hello = outgoing.read()
            if self.random.random() < 0.4:
                hello = hello[: self.random.randrange(len(hello))]
            raw.sendall(hello)
            if self.random.random() < 0.5:
                with contextlib.suppress(OSError, ssl.SSLError):
                    incoming.write(raw.recv(1 << 14))
                    session.do_handshake()

    def junk(self, stack):
        for _ in range(8):
            connection = stack.enter_context(self.connect(self.random.choice([self.server.plain, self.server.secure])))
            connection.sendall(self.random.choice([
                self.random.randbytes(500), b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500,
                self.request("steady-1k") * 200, b"GET /tree/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\0\0",
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n"]))
            with contextlib.suppress(OSError):
                connection.recv(1 << 16)

    def half(self, stack):
        """Takes a little of a large file, slowly, and goes."""
        held = []
        for _ in range(4):
            connection = stack.enter_context(self.connect(self.server.plain, small=True))
            connection.sendall(self.request())
            held.append(connection)
        for _ in range(10):
            for connection in held:
                connection.recv(1 << 14)
            time.sleep(0.2)


KINDS = {
    "resets": Abuse.resets, "stalls": Abuse.stalls, "slow heads": Abuse.slow_heads, "connects": Abuse.connects,
    "TLS handshakes": Abuse.handshakes, "junk": Abuse.junk, "slow readers": Abuse.half,
}
