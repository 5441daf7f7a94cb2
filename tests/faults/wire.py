"""A wire between the proxy and PostgreSQL: it can be cut, held, slowed and split, and it can lie.

Connections of the monitor pass untouched, so that the proxy sees a healthy primary. Connections of
everybody else pass through `Passage`s, which a test steers; or, with a `script`, they meet no
PostgreSQL at all but whatever the script says.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from tests.faults.raw_client import CANCEL_REQUEST, SSL_REQUEST, Message, message

PIECE_BYTES = 65536


class Scripted:
    """The proxy's end of a connection whose server a script plays."""

    def __init__(self, sock: socket.socket, parameters: dict[str, str]) -> None:
        self.socket = sock
        self.parameters = parameters
        self._held = b""

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def read(self) -> Message | None:
        """The proxy's next message, None when it has closed the connection."""
        while True:
            if len(self._held) >= 5:
                (length,) = struct.unpack_from("!i", self._held, 1)
                if len(self._held) > length:
                    each = Message(self._held[:1], self._held[5 : length + 1])
                    self._held = self._held[length + 1 :]
                    return each
            try:
                more = self.socket.recv(PIECE_BYTES)
            except OSError:
                more = b""
            if not more:
                return None
            self._held += more

    def log_in(self) -> None:
        """A login without a password, up to ReadyForQuery."""
        self.send(login())

    def answer(self, *rows: str) -> None:
        """The reply to a simple query."""
        self.send(reply(*rows))

    def wait_for_end(self) -> None:
        """Until the proxy closes the connection."""
        while self.read() is not None:
            pass


def login() -> bytes:
    """AuthenticationOk, some parameters, a key, ReadyForQuery."""
    parameters = {
        "server_version": "18.0",
        "server_encoding": "UTF8",
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "TimeZone": "UTC",
        "standard_conforming_strings": "on",
        "integer_datetimes": "on",
    }
    return (
        message(b"R", struct.pack("!i", 0))
        + b"".join(
            message(b"S", f"{name}\0{value}\0".encode()) for name, value in parameters.items()
        )
        + message(b"K", struct.pack("!ii", 4711, 1))
        + message(b"Z", b"I")
    )


def row(*values: str) -> bytes:
    """A DataRow."""
    texts = b"".join(struct.pack("!i", len(each.encode())) + each.encode() for each in values)
    return message(b"D", struct.pack("!H", len(values)) + texts)


def row_description(*names: str) -> bytes:
    """A RowDescription of texts."""
    columns = b"".join(
        name.encode() + b"\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for name in names
    )
    return message(b"T", struct.pack("!H", len(names)) + columns)


def ready(status: bytes = b"I") -> bytes:
    """A ReadyForQuery."""
    return message(b"Z", status)


def complete(tag: str) -> bytes:
    """A CommandComplete."""
    return message(b"C", tag.encode() + b"\0")


def reply(*rows: str) -> bytes:
    """The whole reply to a simple SELECT of one column."""
    return (
        row_description("token")
        + b"".join(row(each) for each in rows)
        + complete(f"SELECT {len(rows)}")
        + ready()
    )


Script = Callable[[Scripted], None]


class Passage:
    """One connection that passes through. While `is_held` is set, its replies do not."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.is_held = threading.Event()

    def cut(self, *, reset: bool = False) -> None:
        """Close both ends."""
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                end.shutdown(socket.SHUT_RDWR)


class Wire:
    """Listens on `port`, and is as good a PostgreSQL as the test lets it be.

    monitor: the user whose connections pass untouched. script: plays the server for the others.
    piece_bytes: replies are passed on in pieces of that size. is_held: they are not passed on
    while it is set. refuses: new connections of the others are closed at once.
    on_request: told of each piece the proxy sends, before it is passed on; False swallows it and
    cuts the passage.
    """

    def __init__(
        self,
        target: tuple[str, int],
        monitor: str,
        script: Script | None = None,
        on_request: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._target = target
        self._monitor = monitor
        self.script = script
        self.on_request = on_request
        self.piece_bytes = PIECE_BYTES
        self.is_held = threading.Event()
        self.refuses = False
        self.passages: list[Passage] = []
        self.accepted = 0
        self.failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open = True
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    name = "wire"
    host = "127.0.0.1"

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self, *, reset: bool = False) -> None:
        """Cut all passages."""
        for passage in self.passages:
            passage.cut(reset=reset)
        self.passages.clear()

    def restore(self) -> None:
        """Pass everything again, on new connections."""
        self.is_held.clear()
        self.on_request = None
        self.refuses = False
        self.piece_bytes = PIECE_BYTES
        self.cut()

    def close(self) -> None:
        self._open = False
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while self._open:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        self._sockets.add(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._receive(sock)
        except OSError:
            pass
        except BaseException as error:  # noqa: BLE001 -- shown by the fixture at the end
            self.failures.append(error)
        finally:
            self._sockets.discard(sock)
            sock.close()

    def _receive(self, sock: socket.socket) -> None:
        while True:
            first = _read_packet(sock)
            if first is None:
                return
            code = struct.unpack_from("!i", first, 4)[0]
            if code != SSL_REQUEST:
                break
            sock.sendall(b"N")
        texts = first[8:].split(b"\0") if code != CANCEL_REQUEST else []
        parameters = {texts[i].decode(): texts[i + 1].decode() for i in range(0, len(texts) - 2, 2)}
        if code == CANCEL_REQUEST or parameters.get("user") == self._monitor:
            self._pass(sock, first, steered=False)
            return
        self.accepted += 1
        if self.refuses:
            return
        if self.script is not None:
            self.script(Scripted(sock, parameters))
        else:
            self._pass(sock, first, steered=True)

    def _pass(self, near: socket.socket, first: bytes, *, steered: bool) -> None:
        with socket.create_connection(self._target, 10) as far:
            self._sockets.add(far)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            passage = Passage(near, far)
            if steered:
                self.passages.append(passage)
            far.sendall(first)
            try:
                self._pump(passage, steered)
            finally:
                self._sockets.discard(far)

    def _pump(self, passage: Passage, steered: bool) -> None:
        near, far = passage.near, passage.far
        while True:
            is_held = self.is_held.is_set() or passage.is_held.is_set()
            ends = [near] if steered and is_held else [near, far]
            readable, _, _ = select.select(ends, [], [], 0.01 if steered else 1.0)
            for end in readable:
                octets = end.recv(PIECE_BYTES)
                if not octets:
                    return
                if end is near:
                    if steered and self.on_request is not None and not self.on_request(octets):
                        passage.cut()
                        return
                    far.sendall(octets)
                else:
                    size = self.piece_bytes if steered else PIECE_BYTES
                    for at in range(0, len(octets), size):
                        near.sendall(octets[at : at + size])


def _read_packet(sock: socket.socket) -> bytes | None:
    head = _read_exactly(sock, 4)
    if head is None:
        return None
    body = _read_exactly(sock, struct.unpack("!i", head)[0] - 4)
    return None if body is None else head + body


def _read_exactly(sock: socket.socket, count: int) -> bytes | None:
    octets = b""
    while len(octets) < count:
        more = sock.recv(count - len(octets))
        if not more:
            return None
        octets += more
    return octets


@contextlib.contextmanager
def wire_to(
    target: tuple[str, int],
    monitor: str,
    script: Script | None = None,
    on_request: Callable[[bytes], bool] | None = None,
) -> Iterator[Wire]:
    """A wire for the length of a block; what its scripts raised is raised at the end."""
    wire = Wire(target, monitor, script, on_request)
    try:
        yield wire
    finally:
        wire.close()
    if wire.failures:
        raise wire.failures[0]
