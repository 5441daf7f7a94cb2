"""A replica that is alive and slow: it replays late, answers late, or has long statements."""

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster
from tests.live.freshness import delayed, replay_after, splitting, written_table

LATE_S = 0.02
DEADLINE_S = 30.0
CLIENTS = 8
SESSIONS = 4
WRITES = 8
NODES = ("db1", "db2", "db3")
WRITE = "update written set value = value + 1 where id = 500"


class LongRoad:
    """A port from which everything arrives LATE_S later at another, and back."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._ends: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._threads = [threading.Thread(target=self._admit, daemon=True)]
        self._threads[0].start()

    def _admit(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._join(source, sink)

    def _join(self, source: socket.socket, sink: socket.socket) -> None:
        on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for work, end in ((self._receive, source), (self._deliver, sink)):
            thread = threading.Thread(target=work, args=(end, on_the_way), daemon=True)
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _receive(end: socket.socket, on_the_way: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        octets = b"-"
        while octets:
            try:
                octets = end.recv(1 << 16)
            except OSError:
                octets = b""
            on_the_way.put((time.monotonic() + LATE_S, octets))

    @staticmethod
    def _deliver(end: socket.socket, on_the_way: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        while True:
            due, octets = on_the_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                if octets:
                    end.sendall(octets)
                else:
                    end.shutdown(socket.SHUT_WR)
            if not octets:
                return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for end in self._ends:
            end.close()


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> Iterator[PostgresCluster]:
    with written_table(pg_replicated) as cluster:
        yield cluster


@contextlib.contextmanager
def in_front_of(
    cluster: PostgresCluster, folder: Path, port: int | None = None, **replicas: Any
) -> Iterator[Pgweir]:
    """A proxy that splits. port: where it finds db3, which has a role, `slow`."""
    config = configuration(
        *cluster.nodes,
        clusters={"main": {"replicas": replicas}},
        databases={DATABASE: {"read_write_split": True, "pool_size": CLIENTS}},
    )
    third = config["clusters"]["main"]["nodes"][2]
    third["roles"] = ["slow"]
    third["port"] = port or third["port"]
    with running(config, folder) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3, DEADLINE_S)
        yield weir


@contextlib.contextmanager
def far_away(cluster: PostgresCluster, folder: Path, **replicas: Any) -> Iterator[Pgweir]:
    """As in_front_of; db3 is at the end of a long road."""
    road = LongRoad(cluster.replicas[1].port)
    try:
        with in_front_of(cluster, folder, road.port, **replicas) as weir:
            yield weir
    finally:
        road.close()


def answered(weir: Pgweir, node: str) -> float:
    return weir.metric("pgweir_queries_total", node=node)


def shares(weir: Pgweir, work: Callable[[], None]) -> dict[str, float]:
    """How many statements each node answers meanwhile."""
    before = {node: answered(weir, node) for node in NODES}
    work()
    return {node: answered(weir, node) - before[node] for node in NODES}


def lag_s(weir: Pgweir) -> float:
    """By how much db3 is behind, seconds, as the proxy sees it."""
    return weir.metric("pgweir_replication_lag_seconds", node="db3")


def read_at_once(weir: Pgweir, times: int) -> None:
    """So many reads of each of several clients."""

    def go_on() -> None:
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            for _ in range(times):
                client.execute("select 1")

    threads = [threading.Thread(target=go_on) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def written_all_the_time(cluster: PostgresCluster) -> Iterator[None]:
    """Somebody writes past the proxy meanwhile."""
    over = threading.Event()

    def go_on() -> None:
        with psycopg.connect(cluster.primary.dsn(), autocommit=True) as client:
            while not over.wait(0.02):
                client.execute(WRITE)

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


# --- never stale ---


async def count_stale(weir: Pgweir, key: str | None, *, alone: bool) -> int:
    """Sessions write in turn and all read. Result: how many reads did not see what was written.

    key: which they share. alone: who has not written does not read.
    """
    stale = 0
    sessions = [await asyncpg.connect(weir.dsn()) for _ in range(SESSIONS)]
    try:
        for session in sessions if key else ():
            await session.execute(f"set pgweir.consistency_key = '{key}'")
        for number in range(WRITES):
            writer = sessions[number % SESSIONS]
            value = await writer.fetchval(
                "update written set value = value + 1 where id = 7 returning value"
            )
            # Replicas that are fast have it in time for some of them.
            for pause_s in (0.0, 0.02, 0.3 if number % 4 == 0 else 0.0):
                await asyncio.sleep(pause_s)
                seen = await asyncio.gather(
                    *(
                        session.fetchval("select value from written where id = 7")
                        for session in ([writer] if alone else sessions)
                    )
                )
                stale += sum(each != value for each in seen)
    finally:
        for session in sessions:
            await session.close()
    return stale


@pytest.mark.parametrize("consistency", ["session", "key", "global"])
@pytest.mark.parametrize("slow", ["replays late", "answers late"])
async def test_with_a_slow_replica_no_read_is_stale(
    cluster: PostgresCluster, tmp_path: Path, consistency: str, slow: str
) -> None:
    with contextlib.ExitStack() as stack:
        settings = {}
        if slow == "replays late":
            stack.enter_context(delayed(cluster.replicas[1], "400ms"))
        else:
            road = LongRoad(cluster.replicas[1].port)
            stack.callback(road.close)
            nodes = configuration(*cluster.nodes)["clusters"]["main"]["nodes"]
            nodes[2]["port"] = road.port
            settings = {"clusters": {"main": {"nodes": nodes}}}
        weir = stack.enter_context(splitting(cluster, tmp_path, consistency, settings))
        key = "user:42" if consistency == "key" else None
        assert await count_stale(weir, key, alone=consistency == "session") == 0


async def test_without_consistency_a_replica_that_replays_late_shows(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    with (
        delayed(cluster.replicas[1], "400ms"),
        splitting(cluster, tmp_path, "none", balance="round_robin") as weir,
    ):
        assert await count_stale(weir, None, alone=False) > 0


# --- in the rotation and out of it ---


def is_read_from(weir: Pgweir, client: psycopg.Connection, node: str) -> bool:
    """Does it get any of six reads?"""

    def read() -> None:
        for _ in range(6):
            client.execute("select 1")

    return shares(weir, read)[node] > 0


def test_a_replica_that_replays_late_leaves_and_comes_back_at_half_of_that(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    late = cluster.replicas[1]
    with (
        in_front_of(cluster, tmp_path, max_lag="6s", balance="round_robin") as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):

        def reads_from_db3() -> bool:
            return is_read_from(weir, client, "db3")

        weir.wait_until(reads_from_db3, DEADLINE_S)
        with delayed(late, "1h"), written_all_the_time(cluster):
            weir.wait_until(lambda: lag_s(weir) > 6 and not reads_from_db3(), DEADLINE_S)
            # It gets nearer, to where others are that never left, and that is not enough.
            replay_after(late, "5s")
            weir.wait_until(lambda: 3 < lag_s(weir) < 5.7, DEADLINE_S)
            between = 0
            for _ in range(10):
                near = 3 < lag_s(weir) < 6
                reads = reads_from_db3()
                if near and 3 < lag_s(weir) < 6:
                    between += 1
                    assert not reads
            assert between
        weir.wait_until(reads_from_db3, DEADLINE_S)
        assert lag_s(weir) < 3


def test_a_lag_that_was_never_over_the_limit_keeps_no_replica_out(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    late = cluster.replicas[1]
    with (
        in_front_of(
            cluster, tmp_path, max_lag=0, max_lag_bytes="4MiB", balance="round_robin"
        ) as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):

        def reads_from_db3() -> bool:
            return is_read_from(weir, client, "db3")

        def is_behind_by(most: int) -> bool:
            return weir.metric("pgweir_replication_lag_bytes", node="db3") > most

        def write_a_megabyte() -> None:
            cluster.primary.execute(
                "select pg_logical_emit_message(true, 'lag', repeat('x', 1000000))"
            )

        weir.wait_until(reads_from_db3, DEADLINE_S)
        with delayed(late, "1h"):
            # Of what waits, the first is replayed but for its commit.
            for _ in range(4):
                write_a_megabyte()
            weir.wait_until(lambda: is_behind_by(2_500_000), DEADLINE_S)
            assert reads_from_db3()
            for _ in range(3):
                write_a_megabyte()
            weir.wait_until(lambda: is_behind_by(4 << 20) and not reads_from_db3(), DEADLINE_S)
        weir.wait_until(reads_from_db3, DEADLINE_S)


# --- which of several ---


def test_a_replica_that_answers_late_is_up_and_gets_fewer_reads(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    with far_away(cluster, tmp_path, max_lag="5s", balance="least_conn") as weir:

        def has_answered() -> bool:
            read_at_once(weir, 5)
            return answered(weir, "db3") > 0

        weir.wait_until(has_answered, DEADLINE_S)
        went = shares(weir, lambda: read_at_once(weir, 50))
        assert went["db1"] == 0
        assert 0 < went["db3"] < went["db2"] / 2
        assert weir.metric("pgweir_node_up") == 3


def test_a_replica_that_answers_late_does_not_lag_for_that(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    with (
        far_away(cluster, tmp_path, max_lag="5s") as weir,
        written_all_the_time(cluster),
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):
        for _ in range(30):
            client.execute("select 1")
            assert weir.metric("pgweir_node_up") == 3
            assert lag_s(weir) < 5


def test_a_replica_with_long_statements_gets_no_others(
    cluster: PostgresCluster, tmp_path: Path
) -> None:
    with (
        in_front_of(cluster, tmp_path, balance="least_conn") as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):

        def both_have_answered() -> bool:
            read_at_once(weir, 5)
            return answered(weir, "db2") > 0 and answered(weir, "db3") > 0

        def is_sleeping() -> bool:
            return bool(
                cluster.replicas[1].value(
                    "select count(*) = 2 from pg_stat_activity where query ~ 'pg_sleep.60'"
                    " and state = 'active' and pid <> pg_backend_pid()"
                )
            )

        weir.wait_until(both_have_answered, DEADLINE_S)
        sleepers = [psycopg.connect(weir.dsn(), autocommit=True) for _ in range(2)]
        threads = [threading.Thread(target=sleep_until_cancelled, args=[each]) for each in sleepers]
        try:
            for thread in threads:
                thread.start()
            weir.wait_until(is_sleeping, DEADLINE_S)

            def read() -> None:
                for _ in range(40):
                    client.execute("select 1")

            assert shares(weir, read) == {"db1": 0, "db2": 40, "db3": 0}
        finally:
            for each in sleepers:
                each.cancel()
            for thread in threads:
                thread.join(DEADLINE_S)
            for each in sleepers:
                each.close()


def sleep_until_cancelled(client: Any) -> None:
    with contextlib.suppress(psycopg.errors.QueryCanceled):
        client.execute("/* pgweir: role=slow */ select pg_sleep(60)")
