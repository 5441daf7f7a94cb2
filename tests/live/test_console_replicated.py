"""The console of a proxy before a primary with two replicas, which sends reads to them."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest

from tests.fixtures.console import AUTH, Console
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import DATABASE, PostgresCluster

LIMIT_S = 20.0
ROUTES = [
    {"name": "reports", "match": {"application_name": "reports"}, "to": "replica"},
    {"match": {"query": "^select now", "database": DATABASE}, "to": "primary"},
]


@pytest.fixture(scope="module")
def weir(
    pg_replicated: PostgresCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pgweir]:
    config = configuration(
        *pg_replicated.nodes,
        auth=AUTH,
        databases={DATABASE: {"read_write_split": True}},
        routes=ROUTES,
    )
    with running(config, tmp_path_factory.mktemp("console")) as weir:
        weir.wait_until(lambda: weir.metric("pgweir_node_up") == 3)
        yield weir


@pytest.fixture
def over(weir: Pgweir) -> Iterator[Console]:
    console = Console(weir)
    yield console
    console.close()


def test_nodes_are_shown_with_role_lag_and_position(over: Console, weir: Pgweir) -> None:
    weir.wait_until(
        lambda: (
            len(over.show("NODES", role="primary")) == 1
            and len(over.show("NODES", role="replica", state="up", stale="no")) == 2
            and all(row["lag_bytes"] is not None for row in over.show("NODES", role="replica"))
        ),
        LIMIT_S,
    )
    rows = over.show("NODES")
    assert [row["name"] for row in rows] == ["db1", "db2", "db3"]
    assert len({row["timeline"] for row in rows}) == 1
    for row in rows:
        high, _, low = row["replay_lsn"].partition("/")
        assert int(high, 16) >= 0
        assert int(low, 16) > 0


def test_rules_are_shown_in_their_order(over: Console) -> None:
    rows = over.show("ROUTES")
    assert [(row["position"], row["name"], row["match"], row["to"]) for row in rows] == [
        (1, "reports", "application_name=reports", "replica"),
        (2, None, f"database={DATABASE}, query=^select now", "primary"),
    ]


def test_what_was_sent_where_is_counted(over: Console, weir: Pgweir) -> None:
    with psycopg.connect(weir.dsn(), autocommit=True) as client:

        def reads_at_a_replica() -> bool:
            client.execute("SELECT count(*) FROM pgbench_branches")
            rows = over.show("ROUTED", database=DATABASE, target="replica", reason="read")
            return bool(rows) and int(rows[0]["requests"]) > 0

        weir.wait_until(reads_at_a_replica, LIMIT_S)
        assert {row["role"] for row in over.show("SERVERS")} >= {"replica"}

        def pools_and_servers_agree() -> bool:
            pool = over.one("POOLS", database=DATABASE)
            opened = pool["sv_idle"] + pool["sv_active"] + pool["sv_tested"]
            return bool(opened == len(over.show("SERVERS", database=DATABASE)))

        weir.wait_until(pools_and_servers_agree, LIMIT_S)


def test_pause_under_reads_and_writes_makes_no_error(over: Console, weir: Pgweir) -> None:
    ending = threading.Event()
    done = [0] * 8

    async def work(number: int) -> None:
        connection = await asyncpg.connect(weir.dsn())
        try:
            while not ending.is_set():
                assert await connection.fetchval("SELECT count(*) FROM pgbench_branches") >= 1
                async with connection.transaction():
                    await connection.execute("UPDATE pgbench_branches SET bbalance = bbalance")
                done[number] += 1
        finally:
            await connection.close()

    async def everybody() -> None:
        await asyncio.gather(*map(work, range(len(done))))

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(lambda: asyncio.run(everybody()))
        try:
            for _ in range(4):
                before = sum(done)
                weir.wait_until(
                    lambda before=before: working.done() or sum(done) > before + 8, LIMIT_S
                )
                assert not working.done(), working.exception()
                assert over.do("PAUSE") == "PAUSE"
                assert over.show("SERVERS", database=DATABASE) == []
                assert over.do("RESUME") == "RESUME"
        finally:
            ending.set()
        working.result(LIMIT_S)
