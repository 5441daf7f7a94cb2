"""The other processes of one proxy, as the console sees them; alone, there are none.

Each process has a console of its own. What is shown is put together from the tables of all, and a
command that changes something is done by all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Told:
    """One table as the others have it.

    tables: the rows of each that has answered, to be read once. silent: how many have not.
    """

    tables: Sequence[Iterable[Any]] = ()
    silent: int = 0


class Others(Protocol):
    """The other processes. index, count: which of how many this one is."""

    @property
    def index(self) -> int: ...  # noqa: D102

    @property
    def count(self) -> int: ...  # noqa: D102

    async def read(self, table: str) -> Told:
        """Ask all others for a table, by the name of its command."""

    async def obey(self, command: str, argument: str | None) -> None:
        """Have all others do a command, and wait until they have."""

    async def obey_at(self, index: int, command: str, argument: str | None) -> None:
        """Have one of them do a command. Raises ClientError, as it would there."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Nobody else."""

    index: int = 0
    count: int = 1

    async def read(self, _table: str) -> Told:
        """Nothing."""
        return Told()

    async def obey(self, _command: str, _argument: str | None) -> None:
        """Nobody has to."""

    async def obey_at(self, _index: int, _command: str, _argument: str | None) -> None:
        """Nobody has to."""
