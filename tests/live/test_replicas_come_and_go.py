"""Replicas that are full, restarted, detached or far away: reads go on elsewhere, unnoticed."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.embedded import EmbeddedError
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster

DEADLINE_S = 30.0
NODES = ("db1", "db2", "db3")


@pytest.fixture(scope="module")
def cluster(pg_replicated: PostgresCluster) -> PostgresCluster:
    return pg_replicated


def config_of(cluster: PostgresCluster, **replicas: Any) -> dict[str, Any]:
    return configuration(
        *cluster.nodes,
        clusters={"main": {"replicas": replicas}},
        databases={DATABASE: {"read_write_split": True, "pool_size": 1}},
    )


def answered(weir: Pgweir) -> dict[str, float]:
    return {node: weir.metric("pgweir_queries_total", node=node) for node in NODES}


def went(weir: Pgweir, client: Any, text: str = "select 1", *, parsed: bool = False) -> str:
    """Who answers a simple query, or a statement of the extended protocol."""
    before = answered(weir)
    client.execute(text, binary=parsed)
    after = answered(weir)
    return ", ".join(node for node in NODES if after[node] > before[node])


@pytest.fixture
def zoned(cluster: PostgresCluster, tmp_path: Any) -> Iterator[Pgweir]:
    """One server connection to each node, of which db2 is in the proxy's own zone."""
    config = config_of(cluster, zone="here")
    for node, zone in zip(
        config["clusters"]["main"]["nodes"], ["there", "here", "there"], strict=True
    ):
        node["zone"] = zone
    with running(config, tmp_path) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            weir.wait_until(lambda: went(weir, client) == "db2", DEADLINE_S)
        yield weir


def test_a_zone_that_is_full_spills_over(zoned: Pgweir) -> None:
    with (
        psycopg.connect(zoned.dsn(), autocommit=True) as first,
        psycopg.connect(zoned.dsn(), autocommit=True) as second,
    ):
        busy = threading.Thread(target=first.execute, args=["select pg_sleep(3)"])
        busy.start()
        zoned.wait_until(
            lambda: zoned.metric("pgweir_server_connections", node="db2", state="active") == 1
        )
        assert went(zoned, second) == "db3"
        busy.join()
        assert went(zoned, second) == "db2"


def test_a_zone_that_is_gone_is_done_without(zoned: Pgweir, cluster: PostgresCluster) -> None:
    near = cluster.replicas[0]
    with psycopg.connect(zoned.dsn(), autocommit=True) as client:
        near.stop()
        try:
            assert client.execute("select 1").fetchone() == (1,)
            zoned.wait_until(lambda: went(zoned, client) == "db3", DEADLINE_S)
        finally:
            near.start()
        zoned.wait_until(lambda: went(zoned, client) == "db2", DEADLINE_S)


class Readers:
    """Clients that read, one statement after the other, until told to stop."""

    def __init__(self, weir: Pgweir, count: int) -> None:
        self._answers = [0] * count
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=[weir.dsn(), number], daemon=True)
            for number in range(count)
        ]

    def until_each_had(self, count: int) -> None:
        """Wait until each of them had so many answers more, and none was left to wait."""
        before = self._answers[:]
        deadline_s = time.monotonic() + DEADLINE_S
        while any(now < then + count for now, then in zip(self._answers, before, strict=True)):
            assert time.monotonic() < deadline_s, f"{before}, then {self._answers}"
            time.sleep(0.02)

    def _read(self, dsn: str, number: int) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as client:
                while not self._stop.is_set():
                    row = client.execute(
                        "select count(*), pg_sleep(0.01) is null from users",
                        prepare=bool(number % 2),
                    ).fetchone()
                    assert row is not None
                    self._answers[number] += 1
        except psycopg.Error as error:
            self.errors.append(f"{error.sqlstate}: {error}")

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)


def test_readers_do_not_notice_that_replicas_restart(
    cluster: PostgresCluster, tmp_path: Any
) -> None:
    """A shutdown is 57P01, and 57P03 until it is consistent again."""
    config = config_of(cluster)
    config["databases"][DATABASE]["pool_size"] = 4
    with running(config, tmp_path) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        with psycopg.connect(weir.dsn(), autocommit=True) as client:
            weir.wait_until(lambda: went(weir, client) != "db1", DEADLINE_S)
        with Readers(weir, 6) as readers:
            for node in cluster.replicas:
                readers.until_each_had(10)
                node.restart()
            readers.until_each_had(10)
        assert readers.errors == []


@pytest.mark.slow
def test_readers_do_not_wait_for_a_replica_that_takes_nobody(
    start_cluster: Callable[..., PostgresCluster], tmp_path: Any
) -> None:
    """It is there again and says 57P03 to everybody, as one does that has much to replay."""
    cluster = start_cluster(replicas=1)
    [replica] = cluster.replicas
    settings = replica.node.place.data / "postgresql.auto.conf"
    as_it_was = settings.read_text()
    config = config_of(cluster)
    config["databases"][DATABASE]["pool_size"] = 4

    def start() -> None:
        with contextlib.suppress(EmbeddedError):
            replica.start()

    def takes_nobody() -> bool:
        try:
            replica.value("select 1")
        except EmbeddedError as error:
            return isinstance(error.__cause__, asyncpg.CannotConnectNowError)
        return False

    with running(config, tmp_path) as weir, psycopg.connect(weir.dsn(), autocommit=True) as client:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 2)
        weir.wait_until(lambda: went(weir, client) == "db2", DEADLINE_S)
        with Readers(weir, 6) as readers:
            replica.stop()
            settings.write_text(f"{as_it_was}hot_standby = off\n")
            starting = threading.Thread(target=start)
            starting.start()
            weir.wait_until(takes_nobody, DEADLINE_S)
            readers.until_each_had(50)
            replica.kill()
            starting.join()
            settings.write_text(as_it_was)
            replica.start()
            weir.wait_until(lambda: went(weir, client) == "db2", DEADLINE_S)
        assert readers.errors == []
        assert weir.metric("pgweir_server_connects_total", node="db2", result="refused") > 0


@pytest.mark.slow
def test_a_replica_whose_receiver_is_gone_gets_nothing(
    start_cluster: Callable[..., PostgresCluster], tmp_path: Any
) -> None:
    """Although it had all that there was, so that its last lag was 0."""
    cluster = start_cluster(replicas=1)
    [replica] = cluster.replicas
    conninfo = replica.value("show primary_conninfo")

    def set_upstream(value: str) -> None:
        quoted = value.replace("'", "''")
        replica.execute(f"alter system set primary_conninfo = '{quoted}'")
        replica.execute("select pg_reload_conf()")

    config = config_of(cluster, max_lag="10m", max_lag_bytes="1GiB")
    with (
        running(config, tmp_path) as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 2)
        weir.wait_until(lambda: went(weir, client) == "db2", DEADLINE_S)
        set_upstream("")
        weir.wait_until(lambda: went(weir, client) == "db1", DEADLINE_S)
        assert weir.wait_for_log("replica gets no statements.*stale")
        assert weir.metric("pgweir_routed_total", target="primary", reason="no_replica") > 0
        set_upstream(conninfo)
        weir.wait_until(lambda: went(weir, client) == "db2", DEADLINE_S)


@pytest.mark.parametrize("parsed", [False, True])
def test_backslashes_are_read_as_the_session_has_them(
    cluster: PostgresCluster, tmp_path: Any, parsed: bool
) -> None:
    """The same text is one string, or a string and what only the primary can tell."""
    text = r"select '\', txid_current() --'"
    with (
        running(config_of(cluster), tmp_path) as weir,
        psycopg.connect(weir.dsn(), autocommit=True) as client,
    ):
        weir.wait_until(lambda: went(weir, client) != "db1", DEADLINE_S)
        client.execute("set escape_string_warning = off")
        for _ in range(2):
            client.execute("set standard_conforming_strings = off")
            assert went(weir, client, text, parsed=parsed) != "db1"
            client.execute("set standard_conforming_strings = on")
            assert went(weir, client, text, parsed=parsed) == "db1"
