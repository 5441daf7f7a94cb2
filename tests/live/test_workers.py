"""Several processes that serve as one."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import APP, Postgres

WORKERS = 2
POOL = 5
# Twice what a test has, so that those of the test before may still be on their way out.
CLIENTS = 60


def several(node: Postgres, **changes: Any) -> dict[str, Any]:
    config = configuration(
        node,
        workers=WORKERS,
        listen={"max_client_conn": CLIENTS},
        limits={"pool_size": POOL},
        auth={"admins": [APP.name]},
    )
    del config["databases"]["demo"]["pool_size"]
    return merged(config, changes)


@pytest.fixture(scope="module")
def weir(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    with running(several(pg18), tmp_path_factory.mktemp("workers")) as weir:
        yield weir


@contextlib.contextmanager
def connected(weir: Pgweir, count: int) -> Iterator[list[psycopg.Connection[Any]]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(psycopg.connect(weir.dsn(), autocommit=True)) for _ in range(count)
        ]


def worker_of(client: psycopg.Connection[Any]) -> int:
    """The process that a client is in: its cancel key says so."""
    return client.info.backend_pid % WORKERS


def foreseen(client: psycopg.Connection[Any], sql: str) -> str:
    """What EXPLAIN POOLING says of a statement."""
    # Prepared, it would say the same for ever.
    row = client.execute(f"EXPLAIN POOLING {sql}".encode(), prepare=False).fetchone()
    assert row is not None
    return str(row[0])


def children_of(weir: Pgweir) -> list[int]:
    pid = weir.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_clients_are_dealt_out_to_all_processes(weir: Pgweir) -> None:
    assert len(children_of(weir)) == WORKERS
    with connected(weir, 24) as clients:
        assert {worker_of(client) for client in clients} == set(range(WORKERS))
        assert all(client.execute("SELECT 1").fetchone() == (1,) for client in clients)


def test_a_function_made_through_one_process_is_known_to_the_others(
    weir: Pgweir, pg18: Postgres
) -> None:
    pg18.execute(f"CREATE SCHEMA made_here AUTHORIZATION {APP.name}")
    make = (
        "CREATE FUNCTION made_here.it() RETURNS text LANGUAGE sql"
        " AS $$ SELECT set_config('app.tenant', 'me', false) $$"
    )
    with connected(weir, 24) as clients:
        theirs = {worker_of(client): client for client in clients}

        def explained(process: int) -> list[str]:
            return [foreseen(theirs[process], sql) for sql in ("SELECT made_here.it()", "SELECT 1")]

        for process in theirs:
            weir.wait_until(lambda process=process: explained(process) == ["plain", "plain"])
        theirs[0].execute(make)
        for process in theirs:
            weir.wait_until(lambda process=process: explained(process) == ["replayed", "plain"])
    pg18.execute("DROP SCHEMA made_here CASCADE")


def test_figures_are_those_of_all_processes_whoever_is_asked(weir: Pgweir) -> None:
    with connected(weir, 20):
        # Those of the test before may still be on their way out.
        weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 20)
        for _ in range(4):
            assert weir.metric("pgweir_client_connections") == 20


def test_all_processes_together_open_no_more_than_the_pool_may(
    weir: Pgweir, pg18: Postgres
) -> None:
    statement = "SELECT pg_sleep(0.4)"
    counted = (
        f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{statement}'"
    )
    most = 0
    with connected(weir, 20) as clients:
        threads = [threading.Thread(target=client.execute, args=[statement]) for client in clients]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, int(pg18.value(counted)))
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    # As many, unless no client has come to one of them.
    assert POOL // WORKERS < most <= POOL


def test_a_cancel_request_reaches_its_client_through_any_process(weir: Pgweir) -> None:
    ended: list[str] = []

    def sleep(client: psycopg.Connection[Any]) -> None:
        try:
            client.execute("SELECT pg_sleep(20)")
        except psycopg.errors.QueryCanceled:
            ended.append("cancelled")

    for _ in range(2):
        with connected(weir, 5) as clients:
            threads = [threading.Thread(target=sleep, args=[client]) for client in clients]
            for thread in threads:
                thread.start()
            for client, thread in zip(clients, threads, strict=True):
                # Sent until it has something to cancel.
                while thread.is_alive():
                    client.cancel()
                    thread.join(0.3)
    assert ended == ["cancelled"] * 10


def test_the_limit_on_clients_holds_for_all_processes_together(weir: Pgweir) -> None:
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)
    with (
        connected(weir, CLIENTS),
        pytest.raises(psycopg.OperationalError, match="max_client_conn"),
    ):
        psycopg.connect(weir.dsn())
    weir.wait_until(lambda: weir.metric("pgweir_client_connections") == 0)


def test_a_process_that_dies_is_replaced_and_the_others_go_on(weir: Pgweir) -> None:
    with connected(weir, 24) as clients:
        spared = [client for client in clients if worker_of(client) == 1]
        first = children_of(weir)[0]
        since = len(weir.log)
        os.kill(first, signal.SIGKILL)
        weir.wait_for_log("a process has ended, and is started anew", since=since)
        survivors = [client for client in spared if works(client)]
        assert spared
        assert len(survivors) in (0, len(spared))
        weir.wait_until(lambda: len(children_of(weir)) == WORKERS)
    with connected(weir, 24) as clients:
        assert all(works(client) for client in clients)
        assert {worker_of(client) for client in clients} == set(range(WORKERS))


def works(client: psycopg.Connection[Any]) -> bool:
    try:
        return client.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_a_reload_reaches_all_processes_or_none(weir: Pgweir) -> None:
    file = Path(weir.process.args[-1])  # type: ignore[index,arg-type]
    sound = file.read_text()
    since = len(weir.log)
    file.write_text(sound + "wrong: 1\n")
    weir.send(signal.SIGHUP)
    weir.wait_for_log("not reloaded: .*wrong: unknown key", since=since)
    file.write_text(sound.replace("limits:\n", "limits:\n  query_timeout: 1s\n"))
    weir.send(signal.SIGHUP)
    weir.wait_for_log("limits.query_timeout: 0 -> 1s, now", since=since)

    def is_in_force() -> bool:
        with connected(weir, 24) as clients:
            chosen = {worker_of(client): client for client in clients}
            return len(chosen) == WORKERS and all(map(is_cut_short, chosen.values()))

    weir.wait_until(is_in_force, 30)
    file.write_text(sound)
    weir.send(signal.SIGHUP)


def is_cut_short(client: psycopg.Connection[Any]) -> bool:
    try:
        client.execute("SELECT pg_sleep(3)")
    except psycopg.errors.QueryCanceled:
        return True
    return False


def test_a_pause_holds_in_all_processes_whoever_is_told(weir: Pgweir) -> None:
    with connected(weir, 24) as clients, psycopg.connect(console(weir), autocommit=True) as admin:
        chosen = {worker_of(client): client for client in clients}
        assert chosen.keys() == set(range(WORKERS))
        admin.execute("PAUSE")
        asked = [
            threading.Thread(target=client.execute, args=["SELECT 1"]) for client in chosen.values()
        ]
        for thread in asked:
            thread.start()
        for thread in asked:
            thread.join(0.5)
            assert thread.is_alive()
        admin.execute("RESUME")
        for thread in asked:
            thread.join(20)
            assert not thread.is_alive()


def test_a_reload_at_the_console_is_one_of_all_processes(weir: Pgweir) -> None:
    since = len(weir.log)
    with psycopg.connect(console(weir), autocommit=True) as admin:
        admin.execute("RELOAD")
    weir.wait_for_log("INFO reloaded", since=since)


def console(weir: Pgweir) -> str:
    return weir.dsn(database="pgweir")


def test_transactions_finish_in_all_processes_and_the_code_is_0(
    pg18: Postgres, tmp_path: Path
) -> None:
    config = several(pg18, limits={"pool_size": 20})
    # The fixture expects to end what it has started.
    with pytest.raises(AssertionError, match="it has died"), running(config, tmp_path) as weir:
        children = children_of(weir)
        with connected(weir, 8) as clients:
            for client in clients:
                client.execute("BEGIN")
                client.execute("SELECT 1")
            weir.send(signal.SIGTERM)
            weir.wait_for_log("stopping signal=SIGTERM")
            for client in clients:
                assert client.execute("SELECT 2").fetchone() == (2,)
                client.execute("COMMIT")
        assert weir.process.wait(20) == 0
    assert not any(map(is_there, children))


def test_a_drain_empties_all_processes_and_nobody_comes_in(pg18: Postgres, tmp_path: Path) -> None:
    with running(several(pg18), tmp_path) as weir:
        with connected(weir, 24) as clients:
            assert {worker_of(client) for client in clients} == set(range(WORKERS))
            address = f"http://127.0.0.1:{weir.http_port}/drain"
            with urlopen(Request(address, method="POST"), timeout=10) as answer:
                assert answer.status == 202
            weir.wait_until(lambda: not any(map(works, clients)))
        weir.wait_until(lambda: is_refused(weir))


def is_refused(weir: Pgweir) -> bool:
    try:
        socket.create_connection(("127.0.0.1", weir.port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_nobody_and_nothing_is_left_behind_when_the_one_in_charge_is_killed(
    pg18: Postgres, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with running(
        several(pg18), tmp_path, environ={"TMPDIR": str(scratch)}, ends_itself=True
    ) as weir:
        children = children_of(weir)
        weir.process.kill()
        weir.process.wait(10)
        deadline = time.monotonic() + 10
        while any(map(is_there, children)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not list(scratch.iterdir())
