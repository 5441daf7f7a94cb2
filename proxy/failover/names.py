"""Names that one process of a machine has at a time, as long as it is seen to be at work.

A name in Linux's abstract namespace of Unix sockets is bound by one process, and is free again when
that is gone, however it ends. No file is left, and nobody has to be asked. But who is stopped keeps
its name. So the others knock (they connect), and who has the name answers now and then: it takes
every knock and hangs up. One whose knock has been standing for `ttl_s` may pass the holder over.
The holder knows, by its own clock: whoever knocked before it last answered has been answered, so
nobody passes it over until `ttl_s` after that.

Its name cannot be taken from it. Who passes it over binds another of a row of names instead, and
looks once more: whom it passes over must still be there, and nobody else. Of two that do so at once
the later one sees the other, so that at most one goes on; perhaps none, and they try again.

Source: unix(7), "Abstract sockets".
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass

from proxy.unix import peer_of

# So many may be passed over at the same time.
_NAMES = 16
# Knocks that wait to be taken; each process has one or two.
_BACKLOG = 1024


class NameRow:
    """A row of names. stem: what all begin with. clock: one that all processes share."""

    def __init__(self, stem: str, ttl_s: float, clock: Callable[[], float]) -> None:
        self._stem = stem
        self._ttl_s = ttl_s
        self._clock = clock
        self._knocks: dict[int, _Knock] = {}

    def holders(self) -> list[int]:
        """Process ids of those that have a name and are not to be passed over: one, or none."""
        self._knock_at_all()
        return [knock.pid for knock in self._knocks.values() if not self._may_pass(knock)]

    def bind(self) -> "BoundName | None":
        """Take a name; None while somebody has one. Raises OSError."""
        if self.holders():
            return None
        if (taken := self._take()) is None:
            return None
        number, bound = taken
        passed_over = {each: knock.pid for each, knock in self._knocks.items()}
        found = {each: self._find(each) for each in range(_NAMES) if each != number}
        is_alone = passed_over == {each: pid for each, pid in found.items() if pid is not None}
        if is_alone and not any(knock.is_answered for knock in self._knocks.values()):
            return bound
        bound.close()
        return None

    def _take(self) -> "tuple[int, BoundName] | None":
        """Bind the first name that is free. Raises OSError."""
        for number in range(_NAMES):
            if number in self._knocks:
                continue
            try:
                return number, BoundName(self._name(number))
            except OSError as failed:
                if failed.errno != errno.EADDRINUSE:
                    raise
            if self._find(number) is not None:
                return None
            # Its holder was stopped before anybody could knock, and will see who came after it.
        raise OSError(errno.EADDRINUSE, "too many processes have been stopped in the middle of it")

    def close(self) -> None:
        """Knock no more."""
        for knock in self._knocks.values():
            knock.socket.close()
        self._knocks.clear()

    def _knock_at_all(self) -> None:
        """Have a knock standing at every name that is bound."""
        for number in range(_NAMES):
            knock = self._knocks.get(number)
            if knock is not None and not knock.is_answered:
                continue
            if knock is not None:
                self._knocks.pop(number).socket.close()
            if (knocking := self._connect(number)) is not None:
                self._knocks[number] = _Knock(knocking, peer_of(knocking)[0], self._clock())

    def _may_pass(self, knock: "_Knock") -> bool:
        return self._clock() - knock.at >= self._ttl_s

    def _find(self, number: int) -> int | None:
        """Who has a name now, if anybody."""
        if (knocking := self._connect(number)) is None:
            return None
        with knocking:
            return peer_of(knocking)[0]

    def _connect(self, number: int) -> socket.socket | None:
        """Knock. Result: None where nobody has the name. Raises OSError."""
        knocking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            knocking.connect(self._name(number))
        except ConnectionRefusedError:
            knocking.close()
            return None
        except BaseException:
            knocking.close()
            raise
        return knocking

    def _name(self, number: int) -> str:
        return f"{self._stem}/{number}"


class BoundName:
    """A name that is ours. Raises OSError where it is another's."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(name)
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise

    def answer(self) -> None:
        """Take every knock and hang up."""
        while True:
            try:
                knocking, _ = self._socket.accept()
            except BlockingIOError:
                return
            knocking.close()

    def close(self) -> None:
        """Let somebody else have it. Does nothing the second time."""
        if self._socket.fileno() >= 0:
            # First, so that nobody takes a knock for standing when the name is free.
            self.answer()
            self._socket.close()


@dataclass(frozen=True, slots=True)
class _Knock:
    """One that stands, at a process, since then."""

    socket: socket.socket
    pid: int
    at: float

    @property
    def is_answered(self) -> bool:
        """Whether it was taken, or who was to take it is gone."""
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            pass
        return True
