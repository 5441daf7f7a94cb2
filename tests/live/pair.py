"""Two proxies before one cluster: where it is tried out what they do when roles change.

One of them sees the nodes through wires, so that it can be stopped at the moment it says something.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from proxy.failover import Member, SiblingsLease
from tests.fixtures.agreement import Agreement
from tests.fixtures.console import ADMIN, AUTH
from tests.fixtures.pgweir import Pgweir, configuration, merged, running
from tests.fixtures.postgres import Postgres, PostgresCluster
from tests.live.appending import TABLE, Notes, appending
from tests.live.arena import Arena, Wires, promoting, wired

CLIENTS = 24
# What a proxy tells a replica before it looks at its lease for the last time, and what it tells one
# that has been promoted, before it leads the others there.
BEFORE, AFTER = b"s.sourcefile LIKE", b"synchronous_commit = local"


@dataclass
class Proxies:
    """Two of them; the first sees the cluster through wires. told: what their hooks learnt.

    Or two processes of one, which is both the first and the second.
    """

    cluster: PostgresCluster
    first: Pgweir
    second: Pgweir
    wires: Wires
    told: Path
    stopped: list[int] = field(default_factory=list)

    @property
    def both(self) -> tuple[Pgweir, Pgweir]:
        return self.first, self.second

    @property
    def primary(self) -> Postgres:
        """Whoever takes writes, as the nodes themselves say: there is one."""
        (found,) = self.cluster.writing()
        return found

    def replicas(self) -> list[Postgres]:
        return [node for node in self.cluster.nodes if node != self.primary]

    def count(self, result: str) -> float:
        sample = "pgweir_failovers_total"
        return sum(weir.metric(sample, result=result) for weir in self.both)

    def stop_first_when_it_sends(self, text: bytes, node: Postgres) -> threading.Event:
        """Stop the first proxy at the moment it tells a node this; the node hears it."""
        return self._when_it_hears(text, node, lambda: self.first.send(signal.SIGSTOP))

    def stop_holder_when_it_sends(self, text: bytes, node: Postgres) -> threading.Event:
        """The same of one process among its siblings, the one that has their lease."""
        nodes = [(wire.host, wire.port) for wire in self.wires.by_name.values()]

        def stop() -> None:
            siblings = SiblingsLease(nodes, Member("a test", "a test"))
            (pid,) = siblings.holders()
            asyncio.run(siblings.close())
            assert pid in children_of(self.first)
            os.kill(pid, signal.SIGSTOP)
            self.stopped.append(pid)

        return self._when_it_hears(text, node, stop)

    def _when_it_hears(
        self, text: bytes, node: Postgres, act: Callable[[], None]
    ) -> threading.Event:
        has_acted = threading.Event()

        def look(octets: bytes) -> bool:
            if text in octets and not has_acted.is_set():
                act()
                has_acted.set()
            return True

        self.wires.by_name[node.name].on_request = look
        return has_acted

    def wake_up(self) -> None:
        """Let processes go on that were stopped."""
        while self.stopped:
            os.kill(self.stopped.pop(), signal.SIGCONT)

    async def through(self, fault: Any) -> Notes:
        """Let clients of both append, do something, and wait until all can append again."""
        self.primary.execute(f"DROP TABLE IF EXISTS appended; {TABLE}")
        dsns = [weir.dsn() for weir in self.both]
        async with appending(*dsns, clients=CLIENTS) as appender:
            await appender.until_acknowledged(3)
            await asyncio.to_thread(fault)
            await appender.until_acknowledged(3, limit_s=60.0)
        return appender.notes


def until_settled(cluster: PostgresCluster, *weirs: Pgweir) -> None:
    for weir in weirs:
        Arena(cluster, weir, Path()).until_settled()


@contextlib.contextmanager
def two_proxies(
    cluster: PostgresCluster,
    folder: Path,
    agreement: Agreement,
    *,
    workers: int = 1,
    **changes: Any,
) -> Iterator[Proxies]:
    told = folder / "told"
    told.touch()
    hook = ["sh", "-c", f'echo "$PGWEIR_EVENT $PGWEIR_PRIMARY $PGWEIR_OLD_PRIMARY" >> {told}']
    config = merged(
        configuration(*cluster.nodes, **promoting(), auth=AUTH, workers=workers),
        {
            "clusters": {
                "main": {
                    "failover": {
                        "proxies": 2,
                        "coordinator": agreement.setting,
                        "on_promote": hook,
                        "after": "3s",
                        **changes,
                    }
                }
            }
        },
    )
    with wired(cluster) as wires:
        sooner = {"nodes": _behind(wires), "failover": {"after": "500ms"}}
        first = merged(config, {"clusters": {"main": sooner}})
        with (
            running(first, folder, environ=agreement.environ) as one,
            running(config, folder, environ=agreement.environ) as other,
        ):
            try:
                until_settled(cluster, one, other)
                yield Proxies(cluster, one, other, wires, told)
            finally:
                one.send(signal.SIGCONT)


def _behind(wires: Wires) -> list[dict[str, Any]]:
    """The nodes of a proxy that sees them through wires; they do not see each other so."""
    return [
        {**wire, "replication_host": node.host, "replication_port": node.port}
        for wire, node in zip(wires.settings(), wires.cluster.nodes, strict=True)
    ]


@contextlib.contextmanager
def two_processes(
    cluster: PostgresCluster, folder: Path, *, is_wired: bool = False
) -> Iterator[Proxies]:
    """One proxy, of two processes. is_wired: it sees the cluster through wires."""
    config = configuration(*cluster.nodes, **promoting(), auth=AUTH, workers=2)
    with wired(cluster) as wires:
        if is_wired:
            config["clusters"]["main"]["nodes"] = _behind(wires)
        with running(config, folder) as weir:
            until_settled(cluster, weir)
            proxies = Proxies(cluster, weir, weir, wires, folder)
            try:
                yield proxies
            finally:
                proxies.wake_up()


def give_command(weir: Pgweir, command: str) -> str:
    """What the console says to a command, as an administrator."""
    said: list[str] = []
    dsn = weir.dsn(ADMIN.name, ADMIN.password, "pgweir")
    with psycopg.connect(dsn, autocommit=True) as console:
        console.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        console.execute(command.encode())
    return said[0]


@contextlib.contextmanager
def a_client_of_each(*weirs: Pgweir) -> Iterator[list[psycopg.Connection]]:
    """A client of each of the two processes of these proxies."""
    with contextlib.ExitStack() as stack:
        clients = []
        for weir in weirs:
            found: dict[int, psycopg.Connection] = {}
            while len(found) < 2:
                client = stack.enter_context(psycopg.connect(weir.dsn(), autocommit=True))
                # A process gives out keys of its own residue.
                found.setdefault(client.info.backend_pid % 2, client)
            clients += found.values()
        yield clients


def children_of(weir: Pgweir) -> list[int]:
    pid = weir.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def timeline_of(node: Postgres) -> int:
    wal = node.value("SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)")
    return int(wal, 16)


def rebuild_behind(cluster: PostgresCluster, old: Postgres, weirs: Sequence[Pgweir]) -> None:
    old.kill()
    cluster.rebuild(old)
    until_settled(cluster, *weirs)
