"""The names of our metrics, once: name, kind, labels, meaning, and where in `Figures` to look.

`collector.py` turns the rows into samples and a test holds docs/metrics.md against them. Names are
a contract with dashboards: add rows, do not rename them. Prometheus's naming conventions: seconds
and bytes, counters end in `_total`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from proxy.telemetry.figures import (
    AUDIT_RESULTS,
    CANCEL_RESULTS,
    PEERS,
    PREPARED_EVENTS,
    REDIS_OPERATIONS,
    REFUSAL_REASONS,
    SPAN_RESULTS,
    Figures,
    Histogram,
)

Labels = tuple[str, ...]
Value = int | float | Histogram
Reading = Iterable[tuple[Labels, Value]]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric.

    labels: names, in the order of the label values that `read` gives.
    unit: "seconds", "bytes" or "" where it counts things; a part of the name, as OpenMetrics wants.
    meaning: its help text, one sentence or two.
    read: all its samples in a reading of the counters.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    unit: Literal["", "seconds", "bytes"]
    meaning: str
    read: Callable[[Figures], Reading]


def _single(counts: Mapping[str, float], always: tuple[str, ...] = ()) -> Reading:
    """Samples of a metric with one label; values in `always` are there with 0 before they happen,
    because `rate()` does not see a series' first value as a rise."""
    for value in always:
        if value not in counts:
            yield (value,), 0
    for value, count in counts.items():
        yield (value,), count


def _node_roles(figures: Figures) -> Reading:
    for node in figures.nodes:
        for role in ("primary", "replica"):
            yield (node.cluster, node.node, role), int(node.role == role)


def _known_lag_s(figures: Figures) -> Reading:
    for node in figures.nodes:
        if node.lag_s is not None:
            yield (node.cluster, node.node), node.lag_s


def _known_lag_bytes(figures: Figures) -> Reading:
    for node in figures.nodes:
        if node.lag_bytes is not None:
            yield (node.cluster, node.node), node.lag_bytes


METRICS: tuple[MetricRow, ...] = (
    MetricRow(
        "pgweir_up",
        "gauge",
        (),
        "",
        "1 while the proxy answers; a scrape that fails leaves it out.",
        lambda _figures: [((), 1)],
    ),
    MetricRow(
        "pgweir_build_info",
        "gauge",
        ("version",),
        "",
        "Always 1; the version that is running is its label.",
        lambda figures: [((figures.version,), 1)],
    ),
    MetricRow(
        "pgweir_client_connections",
        "gauge",
        ("database", "user", "state"),
        "",
        "Client connections now: active (has a server connection), waiting (for one) or idle.",
        lambda figures: figures.client_connections.items(),
    ),
    MetricRow(
        "pgweir_client_connections_limit",
        "gauge",
        (),
        "",
        "Client connections allowed at once, max_client_conn.",
        lambda figures: [((), figures.client_limit)],
    ),
    MetricRow(
        "pgweir_server_connections",
        "gauge",
        ("cluster", "node", "database", "user", "state"),
        "",
        "Server connections now: active (with a client), idle, login (being opened) or closing.",
        lambda figures: figures.server_connections.items(),
    ),
    MetricRow(
        "pgweir_server_connections_limit",
        "gauge",
        ("cluster", "node"),
        "",
        "Server connections allowed to the node over all pools; missing when there is no limit.",
        lambda figures: figures.server_limits.items(),
    ),
    MetricRow(
        "pgweir_pool_size_limit",
        "gauge",
        ("cluster", "node", "database", "user"),
        "",
        "Server connections the pool may open, pool_size.",
        lambda figures: ((key, pool.size) for key, pool in figures.pools.items()),
    ),
    MetricRow(
        "pgweir_pool_oldest_wait_seconds",
        "gauge",
        ("cluster", "node", "database", "user"),
        "seconds",
        "How long the pool's first waiting client has been waiting; 0 when nobody waits.",
        lambda figures: ((key, pool.oldest_wait_s) for key, pool in figures.pools.items()),
    ),
    MetricRow(
        "pgweir_pool_wait_seconds",
        "histogram",
        (),
        "seconds",
        "How long clients waited until they had a server connection or gave up.",
        lambda figures: [((), figures.pool_wait)],
    ),
    MetricRow(
        "pgweir_queries_total",
        "counter",
        ("database", "node", "role"),
        "",
        "Statements answered, by the node that ran them and its role, primary or replica.",
        lambda figures: figures.queries.items(),
    ),
    MetricRow(
        "pgweir_routed_total",
        "counter",
        ("database", "target", "reason"),
        "",
        "Requests that were routed, by where they went (primary, replica or a role) and why.",
        lambda figures: figures.routed.items(),
    ),
    MetricRow(
        "pgweir_reruns_total",
        "counter",
        (),
        "",
        "Reads that failed on a replica before anything was answered and were run by the primary.",
        lambda figures: [((), figures.reruns)],
    ),
    MetricRow(
        "pgweir_query_duration_seconds",
        "histogram",
        ("database", "role"),
        "seconds",
        "From a statement's arrival until its ReadyForQuery, its wait for a server included.",
        lambda figures: figures.query_duration.items(),
    ),
    MetricRow(
        "pgweir_transactions_total",
        "counter",
        ("database",),
        "",
        "Transactions ended, single statements outside a block included.",
        lambda figures: _single(figures.transactions),
    ),
    MetricRow(
        "pgweir_bytes_total",
        "counter",
        ("direction",),
        "bytes",
        "Bytes received from and sent to clients.",
        lambda figures: [(("received",), figures.bytes_received), (("sent",), figures.bytes_sent)],
    ),
    MetricRow(
        "pgweir_errors_total",
        "counter",
        ("database", "sqlstate"),
        "",
        "ErrorResponses sent to clients, PostgreSQL's and our own.",
        lambda figures: figures.errors.items(),
    ),
    MetricRow(
        "pgweir_refusals_total",
        "counter",
        ("reason",),
        "",
        "Client connections turned away before they could send a statement.",
        lambda figures: _single(figures.refusals, REFUSAL_REASONS),
    ),
    MetricRow(
        "pgweir_protocol_errors_total",
        "counter",
        ("peer",),
        "",
        "Connections closed because the peer, client or server, broke the protocol.",
        lambda figures: _single(figures.protocol_errors, PEERS),
    ),
    MetricRow(
        "pgweir_cancel_requests_total",
        "counter",
        ("result",),
        "",
        "CancelRequests: sent on, nothing_running any more, unknown_key, or failed to arrive.",
        lambda figures: _single(figures.cancel_requests, CANCEL_RESULTS),
    ),
    MetricRow(
        "pgweir_server_connects_total",
        "counter",
        ("cluster", "node", "result"),
        "",
        "Attempts to open a server connection: ok, refused, timeout, login_failed, protocol_error.",
        lambda figures: figures.server_connects.items(),
    ),
    MetricRow(
        "pgweir_prepared_statements_total",
        "counter",
        ("event",),
        "",
        "Parses forwarded to a server, answered by us (forged), added by us (swallowed), and"
        " statements closed on a server to make room (evicted).",
        lambda figures: _single(figures.prepared_statements, PREPARED_EVENTS),
    ),
    MetricRow(
        "pgweir_pins_total",
        "counter",
        ("reason",),
        "",
        "Times a client began to keep its server connection for what it left in the session.",
        lambda figures: _single(figures.pins),
    ),
    MetricRow(
        "pgweir_pinned_clients",
        "gauge",
        ("database",),
        "",
        "Clients that keep their server connection for what they left in the session.",
        lambda figures: _single(figures.pinned_clients),
    ),
    MetricRow(
        "pgweir_replans_total",
        "counter",
        (),
        "",
        "Statements prepared and run again because a schema change had made their plan invalid.",
        lambda figures: [((), figures.replans)],
    ),
    MetricRow(
        "pgweir_node_up",
        "gauge",
        ("cluster", "node"),
        "",
        "1 when the node's last probe was answered, else 0.",
        lambda figures: (((node.cluster, node.node), int(node.up)) for node in figures.nodes),
    ),
    MetricRow(
        "pgweir_node_role",
        "gauge",
        ("cluster", "node", "role"),
        "",
        "1 for the role the node has, primary or replica, 0 for the other; both 0 when unknown.",
        _node_roles,
    ),
    MetricRow(
        "pgweir_replication_lag_seconds",
        "gauge",
        ("cluster", "node"),
        "seconds",
        "How far the replica is behind its primary in time; missing when unknown.",
        _known_lag_s,
    ),
    MetricRow(
        "pgweir_replication_lag_bytes",
        "gauge",
        ("cluster", "node"),
        "bytes",
        "Write-ahead log the replica has not replayed yet; missing when unknown.",
        _known_lag_bytes,
    ),
    MetricRow(
        "pgweir_failovers_total",
        "counter",
        ("cluster", "result"),
        "",
        "Changes of the primary by this proxy: promoted (it was dead), switched_over (somebody"
        " asked for it), failed, or dry_run.",
        lambda figures: figures.failovers.items(),
    ),
    MetricRow(
        "pgweir_failover_duration_seconds",
        "gauge",
        ("cluster",),
        "seconds",
        "Of the last change of the primary: from its first failed probe, or the order to switch"
        " over, until the new one took writes; missing while there was none.",
        lambda figures: _single(figures.failover_duration_s),
    ),
    MetricRow(
        "pgweir_split_brain",
        "gauge",
        ("cluster",),
        "",
        "Nodes that take writes beside the primary: what is written there is lost for the others.",
        lambda figures: _single(figures.split_brain),
    ),
    MetricRow(
        "pgweir_audit_lines_total",
        "counter",
        ("result",),
        "",
        "Lines of the audit log: written, dropped (too many waited) or failed (to be written).",
        lambda figures: _single(figures.audit_lines, AUDIT_RESULTS),
    ),
    MetricRow(
        "pgweir_redis_connected",
        "gauge",
        (),
        "",
        "Processes of the proxy to which Redis answers; 0 where none is configured.",
        lambda figures: [((), figures.redis.connected)],
    ),
    MetricRow(
        "pgweir_redis_operations_total",
        "counter",
        ("operation",),
        "",
        "Writes under keys announced, reads under keys that asked, keys settled (their newest "
        "write has a position), writes left untold while Redis did not answer, times it failed.",
        lambda figures: _single(figures.redis.operations, REDIS_OPERATIONS),
    ),
    MetricRow(
        "pgweir_redis_withheld_seconds_total",
        "counter",
        (),
        "seconds",
        "How long acknowledgements of writes under keys waited for Redis, together.",
        lambda figures: [((), figures.redis.withheld_s)],
    ),
    MetricRow(
        "pgweir_spans_total",
        "counter",
        ("result",),
        "",
        "Spans of traced statements: sent, dropped (too many waited) or failed (not taken).",
        lambda figures: _single(figures.spans, SPAN_RESULTS),
    ),
    MetricRow(
        "pgweir_event_loop_lag_seconds",
        "histogram",
        (),
        "seconds",
        "How late the proxy's event loop came to a timer: everything it does was late by as much.",
        lambda figures: [((), figures.loop_lag)],
    ),
)
