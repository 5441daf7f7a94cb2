"""The last minutes, a point a second: throughput, latencies, lag. For the status page.

Prometheus keeps the long story; this is for who has only a browser, and for the first look of who
has both. Pure: readings come in, points go out.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from proxy.telemetry.figures import EMPTY_HISTOGRAM, Histogram

KEPT_POINTS = 300
"""Five minutes at a reading a second."""

LATENCY_S = 60.0
"""What the percentiles beside the curve are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What has been counted by now, over everything; cheap enough to read each second.

    at_s: seconds since the Unix epoch. clock_s: monotonic. waiting: clients in line now.
    lag_s: (cluster, node) of each replica whose lag is known.
    """

    at_s: float
    clock_s: float
    queries: int = 0
    transactions: int = 0
    errors: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    clients: int = 0
    waiting: int = 0
    durations: Histogram = EMPTY_HISTOGRAM
    waits: Histogram = EMPTY_HISTOGRAM
    lag_s: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What happened between two readings: counts, and what was so at the end.

    at_s, clock_s: of its end, as of `Totals`. span_s: how long it was.
    """

    at_s: float
    clock_s: float
    span_s: float
    queries: int
    transactions: int
    errors: int
    received_bytes: int
    sent_bytes: int
    clients: int
    waiting: int
    durations: Histogram
    waits: Histogram
    lag_s: Mapping[tuple[str, str], float]

    @property
    def second(self) -> int:
        """Which second of the monotonic clock it ends in: the same one for all processes."""
        return math.floor(self.clock_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One span as it is drawn: rates a second, percentiles in seconds or None."""

    at_s: float
    queries: float
    transactions: float
    errors: float
    received_bytes: float
    sent_bytes: float
    clients: int
    waiting: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    lag_s: Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over the last `window_s` seconds; None when nothing ran."""

    window_s: float
    count: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    wait_p95_s: float | None


class History:
    """Spans of the last minutes, oldest first."""

    def __init__(self, kept_points: int = KEPT_POINTS) -> None:
        self._spans: deque[Span] = deque(maxlen=kept_points)
        self._before: Totals | None = None

    def add(self, totals: Totals) -> None:
        """Take one more reading; of the first there is nothing to tell yet."""
        before = self._before
        if before is not None:
            if totals.clock_s <= before.clock_s:
                return
            self._spans.append(_span_between(before, totals))
        self._before = totals

    def spans(self, after_s: float = -math.inf) -> list[Span]:
        """Those that have ended after a moment of the monotonic clock."""
        return [span for span in self._spans if span.clock_s > after_s]


def _span_between(before: Totals, now: Totals) -> Span:
    def rise(name: str) -> int:
        # What a pool had counted goes with it: less than before is not less than nothing.
        difference: int = getattr(now, name) - getattr(before, name)
        return max(0, difference)

    return Span(
        at_s=now.at_s,
        clock_s=now.clock_s,
        span_s=now.clock_s - before.clock_s,
        queries=rise("queries"),
        transactions=rise("transactions"),
        errors=rise("errors"),
        received_bytes=rise("received_bytes"),
        sent_bytes=rise("sent_bytes"),
        clients=now.clients,
        waiting=now.waiting,
        durations=now.durations.since(before.durations),
        waits=now.waits.since(before.waits),
        lag_s=now.lag_s,
    )


def spans_of_all(own: Sequence[Span], others: Iterable[Sequence[Span]]) -> list[Span]:
    """The spans of several processes as one: what each had in the same second.

    Up to the last second that all of them have told of; an earlier one may be missing, of a process
    that came later or was busy.
    """
    known = [each for each in others if each]
    if not known:
        return list(own)
    until = min(each[-1].second for each in known)
    beside: dict[int, list[Span]] = {}
    for span in (span for each in known for span in each):
        beside.setdefault(span.second, []).append(span)
    return [
        reduce(_span_of_both, beside.get(span.second, ()), span)
        for span in own
        if span.second <= until
    ]


def _span_of_both(one: Span, other: Span) -> Span:
    return replace(
        one,
        queries=one.queries + other.queries,
        transactions=one.transactions + other.transactions,
        errors=one.errors + other.errors,
        received_bytes=one.received_bytes + other.received_bytes,
        sent_bytes=one.sent_bytes + other.sent_bytes,
        clients=one.clients + other.clients,
        waiting=one.waiting + other.waiting,
        durations=one.durations.plus(other.durations),
        waits=one.waits.plus(other.waits),
        # Nodes are the same to all; who has just come may not know them yet.
        lag_s={**other.lag_s, **one.lag_s},
    )


def points_of(spans: Iterable[Span]) -> list[Point]:
    """Each span as it is drawn."""
    return [
        Point(
            at_s=span.at_s,
            queries=span.queries / span.span_s,
            transactions=span.transactions / span.span_s,
            errors=span.errors / span.span_s,
            received_bytes=span.received_bytes / span.span_s,
            sent_bytes=span.sent_bytes / span.span_s,
            clients=span.clients,
            waiting=span.waiting,
            p50_s=span.durations.quantile_s(0.5),
            p95_s=span.durations.quantile_s(0.95),
            p99_s=span.durations.quantile_s(0.99),
            lag_s=span.lag_s,
        )
        for span in spans
    ]


def latency_of(spans: Sequence[Span]) -> Latency:
    """Percentiles of the last minute, or of what there is of it."""
    if not spans:
        return Latency(0.0, 0, None, None, None, None)
    now_s = spans[-1].clock_s
    lately = [span for span in spans if now_s - span.clock_s + span.span_s <= LATENCY_S]
    if not lately:
        return Latency(0.0, 0, None, None, None, None)
    durations = reduce(Histogram.plus, (span.durations for span in lately))
    waits = reduce(Histogram.plus, (span.waits for span in lately))
    return Latency(
        sum(span.span_s for span in lately),
        durations.count,
        durations.quantile_s(0.5),
        durations.quantile_s(0.95),
        durations.quantile_s(0.99),
        waits.quantile_s(0.95),
    )
