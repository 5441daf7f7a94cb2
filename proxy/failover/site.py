"""One cluster, as those see it who act on it: its picture, the way to its nodes, and what is noted.

It decides nothing. What is at work here ends with it: `close` leaves no task behind.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from proxy.cluster import (
    DIALLING_FAILURES,
    ClusterView,
    Monitor,
    NodeView,
    ProbeLogin,
    diagnose,
    dial,
)
from proxy.failover import orders
from proxy.failover.events import EventLog, Kind
from proxy.failover.terms import Terms
from proxy.telemetry import report

_log = logging.getLogger("pgweir.failover")

_LOOK_AGAIN_S = 0.05
_DIAL_S = 5.0
_SEEN_S = 10.0
SETTLE_S = 30.0
"""So long clients wait at most for the rest of what a proxy has left half done."""

FAILURES = (*DIALLING_FAILURES, orders.OrderFailed)
"""What goes wrong with a node that is told something, besides TimeoutError."""


class Site:
    """A cluster that is acted on. clock: as the monitor's."""

    def __init__(
        self,
        cluster: str,
        terms: Terms,
        login: ProbeLogin,
        events: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self.terms = terms
        self.login = login
        self.clock = clock
        self.monitor: Monitor | None = None
        # Somebody has seen something new.
        self.news = asyncio.Event()
        self._events = events
        self._at_work: set[asyncio.Task[None]] = set()

    @property
    def view(self) -> ClusterView:
        """The newest picture."""
        assert self.monitor is not None, "no monitor"  # noqa: S101 -- wired before it runs
        return self.monitor.view

    def poke(self, node: str) -> None:
        """Have a node asked at once."""
        if self.monitor is not None:
            self.monitor.poke(node)

    async def until_news(self, limit_s: float) -> None:
        """Wait until there is something new, and not for longer than that."""
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await self.news.wait()
        except TimeoutError:
            pass

    async def until_seen(self, name: str, fact: Callable[[NodeView], bool]) -> None:
        """Wait until a fact about a node shows in the picture. Raises TimeoutError."""
        async with asyncio.timeout(_SEEN_S):
            while not fact(self.view.node(name)):
                self.news.clear()
                self.poke(name)
                await self.until_news(_LOOK_AGAIN_S)

    async def until_asked_again(self, *names: str) -> None:
        """Wait until these nodes have been asked anew. Raises TimeoutError."""
        asked_at = self.clock()
        for name in names:
            await self.until_seen(name, lambda node: (node.sampled_at or 0.0) >= asked_at)

    @property
    def is_forbidden(self) -> bool:
        """Whether the primary takes no writes, as one that has begun to hand over is told."""
        primary = self.view.primary_node
        return primary is not None and bool(primary.read_only)

    async def until_allowed(self) -> None:
        """Wait while the primary takes no writes: another proxy is about to do the rest.

        Not for ever: an operator may have said so.
        """
        until = self.clock() + SETTLE_S
        while self.is_forbidden and (left_s := until - self.clock()) > 0:
            self.news.clear()
            await self.until_news(left_s)

    @contextlib.asynccontextmanager
    async def connection(self, node: NodeView) -> AsyncIterator[Any]:
        """A connection to a node, by asyncpg. Raises what belongs to FAILURES, and TimeoutError."""
        async with asyncio.timeout(_DIAL_S):
            connection = await dial(node.address, self.login)
        try:
            yield connection
        finally:
            connection.terminate()

    def note(
        self, kind: Kind, node: str | None, sentence: str, *, level: int = logging.INFO
    ) -> None:
        """Log something and remember it."""
        facts = {"cluster": self.cluster, "kind": kind, "node": node}
        if kind == "primary":
            # Which one it is, the monitor tells.
            _log.log(level, "%s", sentence, extra={"facts": facts})
        else:
            report(_log, kind, sentence, facts, level)
        alarming = level >= logging.WARNING
        self._events.add(self.cluster, kind, node, sentence, is_alarming=alarming)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            _log.error("an order of cluster %s failed", self.cluster, exc_info=bug)

    async def close(self) -> None:
        """End what is at work."""
        left = list(self._at_work)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def told(failed: BaseException) -> str:
    """One line, without what an asyncio timeout does not say."""
    if isinstance(failed, TimeoutError):
        return "it did not answer in time"
    if isinstance(failed, Exception):
        return str(failed) if isinstance(failed, orders.OrderFailed) else diagnose(failed)[1]
    return type(failed).__name__
