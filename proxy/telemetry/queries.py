"""Which statements take the most time: a bounded table of fingerprints.

The relay tells of every statement that was slow and of a sample of the others, each with how many
it stands for; so calls and times of short statements are estimates under load, and exact as long
as there are few (see docs/metrics.md). When the table is full, those that took the least time go.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from proxy.relay import Ended
from proxy.telemetry.counting import Durations
from proxy.telemetry.figures import Histogram
from proxy.telemetry.fingerprints import Fingerprint

ALWAYS_TOLD_S = 0.1
"""Statements that take this long are all counted, one by one: at most ten a second and server
connection."""

MAX_QUERIES = 500
_KEPT_SHARE = 0.8
"""Making room costs a sort: so it makes room for many."""

_MAX_TARGETS = 16

Order = Literal["time", "calls", "mean", "p95"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRecord:
    """One fingerprint of one database, since the process began or the table was reset.

    calls, rows, received_bytes, errors: estimates where statements were sampled.
    mean_s, p95_s, max_s: from arrival to end; waited_s: of `total_s`, the wait for a connection.
    share: of the time of all statements in the table, 0 to 1. targets: calls by node.
    roles: calls by role, primary or replica. durations: all of them, so that the records of several
    processes can be added.
    """

    database: str
    id: str
    text: str
    calls: int
    total_s: float
    mean_s: float
    p95_s: float
    max_s: float
    waited_s: float
    rows: int
    received_bytes: int
    errors: int
    share: float
    targets: dict[str, int]
    roles: dict[str, int]
    durations: Histogram


@dataclass(slots=True)
class _Entry:
    fingerprint: Fingerprint
    calls: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    waited_s: float = 0.0
    rows: int = 0
    received_bytes: int = 0
    errors: int = 0
    durations: Durations = field(default_factory=Durations)
    targets: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)


class TopQueries:
    """The table. Used from the event loop only."""

    def __init__(self, max_queries: int = MAX_QUERIES) -> None:
        self._max_queries = max_queries
        self._entries: dict[tuple[str, str], _Entry] = {}

    def add(
        self, database: str, fingerprint: Fingerprint, node: str, role: str, ended: Ended
    ) -> None:
        """Count a statement that has ended on this node."""
        key = (database, fingerprint.id)
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= self._max_queries:
                self._make_room()
            entry = self._entries[key] = _Entry(fingerprint)
        times = ended.stands_for
        entry.calls += times
        entry.total_s += ended.spent_s * times
        entry.max_s = max(entry.max_s, ended.spent_s)
        entry.waited_s += ended.waited_s * times
        entry.rows += ended.rows * times
        entry.received_bytes += ended.received_bytes * times
        entry.errors += times if ended.sqlstate is not None else 0
        entry.durations.add(ended.spent_s, times)
        entry.roles[role] = entry.roles.get(role, 0) + times
        if node in entry.targets or len(entry.targets) < _MAX_TARGETS:
            entry.targets[node] = entry.targets.get(node, 0) + times

    def top(self, most: int = 50, order: Order = "time") -> list[QueryRecord]:
        """The records that lead by this order."""
        total_s = sum(entry.total_s for entry in self._entries.values()) or 1.0
        records = [
            _record(database, entry, entry.total_s / total_s)
            for (database, _), entry in self._entries.items()
        ]
        return sorted(records, key=_ORDERS[order], reverse=True)[:most]

    def reset(self) -> None:
        """Forget all."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def _make_room(self) -> None:
        kept: Iterable[tuple[tuple[str, str], _Entry]] = sorted(
            self._entries.items(), key=lambda item: item[1].total_s, reverse=True
        )[: int(self._max_queries * _KEPT_SHARE)]
        self._entries = dict(kept)


_ORDERS: dict[Order, Callable[[QueryRecord], float]] = {
    "time": lambda record: record.total_s,
    "calls": lambda record: record.calls,
    "mean": lambda record: record.mean_s,
    "p95": lambda record: record.p95_s,
}


def _record(database: str, entry: _Entry, share: float) -> QueryRecord:
    durations = entry.durations.read()
    return QueryRecord(
        database=database,
        id=entry.fingerprint.id,
        text=entry.fingerprint.text,
        calls=entry.calls,
        total_s=entry.total_s,
        mean_s=entry.total_s / entry.calls,
        p95_s=_p95_s(durations, entry.max_s),
        max_s=entry.max_s,
        waited_s=entry.waited_s,
        rows=entry.rows,
        received_bytes=entry.received_bytes,
        errors=entry.errors,
        share=share,
        targets=dict(entry.targets),
        roles=dict(entry.roles),
        durations=durations,
    )


def _p95_s(durations: Histogram, max_s: float) -> float:
    """A bucket's bound may lie above the longest there was."""
    p95_s = durations.quantile_s(0.95)
    return max_s if p95_s is None else min(max_s, p95_s)


def queries_of_all(tables: Iterable[Iterable[QueryRecord]]) -> list[QueryRecord]:
    """The records of several processes as one table, those that take most of the time first."""
    merged: dict[tuple[str, str], QueryRecord] = {}
    for record in (record for table in tables for record in table):
        key = (record.database, record.id)
        known = merged.get(key)
        merged[key] = record if known is None else _record_of_both(known, record)
    total_s = sum(record.total_s for record in merged.values()) or 1.0
    return sorted(
        (replace(record, share=record.total_s / total_s) for record in merged.values()),
        key=_ORDERS["time"],
        reverse=True,
    )


def _record_of_both(one: QueryRecord, other: QueryRecord) -> QueryRecord:
    calls, total_s = one.calls + other.calls, one.total_s + other.total_s
    max_s = max(one.max_s, other.max_s)
    durations = one.durations.plus(other.durations)
    return replace(
        one,
        calls=calls,
        total_s=total_s,
        mean_s=total_s / calls,
        p95_s=_p95_s(durations, max_s),
        max_s=max_s,
        waited_s=one.waited_s + other.waited_s,
        rows=one.rows + other.rows,
        received_bytes=one.received_bytes + other.received_bytes,
        errors=one.errors + other.errors,
        targets=_added(one.targets, other.targets),
        roles=_added(one.roles, other.roles),
        durations=durations,
    )


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
