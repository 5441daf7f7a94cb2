"""A connection whose settings nobody in line has is kept for a moment: its client may come back."""

import socket
import time
from collections.abc import Iterator

import pytest

from proxy.relay import Client
from proxy.wire import messages
from tests.faults.raw_client import query
from tests.fuzz.both_ends import SessionControl, read_socket, whole_messages
from tests.relay.far_ends import FarClient, FarEnds, line_of

DONE = messages.command_complete(b"SELECT 1") + messages.ready_for_query(b"I")
MOST_RETURNS = 7
LONGEST_KEPT_S = 0.25


class Stage(FarEnds):
    """One server connection, and clients with settings of their own."""

    def __init__(self) -> None:
        self.control = SessionControl()
        super().__init__(self.control)
        self.line, self.pool = line_of("primary", 1)
        # What a switch takes is one query then.
        self.line.tracks_statements = False
        self.server = self.server_of(self.pool)

    def client(self, tenant: str) -> tuple[Client, socket.socket]:
        """One more that has logged in, with this setting."""
        settings = self.control.settings_of_login(tenant)
        end = FarClient(self.relay, self.line, settings, 101 + len(self.ends))
        self.ends.append(end.socket)
        return end.link, end.socket

    def says(self, far: socket.socket, octets: bytes) -> None:
        """A client says this, or a server."""
        far.sendall(octets)
        self.relay.poll()

    def runs(self, *texts: str) -> bool:
        """The server hears these, behind a switch or not, and answers. Result: behind a switch."""
        heard = self.server.hears()
        switched = heard[:1] != list(texts)[:1]
        assert heard[switched:] == list(texts)
        self.server.socket.sendall(DONE * len(heard))
        return switched


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def ann_runs_and_bob_waits(stage: Stage) -> list[tuple[Client, socket.socket]]:
    clients = [stage.client(name) for name in ("ann", "bob")]
    for (_, near), name in zip(clients, ("ann", "bob"), strict=True):
        stage.says(near, query(f"SELECT '{name}'"))
    return clients


def test_who_asks_again_at_once_is_served_without_a_switch(stage: Stage) -> None:
    ann, _ = ann_runs_and_bob_waits(stage)
    assert stage.runs("SELECT 'ann'")
    # What ends one transaction and begins the next is there together.
    ann[1].sendall(query("SELECT 'again'"))
    stage.relay.poll()
    assert not stage.runs("SELECT 'again'")
    stage.relay.poll()
    assert stage.runs("SELECT 'bob'")


def test_who_waits_is_served_when_there_is_nothing_else_to_do(stage: Stage) -> None:
    ann_runs_and_bob_waits(stage)
    stage.runs("SELECT 'ann'")
    stage.relay.poll()
    assert stage.runs("SELECT 'bob'")


def test_nobody_who_waits_is_passed_by_for_ever(stage: Stage) -> None:
    ann, _ = ann_runs_and_bob_waits(stage)
    for _ in range(MOST_RETURNS + 1):
        stage.runs("SELECT 'ann'")
        ann[1].sendall(query("SELECT 'ann'"))
        stage.relay.poll()
    # It was bob's turn, although ann had asked again.
    assert ann[0].is_waiting
    assert stage.runs("SELECT 'bob'")
    stage.relay.poll()
    assert stage.runs("SELECT 'ann'")


def test_who_has_waited_long_is_served_first(stage: Stage) -> None:
    ann, _ = ann_runs_and_bob_waits(stage)
    time.sleep(LONGEST_KEPT_S)
    stage.runs("SELECT 'ann'")
    ann[1].sendall(query("SELECT 'again'"))
    stage.relay.poll()
    assert ann[0].is_waiting
    assert stage.runs("SELECT 'bob'")


def test_who_has_other_settings_gets_nothing_of_what_is_kept(stage: Stage) -> None:
    ann, bob, cat = (stage.client(name) for name in ("ann", "bob", "cat"))
    stage.says(ann[1], query("SELECT 'ann'"))
    stage.says(bob[1], query("SELECT 'bob'"))
    stage.runs("SELECT 'ann'")
    cat[1].sendall(query("SELECT 'cat'"))
    stage.relay.poll()
    assert cat[0].is_waiting
    assert not bob[0].is_waiting
    assert stage.runs("SELECT 'bob'")
    stage.relay.poll()
    assert stage.runs("SELECT 'cat'")


def test_one_that_leaves_the_line_leaves_what_is_kept_free(stage: Stage) -> None:
    ann, bob = ann_runs_and_bob_waits(stage)
    stage.runs("SELECT 'ann'")
    bob[1].close()
    stage.relay.poll()
    assert stage.line.waiting == 0
    assert stage.pool.idle == [stage.server.link]
    stage.says(ann[1], query("SELECT 'again'"))
    assert not whole_messages(read_socket(ann[1]))[2:]
    assert not stage.runs("SELECT 'again'")
