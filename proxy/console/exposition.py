"""The metrics as text, in slices short enough not to be felt by the clients.

prometheus-client needs about 7 µs a sample, and a proxy with a hundred databases has thousands; in
one piece that would hold up every statement on the event loop for tens of milliseconds.
"""

import asyncio
import copy
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SLICE_SAMPLES = 100
"""Samples rendered before the event loop has its turn: below a millisecond."""

_OPENMETRICS_END = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class Exposition:
    """What a scraper is sent. body: gzip where it was asked for, else plain."""

    body: bytes
    content_type: str


class _OneMetric(Collector):
    """What an encoder of prometheus-client takes to be a registry."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


async def render(registry: CollectorRegistry, accept: str, *, compress: bool) -> Exposition:
    """All metrics of the registry, in the format the Accept header asks for.

    accept: as sent by a stranger; what we cannot make sense of gets the plain text format, as does
    an empty one. compress: gzip the body. Raises what the collectors raise.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # prometheus-client compares "1.0.x" with numbers
        encode, content_type = choose_encoder("")
    gzip = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16) if compress else None
    pieces: list[bytes] = []
    end = b""
    for metric in registry.collect():
        for piece in _slices(metric, encode):
            if piece.endswith(_OPENMETRICS_END):
                end = _OPENMETRICS_END
            text = piece.removesuffix(_OPENMETRICS_END)
            pieces.append(gzip.compress(text) if gzip else text)
            await asyncio.sleep(0)
    pieces.append(gzip.compress(end) + gzip.flush() if gzip else end)
    return Exposition(b"".join(pieces), content_type)


def _slices(metric: Metric, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    """The metric's text in pieces of at most SLICE_SAMPLES samples; its header only once."""
    header = encode(_OneMetric(_with_samples(metric, 0, 0))).removesuffix(_OPENMETRICS_END)
    for start in range(0, max(len(metric.samples), 1), SLICE_SAMPLES):
        piece = encode(_OneMetric(_with_samples(metric, start, start + SLICE_SAMPLES)))
        yield piece if start == 0 else piece.removeprefix(header)


def _with_samples(metric: Metric, start: int, stop: int) -> Metric:
    part = copy.copy(metric)
    part.samples = metric.samples[start:stop]
    return part
