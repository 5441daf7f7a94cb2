"""Watches the nodes of one cluster and publishes what it sees.

One task per node asks, waits, asks again; a node that hangs delays nobody. Each sample is judged
at once together with the latest of the others. The monitor acts on nothing: who wants to know
gets the new picture through `publish`, and anybody may read `view` at any time.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from proxy.cluster.changes import changes_between
from proxy.cluster.judge import Rules, judge
from proxy.cluster.probe import Probe, ProbeLogin
from proxy.cluster.view import ClusterView, NodeAddress, NodeView, Sample, first_view
from proxy.telemetry import EventKind, report

_log = logging.getLogger("pgweir.cluster")

# A node in doubt is asked this much more often, so that doubt does not last.
_DOUBT_SPEEDUP = 4
# A burst of pokes is one probe; a flood of them is at most this many seconds apart.
_POKES_APART_S = 0.05
# Event loops count time in milliseconds and may wake a little early.
_CLOCK_GRAIN_S = 0.01


@dataclass(slots=True)
class _Watch:
    """One node being watched: what it said lately, its alarm clock, and the task that asks."""

    address: NodeAddress
    samples: deque[Sample]
    wake: asyncio.Event
    task: asyncio.Task[None] | None = None


class Monitor:
    """Keeps the picture of one cluster up to date.

    interval_s: time between two probes of a node. timeout_s: when a probe has failed.
    publish: called with the new view, inside the event loop, at every change of a node's state,
        role or fitness or of the primary; the first primary found is published before slower
        nodes have answered. Lag moves without being published: read `view`.
    observe: called with the new view after every answer.
    clock: seconds, monotonic; also the clock of the times in the views.
    known: the last picture of a monitor whose place this one takes.
    """

    def __init__(
        self,
        cluster_name: str,
        nodes: Sequence[NodeAddress],
        login: ProbeLogin,
        *,
        interval_s: float,
        timeout_s: float,
        publish: Callable[[ClusterView], None],
        observe: Callable[[ClusterView], None] = lambda _view: None,
        clock: Callable[[], float] = time.monotonic,
        rules: Rules | None = None,
        known: ClusterView | None = None,
    ) -> None:
        self._login = login
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._publish = publish
        self._observe = observe
        self._clock = clock
        self._rules = rules or Rules()
        self._view = first_view(cluster_name, nodes, clock())
        if known is not None:
            self._view = _remember(known, self._view)
        self._watches: dict[str, _Watch] = {}
        self._running = False

    @property
    def view(self) -> ClusterView:
        """The newest picture, lag included. Also after `run` has ended."""
        return self._view

    async def run(self) -> None:
        """Watch until cancelled; ends with CancelledError only, and leaves nothing behind."""
        loop = asyncio.get_running_loop()
        if self._view.primary is None:
            self._view = replace(self._view, since=self._clock())
        self._running = True
        # Nodes that have not answered by then no longer hold back a claim.
        first_look = loop.call_later(self._rules.first_look_s + _CLOCK_GRAIN_S, self._judge)
        try:
            self._match_watches()
            await loop.create_future()
        finally:
            self._running = False
            first_look.cancel()
            await self._end([self._watches.pop(name) for name in list(self._watches)])

    def poke(self, node_name: str) -> None:
        """Probe this node at once: somebody's connection to it failed. Unknown names are ignored.

        A probe that is already under way is followed by another, because it may have started
        before the failure.
        """
        watch = self._watches.get(node_name)
        if watch is not None:
            watch.wake.set()

    def believe(self, leader: str | None) -> None:
        """Somebody who promotes says who the primary is; None when nobody does."""
        if leader != self._view.leader:
            before = self._view
            self._view = replace(before, leader=leader)
            self._judge(since=before)

    def set_interval(self, interval_s: float) -> None:
        """Probe every `interval_s` seconds from now on, for instance more often during writes."""
        faster = interval_s < self._interval_s
        self._interval_s = interval_s
        if faster:
            for watch in self._watches.values():
                watch.wake.set()

    async def set_nodes(self, nodes: Sequence[NodeAddress]) -> None:
        """Watch these nodes from now on; those already watched at the same place keep their facts.

        Raises ValueError when two nodes share a name.
        """
        now = self._clock()
        wanted = first_view(self._view.name, nodes, now)
        before = self._view
        self._view = _remember(before, wanted)
        if self._running:
            ended = self._match_watches()
            self._judge(since=before)
            await self._end(ended)

    def _match_watches(self) -> list[_Watch]:
        """Start a watch for every node that has none; return those no longer wanted."""
        wanted = {node.name: node.address for node in self._view.nodes}
        ended = [
            self._watches.pop(name)
            for name, watch in list(self._watches.items())
            if wanted.get(name) is None or not _same_place(watch.address, wanted[name])
        ]
        for name, address in wanted.items():
            if name not in self._watches:
                watch = _Watch(address, deque(maxlen=self._rules.history), asyncio.Event())
                self._watches[name] = watch
                watch.task = asyncio.create_task(self._keep_asking(watch), name=f"watch {name}")
        return ended

    @staticmethod
    async def _end(watches: Sequence[_Watch]) -> None:
        tasks = [watch.task for watch in watches if watch.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep_asking(self, watch: _Watch) -> None:
        """Task: one node's probes, one after the other, for as long as it is watched."""
        probe = Probe(
            watch.address,
            self._login,
            timeout_s=self._timeout_s,
            clock=self._clock,
            on_lost=watch.wake.set,
        )
        async with aclosing(probe):
            while True:
                watch.wake.clear()
                started = self._clock()
                try:
                    watch.samples.append(await probe.sample())
                    self._judge()
                except Exception:  # noqa: BLE001 -- top of a task: a bug must not end the watch
                    _log.exception(
                        "watching node %s failed",
                        watch.address.name,
                        extra={"facts": {"cluster": self._view.name, "node": watch.address.name}},
                    )
                await self._pause(watch, started)

    async def _pause(self, watch: _Watch, started: float) -> None:
        """Wait for the node's next turn, or for a poke."""
        spare_s = started + _POKES_APART_S - self._clock()
        if spare_s > 0:
            await asyncio.sleep(spare_s)
        try:
            async with asyncio.timeout(self._seconds_to_next_turn(watch)):
                await watch.wake.wait()
        except TimeoutError:
            pass

    def _seconds_to_next_turn(self, watch: _Watch) -> float:
        """Turns are multiples of the interval on the clock, so all nodes are asked together.

        Positions of a primary and its replicas compare best when taken at the same time.
        """
        every_s = self._interval_s / (_DOUBT_SPEEDUP if self._in_doubt(watch) else 1)
        now = self._clock()
        return (math.floor(now / every_s) + 1) * every_s - now

    def _in_doubt(self, watch: _Watch) -> bool:
        """Whether the next probes decide: about to be down, or about to be up again."""
        state = self._view.node(watch.address.name).state
        comes_back = state == "down" and bool(watch.samples) and watch.samples[-1].answered
        return state == "suspect" or comes_back

    def _judge(self, since: ClusterView | None = None) -> None:
        """Draw the new picture, and tell whoever wants to know what changed.

        since: the picture published last, where that is not the current one.
        """
        before = since or self._view
        samples = {name: tuple(watch.samples) for name, watch in self._watches.items()}
        self._view = judge(self._view, samples, self._clock(), self._rules)
        changes = changes_between(before, self._view)
        for change in changes:
            level = logging.WARNING if change.alarming else logging.INFO
            kind: EventKind = "primary" if "primary" in change.facts else "node"
            report(_log, kind, change.sentence, change.facts, level)
        lost = _primary_in_trouble(before, self._view)
        if lost is not None:
            # What the others know of it (do their receivers still stream?) is wanted now.
            for name in self._watches.keys() - {lost}:
                self.poke(name)
        if changes:
            self._tell(self._publish)
        self._tell(self._observe)

    def _tell(self, who: Callable[[ClusterView], None]) -> None:
        try:
            who(self._view)
        except Exception:  # noqa: BLE001 -- whoever listens is not ours; the watch goes on
            _log.exception(
                "publishing the view of cluster %s failed",
                self._view.name,
                extra={"facts": {"cluster": self._view.name, "primary": self._view.primary}},
            )


def _primary_in_trouble(before: ClusterView, after: ClusterView) -> str | None:
    """Name the primary that was up in the picture before and no longer is, or None."""
    was = before.primary_node
    if was is None or was.state != "up":
        return None
    now = after.primary_node
    fine = now is not None and now.name == was.name and now.state == "up"
    return None if fine else was.name


def _same_place(one: NodeAddress, other: NodeAddress) -> bool:
    return (one.host, one.port) == (other.host, other.port)


def _remember(before: ClusterView, wanted: ClusterView) -> ClusterView:
    """The picture of the nodes wanted, with the facts of those that stay."""
    known = {node.name: node for node in before.nodes}
    kept = tuple(_carry_over(known.get(node.name), node) for node in wanted.nodes)
    gone = before.primary not in [node.name for node in kept if node.state != "unknown"]
    return replace(
        before,
        nodes=kept,
        primary=None if gone else before.primary,
        since=wanted.since if gone and before.primary is not None else before.since,
    )


def _carry_over(known: NodeView | None, new: NodeView) -> NodeView:
    """The facts of a node that stays, under its new weight, zone and roles."""
    if known is None or not _same_place(known.address, new.address):
        return new
    return replace(known, address=new.address)
