"""From a reading of the counters to Prometheus samples.

Decides nothing but how a label value may look; names and meanings are in `metrics.py`. Called by
the HTTP endpoint at each scrape, on the event loop.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.errors import ProxyBug
from proxy.telemetry.figures import Figures, Histogram
from proxy.telemetry.metrics import METRICS, Labels, MetricRow, Reading, Value
from proxy.telemetry.process import ProcessCollector

MAX_LABEL_CHARS = 128
"""An identifier in PostgreSQL has at most 63 bytes (NAMEDATALEN); what is longer was never its
name, only something a client sent."""


class FiguresCollector(Collector):
    """Gives a registry one consistent reading per scrape.

    read: asked once at the start of each `collect`; what it raises fails the scrape.
    """

    def __init__(self, read: Callable[[], Figures]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Every metric without samples, so that a registry can refuse a name taken twice."""
        return [_family(row, ()) for row in METRICS]

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples."""
        figures = self._read()
        for row in METRICS:
            yield _family(row, row.read(figures))


def build_registry(read: Callable[[], Figures], *more: Collector) -> CollectorRegistry:
    """A registry of our own with our metrics, those of the process (`process_*`) and `more`."""
    registry = CollectorRegistry()
    registry.register(FiguresCollector(read))
    for collector in (ProcessCollector(), *more):
        registry.register(collector)
    return registry


def _family(row: MetricRow, reading: Reading) -> Metric:
    if row.kind == "histogram":
        histograms = HistogramMetricFamily(row.name, row.meaning, labels=row.labels, unit=row.unit)
        for labels, value in _presentable(reading):
            if not isinstance(value, Histogram):
                raise ProxyBug(f"{row.name} needs a histogram, not {value!r}")
            histograms.add_metric(labels, _cumulative(value), value.sum_s)
        return histograms
    family = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    numbers = family(row.name.removesuffix("_total"), row.meaning, labels=row.labels, unit=row.unit)
    for labels, value in _presentable(reading):
        if isinstance(value, Histogram):
            raise ProxyBug(f"{row.name} needs a number, not a histogram")
        numbers.add_metric(labels, value)
    return numbers


def _presentable(reading: Reading) -> Iterable[tuple[Labels, Value]]:
    """The reading with label values that can be sent.

    Names that are told apart only by what we cut off or escape are added up: Prometheus refuses a
    whole scrape in which a series appears twice, and a client must not be able to bring that about.
    """
    samples: dict[Labels, Value] = {}
    for labels, value in reading:
        key = tuple([_label(text) for text in labels])
        known = samples.get(key)
        samples[key] = value if known is None else _added(known, value)
    return samples.items()


def _added(one: Value, other: Value) -> Value:
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        return one.plus(other)
    if isinstance(one, Histogram) or isinstance(other, Histogram):
        raise ProxyBug("a histogram and a number under the same labels")
    return one + other


def _label(text: str) -> str:
    """The label value in valid UTF-8 and of bounded length.

    Bytes of a client's names that are not UTF-8 arrive as lone surrogates (`surrogateescape`).
    Quotes and newlines stay: the text format escapes them.
    """
    if len(text) > MAX_LABEL_CHARS:
        text = text[: MAX_LABEL_CHARS - 1] + "…"
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Buckets as the text format has them: each counts all durations up to its bound."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound_s, count in zip(histogram.bounds_s, histogram.counts, strict=False):
        total += count
        buckets.append((repr(float(bound_s)), total))
    buckets.append(("+Inf", total + histogram.counts[-1]))
    return buckets
