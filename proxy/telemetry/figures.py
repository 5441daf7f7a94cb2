"""One reading of every counter, as it crosses from whoever counts to whoever shows.

The composition root fills a `Figures` at scrape time from the relay's C integers and the control
plane's tallies. Mappings are keyed by plain tuples in the order of the metric's labels, so filling
one is a dict comprehension; `metrics.py` is the only place that gives them names.

Whoever fills them keeps the number of keys bounded: a database or user belongs in here once it is
configured or a client has logged in to it, never because a stranger mentioned it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxy.errors import ProxyBug

NodeRole = Literal["primary", "replica"]

BUCKET_BOUNDS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds of the histograms, seconds: a proxied statement starts near 0.1 ms, and what takes
ten seconds is a matter for the slow log, not for a finer bucket."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many durations fell between which bounds.

    bounds_s: upper bounds, seconds, ascending; a duration equal to a bound belongs below it.
    counts: one per bound and one for everything longer; not cumulative.
    sum_s: all durations together, seconds.
    Raises ProxyBug when counts and bounds do not fit together.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_s) + 1:
            raise ProxyBug(
                f"a histogram of {len(self.bounds_s)} bounds needs one count more than that,"
                f" not {len(self.counts)}"
            )

    def plus(self, other: "Histogram") -> "Histogram":
        """The two histograms as one. Raises ProxyBug when their bounds differ."""
        if self.bounds_s != other.bounds_s:
            raise ProxyBug("histograms with different bounds cannot be added")
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds_s, counts, self.sum_s + other.sum_s)

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was counted after an earlier reading of the same histogram.

        A count that has gone down (a pool has gone, and its figures with it) is taken for none.
        Raises ProxyBug when the bounds differ.
        """
        if self.bounds_s != earlier.bounds_s:
            raise ProxyBug("histograms with different bounds cannot be compared")
        pairs = zip(self.counts, earlier.counts, strict=True)
        counts = tuple(max(0, now - before) for now, before in pairs)
        return Histogram(self.bounds_s, counts, max(0.0, self.sum_s - earlier.sum_s))

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float | None:
        """The duration that this share (0 to 1) did not exceed, seconds; None when there is none.

        Within a bucket durations are taken to be spread evenly, as Prometheus's
        `histogram_quantile` does; of those above the last bound only that bound is known.
        """
        total = self.count
        if not total:
            return None
        rank, below, lower_s = share * total, 0, 0.0
        for bound_s, count in zip(self.bounds_s, self.counts, strict=False):
            if count and below + count >= rank:
                return lower_s + (bound_s - lower_s) * max(0.0, rank - below) / count
            below += count
            lower_s = bound_s
        return self.bounds_s[-1]


EMPTY_HISTOGRAM = Histogram(BUCKET_BOUNDS_S, (0,) * (len(BUCKET_BOUNDS_S) + 1), 0.0)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What the last probe said about one node.

    role: None while it has never answered. lag_s, lag_bytes: None for a primary and where unknown.
    """

    cluster: str
    node: str
    up: bool
    role: NodeRole | None = None
    lag_s: float | None = None
    lag_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """One pool, beside its connections, which are in `Figures.server_connections`.

    size: server connections it may open. oldest_wait_s: how long its first waiting client has been
    waiting by now, seconds; 0 when nobody waits (PgBouncer's `maxwait`).
    """

    size: int
    oldest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RedisFigures:
    """What proxies tell each other of keys.

    connected: processes of this proxy to which Redis answers. operations: see `REDIS_OPERATIONS`.
    withheld_s: how long acknowledgements waited for others to be told, together.
    """

    connected: int = 0
    operations: Mapping[str, int] = field(default_factory=dict)
    withheld_s: float = 0.0

    def plus(self, other: "RedisFigures") -> "RedisFigures":
        """Those of two processes as one."""
        both = self.operations.keys() | other.operations.keys()
        return RedisFigures(
            self.connected + other.connected,
            {each: self.operations.get(each, 0) + other.operations.get(each, 0) for each in both},
            self.withheld_s + other.withheld_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One reading of all counters. Counters start at 0 with the process and never go down.

    client_connections: (database, user, state) with state active, waiting or idle.
    client_limit: `max_client_conn`.
    server_connections: (cluster, node, database, user, state) with state active, idle, login or
        closing.
    pools: (cluster, node, database, user).
    server_limits: (cluster, node), the server connections it takes from us; absent when unlimited.
    pool_wait: how long clients waited for a server connection, of those that got one or gave up.
    queries: (database, node, role). query_duration: (database, role).
    routed: (database, target, reason), requests by where they were routed and why. reruns: reads
        that failed on a replica and were run again by the primary.
    transactions: database. bytes_received, bytes_sent: as the proxy sees its clients.
    errors: (database, sqlstate), every ErrorResponse a client was sent, the server's or ours.
    refusals: reason, connections turned away; the usual reasons are `REFUSAL_REASONS`.
    protocol_errors: peer, "client" or "server".
    cancel_requests: result, see `CANCEL_RESULTS`.
    server_connects: (cluster, node, result), see `CONNECT_RESULTS`.
    prepared_statements: event, see `PREPARED_EVENTS`.
    pins: reason, how often a client began to keep its server connection. pinned_clients: database,
        those that keep theirs now.
    replans: statements prepared and run again after "cached plan must not change result type".
    spans: result, see `SPAN_RESULTS`.
    audit_lines: result, lines of the audit log, see `AUDIT_RESULTS`.
    loop_lag: how late the event loop came to a timer.
    failovers: (cluster, result), see `FAILOVER_RESULTS`. failover_duration_s: cluster, of the last
        one, from the first failed probe until the new primary took writes.
    split_brain: cluster, nodes that take writes beside the primary.
    redis: all 0 where none is configured.
    """

    version: str
    client_connections: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    client_limit: int = 0
    server_connections: Mapping[tuple[str, str, str, str, str], int] = field(default_factory=dict)
    pools: Mapping[tuple[str, str, str, str], PoolFigures] = field(default_factory=dict)
    server_limits: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pool_wait: Histogram = EMPTY_HISTOGRAM
    queries: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    query_duration: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)
    routed: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    reruns: int = 0
    transactions: Mapping[str, int] = field(default_factory=dict)
    bytes_received: int = 0
    bytes_sent: int = 0
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    nodes: tuple[NodeFigures, ...] = ()
    refusals: Mapping[str, int] = field(default_factory=dict)
    protocol_errors: Mapping[str, int] = field(default_factory=dict)
    cancel_requests: Mapping[str, int] = field(default_factory=dict)
    server_connects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    prepared_statements: Mapping[str, int] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
    pinned_clients: Mapping[str, int] = field(default_factory=dict)
    replans: int = 0
    loop_lag: Histogram = EMPTY_HISTOGRAM
    audit_lines: Mapping[str, int] = field(default_factory=dict)
    spans: Mapping[str, int] = field(default_factory=dict)
    failovers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    failover_duration_s: Mapping[str, float] = field(default_factory=dict)
    split_brain: Mapping[str, int] = field(default_factory=dict)
    redis: RedisFigures = field(default_factory=RedisFigures)


FAILOVER_RESULTS = ("promoted", "switched_over", "failed", "dry_run")
"""promoted: a replica took a dead primary's place. switched_over: as somebody asked for. failed:
begun and not finished. dry_run: what would have been a promotion."""

REFUSAL_REASONS = (
    "login_failed",
    "not_allowed",
    "login_timeout",
    "too_many_clients",
    "too_many_logins",
    "unknown_database",
    "tls_required",
    "tls_failed",
    "protocol_error",
    "server_unreachable",
    "shutting_down",
)
"""Why a connection was turned away; shown as 0 from the start, so that a first one is a rise."""

AUDIT_RESULTS = ("written", "dropped", "failed")
"""dropped: the queue was full. failed: the file could not be written."""

SPAN_RESULTS = ("sent", "dropped", "failed")
"""dropped: too many waited to be sent. failed: nobody took them."""

REDIS_OPERATIONS = ("announced", "asked", "settled", "untold", "failed")
"""announced: writes under keys. asked: reads under keys. settled: keys whose newest write has got a
position. untold: writes that were acknowledged although Redis did not answer. failed: Redis was
lost, or not there."""

PEERS = ("client", "server")

CANCEL_RESULTS = ("sent", "nothing_running", "unknown_key", "failed")
"""sent: to the server whose query was running. nothing_running: the key is known, its client was
idle. unknown_key: nobody's. failed: the server could not be reached to cancel."""

CONNECT_RESULTS = ("ok", "refused", "timeout", "login_failed", "protocol_error")

PREPARED_EVENTS = ("forwarded", "forged", "swallowed", "evicted")
"""forwarded: a client's Parse went to a server. forged: answered by us, the server had it already.
swallowed: a Parse of our own whose answer no client sees. evicted: closed on a server to make
room."""
