"""What was decided, and what changed its state: kept apart from the log, for whoever looks.

Each has a kind, and is told once, where it is decided; it is a line of the log as well, unless the
log is set to say less. Clients that come and go, statements, refusals and commands that were typed
are the log's alone.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

EventKind = Literal[
    "process",  # started, is to end, is drained; one of several had ended
    "reload",
    "setting",  # changed at the console
    "pause",  # and all else that an administrator holds back, ends or lets go on
    "node",
    "primary",
    "decision",  # of a failover, and what came of it
    "promotion",
    "switchover",
    "replica",
    "fencing",
    "hook",
    "coordinator",
    "redis",  # which holds the marks of keys: answers, or does not
    "rotation",  # which replicas answer
    "limit",  # reached
    "pins",  # ended because of a limit
    "files",  # read again: certificates, passwords
    "listen",  # the connection that listens for clients
    "audit",
]

KEPT_EVENTS = 200
MAX_CHARS = 512

_REPEATS_S = 10.0
"""What is told again so soon, in the same words, is the same event."""

# In no tree of loggers: the log's level and its files are not for it.
_journal = logging.Logger("pgweir-events", logging.INFO)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry. at_s: seconds since the Unix epoch. logger: of the room that has told it."""

    at_s: float
    level: str
    kind: str
    logger: str
    message: str
    facts: Mapping[str, str]


def report(
    logger: logging.Logger,
    kind: EventKind,
    message: str,
    facts: Mapping[str, object] | None = None,
    level: int = logging.INFO,
) -> None:
    """Tell of an event, and log it."""
    logger.log(level, "%s", message, extra={"facts": facts or {}})
    keep_event(kind, message, facts, level, logger=logger.name)


def keep_event(
    kind: EventKind,
    message: str,
    facts: Mapping[str, object] | None = None,
    level: int = logging.INFO,
    *,
    logger: str = "pgweir",
) -> None:
    """Tell of an event that is not to be a line of the log, or is one already."""
    _journal.log(level, "%s", message, extra={"facts": facts or {}, "kind": kind, "room": logger})


class RecentEvents(logging.Handler):
    """Keeps the newest events; `attach` it."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        super().__init__(logging.INFO)
        self._events: deque[Event] = deque(maxlen=kept)

    def attach(self) -> None:
        """Begin to listen."""
        _journal.addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        _journal.removeHandler(self)

    def newest(self, most: int = KEPT_EVENTS) -> list[Event]:
        """The newest events, newest first."""
        return list(self._events)[: -most - 1 : -1]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the event, unless it was told just now."""
        facts = getattr(record, "facts", {})
        event = Event(
            record.created,
            record.levelname.lower(),
            getattr(record, "kind", ""),
            getattr(record, "room", ""),
            record.getMessage()[:MAX_CHARS],
            {str(key): str(value)[:MAX_CHARS] for key, value in facts.items() if value is not None},
        )
        for known in reversed(self._events):
            if event.at_s - known.at_s > _REPEATS_S or _is_about(known) != _is_about(event):
                continue
            if (known.message, known.facts) == (event.message, event.facts):
                return
            break
        self._events.append(event)


def _is_about(event: Event) -> tuple[str | None, ...]:
    """The kind, and what else tells events apart that are told at the same time."""
    facts = event.facts
    return (event.kind, facts.get("cluster"), facts.get("node"), facts.get("database"))


_SAME_S = 5.0
"""What several processes tell within so long of each other is one event, which all have seen."""


def events_of_all(tables: Sequence[Iterable[Event]]) -> list[Event]:
    """The events of several processes, newest first; what all of them tell is there once."""
    told = [(event, at) for at, table in enumerate(tables) for event in table]
    told.sort(key=lambda each: each[0].at_s, reverse=True)
    # By what an event says: the newest that is kept of those, and which processes have told it.
    kept: dict[object, tuple[Event, set[int]]] = {}
    events = []
    for event, process in told:
        # Behind a colon are reasons, which processes may see differently.
        says = (*_is_about(event), event.message.partition(":")[0])
        known = kept.get(says)
        if known is not None and known[0].at_s - event.at_s < _SAME_S and process not in known[1]:
            known[1].add(process)
            continue
        kept[says] = (event, {process})
        events.append(event)
    return events
