"""A lease while it is ours: extended again and again, and lost by our own clock at the latest.

What a store of leases knows of it is behind a `Seat`: etcd has one, Kubernetes another. Here is
what is the same for all of them.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from proxy.failover.lease import Answer, CoordinatorUnavailable, Notice
from proxy.telemetry import report

_log = logging.getLogger("pgweir.failover")


class LeaseLost(CoordinatorUnavailable):
    """The store says that it is ours no more."""

    def __init__(self) -> None:
        super().__init__("the lease to promote was lost")


class Seat(Protocol):
    """What a store keeps of a lease that is ours.

    Everything raises LeaseLost when it is not, and CoordinatorUnavailable when nobody answers.
    """

    async def extend(self) -> float:
        """Keep it from now on. Result: for how many seconds."""

    async def write(self, node: str) -> None:
        """Put down which node is being promoted."""

    async def announce(self, notice: Notice) -> None:
        """Put down what the others are to know."""

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say."""

    async def leave(self, node: str | None, rest_s: float) -> None:
        """Give it back, and take the notice down.

        node: the word that stays, or None. rest_s: nobody takes it for so long.
        """

    async def close(self) -> None:
        """Talk to the store no more. Raises nothing."""


def boot_clock() -> float:
    """Seconds that go on while the machine sleeps, which the monotonic clock's do not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KeptGrant:
    """The lease while it is ours.

    ttl_s: it was given for so long when it was asked for at `asked_at`, on `clock`. It counts from
    there, not from the answer, and as lost a little before its end, since a command takes a moment
    to arrive. is_inherited: somebody before had begun with this node.
    """

    def __init__(
        self,
        seat: Seat,
        node: str,
        *,
        is_inherited: bool,
        clock: Callable[[], float],
        asked_at: float,
        ttl_s: float,
    ) -> None:
        self.node = node
        self.is_inherited = is_inherited
        self._seat = seat
        self._clock = clock
        self._spare_s = min(1.0, ttl_s / 5)
        self._until = asked_at + ttl_s
        self._keeping = asyncio.get_running_loop().create_task(self._keep(ttl_s / 3))
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it is certainly still ours."""
        return self._clock() < self._until - self._spare_s

    async def _keep(self, every_s: float) -> None:
        """Task: extend the lease; what fails is tried again, as long as it is worth it."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.extend()
            except CoordinatorUnavailable as failed:
                report(
                    _log,
                    "coordinator",
                    f"the lease could not be extended: {failed}",
                    level=logging.WARNING,
                )
                if not self.is_valid:
                    report(
                        _log, "coordinator", "the lease to promote was lost", level=logging.ERROR
                    )
                    return

    async def extend(self) -> None:
        """Keep it for as long as at first, from now on. Raises CoordinatorUnavailable."""
        asked_at = self._clock()
        with self._noticing_loss():
            self._until = asked_at + await self._seat.extend()

    async def aim_at(self, node: str) -> None:
        """Promote another node than whoever began. Raises CoordinatorUnavailable."""
        with self._noticing_loss():
            await self._seat.write(node)
        self.node = node

    async def announce(self, notice: Notice) -> None:
        """Tell the others. Raises CoordinatorUnavailable."""
        with self._noticing_loss():
            await self._seat.announce(notice)

    async def read_answers(self) -> Sequence[Answer]:
        """What the others say. Raises CoordinatorUnavailable."""
        with self._noticing_loss():
            return await self._seat.read_answers()

    async def finish(self, rest_s: float) -> None:
        """Give the lease back, and let nobody take it for so long."""
        await self._leave(None, rest_s)

    async def abandon(self, *, began: bool) -> None:
        """Give the lease back; the word stays where the node may have been told."""
        await self._leave(self.node if began else None, 0.0)

    def drop(self) -> None:
        """Extend it no more; it ends by itself."""
        self._until = 0.0
        self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _leave(self, node: str | None, rest_s: float) -> None:
        self._until = 0.0
        await self._stop_keeping()
        with contextlib.suppress(CoordinatorUnavailable):
            await self._seat.leave(node, rest_s)
        await self._seat.close()

    async def _close(self) -> None:
        await self._stop_keeping()
        await self._seat.close()

    async def _stop_keeping(self) -> None:
        self._keeping.cancel()
        await asyncio.wait({self._keeping})

    @contextlib.contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except LeaseLost:
            self._until = 0.0
            raise
