"""What lasts too long is ended, with the SQLSTATE that says so."""

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.faults.raw_client import RawClient, query
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

Start = Callable[..., Pgweir]


def test_a_statement_over_query_timeout_is_cancelled_and_the_client_stays(
    pg18: Postgres, start_pgweir: Start
) -> None:
    weir = start_pgweir(pg18, databases={DATABASE: {"query_timeout": "300ms"}})
    with psycopg.connect(weir.dsn(), autocommit=True) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_transaction_left_idle_is_ended_with_25p03(pg18: Postgres, start_pgweir: Start) -> None:
    weir = start_pgweir(pg18, databases={DATABASE: {"idle_transaction_timeout": "300ms"}})
    with psycopg.connect(weir.dsn()) as connection:
        connection.execute("SELECT 1")
        weir.wait_until(lambda: weir.metric("pgweir_errors_total", sqlstate="25P03") == 1)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1")


def test_a_client_left_idle_is_ended_with_57p05(pg18: Postgres, start_pgweir: Start) -> None:
    weir = start_pgweir(pg18, databases={DATABASE: {"client_idle_timeout": "300ms"}})
    with psycopg.connect(weir.dsn(), autocommit=True) as connection:
        connection.execute("SELECT 1")
        weir.wait_until(lambda: weir.metric("pgweir_errors_total", sqlstate="57P05") == 1)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1")


LONG_TRANSACTIONS = {
    "idle": ["BEGIN", "SELECT 1"],
    "never begun on a server": ["BEGIN"],
    "failed": ["BEGIN", "SELECT 1/0"],
    "running": ["BEGIN", "SELECT pg_sleep(30)"],
    "a single statement": ["SELECT pg_sleep(30)"],
}


@pytest.fixture(scope="module")
def impatient(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(
        pg18,
        auth={"method": "trust"},
        databases={DATABASE: {"transaction_timeout": "300ms"}},
    )
    with running(config, tmp_path_factory.mktemp("impatient")) as weir:
        yield weir


@pytest.mark.parametrize("said", LONG_TRANSACTIONS.values(), ids=LONG_TRANSACTIONS.keys())
def test_a_transaction_over_transaction_timeout_is_ended_with_25p04(
    impatient: Pgweir, said: list[str]
) -> None:
    with RawClient.logged_in(impatient.port, APP.name, DATABASE) as client:
        for sql in said[:-1]:
            client.ask(sql)
        client.send(query(said[-1]))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "25P04"
    impatient.wait_until(lambda: impatient.metric("pgweir_server_connections", state="active") == 0)


def test_transactions_that_are_short_may_follow_each_other_for_long(impatient: Pgweir) -> None:
    with RawClient.logged_in(impatient.port, APP.name, DATABASE) as client:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            client.send(query("BEGIN") + query("SELECT pg_sleep(0.01)") + query("COMMIT"))
            for _ in range(3):
                client.read_until(b"Z")


def test_a_client_that_waits_for_query_wait_notify_is_told_so_once(
    pg18: Postgres, start_pgweir: Start
) -> None:
    limits = {"pool_size": 1, "query_wait_notify": "200ms"}
    weir = start_pgweir(pg18, auth={"method": "trust"}, databases={DATABASE: limits})
    with (
        RawClient.logged_in(weir.port, APP.name, DATABASE) as holder,
        RawClient.logged_in(weir.port, APP.name, DATABASE) as other,
    ):
        for turn in ("one", "two"):
            holder.ask("BEGIN")
            holder.value("SELECT 1")
            other.send(query(f"SELECT '{turn}'"))
            assert other.read_until(b"N")[-1].fields["S"] == "NOTICE"
            threading.Event().wait(0.3)  # three ticks: it must not be told again
            holder.ask("COMMIT")
            answer = other.read_until(b"Z")
            assert [each.kind for each in answer] == [b"T", b"D", b"C", b"Z"]
            assert answer[1].columns == [turn.encode()]


def test_a_busy_client_is_not_idle(pg18: Postgres, start_pgweir: Start) -> None:
    weir = start_pgweir(
        pg18,
        databases={DATABASE: {"client_idle_timeout": "400ms", "idle_transaction_timeout": "400ms"}},
    )
    with psycopg.connect(weir.dsn()) as connection:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            connection.execute("SELECT pg_sleep(0.05)")
            connection.commit()
