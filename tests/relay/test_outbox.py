"""What a pass puts aside is sent when it ends: whole, in order, and to whom it is for."""

import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from proxy.relay import Client
from proxy.wire import messages
from tests.faults.raw_client import query
from tests.fuzz.both_ends import SessionControl, read_socket, whole_messages
from tests.relay.far_ends import FarEnds, line_of

# Some are put aside, some are too long for that.
SIZES = (20, 2048, 20, 2049, 20, 16_000, 20)


class Control(SessionControl):
    """Does something of the test's while a pass is on: when the next client is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.in_pass: Callable[[], None] = lambda: None

    def client_gone(self, client: Client, reason: str) -> None:
        act, self.in_pass = self.in_pass, lambda: None
        act()


def link_writes(link: Client, parts: Iterable[bytes]) -> None:
    for part in parts:
        link.write(part)


class Stage(FarEnds):
    """Clients and servers, as many as are asked for, whose far ends are sockets."""

    def __init__(self) -> None:
        self.control = Control()
        super().__init__(self.control)
        self.line, self.pool = line_of("primary", 1000)

    def server(self) -> socket.socket:
        return self.server_of(self.pool, 1 + len(self.ends)).socket

    def client(self) -> tuple[Client, socket.socket]:
        return self.client_of(self.line)

    def during_a_pass(self, act: Callable[[], None]) -> None:
        """Have somebody leave, and do this meanwhile."""
        _, leaver = self.client()
        self.control.in_pass = act
        leaver.close()
        self.relay.poll()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def test_more_than_an_outbox_holds(stage: Stage) -> None:
    """300 statements, and as many replies, of one pass each."""
    servers = [stage.server() for _ in range(300)]
    clients = [stage.client()[1] for _ in range(300)]
    stage.relay.poll()
    for number, client in enumerate(clients):
        client.sendall(query(f"SELECT {number} {'x' * (number % 40) * 60}"))
    stage.relay.poll()
    asked = {}
    for server in servers:
        [(kind, body)] = whole_messages(read_socket(server))
        assert kind == b"Q"
        number = body.split()[1].rstrip(b"\0")
        assert number not in asked
        asked[number] = server
    for number, server in asked.items():
        row = messages.command_complete(b"SELECT " + number)
        server.sendall(row + messages.ready_for_query(b"I"))
    stage.relay.poll()
    for number, client in enumerate(clients):
        (_, complete), (_, ready) = whole_messages(read_socket(client))
        assert complete == b"SELECT %d\0" % number
        assert ready == b"I"


def test_short_and_long_keep_their_order(stage: Stage) -> None:
    link, far = stage.client()
    said = [bytes([65 + at]) * size for at, size in enumerate(SIZES)]
    stage.during_a_pass(lambda: link_writes(link, said))
    assert read_socket(far) == b"".join(said)


def test_what_is_put_aside_goes_before_what_the_kernel_does_not_take(stage: Stage) -> None:
    link, far = stage.client()
    said = [b"a" * 20, b"b" * 8_000_000, b"c" * 20]
    stage.during_a_pass(lambda: link_writes(link, said))
    heard = b""
    while len(heard) < 8_000_040:
        heard += read_socket(far)
        stage.relay.poll()
    assert heard == b"".join(said)


@pytest.mark.parametrize("leaves", ["close", "abandon"])
def test_last_words_are_heard(stage: Stage, leaves: str) -> None:
    link, far = stage.client()

    def says() -> None:
        link.write(b"last words")
        getattr(link, leaves)()

    stage.during_a_pass(says)
    assert far.recv(100) == b"last words"
    assert far.recv(100) == b""


def test_who_is_gone_costs_nobody_else_anything(stage: Stage) -> None:
    gone, gone_far = stage.client()
    other, far = stage.client()

    def says() -> None:
        gone_far.close()
        gone.write(b"to nobody")
        other.write(b"to somebody")

    stage.during_a_pass(says)
    assert read_socket(far) == b"to somebody"
    stage.relay.poll()
    assert gone.is_closed
    assert not other.is_closed
