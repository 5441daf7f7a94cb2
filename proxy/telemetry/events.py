"""The last events of the proxy, kept for whoever looks: they are lines of its log.

Nobody has to report an event twice, and what is no secret in the log is none on a page. What comes
and goes by the thousand (clients, single server connections, statements) is left to the log.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

KEPT_EVENTS = 200
MAX_CHARS = 512

_TOO_MANY = ("pgweir.client", "pgweir.server", "pgweir.slow", "pgweir.http")
"""Loggers whose lines below WARNING are no events."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log. at_s: seconds since the Unix epoch."""

    at_s: float
    level: str
    logger: str
    message: str
    facts: Mapping[str, str]


class RecentEvents(logging.Handler):
    """Keeps the newest lines from INFO on; `attach` it to the loggers below "pgweir"."""

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        super().__init__(logging.INFO)
        self._events: deque[Event] = deque(maxlen=kept)

    def attach(self) -> None:
        """Begin to listen."""
        logging.getLogger("pgweir").addHandler(self)

    def detach(self) -> None:
        """Listen no more."""
        logging.getLogger("pgweir").removeHandler(self)

    def newest(self, most: int = KEPT_EVENTS) -> list[Event]:
        """The newest events, newest first."""
        return list(self._events)[: -most - 1 : -1]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record, if it is an event. Never raises: it stands in everybody's way."""
        if record.name.startswith(_TOO_MANY) and record.levelno < logging.WARNING:
            return
        if record.name.startswith("pgweir.slow"):
            return
        facts = getattr(record, "facts", None)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit; say what there is
            message = str(record.msg)
        self._events.append(
            Event(
                record.created,
                record.levelname.lower(),
                record.name,
                message[:MAX_CHARS],
                {str(key): str(value)[:MAX_CHARS] for key, value in facts.items()}
                if isinstance(facts, Mapping)
                else {},
            )
        )


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
        says = (event.message, tuple(sorted(event.facts.items())))
        known = kept.get(says)
        if known is not None and known[0].at_s - event.at_s < _SAME_S and process not in known[1]:
            known[1].add(process)
            continue
        kept[says] = (event, {process})
        events.append(event)
    return events
