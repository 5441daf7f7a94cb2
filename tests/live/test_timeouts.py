"""What lasts too long is ended, with the SQLSTATE that says so."""

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from proxy.embedded import Login
from tests.faults.raw_client import RawClient, query
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, MD5_USER, PLAIN_USER, TRUST_USER, Postgres

Start = Callable[..., Pgweir]


SOON = "300ms"
# One user for each limit, and one database; who asks for a database has no part in its limit.
OF_USERS = {
    TRUST_USER: "query_timeout",
    MD5_USER: "transaction_timeout",
    PLAIN_USER: "idle_transaction_timeout",
    APP: "client_idle_timeout",
}


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    config = configuration(pg18)
    config["auth"] = {
        "method": "trust",
        "users": {
            user.name: {"password": user.password or "any", limit: SOON}
            for user, limit in OF_USERS.items()
        },
    }
    config["databases"] = {
        DATABASE: {"cluster": "main"},
        "patient": {"cluster": "main", "dbname": DATABASE, "transaction_timeout": "1s"},
        **{
            limit: {"cluster": "main", "dbname": DATABASE, limit: SOON}
            for limit in OF_USERS.values()
        },
    }
    with running(config, tmp_path_factory.mktemp("timeouts")) as weir:
        yield weir


def login(weir: Pgweir, database: str, user: Login) -> RawClient:
    return RawClient.logged_in(weir.port, user.name, database)


QUERY_TIMEOUTS = {"database": ("query_timeout", PLAIN_USER), "user": (DATABASE, TRUST_USER)}


@pytest.mark.parametrize(("database", "user"), QUERY_TIMEOUTS.values(), ids=QUERY_TIMEOUTS.keys())
def test_a_statement_over_query_timeout_is_cancelled_and_the_client_stays(
    weir: Pgweir, database: str, user: Login
) -> None:
    with login(weir, database, user) as client:
        assert client.error("SELECT pg_sleep(30)") == "57014"
        assert client.value("SELECT 'on'") == "on"


IN_A_TRANSACTION = ["BEGIN", "SELECT 1"]
ENDED = {
    "transaction_timeout of a database": (
        "transaction_timeout",
        TRUST_USER,
        IN_A_TRANSACTION,
        "25P04",
    ),
    "transaction_timeout of a user": (DATABASE, MD5_USER, IN_A_TRANSACTION, "25P04"),
    "idle_transaction_timeout of a database": (
        "idle_transaction_timeout",
        TRUST_USER,
        IN_A_TRANSACTION,
        "25P03",
    ),
    "idle_transaction_timeout of a user": (DATABASE, PLAIN_USER, IN_A_TRANSACTION, "25P03"),
    "client_idle_timeout of a database": ("client_idle_timeout", TRUST_USER, ["SELECT 1"], "57P05"),
    "client_idle_timeout of a user": (DATABASE, APP, ["SELECT 1"], "57P05"),
}


@pytest.mark.parametrize(("database", "user", "said", "sqlstate"), ENDED.values(), ids=ENDED.keys())
def test_what_lasts_too_long_is_ended_with_its_sqlstate(
    weir: Pgweir, database: str, user: Login, said: list[str], sqlstate: str
) -> None:
    with login(weir, database, user) as client:
        for sql in said:
            client.ask(sql)
        *_, last = client.read_to_end()
        assert (last.fields["S"], last.fields["C"]) == ("FATAL", sqlstate)


@pytest.mark.parametrize("part", [1, 4, 5, 10])
def test_who_has_begun_a_message_is_idle_all_the_same(weir: Pgweir, part: int) -> None:
    """Slow loris, logged in: the rest of it may never come."""
    with login(weir, "client_idle_timeout", TRUST_USER) as client:
        assert client.value("SELECT 1") == "1"
        client.send(query("SELECT 'never said to the end'")[:part])
        *_, last = client.read_to_end()
        assert (last.fields["S"], last.fields["C"]) == ("FATAL", "57P05")


def half_a_query(client: RawClient) -> None:
    # Longer than what is kept until it is whole.
    client.send(query("SELECT '" + "x" * 4_000_000)[:3_000_000])


def silent_copy(client: RawClient) -> None:
    client.send(query("COPY pg_temp.never FROM STDIN"))
    client.read_until(b"G")


def unread_rows(client: RawClient) -> None:
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)"))


KEPT_WAITING = [half_a_query, silent_copy, unread_rows]


@pytest.mark.parametrize("keep_waiting", KEPT_WAITING)
def test_a_statement_that_waits_for_its_own_client_ends_with_query_timeout_too(
    weir: Pgweir, keep_waiting: Callable[[RawClient], None]
) -> None:
    """PostgreSQL does not hear of a cancel while it waits for bytes."""
    with login(weir, "query_timeout", PLAIN_USER) as client:
        client.ask("BEGIN")
        client.ask("CREATE TEMPORARY TABLE never (v text)")
        keep_waiting(client)
        weir.wait_until(
            lambda: (
                weir.metric("pgweir_server_connections", database="query_timeout", state="active")
                == 0
            ),
            20,
        )


LONG_TRANSACTIONS = {
    "idle": ["BEGIN", "SELECT 1"],
    "never begun on a server": ["BEGIN"],
    "failed": ["BEGIN", "SELECT 1/0"],
    "running": ["BEGIN", "SELECT pg_sleep(30)"],
    "a single statement": ["SELECT pg_sleep(30)"],
}


@pytest.mark.parametrize("said", LONG_TRANSACTIONS.values(), ids=LONG_TRANSACTIONS.keys())
def test_a_transaction_over_transaction_timeout_is_ended_with_25p04(
    weir: Pgweir, said: list[str]
) -> None:
    with login(weir, "transaction_timeout", MD5_USER) as client:
        for sql in said[:-1]:
            client.ask(sql)
        client.send(query(said[-1]))
        *_, last = client.read_to_end()
        assert last.fields["C"] == "25P04"
    weir.wait_until(lambda: weir.metric("pgweir_server_connections", state="active") == 0)


def test_transactions_that_are_short_may_follow_each_other_for_long(weir: Pgweir) -> None:
    with login(weir, "patient", TRUST_USER) as client:
        end = time.monotonic() + 1.6
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
