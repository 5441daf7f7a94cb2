"""A relay with a logged-in client and server, whose far ends are in our hands.

The server answers what it is asked as PostgreSQL would, with as little as that takes; or it says
what a stranger wrote. Either way everything that the relay passes on must be whole messages.
"""

import asyncio
import contextlib
import socket
import struct
from types import SimpleNamespace

from proxy.relay import TRANSACTION_MODE, Client, Line, Pool, Relay, Server
from proxy.session import Settings, SettingsBook
from proxy.wire import messages
from proxy.workers.answers import Answers
from tests.fuzz.wire_end import NoControl

# What PostgreSQL answers to a message, but for ReadyForQuery.
_ANSWERS = {
    b"Q": messages.command_complete(b"SELECT 0"),
    b"P": b"1\0\0\0\4",
    b"B": b"2\0\0\0\4",
    b"C": b"3\0\0\0\4",
    b"E": messages.command_complete(b"SELECT 0"),
    b"F": b"V" + struct.pack("!ii", 8, -1),
}
_NO_PARAMETERS = b"t\0\0\0\6\0\0"
_NO_DATA = b"n\0\0\0\4"
_MOST_TURNS = 200


def whole_messages(octets: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and bodies; what is cut at the end is left out. Fails on a length below 4."""
    found = []
    at = 0
    while len(octets) - at >= 5:
        (length,) = struct.unpack_from("!i", octets, at + 1)
        assert length >= 4, (octets[at : at + 5], at)
        if len(octets) - at < length + 1:
            break
        found.append((octets[at : at + 1], octets[at + 5 : at + 1 + length]))
        at += length + 1
    return found


class _HonestServer:
    """Answers messages, with the status of a transaction that its queries open and end."""

    def __init__(self) -> None:
        self._status = b"I"

    def answer(self, kind: bytes, body: bytes) -> bytes:
        if kind in (b"Q", b"P"):
            words = body.upper()
            if b"BEGIN" in words:
                self._status = b"T"
            elif b"COMMIT" in words or b"ROLLBACK" in words:
                self._status = b"I"
        said = _ANSWERS.get(kind, b"")
        if kind == b"D":
            said = _NO_PARAMETERS + _NO_DATA if body[:1] == b"S" else _NO_DATA
        if kind in (b"Q", b"F", b"S"):
            said += messages.ready_for_query(self._status)
        return said


class SessionControl(NoControl):
    """Of sessions it says what a process answers."""

    def __init__(self) -> None:
        self._book = SettingsBook()
        self._hub = SimpleNamespace(commits=lambda client: None)

    def settings_of_login(self, tenant: str = "") -> Settings:
        """Of a server, or of a client that came with a setting of its own."""
        own = {"app.tenant": tenant} if tenant else {}
        return self._book.of({"TimeZone": "UTC", "client_encoding": "UTF8", **own})

    settings_reported = Answers.settings_reported
    settings_switch = Answers.settings_switch
    settings_without_statements = Answers.settings_without_statements
    settings_touched = Answers.settings_touched
    settings_of_words = Answers.settings_of_words
    settings_of = Answers.settings_of
    session_question = Answers.session_question
    session_answered = Answers.session_answered

    def client_pinned(
        self, client: Client, server: Server, pins: tuple[str, ...], cause: bytes
    ) -> bytes:
        return b""

    def may_run(self, client: Client, text: bytes, pins_refused: bool) -> bytes | None:
        return None

    def client_listens(self, client: Client, channels: frozenset[str]) -> None: ...

    def notified(self, client: Client, server: Server, body: bytes) -> bool:
        return len(body) % 2 == 0

    def outcome_unknown(self, client: Client, text: bytes, in_transaction: bool) -> bool:
        return len(text) % 2 == 0

    def explain_pooling(self, client: Client, text: bytes) -> bytes:
        return b"SELECT 'pooling'"


class BothEnds:
    """said_to_client, said_to_server: all that the relay has passed on to each."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        control = SessionControl()
        self.relay = Relay(self.loop, control, [1.0])
        self.line = Line("d", "u", "primary", [1.0])
        self.line.mode = TRANSACTION_MODE
        self.line.tracks_statements = True
        self.line.max_statement_bytes = 10_000
        self.line.max_client_statements = 10
        self.pool = Pool("c", "n", "primary", "d", "u", 1, 10)
        self.pool.owner = SimpleNamespace(policy=SimpleNamespace(server_user=None))
        self.line.serve_from([self.pool])
        self.said_to_client = b""
        self.said_to_server = b""
        near, self.server = socket.socketpair()
        near.setblocking(False)
        self.server.setblocking(False)
        settings = control.settings_of_login()
        link = self.relay.dial(near.detach(), "server")
        link.enter(self.pool, 1, b"0000", settings)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            # As the door does: what is small and late would not arrive within a turn.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.client = socket.create_connection(listener.getsockname())
            self.client.setblocking(False)
            self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted = self.relay.accept(listener.fileno())
        assert accepted is not None
        self.link = accepted
        self.link.enter(self.line, settings, 7, b"1111")

    def turn(self) -> tuple[bytes, bytes]:
        """Let the relay work; what the client and the server heard of it."""
        self.relay.poll()
        heard = read_socket(self.client), read_socket(self.server)
        self.said_to_client += heard[0]
        self.said_to_server += heard[1]
        return heard

    def client_says(self, octets: bytes) -> None:
        """Let the client say this and an honest server answer, until nobody has more to say."""
        _write(self.client, octets)
        honest = _HonestServer()
        answered = len(whole_messages(self.said_to_server))
        for _ in range(_MOST_TURNS):
            heard = self.turn()
            asked = whole_messages(self.said_to_server)
            _write(self.server, b"".join(honest.answer(*each) for each in asked[answered:]))
            if not any(heard) and len(asked) == answered:
                return
            answered = len(asked)

    def server_says(self, octets: bytes) -> None:
        """Let the server say this, whatever it was asked."""
        _write(self.server, octets)
        for _ in range(_MOST_TURNS):
            if not any(self.turn()):
                return

    def close(self) -> None:
        self.client.close()
        self.server.close()
        self.relay.poll()
        self.relay.close()
        self.loop.close()


def read_socket(sock: socket.socket) -> bytes:
    octets = b""
    with contextlib.suppress(OSError):
        while more := sock.recv(1 << 16):
            octets += more
    return octets


def _write(sock: socket.socket, octets: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(octets)
