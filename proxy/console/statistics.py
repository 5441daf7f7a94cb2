"""SHOW STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS: what has passed, by database.

Totals are since the process began. Averages are over the last complete period and what has passed
of this one, as PgBouncer has them: counts and bytes a second, times for each transaction, statement
or wait. Times are microseconds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.console.scene import CONSOLE, Scene
from proxy.console.table import NUMERIC, Column, Row, columns
from proxy.pool import Traffic, all_of

STATS_PERIOD_S = 60.0
"""PgBouncer's `stats_period`."""

# The names in SHOW STATS_TOTALS, in PgBouncer 1.25's order. Every other command calls some of them
# otherwise.
_PLAIN = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
)
_IN_STATS_TOTAL = {"bytes_received": "received", "bytes_sent": "sent"}
_IN_STATS_AVERAGE = {"bytes_received": "recv", "bytes_sent": "sent"}
_IN_AVERAGES = {
    name: f"avg_{name}" for name in ("client_parse_count", "server_parse_count", "bind_count")
}
_IN_TOTALS = {
    "bytes_received": "client_bytes",
    "bytes_sent": "server_bytes",
    "client_parse_count": "ps_client_parse_count",
    "server_parse_count": "ps_server_parse_count",
    "bind_count": "ps_bind_count",
}


def _named(prefix: str, other_names: Mapping[str, str]) -> list[str]:
    return [prefix + other_names.get(name, name) for name in _PLAIN]


def _with_database(*names: str) -> tuple[Column, ...]:
    return (*columns(None, "database"), *columns(dict.fromkeys(names, NUMERIC), *names))


STATS_COLUMNS = _with_database(
    *_named("total_", _IN_STATS_TOTAL), *_named("avg_", _IN_STATS_AVERAGE)
)
STATS_TOTALS_COLUMNS = _with_database(*_PLAIN)
STATS_AVERAGES_COLUMNS = _with_database(*_named("", _IN_AVERAGES))
TOTALS_COLUMNS = columns({"value": NUMERIC}, "name", "value")
_TOTAL_NAMES = [*_named("total_", _IN_TOTALS), *_named("avg_", _IN_TOTALS)]

_Snapshot = tuple[float, Mapping[str, Traffic]]


@dataclass(frozen=True, slots=True)
class Passed:
    """What one process has counted of one database. lately: of `total`, in the last `during_s`."""

    database: str
    total: Traffic
    lately: Traffic
    during_s: float


Counts = Sequence[Iterable[Passed]]
"""Those of several processes."""


class Statistics:
    """Remembers the counters of the last two beginnings of a period. `tick` once a second."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        now: _Snapshot = (scene.clock(), {})
        self._older, self._newer = now, now
        self._of_visitors = Traffic()

    def count_query(self) -> None:
        """A statement was answered here, at the console."""
        self._of_visitors = self._of_visitors.plus(Traffic(transactions=1, queries=1))

    def tick(self) -> None:
        """Begin a new period if the present one is over."""
        now_s = self._scene.clock()
        if now_s - self._newer[0] >= STATS_PERIOD_S:
            self._older, self._newer = self._newer, (now_s, self._traffic())

    def _traffic(self) -> dict[str, Traffic]:
        return {**self._scene.reservoir.traffic(), CONSOLE: self._of_visitors}

    def read(self) -> Iterator[Passed]:
        """What has been counted in this process."""
        since_s, before = self._older
        during_s = self._scene.clock() - since_s
        for database, traffic in self._traffic().items():
            lately = traffic.minus(before.get(database, Traffic()))
            yield Passed(database, traffic, lately, during_s)


def show_stats(counts: Counts) -> Iterator[Row]:
    """SHOW STATS."""
    for database, passed in _by_database(counts):
        yield [database, *_totals_of(passed), *_averages_of(passed)]


def show_stats_totals(counts: Counts) -> Iterator[Row]:
    """SHOW STATS_TOTALS."""
    for database, passed in _by_database(counts):
        yield [database, *_totals_of(passed)]


def show_stats_averages(counts: Counts) -> Iterator[Row]:
    """SHOW STATS_AVERAGES."""
    for database, passed in _by_database(counts):
        yield [database, *_averages_of(passed)]


def show_totals(counts: Counts) -> Iterator[Row]:
    """SHOW TOTALS."""
    passed = [each for count in counts for each in count]
    values = [*_totals_of(passed), *_averages_of(passed)]
    yield from zip(_TOTAL_NAMES, values, strict=True)


def _by_database(counts: Counts) -> list[tuple[str, list[Passed]]]:
    found: dict[str, list[Passed]] = {}
    for passed in (each for count in counts for each in count):
        found.setdefault(passed.database, []).append(passed)
    return sorted(found.items())


def _totals_of(passed: Sequence[Passed]) -> list[int]:
    return totals(all_of(each.total for each in passed))


def _averages_of(passed: Sequence[Passed]) -> list[int]:
    """What each process has a second, added; and of all together, the time for each piece."""
    a_second = [averages(each.lately, each.during_s) for each in passed]
    each_piece = averages(all_of(each.lately for each in passed), 1.0)
    return [
        piece if name.endswith("_time") else sum(rates)
        for name, piece, *rates in zip(_PLAIN, each_piece, *a_second, strict=True)
    ]


def totals(traffic: Traffic) -> list[int]:
    """Figures in the order of the columns."""
    return [
        traffic.assignments,
        traffic.transactions,
        traffic.queries,
        traffic.received,
        traffic.sent,
        _us(traffic.transacted_s),
        _us(traffic.worked_s),
        _us(traffic.waited_s),
        traffic.parses,
        traffic.server_parses,
        traffic.binds,
    ]


def averages(lately: Traffic, during_s: float) -> list[int]:
    """The same, a second or a piece. lately: what passed within during_s."""
    if during_s <= 0:
        return [0] * len(_PLAIN)

    def a_second(count: int) -> int:
        return int(count / during_s)

    def each(spent_s: float, count: int) -> int:
        return _us(spent_s / count) if count else 0

    return [
        a_second(lately.assignments),
        a_second(lately.transactions),
        a_second(lately.queries),
        a_second(lately.received),
        a_second(lately.sent),
        each(lately.transacted_s, lately.transactions),
        each(lately.worked_s, lately.queries),
        each(lately.waited_s, lately.assignments),
        a_second(lately.parses),
        a_second(lately.server_parses),
        a_second(lately.binds),
    ]


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
