"""How many server connections there may be, and who gets the next one."""

import contextlib
from collections.abc import Callable

import pytest

from tests.faults.raw_client import RawClient, query
from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import APP, DATABASE, Postgres

Start = Callable[..., Pgweir]


def login(weir: Pgweir, user: str = APP.name, database: str = DATABASE) -> RawClient:
    return RawClient.logged_in(weir.port, user, database)


def servers(weir: Pgweir, **labels: str) -> float:
    return weir.metric("pgweir_server_connections", **labels)


def waiting(weir: Pgweir, **labels: str) -> float:
    return weir.metric("pgweir_client_connections", state="waiting", **labels)


def hold(client: RawClient) -> RawClient:
    """Let the client keep a server connection."""
    client.ask("BEGIN")
    client.value("SELECT 1")
    return client


def answer(client: RawClient) -> bytes | None:
    """The first value of what the client is told next."""
    return next(each.columns for each in client.read_until(b"Z") if each.kind == b"D")[0]


# --- the reserve ---------------------------------------------------------------------------------


@pytest.fixture
def start(pg18: Postgres, start_pgweir: Start) -> Start:
    """Start a proxy that asks for no password; the named limits hold for its database."""

    def start_open(**limits: object) -> Pgweir:
        return start_pgweir(pg18, auth={"method": "trust"}, databases={DATABASE: limits})

    return start_open


def test_a_client_that_has_waited_long_enough_gets_a_connection_of_the_reserve(
    start: Start,
) -> None:
    weir = start(pool_size=1, reserve_pool_size=2, reserve_pool_timeout="200ms")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(login(weir)) for _ in range(4)]
        hold(clients[0])
        for each in clients[1:3]:
            hold(each)
        clients[3].send(query("SELECT 'fourth'"))
        weir.wait_until(lambda: waiting(weir) == 1)
        assert servers(weir) == 3
        clients[0].ask("COMMIT")
        assert answer(clients[3]) == b"fourth"
        for each in clients[1:3]:
            each.ask("COMMIT")
        weir.wait_until(lambda: servers(weir) == 1)


def test_without_reserve_pool_timeout_the_reserve_is_left_alone(start: Start) -> None:
    limits = {"reserve_pool_size": 1, "reserve_pool_timeout": 0, "query_wait_timeout": "1s"}
    weir = start(pool_size=1, **limits)
    with login(weir) as holder, login(weir) as other:
        hold(holder)
        assert other.error("SELECT 'in vain'") == "08001"
        assert servers(weir) == 1
