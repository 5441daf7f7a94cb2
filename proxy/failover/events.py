"""What was decided, when and why: a bounded list, newest last.

Filled where things are decided; shown by the console and the status page.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["primary", "decision", "promotion", "switchover", "replica", "fencing", "hook"]

_MOST_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One entry.

    at: seconds since 1970. kind: what it is about. node: whom it concerns, None for the cluster.
    reason: the sentence. is_alarming: somebody should look.
    """

    at: float
    cluster: str
    kind: Kind
    node: str | None
    reason: str
    is_alarming: bool = False


class EventLog:
    """The newest events. clock: seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)

    def add(
        self, cluster: str, kind: Kind, node: str | None, reason: str, *, is_alarming: bool = False
    ) -> None:
        """Note something."""
        self._events.append(Event(self._clock(), cluster, kind, node, reason, is_alarming))

    def read(self) -> list[Event]:
        """All that is remembered, oldest first."""
        return list(self._events)
