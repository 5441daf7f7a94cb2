"""A cancel request hits the query that was running when it was sent, and no other."""

import contextlib
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.raw_client import (
    CANCEL_REQUEST,
    PROTOCOL_3_2,
    SYNC,
    RawClient,
    bind,
    execute,
    packet,
    parse,
    query,
    send_cancel,
)
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import APP, DATABASE, Postgres

# How often each of three clients cancels.
RACES = 150


@pytest.fixture(scope="module")
def one_server(pg18: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pgweir]:
    """A proxy whose clients share a single server connection."""
    config = configuration(
        pg18,
        auth={"method": "trust"},
        databases={DATABASE: {"pool_size": 1}},
        log={"level": "info"},
    )
    with running(config, tmp_path_factory.mktemp("cancel")) as weir:
        yield weir


def login(weir: Pgweir, version: int = 196608) -> RawClient:
    return RawClient.logged_in(weir.port, APP.name, DATABASE, version)


def errors(client: RawClient) -> list[str]:
    return [each.fields["C"] for each in client.read_until(b"Z") if each.kind == b"E"]


def until_running(weir: Pgweir) -> None:
    weir.wait_until(lambda: weir.metric("pgweir_client_connections", state="active") == 1)


def test_a_running_query_is_cancelled(one_server: Pgweir) -> None:
    with login(one_server) as client:
        client.send(query("SELECT pg_sleep(60)"))
        until_running(one_server)
        send_cancel(one_server.port, client.pid, client.secret)
        assert errors(client) == ["57014"]
        assert client.value("SELECT 'on'") == "on"


def test_a_running_query_of_the_extended_protocol_is_cancelled(one_server: Pgweir) -> None:
    with login(one_server) as client:
        client.send(parse("", "SELECT pg_sleep(60)") + bind("", "") + execute() + SYNC)
        until_running(one_server)
        send_cancel(one_server.port, client.pid, client.secret)
        assert errors(client) == ["57014"]
        assert client.value("SELECT 'on'") == "on"


def test_a_query_inside_a_transaction_is_cancelled(one_server: Pgweir) -> None:
    with login(one_server) as client:
        client.ask("BEGIN")
        client.send(query("SELECT pg_sleep(60)"))
        until_running(one_server)
        send_cancel(one_server.port, client.pid, client.secret)
        replies = client.read_until(b"Z")
        assert replies[-1].body == b"E"
        assert client.ask("ROLLBACK")[-1].body == b"I"


def test_the_first_query_behind_a_begin_and_changed_settings_is_cancelled(
    one_server: Pgweir,
) -> None:
    """What the proxy sends ahead of it must neither be hit nor hide it."""
    with login(one_server) as client, login(one_server) as other:
        client.ask("SET TIME ZONE 'Asia/Tokyo'")
        for _ in range(20):
            other.value("SELECT 1")
            client.ask("BEGIN")
            client.send(query("SELECT pg_sleep(60)"))
            threading.Event().wait(random.uniform(0, 0.003))
            deadline = time.monotonic() + 5
            client.socket.settimeout(0.2)
            while True:  # a cancel that comes before the query has reached the server is void
                send_cancel(one_server.port, client.pid, client.secret)
                try:
                    assert errors(client) == ["57014"]
                    break
                except TimeoutError:
                    assert time.monotonic() < deadline
            client.socket.settimeout(10)
            client.ask("ROLLBACK")
            assert client.value("SHOW timezone") == "Asia/Tokyo"


def test_a_query_that_waits_in_line_is_cancelled(one_server: Pgweir) -> None:
    with login(one_server) as holder, login(one_server) as waiter:
        holder.ask("BEGIN")
        holder.value("SELECT 1")
        waiter.send(query("SELECT 'never'"))
        one_server.wait_until(
            lambda: one_server.metric("pgweir_client_connections", state="waiting") == 1
        )
        send_cancel(one_server.port, waiter.pid, waiter.secret)
        assert errors(waiter) == ["57014"]
        assert holder.value("SELECT 'untouched'") == "untouched"
        holder.ask("COMMIT")
        assert waiter.value("SELECT 'on'") == "on"


def test_a_cancel_with_nothing_running_does_nothing(one_server: Pgweir) -> None:
    with login(one_server) as idle, login(one_server) as busy:
        busy.send(query("SELECT pg_sleep(0.3), 'busy'"))
        until_running(one_server)
        send_cancel(one_server.port, idle.pid, idle.secret)
        assert errors(busy) == []
        assert idle.value("SELECT 'on'") == "on"


def test_a_cancel_while_idle_in_a_transaction_does_nothing(one_server: Pgweir) -> None:
    with login(one_server) as client:
        client.ask("BEGIN")
        client.value("SELECT 1")
        send_cancel(one_server.port, client.pid, client.secret)
        assert client.value("SELECT 'on'") == "on"
        assert client.ask("COMMIT")[0].body == b"COMMIT\0"


def test_a_cancel_with_a_wrong_secret_does_nothing_and_is_counted(one_server: Pgweir) -> None:
    before = one_server.metric("pgweir_cancel_requests_total", result="unknown_key")
    with login(one_server) as client:
        client.send(query("SELECT pg_sleep(0.3), 'on'"))
        until_running(one_server)
        wrong = bytes([client.secret[0] ^ 1]) + client.secret[1:]
        for secret in (wrong, client.secret + b"\0", b"\0" * 4, b"x" * 256):
            send_cancel(one_server.port, client.pid, secret)
        assert errors(client) == []
    assert one_server.metric("pgweir_cancel_requests_total", result="unknown_key") == before + 4


def test_a_cancel_for_a_client_that_has_left_does_nothing(one_server: Pgweir) -> None:
    with login(one_server) as gone:
        pid, secret = gone.pid, gone.secret
    one_server.wait_until(lambda: one_server.metric("pgweir_client_connections") == 0)
    with login(one_server) as client:
        client.send(query("SELECT pg_sleep(0.2), 'on'"))
        until_running(one_server)
        send_cancel(one_server.port, pid, secret)
        assert errors(client) == []


def test_protocol_3_2_has_long_keys_that_cancel(one_server: Pgweir) -> None:
    with login(one_server, PROTOCOL_3_2) as client:
        assert len(client.secret) == 32
        client.send(query("SELECT pg_sleep(60)"))
        until_running(one_server)
        send_cancel(one_server.port, client.pid, client.secret[:-1])
        send_cancel(one_server.port, client.pid, client.secret)
        assert errors(client) == ["57014"]


def test_protocol_3_0_has_short_keys(one_server: Pgweir) -> None:
    with login(one_server) as client:
        assert len(client.secret) == 4


def test_keys_say_nothing_of_each_other(one_server: Pgweir) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(login(one_server)) for _ in range(20)]
        assert len({each.pid for each in clients}) == 20
        assert len({each.secret for each in clients}) == 20


def test_a_cancel_request_gets_no_answer(one_server: Pgweir) -> None:
    with RawClient(one_server.port) as stranger:
        stranger.send(packet(struct.pack("!ii", CANCEL_REQUEST, 1) + b"abcd"))
        assert stranger.read() is None


def test_a_driver_can_cancel(one_server: Pgweir) -> None:
    dsn = f"postgres://{APP.name}@127.0.0.1:{one_server.port}/{DATABASE}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_cancel_never_hits_the_next_query_of_anybody(one_server: Pgweir) -> None:
    """Cancels race with the ends of short queries; those who never cancel are never cancelled."""
    wrong: list[str] = []
    counts = {"cancelled": 0, "finished": 0, "innocent": 0}
    is_over = threading.Event()

    def cancelling(seed: int) -> None:
        chance = random.Random(seed)
        with login(one_server) as client:
            for _ in range(RACES):
                duration_s = chance.uniform(0, 0.004)
                client.send(query(f"SELECT pg_sleep({duration_s})"))
                threading.Event().wait(chance.uniform(0, 2 * duration_s))
                send_cancel(one_server.port, client.pid, client.secret)
                found = errors(client)
                counts["cancelled" if found else "finished"] += 1
                if found not in ([], ["57014"]):
                    wrong.append(f"cancelling client got {found}")
                # The cancel is over: it must not reach what comes behind.
                if after := [
                    each.fields
                    for each in client.ask("SELECT pg_sleep(0.0005)")
                    if each.kind == b"E"
                ]:
                    wrong.append(f"the next query got {after}")

    def innocent() -> None:
        with login(one_server) as client:
            while not is_over.is_set():
                client.send(query("SELECT pg_sleep(0.0005)"))
                if found := errors(client):
                    wrong.append(f"innocent client got {found}")
                counts["innocent"] += 1

    cancels = [threading.Thread(target=cancelling, args=(seed,)) for seed in range(3)]
    others = [threading.Thread(target=innocent) for _ in range(2)]
    for each in (*cancels, *others):
        each.start()
    for each in cancels:
        each.join()
    is_over.set()
    for each in others:
        each.join()
    assert wrong == []
    assert all(counts.values()), counts


def test_a_cancel_of_a_client_that_vanishes_does_not_hit_the_next(one_server: Pgweir) -> None:
    """The proxy cancels for those who disappear; whoever comes next on that server is safe."""
    for seed in range(60):
        gone = login(one_server)
        gone.send(query("SELECT pg_sleep(0.002)"))
        threading.Event().wait(random.Random(seed).uniform(0, 0.004))
        gone.reset()
        with login(one_server) as client:
            client.send(query("SELECT pg_sleep(0.001)"))
            assert errors(client) == []


def test_a_cancel_that_cannot_be_delivered_does_not_block_for_long(
    start_pgweir: Callable[..., Pgweir], pg18: Postgres, tmp_path: Path
) -> None:
    weir = start_pgweir(
        pg18,
        auth={"method": "trust"},
        databases={DATABASE: {"pool_size": 1}},
        limits={"cancel_wait_timeout": "300ms"},
    )
    with login(weir) as client:
        client.send(query("SELECT pg_sleep(1)"))
        until_running(weir)
        pg18.freeze()
        try:
            send_cancel(weir.port, client.pid, client.secret)
            threading.Event().wait(0.5)
        finally:
            pg18.thaw()
        client.read_until(b"Z")
        assert client.value("SELECT 'on'") == "on"
