"""Read every counter of a process into one `Figures`, at scrape time."""

from collections import Counter
from collections.abc import Mapping, Sequence

from proxy.client import Door
from proxy.cluster import ClusterView
from proxy.failover import Failover
from proxy.pool import Reservoir
from proxy.relay import Histogram as Counted
from proxy.relay import Relay
from proxy.session import PINS
from proxy.telemetry import (
    FAILOVER_RESULTS,
    Figures,
    Histogram,
    NodeFigures,
    PoolFigures,
    RedisFigures,
)


def read_figures(
    *,
    version: str,
    relay: Relay,
    reservoir: Reservoir,
    door: Door,
    views: Sequence[ClusterView],
    client_limit: int,
    pins: Mapping[str, int],
    loop_lag: Histogram,
    audit_lines: Mapping[str, int],
    spans: Mapping[str, int],
    failovers: Sequence[Failover],
    redis: RedisFigures,
) -> Figures:
    """Fill one `Figures`. Costs microseconds per pool and per client."""
    clients: Counter[tuple[str, str, str]] = Counter()
    pinned: Counter[str] = Counter()
    for client in relay.clients.values():
        state = "waiting" if client.is_waiting else "active" if client.has_server else "idle"
        clients[client.line.database, client.line.user, state] += 1
        pinned[client.line.database] += client.is_pinned
    servers: Counter[tuple[str, str, str, str, str]] = Counter()
    pools: dict[tuple[str, str, str, str], PoolFigures] = {}
    queries: Counter[tuple[str, str, str]] = Counter(reservoir.ended_queries)
    transactions: Counter[str] = Counter()
    durations: dict[tuple[str, str], Histogram] = {}
    for line in (*reservoir.lines, *reservoir.reads):
        transactions[line.database] += line.transaction_count
        counted = read_histogram(line.duration_histogram)
        known = durations.get((line.database, line.role))
        durations[line.database, line.role] = counted if known is None else known.plus(counted)
    for pool in reservoir.pools:
        where = (pool.cluster, pool.node, pool.database, pool.user)
        idle = len(pool.idle)
        active = sum(1 for server in pool.servers if server.is_active)
        servers[*where, "active"] += active
        servers[*where, "idle"] += idle
        servers[*where, "login"] += pool.connecting
        servers[*where, "closing"] += len(pool.servers) - idle - active
        pools[where] = PoolFigures(pool.size, pool.longest_wait_s)
        queries[pool.database, pool.node, pool.role] += pool.query_count
    statements = relay.statement_figures
    violations: Counter[str] = Counter()
    for (side, _), count in relay.violations.items():
        violations[side] += count
    return Figures(
        version=version,
        client_connections=clients,
        client_limit=client_limit,
        server_connections=servers,
        pools=pools,
        server_limits=reservoir.node_limits,
        pool_wait=read_histogram(relay.waits),
        queries=queries,
        routed=reservoir.routed,
        reruns=relay.rerun_count,
        query_duration=durations,
        transactions=transactions,
        bytes_received=relay.received_bytes,
        bytes_sent=relay.sent_bytes,
        errors=dict(relay.errors),
        nodes=tuple(
            NodeFigures(
                view.name,
                node.name,
                node.state in ("up", "suspect"),
                node.role,
                node.lag_s,
                node.lag_bytes,
            )
            for view in views
            for node in view.nodes
        ),
        refusals=door.refusals.read(),
        protocol_errors=violations,
        cancel_requests=door.cancels.read(),
        server_connects=reservoir.connects.read(),
        prepared_statements={
            "forwarded": statements["sent"],
            "forged": statements["forged"],
            "swallowed": statements["injected"],
            "evicted": statements["evicted"],
        },
        pins=dict.fromkeys(PINS, 0) | dict(pins),
        pinned_clients=pinned,
        replans=statements["replanned"],
        loop_lag=loop_lag,
        audit_lines=audit_lines,
        spans=spans,
        failovers={
            (each.cluster, result): each.counts[result]
            for each in failovers
            for result in FAILOVER_RESULTS
        },
        failover_duration_s={
            each.cluster: each.last_duration_s
            for each in failovers
            if each.last_duration_s is not None
        },
        redis=redis,
        split_brain={each.cluster: each.split_brain for each in failovers},
    )


def read_histogram(counted: Counted) -> Histogram:
    """A histogram of the relay's, as telemetry knows it."""
    return Histogram(counted.bounds_s, counted.seen, counted.sum_s)
