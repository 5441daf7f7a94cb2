"""Nodes whose WAL has parted: what is lost is told, who cannot follow is left out, and is rewound.

One cluster without a synchronous standby serves all tests, each with a proxy of its own.
"""

import asyncio
import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.embedded import programs
from proxy.embedded.account import give
from tests.faults.wire import wire_to
from tests.fixtures.console import AUTH
from tests.fixtures.pgweir import configuration, running
from tests.fixtures.postgres import Background, Postgres, PostgresCluster, start_replicated
from tests.live.appending import TABLE, appending, check
from tests.live.arena import CLIENTS, READ_ONLY, Arena, at_the_console, promoting

SCRIPT = Path(__file__).parents[2] / "deploy" / "rejoin.sh"
COUNT = "([0-9]+)"
BEHIND = (
    "SELECT max(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), flush_lsn))::bigint"
    " FROM pg_stat_replication"
)
TIMELINE = "SELECT received_tli FROM pg_stat_wal_receiver"
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"

StartArena = Callable[..., Arena]


@pytest.fixture(scope="module")
def replicated(postgres_background: Background) -> Iterator[PostgresCluster]:
    cluster = start_replicated(postgres_background, replicas=2)
    # Where those who run it can read it.
    script = cluster.cluster.folder / "rejoin.sh"
    script.write_text(SCRIPT.read_text())
    give(cluster.cluster.account, [script])
    yield cluster
    cluster.close()


@pytest.fixture
def start_arena(replicated: PostgresCluster, tmp_path: Path) -> Iterator[StartArena]:
    """Start a proxy that promotes, with changes to `failover`; the cluster is whole afterwards."""
    with contextlib.ExitStack() as stack:

        def start(**changes: object) -> Arena:
            config = configuration(*replicated.nodes, **promoting(**changes), auth=AUTH)
            arena = Arena(replicated, stack.enter_context(running(config, tmp_path)), tmp_path)
            arena.until_settled()
            return arena

        yield start


def rejoining(cluster: PostgresCluster) -> tuple[list[str | Path], dict[str, str]]:
    """The ready script as a command that must run as the owner of the data, and its settings."""
    real = cluster.cluster
    secrets = {user: real.passwords.of(user) for user in ("postgres", "replicator")}
    env = {
        "PATH": f"{cluster.primary.bin_dir}:/usr/bin:/bin",
        "REWIND_CONNINFO": f"user=postgres password={secrets['postgres']}",
        "PRIMARY_CONNINFO": f"user=replicator password={secrets['replicator']}"
        " application_name=rejoined",
    }
    return ["sh", real.folder / "rejoin.sh"], env


def hook(cluster: PostgresCluster) -> list[str]:
    """`on_demote`: rejoin whoever was the primary. By ssh elsewhere; here all is one machine."""
    command, env = rejoining(cluster)
    account = cluster.cluster.account
    # What `sudo -u` would do, if it were installed.
    lent = f"setpriv --reuid {account.uid} --regid {account.gid} --clear-groups " if account else ""
    settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in env.items())
    folder = shlex.quote(str(cluster.primary.node.place.data.parent))
    run = shlex.join(str(word) for word in command)
    return [
        "sh",
        "-c",
        f'cd {folder}; exec {lent}env {settings} PGDATA={folder}/"$PGWEIR_OLD_PRIMARY" {run}',
    ]


async def rejoin(cluster: PostgresCluster, node: Postgres, primary: Postgres) -> None:
    """By hand: run the script for a node."""
    command, env = rejoining(cluster)
    env |= {
        "PGDATA": str(node.node.place.data),
        "PGWEIR_PRIMARY_HOST": primary.host,
        "PGWEIR_PRIMARY_PORT": str(primary.port),
    }
    real = cluster.cluster
    await programs.run(command, account=real.account, cwd=real.folder, env=env)


async def take_back(arena: Arena, node: Postgres) -> None:
    """Stop what the script has started, which is no child of ours, and rebuild the node."""
    real = arena.cluster.cluster
    pg_ctl = [node.bin_dir / "pg_ctl", "-D", node.node.place.data, "stop", "-m", "immediate"]
    await programs.run(pg_ctl, account=real.account, cwd=real.folder)
    await asyncio.to_thread(arena.cluster.rebuild, node)


async def until_read_from(reader: asyncpg.Connection, node: Postgres) -> None:
    """Wait until reads reach a replica."""
    async with asyncio.timeout(30):
        while True:
            if await reader.fetchval("SHOW port") == str(node.port):
                return
            await asyncio.sleep(0.05)


async def test_what_replication_had_not_received_is_lost_and_said_to_be(
    start_arena: StartArena, replicated: PostgresCluster
) -> None:
    """And the old primary, which has it, is rewound by the hook to what the new one has."""
    arena = start_arena(on_demote=hook(replicated))
    old, since = arena.primary, len(arena.weir.log)
    others = [node for node in replicated.nodes if node is not old]
    old.execute(f"DROP TABLE IF EXISTS appended; {TABLE}")
    with wire_to((old.host, old.port), "nobody") as wire:
        for node in others:
            led = node.value("SHOW primary_conninfo").replace(
                f"port={old.port}", f"port={wire.port}"
            )
            node.execute(f"ALTER SYSTEM SET primary_conninfo = '{led}'")
            node.execute("SELECT pg_reload_conf()")
        arena.weir.wait_until(lambda: wire.accepted >= len(others), 30.0)
        arena.until_settled()
        async with appending(arena.weir.dsn(), clients=CLIENTS) as appender:
            await appender.until_acknowledged(3)
            received = [*appender.notes.acknowledged]
            replicated.until_caught_up()
            wire.is_held.set()
            await appender.until_acknowledged(3)
            missing = old.value(BEHIND)
            # The monitor has seen the primary since, so how much is missing is known.
            await asyncio.to_thread(
                arena.weir.wait_until,
                lambda: all(
                    arena.weir.metric("pgweir_replication_lag_bytes", node=node.name) >= missing
                    for node in others
                ),
            )
            await asyncio.to_thread(old.kill)
            wire.cut()
            await appender.until_acknowledged(3, limit_s=60.0)
        new = arena.primary_among(others)
        history = check(appender.notes, new)
        assert history.lost
        assert not set(history.lost) & set(received)
        assert not (history.doubled or history.invented or history.unfailed)
        told = await asyncio.to_thread(
            arena.weir.wait_for_log, f"replication was asynchronous: {COUNT} bytes", 10.0, since
        )
        found = re.search(f"asynchronous: {COUNT} bytes of WAL are known to be lost", told)
        assert found is not None
        assert int(found[1]) >= missing
        # The hook is run.
        done = f"on_demote succeeded for {old.name}"
        await asyncio.to_thread(arena.weir.wait_for_log, done, 60.0, since)
        arena.weir.wait_until(lambda: new.value(STREAMING) == 2, 30.0)
        assert old.value("SELECT pg_is_in_recovery()")
        rows = "SELECT count(*) FROM appended"
        await asyncio.to_thread(
            arena.weir.wait_until, lambda: old.value(rows) == new.value(rows), 30.0
        )
        # The proxy sees it as a replica like others.
        replicas = "pgweir_node_role"
        await asyncio.to_thread(
            arena.weir.wait_until, lambda: arena.weir.metric(replicas, role="replica") == 2, 30.0
        )
        await take_back(arena, old)
        for node in others:
            if node is not new:
                await asyncio.to_thread(replicated.rebuild, node)


async def test_the_hook_makes_a_replica_of_the_old_primary_of_a_switchover(
    start_arena: StartArena, replicated: PostgresCluster
) -> None:
    arena = start_arena(on_demote=hook(replicated))
    old, since = arena.primary, len(arena.weir.log)
    old.execute(f"DROP TABLE IF EXISTS appended; {TABLE}")
    async with appending(arena.weir.dsn(), clients=CLIENTS) as appender:
        await appender.until_acknowledged(3)
        await asyncio.to_thread(at_the_console, arena.weir.dsn(), "FAILOVER main")
        done = f"on_demote succeeded for {old.name}"
        await asyncio.to_thread(arena.weir.wait_for_log, done, 60.0, since)
        await appender.until_acknowledged(3)
    new = arena.primary_among([node for node in replicated.nodes if node is not old])
    assert (dict(appender.notes.errors), appender.notes.disconnected) == ({}, 0)
    history = check(appender.notes, new)
    assert history.is_clean, history
    await asyncio.to_thread(arena.weir.wait_until, lambda: new.value(STREAMING) == 2, 30.0)
    assert old.value("SELECT pg_is_in_recovery()")
    # It takes writes again, should it be promoted.
    assert old.value("SHOW default_transaction_read_only") == "off"
    await take_back(arena, old)


async def test_a_replica_past_the_fork_is_reported_and_left_out_until_it_is_rewound(
    start_arena: StartArena, replicated: PostgresCluster
) -> None:
    """Away during a switchover, it comes back to the old primary, which has gone on writing."""
    arena = start_arena()
    old, since = arena.primary, len(arena.weir.log)
    absent, target = (node for node in replicated.nodes if node is not old)
    timeline = absent.value(TIMELINE)
    await asyncio.to_thread(absent.stop)
    up = "pgweir_node_up"
    await asyncio.to_thread(
        arena.weir.wait_until, lambda: arena.weir.metric(up, node=absent.name) == 0, 30.0
    )
    await asyncio.to_thread(at_the_console, arena.weir.dsn(), f"FAILOVER main TO {target.name}")
    # Its own WAL: a checkpoint.
    old.execute("CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT")
    await asyncio.to_thread(absent.start)
    said = f"{absent.name} has replayed what the primary {target.name} never had"
    await asyncio.to_thread(arena.weir.wait_for_log, said, 30.0, since)
    # It answers, and nobody is sent there.
    assert arena.weir.metric(up, node=absent.name) == 1
    reader = await asyncpg.connect(arena.weir.dsn(database=READ_ONLY), ssl=False)
    for _ in range(5):
        assert await reader.fetchval("SHOW port") != str(absent.port)
    assert absent.value(TIMELINE) == timeline
    # The script is not for former primaries only.
    await asyncio.to_thread(absent.stop)
    await rejoin(replicated, absent, target)
    await until_read_from(reader, absent)
    await reader.close()
    await take_back(arena, absent)
    await asyncio.to_thread(old.kill)
    await asyncio.to_thread(replicated.rebuild, old)
