"""The primary dies under load: the clients see a pause, and nothing that was acknowledged is lost.

One cluster with a synchronous standby and one proxy serve all tests; what a test kills, it leaves
rebuilt as a replica of whoever is primary then.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncpg
import pytest
import yaml

from proxy.config import parse
from proxy.embedded import programs
from proxy.embedded.account import give
from proxy.errors import ClientError
from proxy.failover import EtcdLease, EtcdTerms, Member
from proxy.workers.worker import Worker
from tests.faults.wire import wire_to
from tests.fixtures.console import AUTH
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import (
    APP,
    DATABASE,
    SYNCHRONOUS,
    Background,
    Postgres,
)
from tests.live.appending import TABLE, appending, check
from tests.live.arena import (
    CLIENTS,
    FAULTS,
    READ_ONLY,
    Arena,
    Setting,
    an_arena,
    at_the_console,
    promoting,
    wired,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arena(
    postgres_background: Background, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("failover")
    told = 'echo "$PGWEIR_EVENT $PGWEIR_PRIMARY $PGWEIR_OLD_PRIMARY" >> told'
    hook = ["sh", "-c", f"cd {folder}; {told}"]
    changes = promoting(fence=True, on_promote=hook, on_demote=hook)
    with an_arena(postgres_background, folder, SYNCHRONOUS, changes) as arena:
        yield arena


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_dead_primary_costs_its_clients_a_pause_and_nothing_acknowledged(
    arena: Arena, fault: Callable[[Postgres], None]
) -> None:
    arena.until_settled()
    old, before = arena.primary, arena.promoted()
    notes = await arena.load_through(lambda: fault(old))
    new = arena.primary
    assert new.name != old.name
    assert arena.promoted() == before + 1
    assert notes.disconnected == 0
    assert set(notes.errors) <= {"08006", "08007"}
    history = check(notes, new)
    assert history.is_clean, history
    hooks = {f"{each} {new.name} {old.name}" for each in ("on_promote", "on_demote")}
    arena.weir.wait_until(lambda: hooks <= set(arena.told.read_text().splitlines()))
    arena.rebuild(old)


async def test_clients_keep_reading_and_find_again_what_was_in_their_sessions(
    arena: Arena,
) -> None:
    arena.until_settled()
    old, since = arena.primary, len(arena.weir.log)
    reader, client, busy, listener = [
        await asyncpg.connect(arena.weir.dsn(database=database), ssl=False)
        for database in (READ_ONLY, DATABASE, DATABASE, DATABASE)
    ]
    heard: asyncio.Queue[object] = asyncio.Queue()
    warned: asyncio.Queue[object] = asyncio.Queue()
    listener.add_log_listener(lambda _, message: warned.put_nowait(message))
    try:
        await listener.add_listener("news", lambda *said: heard.put_nowait(said[-1]))
        await client.execute("NOTIFY news, 'before'")
        assert await asyncio.wait_for(heard.get(), 30) == "before"
        await reader.fetchval("SELECT 1")
        await client.execute("SET work_mem = '7MB'")
        prepared = await client.prepare("SELECT $1::int + 1, current_setting('work_mem')")
        assert tuple(await prepared.fetchrow(1)) == (2, "7MB")
        await busy.execute("BEGIN")
        await busy.fetchval("SELECT txid_current()")
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(arena.weir.wait_for_log, "has no primary", 20.0, since)
        # Reads go on while nobody can write.
        assert await reader.fetchval("SELECT pg_is_in_recovery()", timeout=30)
        # Settings and prepared statements are there on the new primary.
        assert tuple(await prepared.fetchrow(2, timeout=30)) == (3, "7MB")
        assert not await client.fetchval("SELECT pg_is_in_recovery()")
        # Who listens is told that it may have missed something, and then hears what is said there.
        assert "may have been missed" in str(await asyncio.wait_for(warned.get(), 30))
        await client.execute("NOTIFY news, 'after'")
        assert await asyncio.wait_for(heard.get(), 30) == "after"
        # Who was in a transaction gets one error, and goes on.
        with pytest.raises(asyncpg.PostgresError) as lost:
            await busy.fetchval("SELECT 2", timeout=30)
        assert lost.value.sqlstate == "08006"
        await busy.execute("ROLLBACK")
        assert await busy.fetchval("SELECT 'on'", timeout=30) == "on"
    finally:
        for each in (reader, client, busy, listener):
            await each.close()
    arena.rebuild(old)


async def test_a_frozen_primary_is_replaced_and_fenced_when_it_wakes_up(arena: Arena) -> None:
    """It hangs, its sockets stay open, and it would go on where it stopped."""
    arena.until_settled()
    old, since = arena.primary, len(arena.weir.log)
    try:
        notes = await arena.load_through(old.freeze)
        new = arena.primary_among([node for node in arena.cluster.nodes if node is not old])
    finally:
        old.thaw()
    assert notes.disconnected == 0
    # What it still did when it woke up was acknowledged to nobody.
    history = check(notes, new)
    assert history.is_clean, history
    await asyncio.to_thread(arena.weir.wait_for_log, f"split brain: {old.name}", 20.0, since)
    fenced = f"{old.name} was made read-only"
    await asyncio.to_thread(arena.weir.wait_for_log, fenced, 20.0, since)
    arena.weir.wait_until(lambda: arena.weir.metric("pgweir_split_brain") == 0)
    direct = await asyncpg.connect(old.dsn(), ssl=False)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await direct.execute("INSERT INTO appended VALUES (0, 0)")
    await direct.close()
    arena.rebuild(old)


async def test_a_proxy_that_is_cut_off_from_a_healthy_primary_promotes_nobody(
    arena: Arena, tmp_path: Path
) -> None:
    arena.until_settled()
    nodes = [arena.primary, *(node for node in arena.cluster.nodes if node != arena.primary)]
    # Nobody is called this: the monitor's connections are cut as well.
    with wire_to((nodes[0].host, nodes[0].port), "nobody") as wire:
        config = configuration(cast("Postgres", wire), *nodes[1:], **promoting())
        with running(config, tmp_path) as weir:
            client = await asyncpg.connect(weir.dsn(), ssl=False)
            wire.refuses = True
            wire.cut()
            await asyncio.to_thread(weir.wait_for_log, "waiting: db. still hears from db1", 30.0)
            waiting = asyncio.create_task(client.fetchval("SELECT 'patient'"))
            wire.refuses = False
            assert await asyncio.wait_for(waiting, 30) == "patient"
            await client.close()
            assert weir.metric("pgweir_failovers_total") == 0
    assert arena.primary == nodes[0]


async def test_a_primary_that_is_cut_off_from_everybody_is_replaced(
    arena: Arena, tmp_path: Path
) -> None:
    """It is alive, and nobody hears from it: neither the proxy nor the replicas."""
    arena.until_settled()
    old = arena.primary
    others = [node for node in arena.cluster.nodes if node is not old]
    config = configuration(*arena.cluster.nodes, **promoting())
    with wired(arena.cluster) as wires:
        config["clusters"]["main"]["nodes"] = wires.settings()
        with running(config, tmp_path) as weir:
            beyond = Arena(arena.cluster, weir, arena.told)
            wires.lead(*others, primary=old)
            beyond.until_settled()
            notes = await beyond.load_through(lambda: wires.silence(old))
            new = arena.primary_among(others)
            assert notes.disconnected == 0
            history = check(notes, new)
            assert history.is_clean, history
            old.kill()
            # They have been led through wires that are about to go.
            for node in (old, *others):
                if node is not new:
                    arena.cluster.rebuild(node)
    arena.until_settled()


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    arena: Arena, tmp_path: Path
) -> None:
    arena.until_settled()
    old, before = arena.primary, arena.promoted()
    # It decides before the one that acts.
    config = configuration(*arena.cluster.nodes, **promoting(dry_run=True, after="200ms"))
    with running(config, tmp_path) as weir:
        since = len(weir.log)
        weir.wait_until(lambda: weir.metric("pgweir_node_role", role="replica") == 2)
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(weir.wait_for_log, "would promote db.: db. is gone", 30.0, since)
        assert weir.metric("pgweir_failovers_total", result="promoted") == 0
    arena.weir.wait_until(lambda: arena.promoted() == before + 1, 30.0)
    arena.rebuild(old)


@dataclass
class Pair:
    """Two proxies that agree in etcd. lease: the one they take."""

    one: Pgweir
    other: Pgweir
    lease: EtcdLease

    def promoted(self) -> float:
        sample = "pgweir_failovers_total"
        return sum(weir.metric(sample, result="promoted") for weir in (self.one, self.other))


@pytest.fixture
def pair(arena: Arena, etcd: str, tmp_path: Path) -> Iterator[Pair]:
    """While they are there, the arena's own proxy does not promote: it is stopped."""
    arena.until_settled()
    coordinator = {"etcd": {"endpoints": [etcd]}, "ttl": "3s"}
    changes = promoting(proxies=2, coordinator=coordinator)
    config = configuration(*arena.cluster.nodes, **changes)
    arena.weir.send(signal.SIGSTOP)
    try:
        with running(config, tmp_path) as one, running(config, tmp_path) as other:
            for weir in (one, other):
                weir.wait_until(lambda w=weir: w.metric("pgweir_node_role", role="replica") == 2)
            yield Pair(
                one,
                other,
                EtcdLease(EtcdTerms((etcd,), ttl_s=3.0), "main", Member("a third", "a third")),
            )
    finally:
        arena.weir.send(signal.SIGCONT)


async def test_of_two_proxies_exactly_one_promotes_and_both_go_on(arena: Arena, pair: Pair) -> None:
    old = arena.primary
    clients = [await asyncpg.connect(weir.dsn(), ssl=False) for weir in (pair.one, pair.other)]
    await asyncio.to_thread(old.kill)
    for client in clients:
        assert not await client.fetchval("SELECT pg_is_in_recovery()", timeout=60)
        await client.close()
    new = arena.primary
    assert pair.promoted() == 1
    arena.cluster.rebuild(old)
    # One of them is stopped in the middle: the other goes on with what it had begun.
    others = [node for node in arena.cluster.nodes if node is not new]
    pair.one.wait_until(lambda: pair.one.metric("pgweir_node_role", role="replica") == 2, 30.0)
    pair.other.wait_until(lambda: pair.other.metric("pgweir_node_role", role="replica") == 2, 30.0)
    stopped = await pair.lease.take(others[1].name)
    assert stopped is not None
    stopped.drop()
    await asyncio.to_thread(new.kill)
    await asyncio.to_thread(pair.one.wait_until, lambda: pair.promoted() == 2, 60.0)
    assert arena.primary == others[1]
    arena.cluster.rebuild(new)


@contextlib.asynccontextmanager
async def a_worker(config: Setting) -> AsyncIterator[tuple[Worker, str]]:
    """A proxy in this process, and the URL of its database."""
    worker = Worker(parse(yaml.safe_dump(config), {}))
    facts = await worker.start()
    try:
        yield worker, f"postgres://{APP.name}:{APP.password}@127.0.0.1:{facts['port']}/{DATABASE}"
    finally:
        await worker.stop(patience_s=0)


async def test_a_switchover_costs_no_error_and_loses_nothing(arena: Arena) -> None:
    await asyncio.to_thread(arena.until_settled)
    old = arena.primary
    target = next(node for node in arena.cluster.nodes if node != old)
    await asyncio.to_thread(old.execute, f"DROP TABLE IF EXISTS appended; {TABLE}")
    config = configuration(*arena.cluster.nodes, **promoting(), auth=AUTH)
    async with a_worker(config) as (worker, url):
        async with appending(url, clients=CLIENTS) as appender:
            await appender.until_acknowledged(3)
            said = await asyncio.to_thread(at_the_console, url, f"FAILOVER main TO {target.name}")
            await appender.until_acknowledged(3)
        events = [event.kind for event in worker.events()]
        figures = worker.figures()
    notes = appender.notes
    assert said.startswith(f"{target.name} is the primary of cluster main on timeline")
    assert (dict(notes.errors), notes.disconnected) == ({}, 0)
    history = await asyncio.to_thread(check, notes, target)
    assert history.is_clean, history
    assert "switchover" in events
    assert figures.failovers["main", "switched_over"] == 1
    assert figures.split_brain["main"] == 0
    await asyncio.to_thread(arena.rebuild, old)


async def test_a_switchover_gives_up_when_a_transaction_does_not_end(arena: Arena) -> None:
    await asyncio.to_thread(arena.until_settled)
    old = arena.primary
    config = configuration(*arena.cluster.nodes, **promoting(drain_timeout="500ms"))
    async with a_worker(config) as (worker, url):
        client = await asyncpg.connect(url, ssl=False)
        await client.execute("BEGIN")
        await client.fetchval("SELECT txid_current()")
        with pytest.raises(ClientError, match="nothing was changed"):
            await worker.failover("main")
        await client.execute("COMMIT")
        assert await client.fetchval("SELECT NOT pg_is_in_recovery()")
        await client.close()
    assert arena.primary == old


async def test_a_switchover_is_refused_where_it_cannot_be(arena: Arena) -> None:
    await asyncio.to_thread(arena.until_settled)
    old = arena.primary
    async with a_worker(configuration(*arena.cluster.nodes, **promoting())) as (worker, url):
        client = await asyncpg.connect(url, ssl=False)
        refusals = {
            ("main", "nobody"): "42704",
            ("other", None): "42704",
            ("main", old.name): "55000",
        }
        for (cluster, node), sqlstate in refusals.items():
            with pytest.raises(ClientError) as refused:
                await worker.failover(cluster, node)
            assert refused.value.sqlstate == sqlstate
        await client.close()
    async with a_worker(configuration(*arena.cluster.nodes)) as (worker, _):
        with pytest.raises(ClientError, match="does not promote"):
            await worker.failover("main")


async def sees(worker: Worker, **is_up: bool) -> None:
    """Wait until a proxy sees each of these nodes as up, or as not."""
    async with asyncio.timeout(30):
        while True:
            seen = {node.node: node.up for node in worker.figures().nodes}
            if is_up.items() <= seen.items():
                return
            await asyncio.sleep(0.05)


async def test_a_replica_that_missed_a_promotion_is_led_when_it_is_back(arena: Arena) -> None:
    await asyncio.to_thread(arena.until_settled)
    old = arena.primary
    absent, target = (node for node in arena.cluster.nodes if node != old)
    async with a_worker(configuration(*arena.cluster.nodes, **promoting())) as (worker, _):
        await sees(worker, **{node.name: True for node in arena.cluster.nodes})
        await asyncio.to_thread(absent.stop)
        await sees(worker, **{absent.name: False})
        await worker.failover("main", target.name)
        # Alive, it would give the replica more than the new primary has.
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(absent.start)
        standbys = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        await asyncio.to_thread(arena.weir.wait_until, lambda: target.value(standbys) == 1, 60.0)
    assert f"port={target.port} " in absent.value("SHOW primary_conninfo")
    await asyncio.to_thread(arena.rebuild, old)


async def test_the_script_makes_a_replica_of_a_primary_that_died(arena: Arena) -> None:
    await asyncio.to_thread(arena.until_settled)
    old, before, cluster = arena.primary, arena.promoted(), arena.cluster.cluster
    await asyncio.to_thread(old.kill)
    await asyncio.to_thread(arena.weir.wait_until, lambda: arena.promoted() == before + 1, 30.0)
    new = arena.primary
    # Where those it runs as can read it.
    script = cluster.folder / "rejoin.sh"
    script.write_text((ROOT / "deploy" / "rejoin.sh").read_text())
    secrets = {user: cluster.passwords.of(user) for user in ("postgres", "replicator")}
    env = {
        "PATH": f"{old.bin_dir}:/usr/bin:/bin",
        "PGDATA": str(old.node.place.data),
        "PGWEIR_PRIMARY_HOST": new.host,
        "PGWEIR_PRIMARY_PORT": str(new.port),
        "REWIND_CONNINFO": f"user=postgres password={secrets['postgres']}",
        "PRIMARY_CONNINFO": f"user=replicator password={secrets['replicator']}"
        f" application_name={old.name}",
    }
    asked = {"account": cluster.account, "cwd": cluster.folder, "env": env}
    give(cluster.account, [script])
    await programs.run(["sh", str(script)], **asked)
    try:
        streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        arena.weir.wait_until(lambda: new.value(streams) == 2, 30.0)
        assert old.value("SELECT pg_is_in_recovery()")
        assert old.value("SHOW port") == str(old.port)
    finally:
        stop = [str(old.bin_dir / "pg_ctl"), "-D", env["PGDATA"], "stop", "-m", "immediate"]
        await programs.run(stop, **asked)
    await asyncio.to_thread(arena.rebuild, old)
