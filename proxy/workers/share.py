"""What one of several processes is given by the one that starts them."""

import mmap
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

from proxy.auth import Verifiers
from proxy.relay import WriteTimes

CLOSE = signal.SIGRTMIN
"""Tells the one in charge that nobody is to come in any more: a signal that nobody else sends."""

RELOADED = signal.SIGRTMIN + 1
"""Tells it that all processes have read the configuration again, so that it does as well."""


class Counts:
    """How many clients each process has inside, for all to see.

    Each writes its own place alone, so that nobody waits for anybody; who reads the others' sees
    what was true a moment ago.
    """

    def __init__(self, places: int) -> None:
        # Shared with every process that is forked from this one.
        self._numbers = memoryview(mmap.mmap(-1, 8 * places)).cast("q")

    def set(self, place: int, number: int) -> None:
        """Say how many there are at a place."""
        self._numbers[place] = number

    def beside(self, place: int) -> int:
        """How many there are at all other places."""
        return sum(self._numbers) - self._numbers[place]


@dataclass(frozen=True, slots=True)
class Share:
    """One process among several.

    index: from 0; count: how many there are. folder: where they talk to each other.
    verifiers: made before any of them, so that a name is asked for with the same salt by all.
    times: where they tell each other what was written.
    sockets: it accepts clients on. http: all of them answer there, None where there is none.
    supervisor: the process that looks after them. is_anew: one before it has ended.
    """

    index: int
    count: int
    folder: Path
    verifiers: Verifiers
    counts: Counts
    times: WriteTimes
    sockets: tuple[socket.socket, ...] = field(repr=False)
    http: socket.socket | None = None
    supervisor: int = 0
    is_anew: bool = False

    def address_of(self, index: int) -> Path:
        """Where a process is talked to."""
        return self.folder / f"{index}"
