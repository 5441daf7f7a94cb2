"""What is done to the proxy's own traffic when the primary changes, and before it is changed."""

import asyncio
from typing import Any

from proxy.cluster import ClusterView, ProbeLogin
from proxy.failover import EventLog, Failover, Hands, Terms
from proxy.failover.lease import OnlyProxy
from tests.cluster.samples import Story, failed, primary, replica
from tests.failover.test_decision import DEAD, RULES, cut_off, healthy


class Traffic:
    """What a failover has done with it: pictures served, and cuts, as node and reason."""

    def __init__(self) -> None:
        self.served: list[ClusterView] = []
        self.cuts: list[tuple[str, str]] = []

    def hands(self) -> Hands:
        return Hands(self.served.append, self._cut, lambda _cluster, _node: 0)

    def _cut(self, _cluster: str, node: str, reason: str) -> None:
        self.cuts.append((node, reason))


class Watch:
    """A monitor whose nodes have something new to say when they are asked at once."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.news: dict[str, Any] = {}

    @property
    def view(self) -> ClusterView:
        return self.story.view

    def poke(self, node: str) -> None:
        if node in self.news:
            self.story.then(self.news[node].at, **{node: self.news.pop(node)})


class Shared(OnlyProxy):
    """A lease that others may have had, and what becomes of it."""

    is_shared = True
    is_inherited = False
    is_valid = True
    node = ""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock
        self.is_given_back = asyncio.Event()
        self.began: bool | None = None

    async def take(self, node: str) -> Any:
        # It has taken its time.
        self.clock[0] = 4.0
        self.node = node
        return self

    async def abandon(self, *, began: bool) -> None:
        self.began = began
        self.is_given_back.set()


def failover(traffic: Traffic, lease: OnlyProxy, clock: list[float]) -> Failover:
    return Failover(
        "main",
        Terms(promotes=True, rules=RULES),
        ProbeLogin("m"),
        traffic.hands(),
        lease=lease,
        events=EventLog(lambda: 0.0),
        clock=lambda: clock[0],
    )


async def test_whatever_still_runs_on_the_old_primary_is_cut_when_another_takes_over() -> None:
    traffic = Traffic()
    driver = failover(traffic, OnlyProxy(), [1.0])
    story = healthy("db2")
    driver.see(story.view)
    driver.see(story.then(2.6, db1=failed(2.0), db2=cut_off()))
    # By whomever: this proxy has promoted nobody.
    driver.see(story.then(3.0, db2=primary(3.0, timeline=2)))
    driver.see(story.then(4.0, db1=replica(4.0, timeline=2)))
    assert traffic.cuts == [("db1", "db2 is the primary now")]
    assert traffic.served[-1].primary == "db2"


async def test_who_gets_a_shared_lease_asks_everybody_again_before_it_promotes() -> None:
    clock = [3.5]
    traffic, lease = Traffic(), Shared(clock)
    driver = failover(traffic, lease, clock)
    story = healthy("db2", "db3")
    story.then(2.6, db1=DEAD, db2=cut_off(), db3=cut_off())
    watch: Any = Watch(story)
    # Whoever had the lease until now has promoted db3.
    watch.news = {"db2": cut_off(4.0), "db3": primary(4.0, timeline=2)}
    driver.watch(watch)
    task = asyncio.create_task(driver.run())
    async with asyncio.timeout(10):
        await lease.is_given_back.wait()
    task.cancel()
    await asyncio.wait([task])
    assert lease.node == "db2"
    assert lease.began is False
    assert traffic.cuts == []
    assert not driver.counts
