"""The server behind the proxies: the stub, or PostgreSQL 18."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.cases import Rig
from benchmarks.children import Children
from benchmarks.compiled import compiled
from benchmarks.cores import Cores
from benchmarks.failure import BenchmarkError
from benchmarks.peers import DATABASE, PASSWORD, USER
from benchmarks.pgbench import fill_tables
from benchmarks.processes import family
from benchmarks.quotas import quotas
from proxy.embedded import (
    Cluster,
    ClusterSpec,
    EmbeddedError,
    Login,
    create_roles,
    free_port,
    is_port_free,
)

# Ten branches for eight clients of TPC-B, so that they do not merely queue for one row.
_SCALE = 10
_MONITOR = Login("monitor", "watching")
_STUB_START_S = 5.0


@dataclass(frozen=True)
class Server:
    """A running server and how pgweir's monitor logs in to it.

    replicas: ports and process ids of those that stream from it.
    """

    port: int
    pid: int
    monitor: Login
    replicas: tuple[tuple[int, int], ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """Of all nodes, the primary's first."""
        return (self.port, *(port for port, _ in self.replicas))

    @property
    def pids(self) -> tuple[int, ...]:
        """Of all nodes; their children count as well."""
        return (self.pid, *(pid for _, pid in self.replicas))


@contextmanager
def running_server(rig: Rig, children: Children, cores: Cores) -> Iterator[Server]:
    """Start the server that a rig asks for, and stop it at the end. Raises BenchmarkError."""
    if rig.server != "stub":
        with _postgres(2 if rig.server == "replicated" else 0, rig.node_share) as server:
            yield server
    else:
        port = free_port()
        child = children.start("stub", [compiled("stub"), str(port)], cores=cores.server)
        deadline = time.monotonic() + _STUB_START_S
        while is_port_free(port):
            if not child.is_running or time.monotonic() > deadline:
                raise BenchmarkError(f"the stub did not start:\n{child.tail()}")
            time.sleep(0.01)
        yield Server(port, child.pid, _MONITOR)
        children.stop(child)


@contextmanager
def _postgres(replicas: int, node_share: float | None) -> Iterator[Server]:
    """PostgreSQL 18 with pgbench's tables, and so many replicas.

    node_share: how much of a core each node gets once its tables are there; None sets no limit.

    HAProxy opens a connection for each client, so 500 and the poolers' must fit. The application
    logs in without a password: what logging in costs is measured elsewhere. No autovacuum, whose
    work would fall upon whoever has the turn.
    """
    spec = ClusterSpec(
        replicas=replicas,
        max_connections=700,
        settings={"shared_buffers": "256MB", "autovacuum": "off"},
        hba=(f"host {DATABASE} {USER} 127.0.0.1/32 trust",),
    )
    with ExitStack() as stack, asyncio.Runner() as runner:
        cluster = Cluster(spec)
        try:
            runner.run(cluster.start())
            try:
                app = Login(USER, PASSWORD)
                roles = create_roles(cluster.primary, app=app, monitor=_MONITOR, database=DATABASE)
                runner.run(roles)
                fill_tables(cluster.primary.port, _SCALE)
                runner.run(cluster.until_caught_up())
                nodes = [(node.port, node.pid) for node in cluster.nodes if node.pid is not None]
                if len(nodes) <= replicas:
                    raise BenchmarkError("PostgreSQL ended while its tables were made")
                if node_share is not None:
                    for quota, (_, pid) in zip(
                        stack.enter_context(quotas(len(nodes), node_share)), nodes, strict=True
                    ):
                        quota.take_in(family(pid))
                (port, pid), *others = nodes
                yield Server(port, pid, _MONITOR, tuple(others))
            finally:
                runner.run(cluster.close())
        except EmbeddedError as error:
            raise BenchmarkError(str(error)) from None
