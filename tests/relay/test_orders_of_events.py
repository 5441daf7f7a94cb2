"""Whatever the order in which bytes come and go, each client gets the replies to its own requests.

Two clients share one server connection. A conversation of each is made up; then single steps are
taken in an order drawn by lot: a client says some bytes, the server reads one message or says some
bytes. In the end each client must have heard what a PostgreSQL of its own would have said. Each has
a setting of its own, which the server is given time and again.
"""

import asyncio
import random
import socket
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from proxy.relay import TRANSACTION_MODE, Line, Pool, Relay
from proxy.wire import messages
from tests.faults.raw_client import SYNC, bind, close, describe, execute, message, parse, query
from tests.fuzz.both_ends import SessionControl, read_socket, whole_messages
from tests.relay.pretend_postgres import PretendPostgres

MOST_STEPS = 20_000
COPY_DONE, COPY_FAIL = message(b"c"), message(b"f", b"no\0")


@dataclass(frozen=True)
class Request:
    """What a client says at a time.

    said: first. ends: ReadyForQuerys to wait for. data: pieces to say when asked to by
    CopyInResponse, and not at all when an error comes instead. settles: wait until nobody has
    anything to say; some ends of a COPY have a ReadyForQuery more than others.
    """

    said: bytes
    ends: int = 1
    data: tuple[bytes, ...] = ()
    settles: bool = False


def some_request(lot: random.Random, token: str, names: set[str]) -> Request:
    """What a client may do. names: of its prepared statements."""
    row, name = f"row {token}", lot.choice(["", "", "s1", "s2"])
    text = lot.choice([row, row, "show", "show", "fail", "BEGIN", "COMMIT", "ROLLBACK"])
    data = [message(b"d", b"x" * lot.randrange(1, 50)) for _ in range(lot.randrange(3))]
    copy = "COPY " + lot.choice(["begin", "data", "end", "whole"])
    match lot.randrange(9):
        case 0 | 1:
            return Request(query(text))
        case 2:
            return Request(query(text) + query(row), ends=2)
        case 3 | 4:
            said = b"" if name in names else parse(name, row)
            names |= {name} - {""}
            return Request(said + bind("", name) + describe("P", "") + execute() + SYNC)
        case 5:
            said = parse("", "fail") + bind("", "") + execute()
            if lot.randrange(2):
                said += parse("", row) + bind("", "") + execute()
            return Request(said + SYNC)
        case 6:
            names.discard(name)
            return Request(close("S", name) + SYNC)
        case 7:
            end = lot.choice([COPY_DONE, COPY_DONE, COPY_FAIL])
            stray = lot.choice([b"", b"", SYNC])
            return Request(query(copy) + stray, data=(*data, end), settles=bool(stray))
        case _:
            said = parse("", copy) + bind("", "") + execute() + SYNC
            if lot.randrange(2):
                return Request(said, data=(*data, COPY_DONE, SYNC), settles=True)
            # What follows does not wait for the end.
            behind = lot.choice([query(row), parse("", row) + bind("", "") + execute() + SYNC])
            return Request(said, data=(*data, COPY_DONE, SYNC, behind), ends=2, settles=True)


class Speaker:
    """A client with a conversation."""

    def __init__(
        self, lot: random.Random, near: socket.socket, token: str, requests: list[Request]
    ) -> None:
        self._lot = lot
        self._token = token
        self.socket = near
        self.requests = deque(requests)
        self.said = b""
        self.heard = b""
        self._to_say: deque[bytes] = deque()
        self._since = 0
        self._now: Request | None = None
        self._data: tuple[bytes, ...] = ()

    def hear(self) -> bool:
        """Take what has come. False when that was nothing."""
        octets = read_socket(self.socket)
        self.heard += octets
        kinds = [kind for kind, _ in whole_messages(self.heard[self._since :])]
        if self._data and b"G" in kinds:
            self._to_say.extend(self._data)
            self._data = ()
        return bool(octets)

    def is_waiting(self, everybody_is_quiet: bool) -> bool:
        """Has it nothing to say before more has come?"""
        if self._to_say:
            return False
        if self._now is not None:
            kinds = [kind for kind, _ in whole_messages(self.heard[self._since :])]
            # Who was not asked for data has said no more than the first.
            ends = 1 if self._data else self._now.ends
            if kinds.count(b"Z") < ends:
                return True
            if self._now.settles and not (everybody_is_quiet and self.has_heard_all()):
                return True
        return not self.requests

    def has_heard_all(self) -> bool:
        """Has it heard what a PostgreSQL of its own would have said by now?"""
        return gist(self.heard) == gist(alone(self.said, self._token))

    def speak(self) -> None:
        """Say the next piece."""
        if not self._to_say:
            self._now = self.requests.popleft()
            self._since = len(self.heard)
            self._data = self._now.data
            self._to_say.append(self._now.said)
        piece = self._to_say.popleft()
        cut = self._lot.choice([len(piece), self._lot.randrange(len(piece) + 1)])
        self.socket.sendall(piece[:cut])
        self.said += piece[:cut]
        if piece[cut:]:
            self._to_say.appendleft(piece[cut:])


class Control(SessionControl):
    """Fails on what must not happen before all is over."""

    is_over = False

    def server_gone(self, server: object, reason: str) -> None:
        assert self.is_over or not reason, f"server gone: {reason}"

    def client_gone(self, client: object, reason: str) -> None:
        assert self.is_over or not reason, f"client gone: {reason}"


class Stage:
    """Two clients, a relay, one server."""

    def __init__(self, lot: random.Random, requests: int) -> None:
        self.lot = lot
        self.loop = asyncio.new_event_loop()
        self.control = control = Control()
        self.relay = Relay(self.loop, control, [1.0])
        line = Line("d", "u", "primary", [1.0])
        line.mode = TRANSACTION_MODE
        self.pool = Pool("c", "n", "primary", "d", "u", 1, 10)
        self.pool.owner = SimpleNamespace(policy=SimpleNamespace(server_user=None))
        line.serve_from([self.pool])
        settings = control.settings_of_login()
        near, self.server = socket.socketpair()
        near.setblocking(False)
        self.server.setblocking(False)
        self.relay.dial(near.detach(), "server").enter(self.pool, 1, b"0000", settings)
        self.speakers = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number, token in enumerate(("ann", "bob")):
                far = socket.create_connection(listener.getsockname())
                far.setblocking(False)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = self.relay.accept(listener.fileno())
                assert link is not None
                link.enter(line, control.settings_of_login(tenant=token), 7 + number, b"1111")
                names: set[str] = set()
                asked = [some_request(lot, token, names) for _ in range(requests)]
                # So that nobody keeps the server for ever.
                asked.append(Request(query("ROLLBACK")))
                self.speakers.append(Speaker(lot, far, token, asked))
        self._postgres = PretendPostgres()
        self._unread = b""
        self._pieces: deque[bytes] = deque()

    def play(self) -> None:
        """Until nobody has anything to say."""
        for _ in range(MOST_STEPS):
            self.relay.poll()
            self._unread += read_socket(self.server)
            heard = [each.hear() for each in self.speakers]
            is_quiet = not (any(heard) or self._pieces or whole_messages(self._unread))
            able = [each.speak for each in self.speakers if not each.is_waiting(is_quiet)]
            if whole_messages(self._unread):
                able.append(self._server_reads)
            if self._pieces:
                able.append(self._server_speaks)
            if able:
                self.lot.choice(able)()
            elif is_quiet:
                return
        raise AssertionError("it goes on for ever")

    def _server_reads(self) -> None:
        kind, body = whole_messages(self._unread)[0]
        self._unread = self._unread[len(body) + 5 :]
        self._pieces.extend(self._postgres.answer(kind, body))

    def _server_speaks(self) -> None:
        piece = self._pieces.popleft()
        cut = self.lot.choice([len(piece), self.lot.randrange(1, len(piece) + 1)])
        self.server.sendall(piece[:cut])
        if piece[cut:]:
            self._pieces.appendleft(piece[cut:])

    def close(self) -> None:
        self.control.is_over = True
        for each in self.speakers:
            each.socket.close()
        self.server.close()
        self.relay.poll()
        self.relay.close()
        self.loop.close()


def gist(octets: bytes) -> list[tuple[bytes, bytes]]:
    """What matters of replies. ReadyForQuerys in a row are one: see `Request.settles`."""
    found: list[tuple[bytes, bytes]] = []
    for kind, body in whole_messages(octets):
        if kind != b"Z" or not found or found[-1][0] != b"Z":
            matters = messages.read_fields(body)["C"].encode() if kind == b"E" else body
            found.append((kind, matters))
    return found


def alone(said: bytes, setting: str) -> bytes:
    """What a PostgreSQL of its own answers to a client with this setting."""
    postgres = PretendPostgres(setting.encode())
    return b"".join(piece for each in whole_messages(said) for piece in postgres.answer(*each))


@pytest.mark.parametrize("block", range(20))
def test_each_client_hears_what_it_would_hear_alone(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        lot = random.Random(seed)
        stage = Stage(lot, requests=lot.randrange(1, 8))
        try:
            stage.play()
            for each in stage.speakers:
                assert not each.requests, f"seed {seed}: a client waits for ever"
                assert each.has_heard_all(), f"seed {seed}"
            assert len(stage.pool.idle) == 1, f"seed {seed}: the server is not free"
        finally:
            stage.close()
