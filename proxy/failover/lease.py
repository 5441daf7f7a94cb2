"""Which of several proxies may promote? A small interface, and what stands for it with one proxy.

A lease is for the length of one promotion, not for life: all proxies watch, whoever decides first
takes it, and the others see the new primary as they would see anybody's. It says how long it is
valid by our own clock, so that a proxy that was stopped in the middle knows that it has lost it.

Whoever takes it writes down which node it means to promote. That word outlives a holder that is
stopped in the middle: the next one finishes with the same node, whatever its own choice would be,
so that there are never two.
"""

from typing import Protocol


class CoordinatorUnavailable(Exception):  # noqa: N818 -- a fact about them, not an error of ours
    """Nobody could be asked who may promote. Says why."""


class Grant(Protocol):
    """A lease that is ours for the moment.

    node: whom to promote; another than was wanted where somebody before had begun with it.
    """

    node: str

    @property
    def is_valid(self) -> bool:
        """Whether it is certainly still ours. Costs nothing: asked before each step."""

    async def aim_at(self, node: str) -> None:
        """Promote another node than whoever began. Raises CoordinatorUnavailable."""

    async def finish(self, rest_s: float) -> None:
        """It is done: give the lease back, and let nobody take it for so long."""

    async def abandon(self, *, began: bool) -> None:
        """It is not done: give the lease back. began: the node may have been told to promote."""

    def drop(self) -> None:
        """Extend it no more and ask nobody: it ends by itself."""


class Lease(Protocol):
    """Where leases come from, for one cluster.

    is_shared: others may have had it until now, and changed what we know.
    """

    is_shared: bool

    async def take(self, node: str) -> Grant | None:
        """Take it in order to promote a node; None when somebody else has it, or had it lately.

        Raises CoordinatorUnavailable.
        """


class OnlyProxy:
    """The lease of a proxy that is alone."""

    is_shared = False

    async def take(self, node: str) -> Grant | None:
        """It is always free."""
        return _AlwaysOurs(node)


class _AlwaysOurs:
    def __init__(self, node: str) -> None:
        self.node = node

    @property
    def is_valid(self) -> bool:
        return True

    async def aim_at(self, node: str) -> None:
        """Nobody else is to know."""
        self.node = node

    async def finish(self, rest_s: float) -> None:
        """Nobody else is to know."""

    async def abandon(self, *, began: bool) -> None:
        """Nobody else is to know."""

    def drop(self) -> None:
        """Nobody else is to know."""
