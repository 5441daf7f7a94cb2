"""A primary and its streaming replicas, from nothing to ready and back to nothing."""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from proxy.embedded import sweep
from proxy.embedded.account import Account, can_read, give, unprivileged_account
from proxy.embedded.binaries import Binaries, bundled
from proxy.embedded.failure import EmbeddedError, PortTaken
from proxy.embedded.guardian import Guardian
from proxy.embedded.node import Node, Place, StopMode, until
from proxy.embedded.passwords import Passwords
from proxy.embedded.ports import LOOPBACK, free_port
from proxy.embedded.programs import run
from proxy.embedded.settings import (
    REPLICATOR,
    SUPERUSER,
    ServerTls,
    Upstream,
    pg_hba,
    postgresql_conf,
    quote_literal,
)

# The kernel allows 107 bytes; ".s.PGSQL.65535.lock" needs 20 of them.
_LONGEST_SOCKET_DIR = 85
_PORT_RACES = 5
_LOCK_S = 3.0
_MARK = "pgweir.lock"


@dataclass(frozen=True)
class ClusterSpec:
    """What is wanted.

    replicas: how many stream from the primary. binaries: the wheel's PostgreSQL 18 unless given.
    settings: lines for postgresql.conf that win over ours. hba: lines of pg_hba.conf tried before
    ours. keep: a folder for the data, used again by the next cluster that names it; without it the
    data lives and dies with the cluster.
    """

    replicas: int = 0
    binaries: Binaries | None = None
    max_connections: int = 100
    settings: Mapping[str, str] = field(default_factory=dict)
    hba: Sequence[str] = ()
    tls: ServerTls | None = None
    keep: Path | None = None


class Cluster:
    """A running cluster; use it as an async context manager, or `start` and `close` it.

    say: told of each step as it is done, in words for an operator.
    """

    def __init__(self, spec: ClusterSpec, say: Callable[[str], None] = lambda step: None) -> None:
        self.spec = spec
        self.account: Account | None = None
        self.nodes: list[Node] = []
        self.passwords = Passwords()
        self._say = say
        self._guardian: Guardian | None = None
        self._lock_fd: int | None = None
        self._runnable: Binaries | None = None

    async def __aenter__(self) -> "Cluster":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def folder(self) -> Path:
        """The temporary folder; whatever is put there goes with the cluster."""
        assert self._guardian is not None, "not started"  # noqa: S101
        return self._guardian.folder

    @property
    def binaries(self) -> Binaries:
        """The PostgreSQL that was asked for, where a reader of ours finds it."""
        return self.spec.binaries or bundled()

    @property
    def primary(self) -> Node:
        """The node that was started as primary; after a promotion, ask `find_primary`."""
        return self.nodes[0]

    @property
    def replicas(self) -> list[Node]:
        """The nodes that were started as replicas."""
        return self.nodes[1:]

    async def start(self) -> None:
        """Bring everything up: the primary accepts writes and every replica streams.

        When that fails, or is cancelled, nothing is left. Raises EmbeddedError.
        """
        try:
            await self._start()
        except OSError as error:
            await self.close()
            raise EmbeddedError(f"cannot prepare the cluster: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop every node and remove the folder; kept data is shut down cleanly.

        A caller that is cancelled meanwhile leaves the rest to the guardian.
        """
        mode = StopMode.IMMEDIATE if self.spec.keep is None else StopMode.FAST
        # The primary first: its clean shutdown waits until replicas have all it wrote.
        for group in (self.nodes[:1], self.nodes[1:]):
            await asyncio.gather(*(node.stop(mode) for node in group), return_exceptions=True)
        self.nodes = []
        if self._guardian is not None:
            await self._guardian.dismiss()
            self._guardian = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    async def find_primary(self) -> Node:
        """Tell which running node is not in recovery; EmbeddedError when none is."""
        for node in self.nodes:
            if node.pid is not None and not await node.is_in_recovery():
                return node
        raise EmbeddedError("no node of the cluster is a primary")

    async def until_caught_up(self, limit_s: float = 30.0) -> None:
        """Wait until every running replica has replayed what the primary has written by now."""
        primary = await self.find_primary()
        written = await primary.value("SELECT pg_current_wal_flush_lsn()::text")

        async def replayed() -> bool:
            answers = [
                await node.value(
                    "SELECT NOT pg_is_in_recovery()"
                    " OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn",
                    written,
                )
                for node in self.nodes
                if node.pid is not None and node is not primary
            ]
            return all(answers)

        await until(replayed, "the replicas did not catch up", limit_s)

    async def rebuild(self, node: Node) -> None:
        """Make `node` a fresh replica of whoever is primary now, on its old port."""
        await node.kill()
        primary = await self.find_primary()
        await self._clone(primary, node)
        self._write_settings(node, primary)
        await node.start()
        await self._until_streaming([node], primary)

    # -- step by step

    async def _start(self) -> None:
        spec = self.spec
        self.account = unprivileged_account()
        binaries = self.binaries  # looked for before anything is made
        home = None
        if spec.keep is not None:
            home = self._open_kept(spec.keep)
            await self._lock(home)
            give(self.account, [home])
        self._guardian = await Guardian.post(self.account, kept=home, lock_fd=self._lock_fd)
        folder = self.folder
        self._runnable = await asyncio.to_thread(binaries.readable_by, self.account, folder)
        if home is not None:
            # Only a power cut leaves these: a guardian would have stopped them.
            await asyncio.to_thread(sweep.recover, home)
            self.passwords = Passwords(home / "passwords.json")
        await self._start_primary(home or self.folder)
        await self._start_replicas(home or self.folder)

    def _open_kept(self, keep: Path) -> Path:
        """Make sure of the folder for kept data: it is there, within reach, and not another's."""
        home = keep.absolute()
        # Asked before anything is made: nothing is to be left where PostgreSQL cannot go.
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        if not can_read(self.account, there):
            name = self.account.name if self.account else "you"
            raise EmbeddedError(
                f"PostgreSQL runs as {name}, who cannot enter {there}: keep the data elsewhere"
            )
        try:
            home.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not (home / _MARK).exists() and any(home.iterdir()):
                raise EmbeddedError(f"{home} is neither empty nor data kept by an earlier run")
            self._lock_fd = os.open(home / _MARK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(f"cannot keep data in {home}: {error}") from None
        return home

    async def _lock(self, home: Path) -> None:
        """Take kept data for ourselves, until we and our guardian are gone."""
        assert self._lock_fd is not None  # noqa: S101 -- opened with the folder
        lock_fd = self._lock_fd

        async def locked() -> bool:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        # A run that was killed holds it until its guardian has shut its postmaster down.
        await until(locked, f"{home} is in use by another run, and was not released", _LOCK_S)

    async def _start_primary(self, home: Path) -> None:
        kept = _newest_primary(home)
        node = self._node(1, kept or home / "db1")
        await asyncio.to_thread(_remove_all_but, kept, home)
        if kept is None:
            await self._initdb(node)
        self.nodes.append(node)
        await self.start_somewhere(node, None)
        secret = quote_literal(self.passwords.of(REPLICATOR))
        if not await node.value("SELECT 1 FROM pg_roles WHERE rolname = $1", REPLICATOR):
            await node.execute(f"CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD {secret}")
        how = "initialised" if kept is None else f"found in {home}"
        at = f"{LOOPBACK}:{self.primary.port}"
        self._say(f"primary {self.primary.name}, PostgreSQL {self._major}, {how}, is up on {at}")

    async def _start_replicas(self, home: Path) -> None:
        taken = self.primary.place.data.name
        names = [f"db{number}" for number in range(1, self.spec.replicas + 2)]
        free = [name for name in names if name != taken][: self.spec.replicas]
        nodes = [self._node(number, home / name) for number, name in enumerate(free, start=2)]

        async def bring_up(node: Node) -> None:
            await self._clone(self.primary, node)
            await self.start_somewhere(node, self.primary)

        self.nodes += nodes
        try:
            # A group, not gather: when one fails the other must not go on behind our back.
            async with asyncio.TaskGroup() as group:
                for node in nodes:
                    group.create_task(bring_up(node))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        await self._until_streaming(self.replicas, self.primary)
        for node in self.replicas:
            self._say(f"replica {node.name} streams, on {LOOPBACK}:{node.port}")

    def _node(self, number: int, data: Path) -> Node:
        sockets: Path | None = self.folder / "sockets"
        if len(os.fsencode(self.folder / "sockets")) > _LONGEST_SOCKET_DIR:
            sockets = None
        elif not (self.folder / "sockets").exists():
            (self.folder / "sockets").mkdir(mode=0o755)
            give(self.account, [self.folder / "sockets"])
        assert self._runnable is not None  # noqa: S101 -- chosen before any node
        return Node(
            Place(
                name=f"db{number}",
                binaries=self._runnable,
                account=self.account,
                data=data,
                log=self.folder / f"db{number}.log",
                socket_dir=sockets,
                port=free_port(),
                superuser_password=self.passwords.of(SUPERUSER),
            )
        )

    @property
    def _major(self) -> int:
        return self._runnable.major if self._runnable is not None else 0

    async def _initdb(self, node: Node) -> None:
        place = node.place
        secret = self.folder / "superuser"
        secret.touch(mode=0o600)
        secret.write_text(place.superuser_password + "\n")
        give(self.account, [secret])
        # The C locale needs nothing of the machine; from 17 on PostgreSQL brings UTF-8 rules along.
        builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        unfinished = place.data.with_name("unfinished")
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
        argv: list[str | Path] = [
            place.binaries.path("initdb"),
            *("-D", unfinished, "-U", SUPERUSER, "-A", "scram-sha-256"),
            *("--pwfile", secret, "-E", "UTF8", "--locale=C", "--no-sync", "--data-checksums"),
            *(builtin if self._major >= 17 else []),
        ]
        await run(argv, account=self.account, cwd=self.folder)
        secret.unlink()
        # Under its name only when complete, or a crash would leave half a primary to go on with.
        unfinished.rename(place.data)

    async def _clone(self, primary: Node, node: Node) -> None:
        """Copy the primary's data to `node` and make it a replica that is not started yet."""
        data = node.place.data
        copy = data.with_name(f"copy-of-{data.name}")
        for folder in (data, copy):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        upstream = self._upstream(primary, node)
        argv: list[str | Path] = [
            *(node.place.binaries.path("pg_basebackup"), "-D", copy),
            *("-h", LOOPBACK, "-p", str(primary.port), "-U", REPLICATOR, "--no-password"),
            *("-X", "stream", "-c", "fast", "--no-sync", "--no-manifest"),
        ]
        env = {"PGPASSWORD": upstream.password}
        await run(argv, account=self.account, cwd=self.folder, env=env, timeout_s=600.0)
        # What a failover wrote here belongs to the node it was copied from.
        (copy / "postgresql.auto.conf").write_text("")
        (copy / "standby.signal").touch()
        give(self.account, [copy / "standby.signal"])
        # Under its name only now: before, it would look like a primary's data.
        copy.rename(data)

    async def start_somewhere(self, node: Node, primary: Node | None) -> None:
        """Start a node, on another port should somebody have taken its own meanwhile."""
        for _ in range(_PORT_RACES):
            self._write_settings(node, primary)
            try:
                await node.start()
            except PortTaken:
                node.move(free_port())
            else:
                return
        raise EmbeddedError(f"{node.name} lost the race for its port {_PORT_RACES} times")

    def _write_settings(self, node: Node, primary: Node | None) -> None:
        data, tls = node.place.data, self.spec.tls
        extra = dict(self.spec.settings)
        written = [data / "postgresql.conf", data / "pg_hba.conf"]
        if tls is not None:
            pairs = {"server.crt": tls.cert, "server.key": tls.key, "root.crt": tls.ca}
            for name, source in pairs.items():
                if source is not None:
                    (data / name).write_bytes(source.read_bytes())
                    (data / name).chmod(0o600)
                    written.append(data / name)
            if tls.ca is not None:
                extra.setdefault("ssl_ca_file", "root.crt")
        written[0].write_text(
            postgresql_conf(
                name=node.name,
                major=self._major,
                port=node.port,
                socket_dir=node.place.socket_dir,
                max_connections=self.spec.max_connections,
                replicas=self.spec.replicas,
                upstream=self._upstream(primary, node) if primary is not None else None,
                tls=tls is not None,
                extra=extra,
            )
        )
        written[1].write_text(pg_hba(self.spec.hba))
        give(self.account, written)

    def _upstream(self, primary: Node, node: Node) -> Upstream:
        return Upstream(primary.port, self.passwords.of(REPLICATOR), node.name)

    async def _until_streaming(self, nodes: Sequence[Node], primary: Node) -> None:
        wanted = {node.name for node in nodes}

        async def streaming() -> bool:
            rows = await primary.fetch(
                "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
            )
            return wanted <= {name for (name,) in rows}

        try:
            await until(streaming, f"{', '.join(sorted(wanted))} did not stream")
        except EmbeddedError as error:
            last = "; ".join(node.read_log().strip().splitlines()[-1] for node in nodes)
            raise EmbeddedError(f"{error}: {last}") from None


def _remove_all_but(kept: Path | None, home: Path) -> None:
    """Remove every node's data but `kept`: replicas are always copied afresh from the primary."""
    for data in home.glob("db*"):
        if data.is_dir() and data != kept:
            shutil.rmtree(data)


def _newest_primary(home: Path) -> Path | None:
    """Choose which kept data folder goes on as primary; None when there is none.

    Not a replica's; where a failover has left two, the one with the higher timeline, which shows by
    the history file that every promotion writes.
    """

    def timeline(data: Path) -> int:
        histories = (file.stem for file in (data / "pg_wal").glob("*.history"))
        return max((int(stem, 16) for stem in histories), default=1)

    finished = [
        data
        for data in home.glob("db*")
        if (data / "global" / "pg_control").exists() and not (data / "standby.signal").exists()
    ]
    if not finished and any(home.glob("db*/")):
        raise EmbeddedError(f"{home} holds data of replicas only: empty it to begin anew")
    return max(finished, key=timeline, default=None)
