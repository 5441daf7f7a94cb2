"""A replicated cluster, a proxy that promotes, and clients that append: where faults are tried out.

Used by the tests of failover, and by `failover_table`, which measures it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from proxy.embedded import StopMode
from tests.faults.wire import Wire, wire_to
from tests.fixtures.console import ADMIN
from tests.fixtures.disks import Disk, mounted
from tests.fixtures.pgweir import Pgweir, configuration, running
from tests.fixtures.postgres import (
    DATABASE,
    Background,
    Postgres,
    PostgresCluster,
    start_replicated,
)
from tests.live.appending import TABLE, Notes, appending

CLIENTS = 32
READ_ONLY = "demo_ro"

Setting = dict[str, Any]


def promoting(**changes: Any) -> Setting:
    """Settings of a proxy that promotes, and may do so again at once."""
    failover = {"mode": "promote", "min_interval": 0, **changes}
    return {
        "clusters": {"main": {"failover": failover}},
        "log": {"level": "info"},
        "databases": {
            DATABASE: {"cluster": "main", "pool_size": 8},
            READ_ONLY: {"cluster": "main", "dbname": DATABASE, "pool_size": 4},
        },
        "routes": [{"match": {"database": READ_ONLY}, "to": "replica"}],
    }


@dataclass
class Arena:
    """A cluster, and a proxy that promotes its replicas. told: what its hooks learnt."""

    cluster: PostgresCluster
    weir: Pgweir
    told: Path

    @property
    def primary(self) -> Postgres:
        """Whoever takes writes, as the nodes themselves say."""
        return self.primary_among(
            [node for node in self.cluster.nodes if node.node.pid is not None]
        )

    @staticmethod
    def primary_among(nodes: list[Postgres]) -> Postgres:
        return next(node for node in nodes if not node.value("SELECT pg_is_in_recovery()"))

    def until_settled(self) -> None:
        """Wait until the proxy sees a primary and two replicas that stream from it."""

        def settled() -> bool:
            nodes = [node for node in self.cluster.nodes if node.node.pid is not None]
            streams = self.primary.value(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            )
            replicas = self.weir.metric("pgweir_node_role", role="replica")
            up = self.weir.metric("pgweir_node_up")
            return (len(nodes), streams, replicas, up) == (3, 2, 2, 3)

        self.weir.wait_until(settled, 60.0)

    def rebuild(self, *nodes: Postgres) -> None:
        """Make replicas of nodes that were left behind."""
        for node in nodes:
            self.cluster.rebuild(node)
        self.until_settled()

    def promoted(self) -> float:
        return self.weir.metric("pgweir_failovers_total", result="promoted")

    async def load_through(self, fault: Callable[[], None]) -> Notes:
        """Let clients append, do something to the cluster, and wait until all can append again."""
        self.primary.execute(f"DROP TABLE IF EXISTS appended; {TABLE}")
        async with appending(self.weir.dsn(), clients=CLIENTS) as appender:
            await appender.until_acknowledged(3)
            await asyncio.to_thread(fault)
            try:
                await appender.until_acknowledged(3, limit_s=30.0)
            except TimeoutError:
                pytest.fail("\n".join(self.weir.log[-30:]))
        return appender.notes


@contextlib.contextmanager
def an_arena(
    background: Background, folder: Path, synchronous: str, changes: Setting
) -> Iterator[Arena]:
    """A primary with two replicas, and a proxy with these changes to its configuration."""
    cluster = start_replicated(background, replicas=2, synchronous=synchronous)
    try:
        with running(configuration(*cluster.nodes, **changes), folder) as weir:
            yield Arena(cluster, weir, folder / "told")
    finally:
        cluster.close()


def at_the_console(url: str, command: str) -> str:
    """What the console says to a command, as an administrator."""
    said: list[str] = []
    place = f"{ADMIN.name}:{ADMIN.password}@{url.rpartition('@')[2].partition('/')[0]}/pgweir"
    with psycopg.connect(f"postgres://{place}", autocommit=True) as console:
        console.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        assert console.execute(command.encode()).statusmessage == "FAILOVER"
    return said[0]


FAULTS: dict[str, Callable[[Postgres], None]] = {
    "kill -9": lambda node: node.kill(),
    "immediate shutdown": lambda node: node.stop(StopMode.IMMEDIATE),
    "fast shutdown": lambda node: node.stop(StopMode.FAST),
}


@contextlib.contextmanager
def an_arena_with_a_disk(
    cluster: PostgresCluster, folder: Path, changes: Setting
) -> Iterator[tuple[Arena, Disk]]:
    """A proxy for a cluster whose primary has a disk of its own for its WAL, and dies in the end.

    Nobody else may promote meanwhile.
    """
    primary = Arena.primary_among(list(cluster.nodes))
    primary.stop()
    with mounted(primary.node.place.data / "pg_wal") as disk:
        primary.start()
        try:
            with running(configuration(*cluster.nodes, **changes), folder) as weir:
                yield Arena(cluster, weir, folder / "told"), disk
        finally:
            primary.kill()


def run_out_of_wal(node: Postgres, disk: Disk) -> None:
    """Fill the disk, and write until the next file of WAL is needed."""
    disk.fill()
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        while True:
            node.execute("SELECT pg_switch_wal(); SELECT txid_current()")


@dataclass
class Wires:
    """Wires to all nodes, for the proxy and between the nodes; each can be cut for everybody."""

    cluster: PostgresCluster
    by_name: dict[str, Wire]

    def settings(self) -> list[dict[str, Any]]:
        """The nodes of a configuration."""
        return [
            {"name": name, "host": wire.host, "port": wire.port}
            for name, wire in self.by_name.items()
        ]

    def lead(self, *replicas: Postgres, primary: Postgres) -> None:
        """Let replicas stream through the wire to the primary."""
        for each in replicas:
            direct = each.value("SHOW primary_conninfo")
            wire = self.by_name[primary.name]
            led = direct.replace(f"port={primary.port} ", f"port={wire.port} ")
            each.execute(f"ALTER SYSTEM SET primary_conninfo = '{led}'")
            each.execute("SELECT pg_reload_conf()")

    def silence(self, node: Postgres) -> None:
        """From now on nobody hears from a node; connections stand."""
        self.by_name[node.name].is_held.set()

    def restore(self, node: Postgres) -> None:
        self.by_name[node.name].restore()


@contextlib.contextmanager
def wired(cluster: PostgresCluster) -> Iterator[Wires]:
    """Wires for the length of a block."""
    with contextlib.ExitStack() as stack:
        wires = {
            # Nobody is called this: the connections of the monitor are not spared.
            node.name: stack.enter_context(wire_to((node.host, node.port), "nobody"))
            for node in cluster.nodes
        }
        yield Wires(cluster, wires)
