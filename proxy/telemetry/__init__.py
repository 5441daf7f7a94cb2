"""What happened? Figures and the log.

Figures: the data plane counts in C integers and the control plane in a `Tally` or `Durations`;
when somebody scrapes, the composition root fills one `Figures`, and `FiguresCollector` gives them
the names of `metrics.py`. The log: rooms use stdlib loggers below "pgweir" with
`extra={"facts": {...}}`; `configure` decides where the lines go and how they look.
"""

from proxy.telemetry.collector import FiguresCollector, build_registry
from proxy.telemetry.counting import Durations, Tally
from proxy.telemetry.figures import (
    BUCKET_BOUNDS_S,
    Figures,
    Histogram,
    NodeFigures,
    PoolFigures,
)
from proxy.telemetry.flood import LimitedLog
from proxy.telemetry.log import configure
from proxy.telemetry.loop_lag import LoopLag

__all__ = [
    "BUCKET_BOUNDS_S",
    "Durations",
    "Figures",
    "FiguresCollector",
    "Histogram",
    "LimitedLog",
    "LoopLag",
    "NodeFigures",
    "PoolFigures",
    "Tally",
    "build_registry",
    "configure",
]
