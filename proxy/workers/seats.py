"""How many clients does each process have, of which there may be so many in all?

A table in memory that all processes of one proxy share. Each process counts in a column of its own;
a seat is taken under a lock, so that a limit holds to the last one however many come at once.
"""

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

# So many names at a time have their numbers: of databases and users that have clients.
_ROWS = 1 << 16
# A name is looked for in so many rows, from the one that it falls on.
_WINDOW = 64


class Seats:
    """Made before the processes are. count: how many of them there are.

    A row has the digest of a name, and a number for each process. One in which all numbers are 0 is
    free for another name.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._width = 1 + count
        # It has no name, and goes with the last process. It is what is locked as well: the kernel
        # takes a lock from who dies.
        self._file = os.memfd_create("pgweir-seats")
        size = 8 * self._width * _ROWS
        os.ftruncate(self._file, size)
        # What nobody has written to takes no memory.
        self._cells = memoryview(mmap.mmap(self._file, size)).cast("Q")

    def take(self, process: int, wanted: Mapping[str, int]) -> str | None:
        """Take one seat of each name, or none of any. wanted: how many there are; 0 is no limit.

        Result: the first name that has none left, else None.
        """
        with self._locked():
            taken: list[int] = []
            for name, limit in wanted.items():
                row = self._row(_digest(name))
                if row is None or 0 < limit <= self._sum(row):
                    for each in taken:
                        self._cells[each + 1 + process] -= 1
                    return name
                # At once: a row without a number is free for the next name.
                self._cells[row + 1 + process] += 1
                taken.append(row)
        return None

    def give_back(self, process: int, names: Iterable[str]) -> None:
        """Give back one seat of each."""
        with self._locked():
            for name in names:
                row = self._row(_digest(name))
                if row is not None:
                    self._cells[row + 1 + process] -= 1

    def taken(self, name: str) -> int:
        """How many are taken, by all."""
        row = self._find(_digest(name))
        return 0 if row is None else self._sum(row)

    def forget(self, process: int) -> None:
        """A process has died, and its clients with it."""
        with self._locked():
            for row in range(0, len(self._cells), self._width):
                if self._cells[row]:
                    self._cells[row + 1 + process] = 0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _row(self, digest: int) -> int | None:
        """Where a name has its numbers; a free row is made its own. None: there is none free."""
        found = self._find(digest)
        if found is None:
            found = next((row for row in self._window(digest) if not self._sum(row)), None)
            if found is not None:
                self._cells[found] = digest
        return found

    def _find(self, digest: int) -> int | None:
        return next((row for row in self._window(digest) if self._cells[row] == digest), None)

    def _window(self, digest: int) -> Iterator[int]:
        for step in range(_WINDOW):
            yield (digest + step) % _ROWS * self._width

    def _sum(self, row: int) -> int:
        return sum(self._cells[row + 1 : row + self._width])


def _digest(name: str) -> int:
    """A number that stands for a name; never 0, which stands for none."""
    octets = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(octets, "little") | 1 << 63
