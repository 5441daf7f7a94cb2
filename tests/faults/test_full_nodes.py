"""A node that others have filled: what the proxy has there is shared all the same."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import STAGE, proxy_before
from tests.faults.raw_client import message
from tests.faults.stage import PATIENT, Stage, watched
from tests.faults.wire import Script, Scripted, wire_to
from tests.fixtures.postgres import MONITOR, Postgres


def full(routine: str) -> bytes:
    """PostgreSQL's refusal, raised there."""
    fields = {"S": "FATAL", "V": "FATAL", "C": "53300", "M": "zu viele", "R": routine}
    return message(b"E", b"".join(f"{k}{v}\0".encode() for k, v in fields.items()) + b"\0")


def node_of_one() -> Script:
    """Servers of a node that has one connection for us."""
    seat = threading.Semaphore(1)

    def serve(server: Scripted) -> None:
        if not seat.acquire(blocking=False):
            server.send(full("InitPostgres"))
            return
        try:
            server.log_in()
            while (said := server.read()) is not None and said.kind == b"Q":
                server.answer("served")
        finally:
            seat.release()

    return serve


@pytest.fixture
def full_stage(pg18: Postgres, tmp_path: Path) -> Iterator[Stage]:
    """A proxy of its own: it remembers for a while that its node was full."""
    wire = wire_to((pg18.host, pg18.port), MONITOR.name)
    with proxy_before(wire, tmp_path, **STAGE) as both, watched(Stage(*both)) as stage:
        yield stage


def test_at_a_full_node_an_idle_connection_of_another_pool_makes_room(full_stage: Stage) -> None:
    stage, node = full_stage, node_of_one()
    with stage.client_of(stage.play(node)) as one, stage.knock(stage.play(node, PATIENT)) as two:
        assert one.value("SELECT 1") == "served"
        two.read_welcome()
        assert two.value("SELECT 2") == "served"
    assert stage.weir.metric("pgweir_server_connections", database=PATIENT) == 1


@pytest.mark.parametrize("routine", ["InitializeSessionUserId", "CheckMyDatabase"])
def test_a_role_or_database_without_connections_left_takes_none_from_others(
    stage: Stage, routine: str
) -> None:
    refusals = threading.Semaphore(0)

    def serve(server: Scripted) -> None:
        server.send(full(routine))
        refusals.release()

    node = node_of_one()
    kept = stage.play(node)
    with stage.client_of(kept) as one:
        assert one.value("SELECT 1") == "served"
        with stage.knock(stage.play(serve)):
            for _ in range(3):
                assert refusals.acquire(timeout=10)
        assert stage.weir.metric("pgweir_server_connections", database=kept) == 1
