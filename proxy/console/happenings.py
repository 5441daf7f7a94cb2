"""SHOW EVENTS, QUERIES, PINS: what happened, what takes the time, who keeps a server for itself."""

from collections.abc import Iterable, Iterator, Sequence

from proxy.console.scene import Scene, written_at
from proxy.console.table import FLOAT8, INT8, Row, columns
from proxy.telemetry import Event, QueryRecord, events_of_all, queries_of_all

SHOWN_QUERIES = 50

EVENT_COLUMNS = columns(
    None, "time", "level", "event", "cluster", "node", "facts", "source", "kind"
)
QUERY_COLUMNS = columns(
    dict.fromkeys(("calls", "rows", "bytes", "errors"), INT8)
    | dict.fromkeys(("mean_ms", "p95_ms", "max_ms", "wait_ms", "share"), FLOAT8),
    "database",
    "id",
    "calls",
    "mean_ms",
    "p95_ms",
    "max_ms",
    "wait_ms",
    "rows",
    "bytes",
    "share",
    "errors",
    "target",
    "query",
)


PIN_COLUMNS = columns(None, "database", "user", "addr", "node", "reason", "since", "statement")


def show_pins(scene: Scene) -> Iterator[Row]:
    """SHOW PINS, the oldest first."""
    for pin in scene.pins():
        yield [
            pin.database,
            pin.user,
            pin.addr,
            pin.node,
            pin.reason,
            scene.at(pin.since_s),
            pin.statement,
        ]


def join_pins(tables: Sequence[Iterable[Row]]) -> Iterable[Row]:
    """The pins of all processes, the oldest first."""
    since = [column.name for column in PIN_COLUMNS].index("since")
    return sorted((row for table in tables for row in table), key=lambda row: str(row[since]))


def show_events(tables: Sequence[Iterable[Event]]) -> Iterator[Row]:
    """SHOW EVENTS, the newest first."""
    for event in events_of_all(tables):
        facts = " ".join(f"{name}={value}" for name, value in event.facts.items())
        yield [
            written_at(event.at_s),
            event.level,
            event.message,
            event.facts.get("cluster"),
            event.facts.get("node"),
            facts,
            event.logger,
            event.kind,
        ]


def show_queries(tables: Sequence[Iterable[QueryRecord]]) -> Iterator[Row]:
    """SHOW QUERIES, those that take most of the time first.

    wait_ms: of the mean, what was spent on waiting for a server connection. share: of the time of
    all statements, 0 to 1. target: nodes with the calls that went to each.
    """
    for record in queries_of_all(tables)[:SHOWN_QUERIES]:
        targets = sorted(record.targets.items(), key=lambda each: -each[1])
        yield [
            record.database,
            record.id,
            record.calls,
            _ms(record.mean_s),
            _ms(record.p95_s),
            _ms(record.max_s),
            _ms(record.waited_s / record.calls if record.calls else 0.0),
            record.rows,
            record.received_bytes,
            round(record.share, 4),
            record.errors,
            ", ".join(f"{node}={calls}" for node, calls in targets),
            record.text,
        ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
