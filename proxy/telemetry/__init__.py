"""What happened? Figures and the log.

Figures: the data plane counts in C integers and the control plane in a `Tally` or `Durations`;
when somebody scrapes, the composition root fills one `Figures`, and `FiguresCollector` gives them
the names of `metrics.py`. The log: rooms use stdlib loggers below "pgweir" with
`extra={"facts": {...}}`; `configure` decides where the lines go and how they look.
"""

from proxy.telemetry.audit import AuditLog, Deed, NoteAudit
from proxy.telemetry.collector import FiguresCollector, build_registry
from proxy.telemetry.counting import Durations, Tally
from proxy.telemetry.events import (
    Event,
    EventKind,
    RecentEvents,
    events_of_all,
    keep_event,
    report,
)
from proxy.telemetry.figures import (
    BUCKET_BOUNDS_S,
    FAILOVER_RESULTS,
    REDIS_OPERATIONS,
    Figures,
    Histogram,
    NodeFigures,
    PoolFigures,
    RedisFigures,
)
from proxy.telemetry.fingerprints import Fingerprint, Fingerprints
from proxy.telemetry.flood import LimitedLog
from proxy.telemetry.history import (
    KEPT_POINTS,
    History,
    Latency,
    Point,
    Span,
    Totals,
    latency_of,
    points_of,
    spans_of_all,
)
from proxy.telemetry.log import configure
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.queries import ALWAYS_TOLD_S, QueryRecord, TopQueries, queries_of_all
from proxy.telemetry.slow import SlowLog
from proxy.telemetry.together import together
from proxy.telemetry.traceparent import Traceparent, traceparent_of

__all__ = [
    "ALWAYS_TOLD_S",
    "BUCKET_BOUNDS_S",
    "FAILOVER_RESULTS",
    "KEPT_POINTS",
    "REDIS_OPERATIONS",
    "AuditLog",
    "Deed",
    "Durations",
    "Event",
    "EventKind",
    "Figures",
    "FiguresCollector",
    "Fingerprint",
    "Fingerprints",
    "Histogram",
    "History",
    "Latency",
    "LimitedLog",
    "LoopLag",
    "NodeFigures",
    "NoteAudit",
    "Point",
    "PoolFigures",
    "QueryRecord",
    "RecentEvents",
    "RedisFigures",
    "SlowLog",
    "Span",
    "Tally",
    "TopQueries",
    "Totals",
    "Traceparent",
    "build_registry",
    "configure",
    "events_of_all",
    "keep_event",
    "latency_of",
    "points_of",
    "queries_of_all",
    "report",
    "spans_of_all",
    "together",
    "traceparent_of",
]
