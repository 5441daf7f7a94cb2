"""Who is to hear what, in one database. Pure.

A LISTEN or UNLISTEN counts from the commit of its transaction on. We listen before it is sent, note
the moment in which its client is told of the commit, and learn a little later, from the server
itself, whether there was one: what is heard in between is kept until then.

What a client notifies itself is in its own server's answer, in front of the ReadyForQuery, as on a
direct connection; and then we hear it once more. `echoes` counts these, so that each comes once.
(When we hear it first, the `Hub` waits for that answer.)
"""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Who = TypeVar("Who")

# Beyond that, a client that has just begun to listen will not be told all.
_MOST_KEPT = 1000


class Notification(NamedTuple):
    """One notification, as PostgreSQL sends it. pid: of the session that sent it."""

    pid: int
    channel: str
    payload: str


@dataclass(slots=True)
class _Listener:
    channels: frozenset[str] = frozenset()
    expected: set[str] = field(default_factory=set)
    has_committed: bool = False
    kept: list[Notification] = field(default_factory=list)
    # Passed on by its server, not yet heard by us.
    echoes: dict[Notification, int] = field(default_factory=dict)


class Subscriptions(Generic[Who]):
    """Listeners of one database. `Who`: anything that can be a key."""

    def __init__(self) -> None:
        self._listeners: dict[Who, _Listener] = {}

    @property
    def wanted(self) -> frozenset[str]:
        """All channels that somebody listens to, or is about to."""
        return frozenset().union(
            *(each.channels | each.expected for each in self._listeners.values())
        )

    def listeners(self) -> list[Who]:
        """Those who listen to anything."""
        return [who for who, each in self._listeners.items() if each.channels]

    def expect(self, who: Who, channels: frozenset[str]) -> None:
        """Note that this client is about to listen to these."""
        self._listeners.setdefault(who, _Listener()).expected |= channels

    def commits(self, who: Who) -> None:
        """Note that its transaction is over: what is heard from now on is for it."""
        if (listener := self._listeners.get(who)) is not None:
            listener.has_committed = True

    def settle(
        self, who: Who, channels: frozenset[str], still: frozenset[str] = frozenset()
    ) -> list[Notification]:
        """Note what it listens to now. Result: what it has not been told meanwhile.

        still: what it is about to listen to by what it has said since.
        """
        listener = self._listeners.setdefault(who, _Listener())
        late = [each for each in listener.kept if each.channel in channels]
        listener.channels = channels
        listener.expected = set(still)
        listener.has_committed = False
        listener.kept = []
        if not channels and not still:
            del self._listeners[who]
        return late

    def give_up(self, who: Who) -> None:
        """It was about to listen, and nothing came of that."""
        if (listener := self._listeners.get(who)) is not None and not listener.has_committed:
            self.settle(who, listener.channels)

    def expecting(self) -> list[Who]:
        """Those who were about to listen, and have not said anything since."""
        return [
            who for who, each in self._listeners.items() if each.expected and not each.has_committed
        ]

    def forget(self, who: Who) -> None:
        """It has left."""
        self._listeners.pop(who, None)

    def missed(self) -> None:
        """There is a gap in what was heard: echoes will not come any more."""
        for listener in self._listeners.values():
            listener.echoes.clear()

    def heard(self, what: Notification) -> list[Who]:
        """Say who is to be told now."""
        told = []
        for who, listener in self._listeners.items():
            count = listener.echoes.get(what, 0)
            if count > 0:
                _count(listener, what, count - 1)
            elif listener.has_committed:
                if len(listener.kept) < _MOST_KEPT:
                    listener.kept.append(what)
            elif what.channel in listener.channels:
                told.append(who)
        return told

    def passes_own(self, who: Who, what: Notification) -> None:
        """Note that a client is told by its own server of what it notified itself."""
        if (listener := self._listeners.get(who)) is not None:
            _count(listener, what, listener.echoes.get(what, 0) + 1)


def _count(listener: _Listener, what: Notification, count: int) -> None:
    if count:
        listener.echoes[what] = count
    else:
        listener.echoes.pop(what, None)
