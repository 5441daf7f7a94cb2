"""What one of several processes is given by the one that starts them."""

import signal
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.auth import Verifiers
from proxy.relay import WriteTimes
from proxy.workers.addresses import Addresses
from proxy.workers.seats import Seats

CLOSE = signal.SIGRTMIN
"""Tells the one in charge that nobody is to come in any more: a signal that nobody else sends."""

RELOADED = signal.SIGRTMIN + 1
"""Tells it that all processes have read the configuration again, so that it does as well."""


@dataclass(frozen=True, slots=True)
class OwnSeats:
    """Seats as one process takes them."""

    seats: Seats
    index: int

    def take(self, wanted: Mapping[str, int]) -> str | None:
        """As `Seats.take`."""
        return self.seats.take(self.index, wanted)

    def give_back(self, names: Iterable[str]) -> None:
        """As `Seats.give_back`."""
        self.seats.give_back(self.index, names)

    def taken(self, name: str) -> int:
        """As `Seats.taken`."""
        return self.seats.taken(name)


@dataclass(frozen=True, slots=True)
class Share:
    """One process among several.

    index: from 0; count: how many there are. addresses: where they talk to each other.
    verifiers: made before any of them, so that a name is asked for with the same salt by all.
    seats: where they count their clients. times: where they tell each other what was written.
    sockets: it accepts clients on. http: all of them answer there, None where there is none.
    supervisor: the process that looks after them. is_anew: one before it has ended.
    """

    index: int
    count: int
    addresses: Addresses
    verifiers: Verifiers
    seats: Seats
    times: WriteTimes
    sockets: tuple[socket.socket, ...] = field(repr=False)
    http: socket.socket | None = None
    supervisor: int = 0
    is_anew: bool = False

    @property
    def own_seats(self) -> OwnSeats:
        """Where this process counts its clients."""
        return OwnSeats(self.seats, self.index)
