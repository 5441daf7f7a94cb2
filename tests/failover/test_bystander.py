"""What a proxy does that goes along with a handover whose proxy is gone; the store is scripted."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.cluster import ClusterView, ProbeLogin
from proxy.failover import EventLog, Failover, Hands, Member, Terms
from proxy.failover.lease import Answer, CoordinatorUnavailable, Grant, Notice, Record
from tests.cluster.samples import Story, primary, replica

HANDING_OVER = Record(True, "db2", Notice("1", "db1", "db2", is_holding=True))
LEFT_BEHIND = Record(False, "db2", None)
NOBODYS_PORT = 1


@dataclass
class HeldGrant:
    """Ours until it is given back."""

    node: str
    is_inherited: bool = True
    is_valid: bool = True
    given_back: int = 0

    async def announce(self, notice: Notice) -> None:
        pass

    async def abandon(self, *, began: bool) -> None:
        assert began
        self.given_back += 1


@dataclass
class ScriptedLease:
    """Says one thing after the other, the last again and again. grant: to whoever takes it."""

    script: deque[Record | Exception]
    grant: Any = None
    answers: list[Answer] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    is_shared: bool = True
    member: Member = field(default_factory=lambda: Member("one", "one"))

    async def read(self) -> Record:
        told = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if isinstance(told, Exception):
            raise told
        return told

    async def take(self, node: str) -> Grant | None:
        self.asked_for.append(node)
        return self.grant

    async def answer(self, answer: Answer) -> None:
        self.answers.append(answer)

    async def until_told(self, _limit_s: float) -> None:
        await asyncio.sleep(0.01)

    async def close(self) -> None:
        pass


class ObligingMonitor:
    """Its nodes answer at once when they are asked."""

    def __init__(self, view: ClusterView, clock: Callable[[], float]) -> None:
        self.view = view
        self._clock = clock

    def poke(self, name: str) -> None:
        nodes = tuple(
            replace(node, sampled_at=self._clock()) if node.name == name else node
            for node in self.view.nodes
        )
        self.view = replace(self.view, nodes=nodes)


class Bystanding:
    """A proxy whose primary db1 was told to take no writes, while another hands over to db2."""

    def __init__(self, *script: Record | Exception) -> None:
        story = Story("db1", "db2")
        story.then(1.0, db1=primary(1.0, read_only=True))
        story.then(1.0, db2=replica(1.0))
        self._story = story
        nodes = tuple(
            replace(node, address=replace(node.address, port=NOBODYS_PORT))
            for node in story.view.nodes
        )
        self.served: list[ClusterView] = []
        self.lease = ScriptedLease(deque(script))
        clock = asyncio.get_running_loop().time
        self.monitor = ObligingMonitor(replace(story.view, nodes=nodes), clock)
        self.failover = Failover(
            "main",
            Terms(promotes=True, proxies=2),
            ProbeLogin("nobody"),
            Hands(self.served.append, lambda *_: None, lambda *_: 0),
            lease=self.lease,
            events=EventLog(clock),
            clock=clock,
        )
        watched: Any = self.monitor
        self.failover.watch(watched)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.failover.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def db2_is_promoted(self) -> None:
        self._story.then(2.0, db1=primary(2.0, read_only=True), db2=primary(2.0, timeline=2))
        self.monitor.view = self._story.view
        self.failover.see(self.monitor.view)

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(20.0):
            while not fact():  # noqa: ASYNC110 -- nobody announces it
                await asyncio.sleep(0.01)


async def test_nobody_is_served_by_an_old_primary_whose_handover_another_is_finishing() -> None:
    """It is told of it late: the store does not answer, and then the lease is another's."""
    silence = CoordinatorUnavailable("it does not answer")
    proxy = Bystanding(HANDING_OVER, HANDING_OVER, Record(), silence, silence, LEFT_BEHIND)
    async with proxy.running():
        await proxy.until(lambda: len(proxy.lease.asked_for) > 1)
        assert {view.primary for view in proxy.served} == {None}
        proxy.db2_is_promoted()
        await proxy.until(lambda: proxy.served[-1].primary is not None)
    assert {view.primary for view in proxy.served} == {None, "db2"}
    assert proxy.lease.answers[0] == Answer("1", proxy.lease.member)


async def test_nobody_is_served_by_an_old_primary_whose_handover_could_not_be_finished() -> None:
    """Its own hold for the rest ends; that of who goes along does not."""
    proxy = Bystanding(HANDING_OVER, HANDING_OVER, Record(), LEFT_BEHIND)
    grant = proxy.lease.grant = HeldGrant("db2")
    async with proxy.running():
        await proxy.until(lambda: grant.given_back > 0)
        await asyncio.sleep(0.2)
        assert {view.primary for view in proxy.served} == {None}
        assert proxy.failover.counts["failed"] == 1
        proxy.db2_is_promoted()
        await proxy.until(lambda: proxy.served[-1].primary is not None)
    assert {view.primary for view in proxy.served} == {None, "db2"}


async def test_an_old_primary_that_takes_writes_again_serves_at_once() -> None:
    proxy = Bystanding(HANDING_OVER, HANDING_OVER, Record())
    nodes = tuple(replace(node, read_only=False) for node in proxy.monitor.view.nodes)
    proxy.monitor.view = replace(proxy.monitor.view, nodes=nodes)
    async with proxy.running():
        await proxy.until(lambda: bool(proxy.served) and proxy.served[-1].primary == "db1")
    assert [view.primary for view in proxy.served] == [None, "db1"]
