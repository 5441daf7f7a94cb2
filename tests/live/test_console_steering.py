"""PAUSE, RESUME, KILL and the others, while clients are at work."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.fixtures.console import ADMIN, AUTH, LOOKER, Console
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

LIMIT_S = 20.0


@contextlib.contextmanager
def load(weir: Pgweir, clients: int = 16) -> Iterator[Callable[[], int]]:
    """Clients that run transactions until the end, and must not meet an error.

    Gives a function that counts the transactions so far.
    """
    done = [0] * clients
    ending = threading.Event()

    async def work(number: int) -> None:
        connection = await asyncpg.connect(weir.dsn())
        try:
            while not ending.is_set():
                async with connection.transaction():
                    value = await connection.fetchval("SELECT $1::int", number)
                    assert value == number
                    await connection.execute("SELECT 1")
                done[number] += 1
        finally:
            await connection.close()

    async def everybody() -> None:
        await asyncio.gather(*map(work, range(clients)))

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(lambda: asyncio.run(everybody()))
        try:
            weir.wait_until(lambda: working.done() or all(done), LIMIT_S)
            yield lambda: sum(done)
        finally:
            ending.set()
        working.result(LIMIT_S)


def rests(console: Console) -> bool:
    """Whether the proxy gives nobody of the database a server connection for a while."""

    def given() -> tuple[object, object]:
        row = console.one("STATS_TOTALS", database=DATABASE)
        return row["server_assignment_count"], row["query_count"]

    before = given()
    time.sleep(0.05)
    return given() == before


def test_pause_and_resume_under_load_make_no_error(manned: Pgweir, console: Console) -> None:
    with load(manned) as count:
        for _ in range(8):
            assert console.do("PAUSE") == "PAUSE"
            assert console.show("SERVERS", database=DATABASE) == []
            assert console.one("STATE", key="paused")["value"] == "yes"
            assert rests(console)
            before = count()
            assert console.do("RESUME") == "RESUME"
            manned.wait_until(lambda before=before: count() > before + 32, LIMIT_S)


def test_who_comes_while_all_is_paused_waits(manned: Pgweir, console: Console) -> None:
    psycopg.connect(manned.dsn()).close()
    console.do(f"PAUSE {DATABASE}")
    assert console.one("DATABASES", name=DATABASE)["paused"] == 1
    with ThreadPoolExecutor(1) as pool:

        def ask() -> object:
            with psycopg.connect(manned.dsn()) as connection:
                row = connection.execute("SELECT 42").fetchone()
                return row and row[0]

        answer = pool.submit(ask)
        manned.wait_until(
            lambda: console.show("POOLS", database=DATABASE, cl_waiting=1) != [], LIMIT_S
        )
        # Another database is not concerned.
        with psycopg.connect(manned.dsn(database="twin")) as other:
            assert other.execute("SELECT 1").fetchone() == (1,)
        assert not answer.done()
        console.do(f"RESUME {DATABASE}")
        assert answer.result(LIMIT_S) == 42


def test_pause_waits_for_a_transaction_and_can_be_cancelled(
    manned: Pgweir, console: Console
) -> None:
    with psycopg.connect(manned.dsn()) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("SELECT 1")
        other = psycopg.connect(manned.dsn(ADMIN.name, ADMIN.password, "pgweir"), autocommit=True)
        pausing = pool.submit(lambda: other.execute(b"PAUSE"))
        manned.wait_until(lambda: console.one("STATE", key="paused")["value"] == "yes")
        assert not pausing.done()
        other.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            pausing.result(LIMIT_S)
        # It is paused all the same, and the transaction goes on to its end.
        connection.execute("SELECT 2")
        connection.commit()
        manned.wait_until(lambda: console.show("SERVERS", database=DATABASE) == [])
        other.close()
        console.do("RESUME")


def test_an_administrator_who_leaves_during_a_pause_leaves_it_paused(
    manned: Pgweir, console: Console
) -> None:
    with psycopg.connect(manned.dsn()) as connection:
        connection.execute("SELECT 1")
        other = psycopg.connect(manned.dsn(ADMIN.name, ADMIN.password, "pgweir"), autocommit=True)
        other.pgconn.send_query(b"PAUSE")
        manned.wait_until(lambda: console.one("STATE", key="paused")["value"] == "yes")
        other.close()
        manned.wait_until(lambda: len(console.show("CLIENTS", database="pgweir")) == 0)
    assert console.one("STATE", key="paused")["value"] == "yes"
    console.do("RESUME")


def test_a_session_keeps_its_server_while_all_is_paused(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir]
) -> None:
    weir = start_pgweir(pg18, auth=AUTH, limits={"pool_mode": "session"})
    console = Console(weir)
    with psycopg.connect(weir.dsn(), autocommit=True) as connection, ThreadPoolExecutor(1) as pool:
        connection.execute("SELECT 1")
        pausing = pool.submit(console.do, "PAUSE")
        looker = Console(weir, LOOKER)
        weir.wait_until(lambda: looker.one("STATE", key="paused")["value"] == "yes")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not pausing.done()
        connection.close()
        assert pausing.result(LIMIT_S) == "PAUSE"
        looker.close()
    console.close()


def test_reconnect_under_load_replaces_every_server(manned: Pgweir, console: Console) -> None:
    with load(manned) as count:
        before = {row["ptr"] for row in console.show("SERVERS", database=DATABASE)}
        assert before
        assert console.do(f"RECONNECT {DATABASE}") == "RECONNECT"
        assert console.do(f"WAIT_CLOSE {DATABASE}") == "WAIT_CLOSE"
        seen = count()
        manned.wait_until(lambda: count() > seen + 10, LIMIT_S)
        after = {row["ptr"] for row in console.show("SERVERS", database=DATABASE)}
        assert after and not before & after


def test_a_suspended_proxy_passes_nothing_on(manned: Pgweir, console: Console) -> None:
    with load(manned) as count:
        assert console.do("SUSPEND") == "SUSPEND"
        assert console.one("STATE", key="suspended")["value"] == "yes"
        assert rests(console)
        before = count()
        console.do("RESUME")
        manned.wait_until(lambda: count() > before + 32, LIMIT_S)


def test_a_disabled_database_keeps_who_is_in_and_lets_nobody_else_in(
    manned: Pgweir, console: Console
) -> None:
    with psycopg.connect(manned.dsn(), autocommit=True) as inside:
        assert console.do(f"DISABLE {DATABASE}") == "DISABLE"
        assert inside.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            psycopg.connect(manned.dsn())
        assert console.one("DATABASES", name=DATABASE)["disabled"] == 1
        assert console.do(f"ENABLE {DATABASE}") == "ENABLE"
        psycopg.connect(manned.dsn()).close()


def test_kill_drops_everybody_and_holds_back_who_comes(manned: Pgweir, console: Console) -> None:
    victim = psycopg.connect(manned.dsn())
    victim.execute("SELECT 1")
    with psycopg.connect(manned.dsn(database="twin"), autocommit=True) as other:
        assert console.do(f"KILL {DATABASE}") == "KILL"
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            victim.execute("SELECT 1")
        assert other.execute("SELECT 1").fetchone() == (1,)
    manned.wait_until(lambda: console.show("SERVERS", database=DATABASE) == [])
    assert console.one("DATABASES", name=DATABASE)["paused"] == 1
    console.do(f"RESUME {DATABASE}")
    with psycopg.connect(manned.dsn()) as again:
        assert again.execute("SELECT 1").fetchone() == (1,)


def test_kill_of_everything_leaves_the_console(manned: Pgweir, console: Console) -> None:
    victim = psycopg.connect(manned.dsn())
    assert console.do("KILL") == "KILL"
    with pytest.raises(psycopg.OperationalError, match="administrator command"):
        victim.execute("SELECT 1")
    assert console.one("STATE", key="paused")["value"] == "yes"
    console.do("RESUME")


def test_one_client_is_killed_by_its_id(manned: Pgweir, console: Console) -> None:
    dsn = manned.dsn()
    with psycopg.connect(dsn, autocommit=True, application_name="other") as other:
        victim = psycopg.connect(dsn, application_name="victim")
        victim.execute("SELECT pg_sleep(0)")
        client = console.one("CLIENTS", application_name="victim")
        assert console.do(f"KILL_CLIENT {client['id']}") == "KILL_CLIENT"
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            victim.execute("SELECT 1")
        assert other.execute("SELECT 1").fetchone() == (1,)


def test_set_holds_until_the_configuration_is_read_again(manned: Pgweir, console: Console) -> None:
    assert console.do("SET default_pool_size = 7") == "SET default_pool_size=7"
    assert console.one("CONFIG", key="default_pool_size")["value"] == "7"
    assert console.one("DATABASES", name="twin")["pool_size"] == 3
    assert console.do("SET query_wait_timeout TO '250ms'") == "SET query_wait_timeout=250ms"
    assert console.one("CONFIG", key="query_wait_timeout")["value"] == "0.25"
    console.do("PAUSE twin")
    with (
        pytest.raises(psycopg.Error, match=r"query_wait_timeout|could be reached in time"),
        psycopg.connect(manned.dsn(database="twin")) as connection,
    ):
        connection.execute("SELECT 1")
    console.do("RESUME twin")
    assert console.do("RELOAD") == "RELOAD"
    row = console.one("CONFIG", key="query_wait_timeout")
    assert (row["value"], row["default"], row["changeable"]) == ("120", "120", "yes")


def test_a_reload_that_fails_says_why(pg18: Postgres, tmp_path: Path) -> None:
    config = configuration(pg18, auth=AUTH)
    with running(config, tmp_path) as weir:
        file = next(tmp_path.glob("pgweir-*.yaml"))
        file.write_text(file.read_text().replace("pool_size: 4", "pool_size: four"))
        console = Console(weir)
        with pytest.raises(psycopg.Error, match="RELOAD failed") as failed:
            console.do("RELOAD")
        assert "pool_size" in (failed.value.diag.message_detail or "")
        console.close()


def test_with_all_places_taken_an_administrator_comes_in(
    pg18: Postgres, start_pgweir: Callable[..., Pgweir]
) -> None:
    weir = start_pgweir(pg18, auth=AUTH, listen={"max_client_conn": 2})
    with contextlib.ExitStack() as stack:
        first = Console(weir)
        for _ in range(2):
            stack.enter_context(psycopg.connect(weir.dsn()))
        with pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            psycopg.connect(weir.dsn())
        second, third = Console(weir), Console(weir, LOOKER)
        assert len(first.show("CLIENTS")) == 5
        for each in (first, second, third):
            each.close()


@pytest.mark.parametrize("how", ["", "WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"])
def test_shutdown_ends_the_process(pg18: Postgres, tmp_path: Path, how: str) -> None:
    config = configuration(pg18, auth=AUTH)
    with running(config, tmp_path, ends_itself=True) as weir:
        console = Console(weir)
        connection = psycopg.connect(weir.dsn())
        connection.execute("SELECT 1")
        assert console.do(f"SHUTDOWN {how}") == "SHUTDOWN"
        weir.wait_for_log("stopping")
        if how:
            assert weir.process.poll() is None
            # Its transaction goes on.
            assert connection.execute("SELECT 2").fetchone() == (2,)
            connection.commit()
        if how == "WAIT_FOR_CLIENTS":
            assert connection.execute("SELECT 3").fetchone() == (3,)
        connection.close()
        assert weir.process.wait(LIMIT_S) == 0
        console.close()


def test_a_second_signal_hurries_a_shutdown_from_the_console(
    pg18: Postgres, tmp_path: Path
) -> None:
    config = configuration(pg18, auth=AUTH)
    with running(config, tmp_path, ends_itself=True) as weir:
        console = Console(weir)
        connection = psycopg.connect(weir.dsn())
        connection.execute("SELECT 1")
        console.do("SHUTDOWN WAIT_FOR_CLIENTS")
        weir.wait_for_log("stopping")
        weir.send(signal.SIGTERM)
        assert weir.process.wait(LIMIT_S) == 0
        connection.close()
        console.close()


def test_console_users_do_not_count_as_clients(manned: Pgweir, console: Console) -> None:
    assert manned.metric("pgweir_client_connections", user=ADMIN.name) == 0
    assert console.one("USERS", name=APP.name)["current_client_connections"] == 0


def test_signals_pause_and_resume(manned: Pgweir, console: Console) -> None:
    manned.send(signal.SIGUSR1)
    manned.wait_until(lambda: console.one("STATE", key="paused")["value"] == "yes")
    manned.send(signal.SIGUSR1)
    manned.wait_for_log("WARNING.*already suspended/paused")
    manned.send(signal.SIGUSR2)
    manned.wait_until(lambda: console.one("STATE", key="active")["value"] == "yes")
    with psycopg.connect(manned.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
