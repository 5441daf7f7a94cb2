"""A client that sends whatever bytes a test wants, and reads messages as they come.

It logs in without a password, so its proxies use `auth: {method: trust}`; or see `prove`.
"""

import socket
import struct
from types import TracebackType
from typing import NamedTuple

from proxy.auth import DerivedKeys, PlainSecret
from proxy.auth.scram import ScramClient

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104


class Message(NamedTuple):
    """Kind, one byte, and body."""

    kind: bytes
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse."""
        return {
            chr(raw[0]): raw[1:].decode("utf-8", "replace") for raw in self.body.split(b"\0") if raw
        }

    @property
    def columns(self) -> list[bytes | None]:
        """Of a DataRow."""
        values: list[bytes | None] = []
        (count,) = struct.unpack_from("!H", self.body)
        at = 2
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            values.append(None if length < 0 else self.body[at : at + length])
            at += max(length, 0)
        return values


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message of the wire protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


def packet(body: bytes) -> bytes:
    """A packet without a kind."""
    return struct.pack("!i", len(body) + 4) + body


def startup(version: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    """A StartupMessage."""
    texts = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    return packet(struct.pack("!i", version) + texts + b"\0")


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def parse(name: str, sql: str) -> bytes:
    return message(b"P", f"{name}\0{sql}\0".encode() + b"\0\0")


def bind(portal: str, statement: str) -> bytes:
    return message(b"B", f"{portal}\0{statement}\0".encode() + b"\0\0\0\0\0\0")


def describe(what: str, name: str) -> bytes:
    return message(b"D", f"{what}{name}\0".encode())


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", rows))


def close(what: str, name: str) -> bytes:
    return message(b"C", f"{what}{name}\0".encode())


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")


class RawClient:
    """One TCP connection. Reading has a deadline: a silent peer fails the test."""

    def __init__(self, port: int, *, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pid = 0
        self.secret = b""
        self.parameters: dict[str, str] = {}
        self._held = b""

    @classmethod
    def logged_in(
        cls, port: int, user: str, database: str, version: int = PROTOCOL_3_0, **parameters: str
    ) -> "RawClient":
        """A client up to its first ReadyForQuery."""
        client = cls(port)
        try:
            client.send(startup(version, user=user, database=database, **parameters))
            client.read_welcome()
        except BaseException:
            client.close()
            raise
        return client

    def read_welcome(self) -> None:
        """Read up to the first ReadyForQuery and keep what is said on the way."""
        for each in self.read_until(b"Z"):
            assert each.kind != b"E", each.fields
            if each.kind == b"K":
                self.pid = struct.unpack_from("!i", each.body)[0]
                self.secret = each.body[4:]
            elif each.kind == b"S":
                name, value, _ = each.body.split(b"\0")
                self.parameters[name.decode()] = value.decode()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def read(self) -> Message | None:
        """The next message, or None when the peer has closed the connection between messages."""
        while True:
            if len(self._held) >= 5:
                (length,) = struct.unpack_from("!i", self._held, 1)
                if len(self._held) > length:
                    each = Message(self._held[:1], self._held[5 : length + 1])
                    self._held = self._held[length + 1 :]
                    return each
            try:
                more = self.socket.recv(1 << 16)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self._held += more

    def read_until(self, kind: bytes) -> list[Message]:
        """All messages up to and with the first of this kind."""
        found: list[Message] = []
        while True:
            each = self.read()
            assert each is not None, f"closed before {kind!r}, after {found}"
            found.append(each)
            if each.kind == kind:
                return found

    def read_to_end(self) -> list[Message]:
        """All messages until the peer closes."""
        found: list[Message] = []
        while (each := self.read()) is not None:
            found.append(each)
        return found

    @property
    def unfinished(self) -> bytes:
        """What has been read and is no whole message."""
        return self._held

    def ask(self, sql: str) -> list[Message]:
        """A simple query and its replies."""
        self.send(query(sql))
        return self.read_until(b"Z")

    def value(self, sql: str) -> str:
        """The first column of the first row."""
        for each in (replies := self.ask(sql)):
            if each.kind == b"D":
                column = each.columns[0]
                assert column is not None
                return column.decode()
        raise AssertionError(f"no row in {replies}")

    def error(self, sql: str) -> str:
        """The SQLSTATE this query ends with."""
        for each in (replies := self.ask(sql)):
            if each.kind == b"E":
                return each.fields["C"]
        raise AssertionError(f"no error in {replies}")

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Vanish: the peer sees a reset instead of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def prove(client: RawClient, greeting: bytes, password: str, nonce: bytes = b"a-nonce") -> bytes:
    """Log in by SCRAM. greeting: the startup packet. Result: all that was sent for it."""
    scram = ScramClient(PlainSecret(password), DerivedKeys(), nonce)
    text = scram.first()
    first = message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(text)) + text)
    client.send(greeting + first)
    client.read_until(b"R")
    (challenge,) = client.read_until(b"R")
    final = message(b"p", scram.final(challenge.body[4:]))
    client.send(final)
    client.read_welcome()
    return greeting + first + final


def send_cancel(port: int, pid: int, secret: bytes) -> None:
    """Send a CancelRequest and wait until the peer has closed the connection."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(packet(struct.pack("!ii", CANCEL_REQUEST, pid) + secret))
        assert sock.recv(1) == b""
