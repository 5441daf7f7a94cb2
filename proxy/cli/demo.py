"""`pgweir demo`: a real cluster, sample data and the proxy in front, until Ctrl-C.

The story is told here, in order. How a cluster is made is `proxy.embedded`'s business, and how the
proxy serves is handed in, as this file must not know more of it than `pgweir run` does.
"""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import yaml

from proxy.embedded import (
    Cluster,
    ClusterSpec,
    EmbeddedError,
    Login,
    create_roles,
    free_port,
    grant_promotion,
    is_port_free,
    load_pgbench,
    load_sample,
)

HOST = "127.0.0.1"
DEFAULT_PORT = 6432
DEFAULT_HTTP_PORT = 9127
DATABASE = "demo"
READ_ONLY = "demo_ro"
# Twice the pools of both databases on one node, and room for a direct look.
MAX_CONNECTIONS = 200
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Serve(Protocol):
    """Run the proxy in this process until cancelled, or until it is told to stop.

    config: the YAML file to serve. on_ready: called once, when clients are accepted, with a line
    for the operator that names the addresses.
    """

    def __call__(self, config: Path, on_ready: Callable[[str], None]) -> Awaitable[None]:
        """Serve."""


async def demo(
    *,
    serve: Serve,
    say: Callable[[str], None],
    complain: Callable[[str], None],
    replicas: int = 2,
    port: int | None = None,
    keep: Path | None = None,
) -> int:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; give the exit code, 0 or 1.

    port: the proxy's, or None for 6432 or any free one. keep: a folder for the data, used again by
    the next demo that names it. say, complain: take one line for stdout or stderr. What can go
    wrong outside of us is complained of in one line; whatever `serve` raises besides OSError is
    passed on. In every case nothing is left running, and no folder but `keep`.
    """
    stop = asyncio.Event()
    with _stopped_by_signals(stop):
        show = _Show(say, replicas, keep)
        try:
            show.choose_ports(port)
            acting = asyncio.create_task(show.run(serve, stop))
            waiting = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({acting, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if not acting.done():
                    say("")
                    show.progress("stopping")
            finally:
                acting.cancel()
                waiting.cancel()
                await asyncio.wait({acting, waiting})
            if not acting.cancelled():
                acting.result()
        except (EmbeddedError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            complain(f"pgweir demo: {error}")
            return 1
        left = "nothing is left" if keep is None else f"the data is kept in {keep}"
        show.progress(f"stopped; {left}")
    return 0


class _Show:
    """One run of the demo: what it was asked for, its ports, and when it began."""

    def __init__(self, say: Callable[[str], None], replicas: int, keep: Path | None) -> None:
        self._say = say
        self._replicas = replicas
        self._keep = keep
        self._began_s = time.monotonic()
        self._port = DEFAULT_PORT
        self._http_port = DEFAULT_HTTP_PORT

    def progress(self, step: str) -> None:
        """Say that a step is done, with the seconds since the beginning."""
        self._say(f"[{time.monotonic() - self._began_s:5.1f} s] {step}")

    def choose_ports(self, wanted: int | None) -> None:
        """Settle the proxy's ports before anything is started; EmbeddedError when that fails."""
        if wanted is not None and not is_port_free(wanted, HOST):
            raise EmbeddedError(
                f"port {wanted} is taken: choose another, or leave out --port for a free one"
            )
        self._port = wanted or free_port(DEFAULT_PORT)
        self._http_port = free_port(DEFAULT_HTTP_PORT)
        if wanted is None and self._port != DEFAULT_PORT:
            self.progress(f"port {DEFAULT_PORT} is taken, the proxy will use {self._port}")

    async def run(self, serve: Serve, stop: asyncio.Event) -> None:
        """Bring everything up, serve until cancelled, and take everything down."""
        with_replicas = f"{self._replicas} streaming replica{'' if self._replicas == 1 else 's'}"
        self.progress(f"starting a primary with {with_replicas}")
        spec = ClusterSpec(
            replicas=self._replicas, max_connections=MAX_CONNECTIONS, keep=self._keep
        )
        async with Cluster(spec, self.progress) as cluster:
            app = Login("app", cluster.passwords.of("app"))
            monitor = Login("monitor", cluster.passwords.of("monitor"))
            await self._fill(cluster, app, monitor)
            config = cluster.folder / "pgweir.yaml"
            config.touch(mode=0o600)
            config.write_text(self._config(cluster, app, monitor))
            try:
                await serve(config, lambda line: self._introduce(cluster, app, line))
            finally:
                # The proxy may have taken the signals for itself; taking down is not to be cut.
                _listen(stop)

    async def _fill(self, cluster: Cluster, app: Login, monitor: Login) -> None:
        await create_roles(cluster.primary, app=app, monitor=monitor, database=DATABASE)
        await grant_promotion(cluster.primary, monitor)
        self.progress(f"database {DATABASE} for {app.name}, role {monitor.name} for the probes")
        new = await load_sample(cluster.primary, app=app, database=DATABASE)
        tables = "users, posts, follows, interactions, counters"
        self.progress(f"{'loaded' if new else 'found'} the sample: {tables}")
        new = await load_pgbench(cluster.primary, app=app, database=DATABASE)
        self.progress(f"{'loaded' if new else 'found'} pgbench's tables")
        if cluster.replicas:
            await cluster.until_caught_up()
            self.progress("the replicas have all of it")

    def _config(self, cluster: Cluster, app: Login, monitor: Login) -> str:
        """Write the YAML that a careful operator would write for this cluster."""
        nodes = [
            {"name": node.name, "host": node.host, "port": node.port} for node in cluster.nodes
        ]
        document: dict[str, Any] = {
            "listen": {"host": HOST, "port": self._port},
            "http": {"host": HOST, "port": self._http_port},
            "auth": {"users": {app.name: {"password": app.password}}, "admins": [app.name]},
            "clusters": {
                "main": {
                    "nodes": nodes,
                    "monitor": {"user": monitor.name, "password": monitor.password},
                    "failover": {"mode": "promote" if cluster.replicas else "off"},
                }
            },
            "databases": {
                DATABASE: {"cluster": "main", "read_write_split": bool(cluster.replicas)},
                READ_ONLY: {"cluster": "main", "dbname": DATABASE},
            },
            "routes": [{"match": {"database": READ_ONLY}, "to": "replica"}],
        }
        return yaml.safe_dump(document, sort_keys=False)

    def _introduce(self, cluster: Cluster, app: Login, line: str) -> None:
        """Print what a newcomer needs, once the proxy accepts clients."""
        self.progress(f"the proxy is ready: {line}")
        server = f"postgres://{app.name}:{app.password}@{HOST}:{self._port}"
        psql, pgbench = (_command(cluster, name) for name in ("psql", "pgbench"))
        lines = (
            "",
            f"DATABASE_URL={server}/{DATABASE}",
            f"READ_ONLY_DATABASE_URL={server}/{READ_ONLY}",
            "",
            f"  look around  {psql} {server}/{DATABASE}",
            f"  load         {pgbench} -n -S -c 8 -T 10 {server}/{DATABASE}",
            f"  status page  http://{HOST}:{self._http_port}/",
            f"  metrics      http://{HOST}:{self._http_port}/metrics",
            *self._dangers(cluster),
            "",
            "Ctrl-C stops everything"
            + (" and removes it." if self._keep is None else f"; the data stays in {self._keep}."),
        )
        for text in lines:
            self._say(text)

    @staticmethod
    def _dangers(cluster: Cluster) -> list[str]:
        """How to see a failover, where there is somebody to take over."""
        if not cluster.replicas:
            return []
        return [f"  failover     kill -9 {cluster.primary.pid}   # the primary; writes go on"]


def _command(cluster: Cluster, program: str) -> str:
    """Name a program as the reader can type it: by its path unless the shell finds it."""
    return program if shutil.which(program) else str(cluster.binaries.path(program))


@contextlib.contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    _listen(stop)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)


def _listen(stop: asyncio.Event) -> None:
    for number in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
