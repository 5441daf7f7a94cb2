"""The last minutes, a point a second: throughput, latencies, lag. For the status page.

Prometheus keeps the long story; this is for who has only a browser, and for the first look of who
has both. Pure: readings come in, points go out.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.telemetry.figures import EMPTY_HISTOGRAM, Histogram

KEPT_POINTS = 300
"""Five minutes at a reading a second."""

LATENCY_S = 60.0
"""What the percentiles beside the curve are about."""

_EARLIER_READINGS = 61


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
class Point:
    """What happened between two readings: rates a second, percentiles in seconds or None."""

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
    """Points of the last minutes, oldest first."""

    def __init__(self, kept_points: int = KEPT_POINTS) -> None:
        self._points: deque[Point] = deque(maxlen=kept_points)
        self._readings: deque[Totals] = deque(maxlen=_EARLIER_READINGS)

    def add(self, totals: Totals) -> None:
        """Take one more reading; of the first there is nothing to tell yet."""
        if self._readings:
            before = self._readings[-1]
            span_s = totals.clock_s - before.clock_s
            if span_s <= 0:
                return
            self._points.append(_point_between(before, totals, span_s))
        self._readings.append(totals)

    def points(self, most: int | None = None) -> list[Point]:
        """The newest points, at most so many, oldest first."""
        points = list(self._points)
        return points if most is None else points[-most:]

    def latency(self) -> Latency:
        """Percentiles of the last minute, or of what there is of it."""
        if len(self._readings) < 2:
            return Latency(0.0, 0, None, None, None, None)
        now = self._readings[-1]
        since = next(
            (each for each in self._readings if now.clock_s - each.clock_s <= LATENCY_S), now
        )
        durations = now.durations.since(since.durations)
        return Latency(
            now.clock_s - since.clock_s,
            durations.count,
            durations.quantile_s(0.5),
            durations.quantile_s(0.95),
            durations.quantile_s(0.99),
            now.waits.since(since.waits).quantile_s(0.95),
        )


def _point_between(before: Totals, now: Totals, span_s: float) -> Point:
    def rate(name: str) -> float:
        # What a pool had counted goes with it: less than before is not less than nothing.
        rise: int = getattr(now, name) - getattr(before, name)
        return max(0, rise) / span_s

    durations = now.durations.since(before.durations)
    return Point(
        at_s=now.at_s,
        queries=rate("queries"),
        transactions=rate("transactions"),
        errors=rate("errors"),
        received_bytes=rate("received_bytes"),
        sent_bytes=rate("sent_bytes"),
        clients=now.clients,
        waiting=now.waiting,
        p50_s=durations.quantile_s(0.5),
        p95_s=durations.quantile_s(0.95),
        p99_s=durations.quantile_s(0.99),
        lag_s=now.lag_s,
    )
