"""A raw, slow, obvious client of PostgreSQL's protocol: the oracle beside the compiled one.

It says exactly the bytes it is told to and keeps every message it hears. Nothing of the program's
own reading and writing is used here, so that a mistake of ours cannot hide in both.
Source: PostgreSQL documentation, "Message Formats".
"""

import contextlib
import hashlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import scramp

from proxy.embedded import Login
from tests.fixtures.postgres import APP, DATABASE

LIMIT_S = 10.0

# pg_prepared_statements, in a spelling that the proxy does not look for: all that the server has.
SERVER_STATEMENTS = 'U&"pg\\005fprepared_statements"'

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Message(NamedTuple):
    """One message as it came, without its length."""

    kind: bytes
    body: bytes

    def __repr__(self) -> str:
        body = self.body if len(self.body) <= 200 else self.body[:200] + b"..."
        return f"{self.kind.decode('latin-1')} {body!r}"


# --- what a client says --------------------------------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message of this kind."""
    return kind + struct.pack("!i", 4 + len(body)) + body


def text(value: str) -> bytes:
    """A string with its terminator."""
    return value.encode() + b"\0"


def query(sql: str) -> bytes:
    """Query."""
    return message(b"Q", text(sql))


def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    """Parse; types are OIDs."""
    oids = struct.pack("!H", len(types)) + b"".join(struct.pack("!I", oid) for oid in types)
    return message(b"P", text(name) + text(sql) + oids)


def bind(
    *values: str | bytes | None,
    name: str = "",
    portal: str = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; formats: 0 is text, 1 binary."""
    body = text(portal) + text(name)
    body += struct.pack("!H", len(formats)) + b"".join(struct.pack("!h", f) for f in formats)
    body += struct.pack("!H", len(values))
    for value in values:
        octets = value.encode() if isinstance(value, str) else value
        if octets is None:
            body += struct.pack("!i", -1)
        else:
            body += struct.pack("!i", len(octets)) + octets
    body += struct.pack("!H", len(results)) + b"".join(struct.pack("!h", f) for f in results)
    return message(b"B", body)


def describe_statement(name: str = "") -> bytes:
    """Describe of a statement."""
    return message(b"D", b"S" + text(name))


def describe_portal(name: str = "") -> bytes:
    """Describe of a portal."""
    return message(b"D", b"P" + text(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    """Execute, of so many rows at most; 0 is all."""
    return message(b"E", text(portal) + struct.pack("!i", rows))


def close_statement(name: str = "") -> bytes:
    """Close of a statement."""
    return message(b"C", b"S" + text(name))


def close_portal(name: str = "") -> bytes:
    """Close of a portal."""
    return message(b"C", b"P" + text(name))


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")
COPY_DONE = message(b"c")


def copy_data(octets: bytes) -> bytes:
    """CopyData."""
    return message(b"d", octets)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return message(b"f", text(reason))


def function_call(
    oid: int, *values: bytes | None, formats: Sequence[int] = (), result: int = 0
) -> bytes:
    """FunctionCall."""
    body = struct.pack("!I", oid) + struct.pack("!H", len(formats))
    body += b"".join(struct.pack("!h", f) for f in formats) + struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"F", body + struct.pack("!h", result))


def run(
    sql: str,
    *values: str | bytes | None,
    name: str = "",
    types: Sequence[int] = (),
    portal: str = "",
    rows: int = 0,
) -> bytes:
    """Parse, Bind, Describe and Execute, as most drivers say them; without a Sync."""
    return (
        parse(sql, name, types)
        + bind(*values, name=name, portal=portal)
        + describe_portal(portal)
        + execute(portal, rows)
    )


def startup(parameters: Mapping[str, str], version: int = PROTOCOL_3_0) -> bytes:
    """StartupMessage."""
    body = struct.pack("!I", version)
    for name, value in parameters.items():
        body += text(name) + text(value)
    body += b"\0"
    return struct.pack("!i", 4 + len(body)) + body


def request(code: int, rest: bytes = b"") -> bytes:
    """SSLRequest, GSSENCRequest, CancelRequest."""
    return struct.pack("!iI", 8 + len(rest), code) + rest


# --- what a server says --------------------------------------------------------------------------


def fields_of(error: Message) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, by their letters."""
    found = {}
    for each in error.body.split(b"\0"):
        if each:
            found[chr(each[0])] = each[1:].decode("utf-8", "backslashreplace")
    return found


def columns_of(row: Message) -> list[bytes | None]:
    """The values of a DataRow."""
    (count,) = struct.unpack_from("!H", row.body)
    at = 2
    values: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", row.body, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        values.append(row.body[at : at + length])
        at += length
    return values


def rows_of(heard: Iterable[Message]) -> list[list[bytes | None]]:
    """All rows that were heard."""
    return [columns_of(each) for each in heard if each.kind == b"D"]


def errors_of(heard: Iterable[Message]) -> list[str]:
    """The SQLSTATEs that were heard."""
    return [fields_of(each)["C"] for each in heard if each.kind == b"E"]


def kinds_of(heard: Iterable[Message]) -> str:
    """The kinds, in order."""
    return b"".join(each.kind for each in heard).decode("latin-1")


# --- a connection --------------------------------------------------------------------------------


class Refused(Exception):  # noqa: N818 -- it is what happened
    """The login ended in an ErrorResponse; `fields` are its fields."""

    def __init__(self, error: Message) -> None:
        super().__init__(repr(error))
        self.fields = fields_of(error)


@dataclass
class Address:
    """Where, as whom."""

    host: str
    port: int
    user: str
    password: str
    database: str


class Listening(Protocol):
    """PostgreSQL, or the proxy."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


def address_of(place: Listening, database: str = DATABASE, user: Login = APP) -> Address:
    """Where to connect to talk to it."""
    return Address(place.host, place.port, user.name, user.password, database)


class Wire:
    """One connection, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(LIMIT_S)
        self._read = bytearray()
        self.ended = False
        self.parameters: dict[str, str] = {}
        self.key = b""
        self.pid = 0
        self.welcome: list[Message] = []

    @classmethod
    def dial(cls, host: str, port: int) -> "Wire":
        """Connect and say nothing. A host that starts with / is a folder with a Unix socket."""
        if host.startswith("/"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LIMIT_S)
            sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            sock = socket.create_connection((host, port), LIMIT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    @classmethod
    def connect(cls, address: Address, version: int = PROTOCOL_3_0, /, **parameters: str) -> "Wire":
        """Connect and log in; `parameters` go into the startup packet. Raises Refused."""
        wire = cls.dial(address.host, address.port)
        try:
            said = {"user": address.user, "database": address.database, **parameters}
            wire.send(startup(said, version))
            wire.log_in(address)
        except BaseException:
            wire.close()
            raise
        return wire

    def log_in(self, address: Address) -> None:
        """Answer what the server asks until it is ready."""
        scram: scramp.ScramClient | None = None
        while True:
            heard = self.receive()
            self.welcome.append(heard)
            if heard.kind == b"E":
                raise Refused(heard)
            if heard.kind == b"S":
                name, value = heard.body[:-1].split(b"\0")
                self.parameters[name.decode()] = value.decode()
            elif heard.kind == b"K":
                self.pid = struct.unpack_from("!I", heard.body)[0]
                self.key = heard.body[4:]
            elif heard.kind == b"Z":
                return
            elif heard.kind == b"R":
                (code,) = struct.unpack_from("!I", heard.body)
                if code == 3:
                    self.send(message(b"p", text(address.password)))
                elif code == 5:
                    self.send(message(b"p", text(_md5(address, heard.body[4:8]))))
                elif code == 10:
                    scram = scramp.ScramClient(["SCRAM-SHA-256"], address.user, address.password)
                    first = scram.get_client_first().encode()
                    chosen = text("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first
                    self.send(message(b"p", chosen))
                elif code == 11:
                    assert scram is not None
                    scram.set_server_first(heard.body[4:].decode())
                    self.send(message(b"p", scram.get_client_final().encode()))
                elif code == 12:
                    assert scram is not None
                    scram.set_server_final(heard.body[4:].decode())
                else:
                    assert code == 0, heard

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, politely where that is possible."""
        if self.sock.fileno() >= 0 and not self.ended:
            with contextlib.suppress(OSError):
                self.sock.setblocking(False)
                self.sock.send(TERMINATE)
        self.sock.close()

    def send(self, *octets: bytes) -> None:
        """Say these bytes in one write."""
        self.sock.sendall(b"".join(octets))

    def receive(self, limit_s: float = LIMIT_S) -> Message:
        """The next message. Raises TimeoutError, and EOFError at the end."""
        deadline = time.monotonic() + limit_s
        while (heard := self._cut()) is None:
            self._fill(deadline)
        return heard

    def receive_octets(self, count: int) -> bytes:
        """So many bytes, whatever they mean."""
        deadline = time.monotonic() + LIMIT_S
        while len(self._read) < count:
            self._fill(deadline)
        octets = bytes(self._read[:count])
        del self._read[:count]
        return octets

    def until(self, is_last: Callable[[Message], bool], limit_s: float = LIMIT_S) -> list[Message]:
        """All messages up to the one that `is_last`."""
        deadline = time.monotonic() + limit_s
        heard: list[Message] = []
        while True:
            try:
                heard.append(self.receive(max(0.0, deadline - time.monotonic())))
            except (TimeoutError, EOFError) as error:
                raise AssertionError(f"{error!r} after {heard[-20:]}") from None
            if is_last(heard[-1]):
                return heard

    def until_ready(self, times: int = 1) -> list[Message]:
        """All messages up to and with this many ReadyForQuery."""
        return [each for _ in range(times) for each in self.until(lambda m: m.kind == b"Z")]

    def until_kind(self, kind: bytes) -> list[Message]:
        """All messages up to and with the first of this kind."""
        return self.until(lambda m: m.kind == kind)

    def until_end(self) -> list[Message]:
        """All messages until the peer hangs up."""
        heard = []
        try:
            while True:
                heard.append(self.receive())
        except (EOFError, ConnectionResetError):
            return heard

    def ask(self, *octets: bytes, ready: int = 1) -> list[Message]:
        """Say something that ends in `ready` ReadyForQuery, and hear the answer."""
        self.send(*octets)
        return self.until_ready(ready)

    def value(self, sql: str) -> str | None:
        """The first value of a simple query."""
        heard = self.ask(query(sql))
        rows = rows_of(heard)
        assert rows, heard
        return None if rows[0][0] is None else rows[0][0].decode()

    def exchange(
        self, pieces: Iterable[bytes], is_over: Callable[[list[Message]], bool]
    ) -> list[Message]:
        """Send piece after piece, hearing all the while, until it `is_over` or the peer hangs up.

        Between two pieces the other side gets a moment to read the first alone.
        """
        heard: list[Message] = []
        deadline = time.monotonic() + LIMIT_S
        self.sock.setblocking(False)
        try:
            for piece in pieces:
                left = piece
                while left and not self.ended:
                    _, writable, _ = select.select([], [self.sock], [], 0.0)
                    if writable:
                        try:
                            left = left[self.sock.send(left) :]
                        except BlockingIOError:
                            pass
                        except (BrokenPipeError, ConnectionResetError):
                            left = b""
                    self._hear(heard, 0.0002)
                    assert time.monotonic() < deadline, f"cannot send; heard {heard[-20:]}"
            while not self.ended and not is_over(heard):
                self._hear(heard, 0.05)
                assert time.monotonic() < deadline, f"no end; heard {heard[-20:]}"
        finally:
            self.sock.settimeout(LIMIT_S)
        return heard

    def _hear(self, heard: list[Message], wait_s: float) -> None:
        if self.ended:
            return
        readable, _, _ = select.select([self.sock], [], [], wait_s)
        if readable:
            try:
                octets = self.sock.recv(1 << 16)
            except ConnectionResetError:
                octets = b""
            self.ended = not octets
            self._read += octets
        while (each := self._cut()) is not None:
            heard.append(each)

    def _fill(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("nothing came")
        self.sock.settimeout(left_s)
        try:
            octets = self.sock.recv(1 << 16)
        finally:
            self.sock.settimeout(LIMIT_S)
        if not octets:
            self.ended = True
            raise EOFError("the peer hung up")
        self._read += octets

    def _cut(self) -> Message | None:
        if len(self._read) < 5:
            return None
        (length,) = struct.unpack_from("!i", self._read, 1)
        assert length >= 4, bytes(self._read[:20])
        if len(self._read) < 1 + length:
            return None
        whole = bytes(self._read[: 1 + length])
        del self._read[: 1 + length]
        return Message(whole[:1], whole[5:])


def messages_in(octets: bytes) -> Iterator[bytes]:
    """Cut what a client says into its messages."""
    at = 0
    while at < len(octets):
        (length,) = struct.unpack_from("!i", octets, at + 1)
        yield octets[at : at + 1 + length]
        at += 1 + length


def _md5(address: Address, salt: bytes) -> str:
    inner = hashlib.md5((address.password + address.user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()
