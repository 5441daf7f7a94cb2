"""Which of several proxies may change roles, and what do they tell each other meanwhile?

A small interface, and what stands for it with one proxy.

A lease is for the length of one promotion, not for life: all proxies watch, whoever decides first
takes it, and the others see the new primary as they would see anybody's. It says how long it is
valid by our own clock, so that a proxy that was stopped in the middle knows that it has lost it.

Whoever takes it writes down which node it means to promote. That word outlives a holder that is
stopped in the middle: the next one finishes with the same node, whatever its own choice would be,
so that there are never two.

Beside the lease stands a notice while its holder hands over as planned, and the others answer it:
first that they are there, then that none of their clients uses the old primary any more. It goes
with the lease.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class CoordinatorUnavailable(Exception):  # noqa: N818 -- a fact about them, not an error of ours
    """Nobody could be asked who may promote. Says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of those that agree. proxy: whose it is, of `processes` that serve as one."""

    name: str
    proxy: str
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Notice:
    """What the holder of the lease tells the others.

    number: of this handover, unlike that of any other. is_holding: whether they are to hold their
    clients now, or only to say that they are there.
    """

    number: str
    old: str
    successor: str
    is_holding: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What another process says to a notice. is_holding: that it holds its clients."""

    number: str
    member: Member
    is_holding: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What stands where proxies agree.

    is_held: whether somebody has the lease. node: the word that stays. notice: of the holder.
    """

    is_held: bool = False
    node: str | None = None
    notice: Notice | None = None


class Grant(Protocol):
    """A lease that is ours for the moment.

    node: whom to promote; another than was wanted where somebody before had begun with it.
    is_inherited: that somebody before had begun, with this node or another.
    """

    node: str
    is_inherited: bool

    @property
    def is_valid(self) -> bool:
        """Whether it is certainly still ours. Costs nothing: asked before each step."""

    async def aim_at(self, node: str) -> None:
        """Promote another node than whoever began. Raises CoordinatorUnavailable."""

    async def announce(self, notice: Notice) -> None:
        """Tell the others. Raises CoordinatorUnavailable."""

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say. Raises CoordinatorUnavailable."""

    async def finish(self, rest_s: float) -> None:
        """It is done: give the lease back, and let nobody take it for so long."""

    async def abandon(self, *, began: bool) -> None:
        """It is not done: give the lease back. began: the node may have been told to promote."""

    def drop(self) -> None:
        """Extend it no more and ask nobody: it ends by itself."""


class Lease(Protocol):
    """Where leases come from, for one cluster.

    is_shared: there are others, who may have had it until now, and changed what we know.
    member: this process, as the others know it.
    """

    is_shared: bool
    member: Member

    async def take(self, node: str) -> Grant | None:
        """Take it in order to promote a node; None when somebody else has it, or had it lately.

        Raises CoordinatorUnavailable.
        """

    async def read(self) -> Record:
        """What stands there. Raises CoordinatorUnavailable."""

    async def answer(self, answer: Answer) -> None:
        """Answer a notice of somebody else's, if it still stands. Raises CoordinatorUnavailable."""

    async def until_told(self, limit_s: float) -> None:
        """Wait until there is something to read, where that is known, and for at most so long."""

    async def close(self) -> None:
        """Hang up. Raises nothing."""


class OnlyProxy:
    """The lease of a proxy that is alone."""

    is_shared = False

    def __init__(self) -> None:
        self.member = Member("alone", "alone")

    async def take(self, node: str) -> Grant | None:
        """It is always free."""
        return _AlwaysOurs(node)

    async def read(self) -> Record:
        """Nobody writes anything down."""
        return Record()

    async def answer(self, answer: Answer) -> None:
        """Nobody asks."""

    async def until_told(self, limit_s: float) -> None:
        """Nobody tells anything."""
        await asyncio.sleep(limit_s)

    async def close(self) -> None:
        """Nothing was opened."""


class _AlwaysOurs:
    is_inherited = False

    def __init__(self, node: str) -> None:
        self.node = node

    @property
    def is_valid(self) -> bool:
        return True

    async def aim_at(self, node: str) -> None:
        """Nobody else is to know."""
        self.node = node

    async def announce(self, notice: Notice) -> None:
        """Nobody else is to know."""

    async def read_answers(self) -> Sequence[Answer]:
        """Nobody else answers."""
        return ()

    async def finish(self, rest_s: float) -> None:
        """Nobody else is to know."""

    async def abandon(self, *, began: bool) -> None:
        """Nobody else is to know."""

    def drop(self) -> None:
        """Nobody else is to know."""
