"""What lasts too long is ended, with the SQLSTATE that says so."""

import time
from collections.abc import Callable

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir
from tests.fixtures.postgres import DATABASE, Postgres

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
