"""What the status page and `/api/status` show, as one value made of plain ones. Pure.

Names of keys are a contract with scripts and with `pgweir top`: add to them, do not rename them.
Nothing in here is a secret, and no statement has its constants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.cluster import ClusterView, NodeView
from proxy.telemetry import Event, Figures, Histogram, Latency, Point, QueryRecord

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Pinned:
    """A client that keeps its server connection. since_s: seconds since the Unix epoch."""

    database: str
    user: str
    addr: str
    node: str
    reasons: tuple[str, ...]
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All there is to show at one moment.

    at_s, started_s: seconds since the Unix epoch; clock_s: monotonic, as the views have it.
    not_ready: why `/readyz` says no, or None. points: oldest first. queries: in their order.
    """

    at_s: float
    started_s: float
    clock_s: float
    not_ready: str | None
    is_draining: bool
    figures: Figures
    views: Sequence[ClusterView]
    points: Sequence[Point]
    latency: Latency
    queries: Sequence[QueryRecord]
    pinned: Sequence[Pinned]
    events: Sequence[Event]
    warnings: Sequence[str]


def render_status(picture: Picture) -> Json:
    """The picture as JSON's types; durations in milliseconds, lags in seconds."""
    figures = picture.figures
    return {
        "name": "pgweir",
        "version": figures.version,
        "at": round(picture.at_s, 3),
        "started_at": round(picture.started_s, 3),
        "uptime_s": round(picture.at_s - picture.started_s, 1),
        "ready": picture.not_ready is None,
        "not_ready": picture.not_ready,
        "draining": picture.is_draining,
        "clusters": [_cluster(view, picture) for view in picture.views],
        "pools": _pools(figures),
        "clients": _clients(figures),
        "latency": _latency(picture.latency),
        "points": [_point(point) for point in picture.points],
        "totals": _totals(figures),
        "queries": [_query(record) for record in picture.queries],
        "pins": {
            "clients": [_pinned(each, picture.at_s) for each in picture.pinned],
            "total": dict(figures.pins),
        },
        "events": [_event(event) for event in picture.events],
        "warnings": list(picture.warnings),
    }


def _cluster(view: ClusterView, picture: Picture) -> Json:
    return {
        "name": view.name,
        "primary": view.primary,
        "reason": view.reason,
        "since_s": _ago(picture.clock_s, view.since),
        "nodes": [_node(view.name, node, picture) for node in view.nodes],
    }


def _node(cluster: str, node: NodeView, picture: Picture) -> Json:
    figures = picture.figures
    connections = sum(
        count
        for (of_cluster, name, *_), count in figures.server_connections.items()
        if (of_cluster, name) == (cluster, node.name)
    )
    return {
        "name": node.name,
        "host": node.address.host,
        "port": node.address.port,
        "roles": list(node.address.roles),
        "zone": node.address.zone,
        "weight": node.address.weight,
        "role": node.role,
        "state": node.state,
        "reason": node.reason,
        "stale": node.stale,
        "slow": node.slow,
        "since_s": _ago(picture.clock_s, node.since),
        "lag_s": _rounded(node.lag_s),
        "lag_bytes": node.lag_bytes,
        "timeline": node.timeline,
        "replay_lsn": _lsn(node.replay_lsn),
        "round_trip_ms": _ms(node.round_trip_s),
        "server_version": _version(node.server_version_num),
        "connections": connections,
        "connection_limit": figures.server_limits.get((cluster, node.name)),
    }


def _pools(figures: Figures) -> list[Json]:
    pools: list[Json] = []
    for (cluster, node, database, user), pool in sorted(figures.pools.items()):
        counts = {
            state: figures.server_connections.get((cluster, node, database, user, state), 0)
            for state in ("active", "idle", "login", "closing")
        }
        pools.append(
            {
                "cluster": cluster,
                "node": node,
                "database": database,
                "user": user,
                "size": pool.size,
                **counts,
                "waiting": figures.client_connections.get((database, user, "waiting"), 0),
                "oldest_wait_s": _rounded(pool.oldest_wait_s),
            }
        )
    return pools


def _clients(figures: Figures) -> Json:
    states = dict.fromkeys(("active", "waiting", "idle"), 0)
    databases: dict[str, int] = {}
    for (database, _, state), count in figures.client_connections.items():
        states[state] = states.get(state, 0) + count
        databases[database] = databases.get(database, 0) + count
    return {
        "total": sum(states.values()),
        "limit": figures.client_limit,
        **states,
        "databases": databases,
    }


def _totals(figures: Figures) -> Json:
    return {
        "queries": sum(figures.queries.values()),
        "transactions": sum(figures.transactions.values()),
        "errors": sum(figures.errors.values()),
        "received_bytes": figures.bytes_received,
        "sent_bytes": figures.bytes_sent,
        "queries_by_role": _by_role(figures.queries),
        "refusals": {reason: count for reason, count in figures.refusals.items() if count},
        "loop_lag_p99_ms": _quantile_ms(figures.loop_lag, 0.99),
    }


def _by_role(queries: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
    roles: dict[str, int] = {}
    for (_, _, role), count in queries.items():
        roles[role] = roles.get(role, 0) + count
    return roles


def _latency(latency: Latency) -> Json:
    return {
        "window_s": round(latency.window_s, 1),
        "statements": latency.count,
        "p50_ms": _ms(latency.p50_s),
        "p95_ms": _ms(latency.p95_s),
        "p99_ms": _ms(latency.p99_s),
        "wait_p95_ms": _ms(latency.wait_p95_s),
    }


def _point(point: Point) -> Json:
    return {
        "at": round(point.at_s, 3),
        "queries": round(point.queries, 1),
        "transactions": round(point.transactions, 1),
        "errors": round(point.errors, 1),
        "received_bytes": round(point.received_bytes),
        "sent_bytes": round(point.sent_bytes),
        "clients": point.clients,
        "waiting": point.waiting,
        "p50_ms": _ms(point.p50_s),
        "p95_ms": _ms(point.p95_s),
        "p99_ms": _ms(point.p99_s),
        "lag_s": {f"{cluster}/{node}": round(s, 3) for (cluster, node), s in point.lag_s.items()},
    }


def _query(record: QueryRecord) -> Json:
    return {
        "database": record.database,
        "fingerprint": record.id,
        "statement": record.text,
        "calls": record.calls,
        "total_ms": _ms(record.total_s),
        "mean_ms": _ms(record.mean_s),
        "p95_ms": _ms(record.p95_s),
        "max_ms": _ms(record.max_s),
        "wait_ms": _ms(record.waited_s),
        "rows": record.rows,
        "bytes": record.received_bytes,
        "errors": record.errors,
        "share": round(record.share, 4),
        "nodes": record.targets,
        "roles": record.roles,
    }


def _pinned(pinned: Pinned, at_s: float) -> Json:
    return {
        "database": pinned.database,
        "user": pinned.user,
        "addr": pinned.addr,
        "node": pinned.node,
        "reasons": list(pinned.reasons),
        "since_s": round(max(0.0, at_s - pinned.since_s), 1),
    }


def _event(event: Event) -> Json:
    return {
        "at": round(event.at_s, 3),
        "level": event.level,
        "kind": event.kind,
        "message": event.message,
        "facts": dict(event.facts),
    }


def _ago(clock_s: float, then_s: float) -> float | None:
    return round(max(0.0, clock_s - then_s), 1) if then_s else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _quantile_ms(histogram: Histogram, share: float) -> float | None:
    return _ms(histogram.quantile_s(share))


def _lsn(position: int | None) -> str | None:
    """As PostgreSQL writes it: `16/B374D848`."""
    return None if position is None else f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _version(number: int | None) -> str | None:
    """160004 is 16.4. Source: PostgreSQL documentation, `server_version_num`."""
    return None if number is None else f"{number // 10000}.{number % 10000}"


def latest(status: Json, points: int = 3) -> Json:
    """The same with the newest points only: for who has the earlier ones."""
    kept = status["points"]
    assert isinstance(kept, Iterable)  # noqa: S101 -- render_status has just made it
    return {**status, "points": list(kept)[-points:]}
