"""SHOW NODES: the instances of each cluster, as the monitor sees them."""

from collections.abc import Iterator

from proxy.cluster.view import format_lsn
from proxy.console.joining import summed
from proxy.console.scene import Scene
from proxy.console.table import FLOAT8, INT4, INT8, Row, columns

NODE_COLUMNS = columns(
    {
        "port": INT4,
        "lag_ms": FLOAT8,
        "lag_bytes": INT8,
        "timeline": INT4,
        "weight": INT4,
        "server_connections": INT4,
        "max_connections": INT4,
        "round_trip_ms": FLOAT8,
    },
    "name",
    "host",
    "port",
    "role",
    "state",
    "lag_ms",
    "lag_bytes",
    "timeline",
    "replay_lsn",
    "cluster",
    "zone",
    "weight",
    "roles",
    "server_connections",
    "max_connections",
    "round_trip_ms",
    "since",
    "reason",
    "stale",
)


join_nodes = summed(
    NODE_COLUMNS, by=("cluster", "name"), add=("server_connections", "max_connections")
)


def show_nodes(scene: Scene) -> Iterator[Row]:
    """SHOW NODES.

    replay_lsn: of a primary, the end of its WAL. stale: cut off from the primary's WAL.
    """
    limits = scene.reservoir.node_limits
    opened: dict[tuple[str, str], int] = {}
    for server in scene.reservoir.servers():
        key = (server.pool.cluster, server.pool.node)
        opened[key] = opened.get(key, 0) + 1
    for view in scene.views():
        for node in view.nodes:
            key = (view.name, node.name)
            yield [
                node.name,
                node.address.host,
                node.address.port,
                node.role,
                node.state,
                _ms(node.lag_s),
                node.lag_bytes,
                node.timeline,
                None if node.lsn is None else format_lsn(node.lsn),
                view.name,
                node.address.zone,
                node.address.weight,
                ",".join(node.address.roles),
                opened.get(key, 0),
                limits.get(key, 0),
                _ms(node.round_trip_s),
                scene.at(node.since),
                node.reason,
                "yes" if node.stale else "no",
            ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
