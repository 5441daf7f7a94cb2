"""What a client has said waits with it; when its turn comes, that is run by what holds then."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.relay import (
    Client,
    Decision,
    Decisions,
    Horizon,
    Line,
    Pool,
    Router,
    WriteTimes,
)
from proxy.wire import messages
from tests.faults.raw_client import SYNC, bind, execute, parse, query
from tests.fuzz.both_ends import SessionControl, read_socket, whole_messages
from tests.relay.far_ends import FarEnds, FarServer, line_of

READ, WRITE = "SELECT 1 FROM a", "DELETE FROM abc"
DONE = messages.command_complete(b"SELECT 1") + messages.ready_for_query(b"I")
HINTED = "/* pgweir: primary */ SELECT 1"


class Control(SessionControl):
    """Routes by a table of texts; each router has one of its own, as after a reload."""

    def __init__(self) -> None:
        super().__init__()
        self.router: Router | None = None
        self.reads: dict[Router, set[bytes]] = {}

    def routing_of(self, client: Client) -> tuple[Any, ...]:
        return self.router, 0, False, False, None, None

    def decide(self, router: Router, text: bytes, options: int) -> Decision:
        return Decision(reads_only=text in self.reads[router])

    def writes_begin(self, pool: Pool) -> None: ...


class Stage(FarEnds):
    """A primary and a replica with one connection each, and as many clients as are asked for."""

    def __init__(self) -> None:
        self.control = Control()
        super().__init__(self.control)
        self.line, self.primary_pool, self.primary = self._node("primary")
        self.reads, self.replica_pool, self.replica = self._node("replica")

    def _node(self, role: str) -> tuple[Line, Pool, FarServer]:
        line, pool = line_of(role, 1)
        return line, pool, self.server_of(pool)

    def client(self) -> tuple[Client, socket.socket]:
        """One more that has logged in."""
        return self.client_of(self.line)

    def says(self, far: socket.socket, octets: bytes) -> None:
        """A client says this, or a server."""
        far.sendall(octets)
        self.relay.poll()

    def routes(self, *reads: str) -> None:
        """From now on these are sent to the replica, and nothing else is."""
        if self.control.router is not None:
            self.control.router.is_stale = True
        lines = {"primary": self.line, "replica": self.reads}
        router = Router(Decisions(None), lines, Horizon(WriteTimes(), "main"))
        router.splits = True
        self.control.reads[router] = {text.encode() for text in reads}
        self.control.router = self.line.router = router

    def occupies(self, far_server: FarServer, text: str) -> None:
        """Somebody else takes the only connection to a node."""
        self.says(self.client()[1], query(text))
        assert far_server.hears() == [text]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def heard(far: socket.socket) -> list[bytes]:
    return [kind for kind, _ in whole_messages(read_socket(far))]


def test_who_waits_is_served_in_turn_each_with_its_own_statement(stage: Stage) -> None:
    stage.occupies(stage.primary, WRITE)
    waiting = [stage.client() for _ in range(3)]
    for number, (link, far) in enumerate(waiting):
        stage.says(far, query(f"SELECT {number}"))
        assert link.is_waiting
    for number, (_, far) in enumerate(waiting):
        stage.says(stage.primary.socket, DONE)
        assert stage.primary.hears() == [f"SELECT {number}"]
        assert not heard(far)
    stage.says(stage.primary.socket, DONE)
    assert heard(waiting[-1][1]) == [b"C", b"Z"]
    assert stage.primary_pool.idle == [stage.primary.link]


def test_one_that_leaves_the_line_is_passed_over(stage: Stage) -> None:
    stage.occupies(stage.primary, WRITE)
    first, second = stage.client(), stage.client()
    stage.says(first[1], query("SELECT 1"))
    stage.says(second[1], query("SELECT 2"))
    first[1].close()
    stage.relay.poll()
    assert stage.line.waiting == 1
    stage.says(stage.primary.socket, DONE)
    assert stage.primary.hears() == ["SELECT 2"]


@pytest.mark.parametrize("is_extended", [False, True])
def test_what_follows_a_wait_that_was_cancelled_is_looked_at_anew(
    stage: Stage, is_extended: bool
) -> None:
    def statement(text: str) -> bytes:
        return parse("", text) + bind("", "") + execute() + SYNC if is_extended else query(text)

    stage.occupies(stage.primary, WRITE)
    link, far = stage.client()
    harmless, setting = (
        "SELECT set_konfig('a.b', 'c', false)",
        "SELECT set_config('a.b', 'c', false)",
    )
    stage.says(far, statement(harmless))
    assert link.cancel()
    stage.relay.poll()
    assert heard(far) == [b"E", b"Z"]
    stage.says(stage.primary.socket, DONE)
    stage.says(far, statement(setting))
    parsed = b"1\0\0\0\4" + b"2\0\0\0\4" if is_extended else b""
    stage.primary.hears()
    stage.says(stage.primary.socket, parsed + DONE)
    # As it may have changed its session, what it left there is asked for.
    assert any("current_setting" in text for text in stage.primary.hears())


@pytest.mark.parametrize("most_bytes", [100_000, 1000])
@pytest.mark.parametrize("waits", [False, True])
def test_what_stands_at_the_end_of_a_long_statement_counts(
    stage: Stage, waits: bool, most_bytes: int
) -> None:
    stage.line.max_statement_bytes = most_bytes
    _, far = stage.client()
    if waits:
        stage.occupies(stage.primary, WRITE)
    said = query(f"SELECT '{'x' * 20_000}', set_config('a.b', 'c', false)")
    stage.says(far, said[:600])
    stage.says(far, said[600:])
    if waits:
        stage.says(stage.primary.socket, DONE)
    assert read_socket(stage.primary.socket) == said
    stage.says(stage.primary.socket, DONE)
    # As it may have changed its session, what it left there is asked for.
    assert any("current_setting" in text for text in stage.primary.hears())


def test_who_waits_when_routes_are_reloaded_goes_by_the_new_ones(stage: Stage) -> None:
    stage.routes()
    stage.occupies(stage.primary, WRITE)
    link, far = stage.client()
    stage.says(far, query(READ))
    assert link.is_waiting
    stage.routes(READ)
    stage.says(stage.primary.socket, DONE)
    assert (stage.primary.hears(), stage.replica.hears()) == ([], [READ])
    stage.says(stage.replica.socket, DONE)
    assert heard(far) == [b"C", b"Z"]
    assert stage.primary_pool.idle == [stage.primary.link]


def test_who_waits_when_its_settings_change_is_routed_by_those(stage: Stage) -> None:
    stage.routes(READ)
    stage.occupies(stage.replica, READ)
    link, far = stage.client()
    stage.says(far, query(READ))
    assert link.is_waiting
    usual = stage.control.router
    stage.routes()
    # That one is for other settings, and this as good as before.
    assert usual is not None
    usual.is_stale = False
    link.settings = stage.control.settings_reported(link.settings, "application_name", "batch")
    stage.says(stage.replica.socket, DONE)
    assert (stage.primary.hears()[-1:], stage.replica.hears()) == ([READ], [])


def test_who_waits_for_a_replica_that_is_lost_goes_to_the_primary(stage: Stage) -> None:
    stage.routes(READ)
    stage.occupies(stage.replica, READ)
    link, far = stage.client()
    stage.says(far, query(READ))
    assert link.is_waiting
    stage.reads.serve_from([])
    stage.reads.send_on()
    assert stage.primary.hears() == [READ]
    stage.says(stage.primary.socket, DONE)
    assert heard(far) == [b"C", b"Z"]


def test_nothing_of_a_statement_that_waited_is_left_for_the_next(stage: Stage) -> None:
    stage.routes(READ)
    stage.occupies(stage.replica, READ)
    _, far = stage.client()
    other = READ.replace("SELECT", "DELETE")
    stage.says(far, query(READ) + query(other))
    stage.says(stage.replica.socket, DONE)
    assert stage.replica.hears() == [READ]
    stage.says(stage.replica.socket, DONE)
    assert (stage.primary.hears(), stage.replica.hears()) == ([other], [])


def test_a_hint_counts_when_the_turn_of_its_statement_comes(stage: Stage) -> None:
    stage.routes(HINTED)
    stage.occupies(stage.primary, WRITE)
    link, far = stage.client()
    stage.says(far, query(HINTED))
    assert link.is_waiting
    stage.says(stage.primary.socket, DONE)
    assert (stage.primary.hears(), stage.replica.hears()) == ([HINTED], [])


@pytest.mark.parametrize("texts", [(READ, READ), (READ, WRITE)])
def test_a_unit_of_two_texts_that_waits_is_routed_as_a_whole(
    stage: Stage, texts: tuple[str, str]
) -> None:
    stage.routes(READ)
    stage.occupies(stage.primary, WRITE)
    stage.occupies(stage.replica, READ)
    _, far = stage.client()
    unit = b"".join(parse("", text) + bind("", "") + execute() for text in texts) + SYNC
    stage.says(far, unit)
    target, other = (
        (stage.replica, stage.primary) if texts[1] == READ else (stage.primary, stage.replica)
    )
    stage.says(other.socket, DONE)
    assert read_socket(other.socket) == b""
    stage.says(target.socket, DONE)
    assert read_socket(target.socket) == unit


def test_free_connections_stand_in_the_order_in_which_they_were_used(stage: Stage) -> None:
    stage.primary_pool.size = 3
    second, third = (
        FarServer(stage.relay, stage.primary_pool, stage.settings, pid) for pid in (2, 3)
    )
    first = stage.primary
    assert stage.primary_pool.idle == [first.link, second.link, third.link]
    stage.says(stage.client()[1], query("SELECT 3"))
    stage.says(stage.client()[1], query("SELECT 2"))
    assert (first.hears(), second.hears(), third.hears()) == ([], ["SELECT 2"], ["SELECT 3"])
    stage.says(third.socket, DONE)
    assert stage.primary_pool.idle == [first.link, third.link]
    stage.says(second.socket, DONE)
    # From the middle, from the end, from the front; then there is none.
    third.link.retire()
    assert stage.primary_pool.idle == [first.link, second.link]
    second.link.retire()
    first.link.retire()
    assert stage.primary_pool.idle == []
    for far in (second, third):
        far.socket.close()
