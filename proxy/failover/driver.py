"""Stands between the monitor of one cluster and those who use its picture, and acts on it.

The monitor says what is; `decide` says what is to be done; this does it. While roles are being
changed nobody is served by a primary: what waits goes on waiting (`_held`). It is told of every
new picture (`see`) and has one task (`run`).

The way of a promotion: hold; cut every connection to the old primary, so that nothing is
acknowledged there any more; promote; wait until the new primary takes writes on a higher timeline
and the monitor has seen it; release; lead the other replicas to it. Everything up to the first
command may be called off; from then on it is finished, or reported.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from proxy.cluster import ClusterView, Monitor, NodeView, ProbeLogin, diagnose, dial
from proxy.errors import ClientError
from proxy.failover import orders
from proxy.failover.decision import (
    Decision,
    Rules,
    choose_successor,
    claimants,
    decide,
    decide_by_order,
    received,
)
from proxy.failover.events import EventLog, Kind
from proxy.failover.hooks import run_hook
from proxy.failover.lease import CoordinatorUnavailable, Grant, Lease
from proxy.failover.patroni import PatroniSilent, ask_leader, find_node
from proxy.failover.strays import Strays, why_left_alone

_log = logging.getLogger("pgweir.failover")

_LOOK_AGAIN_S = 0.05
# While the primary is in trouble, replicas are asked this often what they know of it.
_ASK_REPLICAS_S = 0.2
_DIAL_S = 5.0
_PROMOTE_S = 60.0
_SEEN_S = 10.0
_FOLLOW_S = 60.0
_FENCE_AGAIN_S = 5.0
_DRAIN_LOOK_S = 0.01
_LEASE_AGAIN_S = 0.5
_ASK_PATRONI_S = 1.0
_SEE_LOG = "The proxy's log has the reason."

# What goes wrong with a node that is told something.
_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, orders.OrderFailed)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator has asked for; see `failover` in the configuration.

    promotes: whether this proxy promotes at all. patroni: URLs of those that do, where they are.
    """

    promotes: bool = False
    rules: Rules = field(default_factory=Rules)
    dry_run: bool = False
    fence: bool = False
    drain_timeout_s: float = 10.0
    on_promote: tuple[str, ...] = ()
    on_demote: tuple[str, ...] = ()
    hook_timeout_s: float = 60.0
    patroni: tuple[str, ...] = ()


@dataclass(slots=True)
class Hands:
    """What is done to the proxy's own traffic.

    serve: use this picture from now on. cut: end all server connections to a node, with a reason.
    count_servers: how many there are, also those that go when they are free.
    """

    serve: Callable[[ClusterView], None]
    cut: Callable[[str, str, str], None]
    count_servers: Callable[[str, str], int]


class Failover:
    """One cluster's. `watch` gives it its monitor; then `run` it until cancelled.

    clock: as the monitor's.
    """

    def __init__(
        self,
        cluster: str,
        terms: Terms,
        login: ProbeLogin,
        hands: Hands,
        *,
        lease: Lease,
        events: EventLog,
        clock: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self._terms = terms
        self._login = login
        self._hands = hands
        self._lease = lease
        self._events = events
        self._clock = clock
        self._monitor: Monitor | None = None
        self._news = asyncio.Event()
        self._held: str | None = None
        self._said: tuple[str, str] | None = None
        self._primary: str | None = None
        self._last_promotion_at: float | None = None
        self._orders: set[asyncio.Task[None]] = set()
        self._ordered: set[asyncio.Task[str]] = set()
        self._changing_roles = asyncio.Lock()
        self._lease_again_at = 0.0
        self._lease_refusal = ""
        self._fenced_at: dict[str, float] = {}
        self._split: frozenset[str] = frozenset()
        self._strays = Strays()
        # By name of the replica: how many tasks are leading it.
        self._leading: Counter[str] = Counter()
        # By result: promoted, switched_over, failed, dry_run.
        self.counts: Counter[str] = Counter()
        self.last_duration_s: float | None = None

    def watch(self, monitor: Monitor) -> None:
        """Act on this monitor's picture."""
        self._monitor = monitor

    def adopt(self, terms: Terms, login: ProbeLogin, lease: Lease) -> None:
        """The configuration has changed."""
        self._terms, self._login, self._lease = terms, login, lease
        self._news.set()

    @property
    def view(self) -> ClusterView:
        """The newest picture."""
        assert self._monitor is not None, "no monitor"  # noqa: S101 -- wired before it runs
        return self._monitor.view

    @property
    def split_brain(self) -> int:
        """How many nodes take writes that must not."""
        return len(self._split)

    # --- what the monitor sees -----------------------------------------------------------------

    def see(self, view: ClusterView) -> None:
        """A new picture: pass it on, without the primary while roles are being changed."""
        self._note_primary(view)
        self._note_split(view)
        self._pass_on(view)
        self._news.set()

    def _pass_on(self, view: ClusterView) -> None:
        if self._held is not None:
            view = replace(view, primary=None, reason=self._held)
        self._hands.serve(view)

    def _note_primary(self, view: ClusterView) -> None:
        if view.primary is None or view.primary == self._primary:
            return
        before, self._primary = self._primary, view.primary
        self._note("primary", view.primary, f"{view.primary} is the primary: {view.reason}")
        if before is not None:
            # Whatever still runs there must not be acknowledged beside the new primary.
            self._hands.cut(self.cluster, before, f"{view.primary} is the primary now")

    def _note_split(self, view: ClusterView) -> None:
        """Two nodes that take writes are the worst that can happen: it is said loudly."""
        winner = view.primary_node
        others = claimants(view, winner) if winner is not None else []
        split = frozenset(node.name for node in others if not node.read_only)
        for name in sorted(split - self._split):
            self._note(
                "fencing",
                name,
                f"split brain: {name} takes writes although {view.primary} is the primary;"
                " what is written there is lost for the others",
                level=logging.ERROR,
            )
        for name in sorted(self._split - split):
            self._note("fencing", name, f"{name} takes no writes beside the primary any more")
        self._split = split

    # --- the task ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide and act until cancelled; leaves no task behind."""
        self._spawn(self._listen_to_patroni())
        try:
            while True:
                try:
                    await self._turn()
                except Exception:  # noqa: BLE001 -- top of a task: a bug must not end the watch
                    _log.exception("failover of cluster %s failed", self.cluster)
                    await asyncio.sleep(1.0)
        finally:
            left = [*self._orders, *self._ordered]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def _turn(self) -> None:
        self._news.clear()
        view = self.view
        self._fence(view)
        if not self._terms.promotes or self._changing_roles.locked():
            await self._until_news(self._clock() + _FENCE_AGAIN_S)
            return
        decision = decide(view, self._clock(), self._terms.rules, self._last_promotion_at)
        if decision.verb == "promote" and not self._terms.dry_run:
            async with self._changing_roles:
                why_not = await self._replace(decision)
            if why_not is None:
                return
            decision = Decision("wait", why_not, lost=decision.lost)
        self._say(decision)
        if decision.verb == "rest":
            self._gather_strays(view)
            await self._until_news(self._clock() + _FENCE_AGAIN_S)
        else:
            self._ask_replicas(view)
            await self._until_news(self._clock() + _LOOK_AGAIN_S)

    async def _until_news(self, until: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._news.wait()
        except TimeoutError:
            pass

    def _say(self, decision: Decision) -> None:
        """A decision is told when it is another than before."""
        said = (decision.verb, decision.reason)
        if said == self._said:
            return
        was, self._said = self._said, said
        if decision.verb == "rest":
            if was is not None and was[0] in ("wait", "refuse"):
                self._note("decision", decision.node, f"nothing to do: {decision.reason}")
            return
        would = self._terms.dry_run and decision.verb == "promote"
        if would:
            self.counts["dry_run"] += 1
        words = f"would promote {decision.node}" if would else _WORDS[decision.verb]
        self._note(
            "decision",
            decision.node or decision.lost,
            f"{words}: {decision.reason}" if would or not decision.node else decision.reason,
            level=logging.INFO if decision.verb == "wait" else logging.WARNING,
        )

    def _ask_replicas(self, view: ClusterView) -> None:
        """What the replicas know of a lost primary is wanted now, not at their next turn."""
        now = self._clock()
        for node in view.nodes:
            is_old = now - (node.sampled_at or 0.0) >= _ASK_REPLICAS_S
            if node.role == "replica" and node.state == "up" and is_old:
                assert self._monitor is not None  # noqa: S101 -- wired before it runs
                self._monitor.poke(node.name)

    async def _listen_to_patroni(self) -> None:
        """Task: hear from Patroni who is the leader, and look there at once when it is another."""
        silent = False
        while True:
            await asyncio.sleep(_ASK_PATRONI_S)
            if self._monitor is None or not self._terms.patroni:
                continue
            try:
                leader = await ask_leader(self._terms.patroni)
            except PatroniSilent as failed:
                if not silent:
                    _log.warning("cluster %s: Patroni does not answer: %s", self.cluster, failed)
                silent, leader = True, None
            else:
                silent = False
            view = self.view
            addresses = [node.address for node in view.nodes]
            name = None if leader is None else find_node(leader, addresses)
            self._monitor.believe(name)
            if name is not None and name != view.primary:
                self._poke(name)
                self._poke(view.primary or name)

    # --- a promotion ---------------------------------------------------------------------------

    async def _replace(self, decision: Decision, *, is_ordered: bool = False) -> str | None:
        """Let a replica take the place of the dead primary. Result: why it did not.

        is_ordered: an operator has named it.
        """
        assert decision.node is not None  # noqa: S101 -- a promotion
        if self._clock() < self._lease_again_at:
            return self._lease_refusal
        why_not: str | None = (
            f"{decision.lost} is gone, and another proxy promotes or has just promoted"
        )
        grant = None
        try:
            grant = await self._lease.take(decision.node)
            if grant is not None:
                why_not = await self._confirm(grant, decision, is_ordered=is_ordered)
        except CoordinatorUnavailable as failed:
            why_not = f"{decision.lost} is gone, but who may promote is unknown: {failed}"
            if grant is not None:
                grant.drop()
        except BaseException:
            if grant is not None:
                grant.drop()
            raise
        if grant is not None and why_not is None:
            self._say(decision)
            return await self._replace_under(grant, decision)
        self._lease_again_at, self._lease_refusal = self._clock() + _LEASE_AGAIN_S, why_not or ""
        return why_not

    async def _confirm(self, grant: Grant, decision: Decision, *, is_ordered: bool) -> str | None:
        """The lease is ours: is the decision still right, and ours to make? Else give it back."""
        if not self._lease.is_shared:
            return None
        # Who had it until now may have promoted already: everybody is asked once more.
        asked_at = self._clock()
        others = [node.name for node in self.view.nodes if node.state == "up"]
        try:
            for name in others:
                await self._until_seen(name, lambda node: (node.sampled_at or 0.0) >= asked_at)
        except TimeoutError:
            await grant.abandon(began=False)
            return f"{decision.lost} is gone, but not every replica could be asked again"
        wanted = decision.node or ""
        if grant.node not in (wanted, decision.lost) and not is_ordered:
            # Somebody has begun, and was stopped in the middle: that one, or none.
            wanted = grant.node
        again = decide_by_order(self.view, self._clock(), self._terms.rules, wanted)
        if again.verb != "promote":
            await grant.abandon(began=wanted != decision.node)
            if wanted == decision.node:
                return again.reason
            return f"another proxy has begun to promote {wanted}: {again.reason}"
        await grant.aim_at(wanted)
        return None

    async def _replace_under(self, grant: Grant, decision: Decision) -> str | None:
        view = self.view
        node, lost = view.node(grant.node), view.node(decision.lost or "")
        began = lost.failing_since or self._clock()
        self._last_promotion_at = self._clock()
        try:
            async with self._holding(f"{node.name} is being promoted"):
                self._hands.cut(self.cluster, lost.name, f"{lost.name} is gone")
                timeline = await self._promote(node, lost.timeline or 0, grant)
                await self._until_primary(node.name)
        except (*_FAILURES, TimeoutError) as failed:
            reason = f"promoting {node.name} failed: {_told(failed)}"
            self._failed(reason, node.name)
            # It may have been told: whoever takes the lease next goes on with the same node.
            await grant.abandon(began=True)
            return reason
        except BaseException:
            grant.drop()
            raise
        self._spawn(grant.finish(self._terms.rules.min_interval_s))
        self._promoted(
            node, lost, timeline=timeline, began=began, result="promoted", reason=decision.reason
        )
        return None

    def _promoted(
        self,
        node: NodeView,
        old: NodeView,
        *,
        timeline: int,
        began: float,
        result: str,
        reason: str,
    ) -> None:
        """It is done: count it, say it, and see to the others."""
        now = self._clock()
        self.counts[result] += 1
        self.last_duration_s = now - began
        loss = max(0, (old.insert_lsn or 0) - received(node))
        lost = (
            f"; {loss} bytes of WAL are known to be lost" if result == "promoted" and loss else ""
        )
        kind: Kind = "promotion" if result == "promoted" else "switchover"
        self._note(
            kind,
            node.name,
            f"{node.name} takes writes on timeline {timeline}, {now - began:.2f} s after"
            f" {old.name} {'failed' if kind == 'promotion' else 'was to be replaced'}{lost}",
            level=logging.WARNING,
        )
        facts = self._facts(node, old, timeline, kind, reason)
        self._spawn(self._run_hook("on_promote", self._terms.on_promote, node, facts))
        self._spawn(self._run_hook("on_demote", self._terms.on_demote, old, facts))

    # --- by order ------------------------------------------------------------------------------

    async def switch_over(self, name: str | None) -> str:
        """Make another node the primary, because somebody asks for it. Result: what was done.

        name: which one, None for the best. From a healthy primary: new statements wait, running
        transactions finish, the successor gets all WAL, and nobody sees an error. A dead one is
        replaced as by `run`, only at once. Raises ClientError, and then nothing has changed, or
        the log says what.
        """
        if not self._terms.promotes:
            raise ClientError(
                "55000",
                f"pgweir does not promote in cluster {self.cluster}",
                hint="Set failover.mode to promote, or ask who promotes there.",
            )
        if name is not None and name not in {node.name for node in self.view.nodes}:
            raise ClientError("42704", f"cluster {self.cluster} has no node {name}")
        if self._changing_roles.locked():
            raise ClientError("55006", f"roles of cluster {self.cluster} are being changed already")
        # Whoever asked may leave; half a switchover is none.
        order = asyncio.get_running_loop().create_task(self._obey(name))
        self._ordered.add(order)
        order.add_done_callback(self._ordered.discard)
        return await asyncio.shield(order)

    async def _obey(self, name: str | None) -> str:
        async with self._changing_roles:
            primary = self.view.primary_node
            if primary is not None and primary.state == "up":
                return await self._hand_over(primary, name)
            decision = decide_by_order(self.view, self._clock(), self._terms.rules, name)
            if decision.verb != "promote":
                raise ClientError("55000", decision.reason)
            if self._terms.dry_run:
                return f"would promote {decision.node}: {decision.reason}"
            why_not = await self._replace(decision, is_ordered=name is not None)
            if why_not is not None:
                raise ClientError("55000", why_not, hint=_SEE_LOG)
            return f"{decision.node} is the primary of cluster {self.cluster}"

    async def _hand_over(self, old: NodeView, name: str | None) -> str:
        """From a healthy primary to a successor."""
        successor = choose_successor(self.view, name)
        if isinstance(successor, str):
            raise ClientError("55000", successor)
        if self._terms.dry_run:
            return f"would hand over from {old.name} to {successor.name}"
        grant = await self._take_for(successor)
        began = self._clock()
        why = f"{old.name} hands over to {successor.name}"
        self._note("switchover", successor.name, why)
        try:
            async with self._holding(why):
                await self._drain(old)
                await self._prepare(old, successor)
                timeline = await self._succeed(old, successor, grant)
        except ClientError:
            await grant.abandon(began=self.view.node(successor.name).in_recovery is not True)
            raise
        except BaseException:
            grant.drop()
            raise
        self._spawn(grant.finish(self._terms.rules.min_interval_s))
        held_s = self._clock() - began
        self._last_promotion_at = self._clock()
        self._promoted(
            successor, old, timeline=timeline, began=began, result="switched_over", reason=why
        )
        return (
            f"{successor.name} is the primary of cluster {self.cluster} on timeline {timeline};"
            f" clients waited {held_s:.2f} s"
        )

    async def _take_for(self, successor: NodeView) -> Grant:
        """The lease for a switchover. Raises ClientError."""
        try:
            grant = await self._lease.take(successor.name)
        except CoordinatorUnavailable as failed:
            raise ClientError("55000", f"who may change roles is unknown: {failed}") from None
        if grant is not None and grant.node == successor.name:
            return grant
        if grant is not None:
            await grant.abandon(began=True)
        raise ClientError("55006", "another proxy is changing roles, or has just changed them")

    async def _drain(self, old: NodeView) -> None:
        """Wait until no client uses the old primary any more. Raises ClientError."""
        until = self._clock() + self._terms.drain_timeout_s
        while (left := self._hands.count_servers(self.cluster, old.name)) > 0:
            if self._clock() >= until:
                reason = (
                    f"{left} server connections to {old.name} are still in use after drain_timeout"
                    f" ({self._terms.drain_timeout_s:g} s): nothing was changed"
                )
                self._failed(reason, old.name)
                raise ClientError(
                    "55006", reason, hint="Long transactions, session mode or pinned clients."
                )
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def _prepare(self, old: NodeView, successor: NodeView) -> None:
        """Stop the old primary and give the successor what it lacks. Raises ClientError.

        The old primary is alive and goes on writing WAL of its own (checkpoints, snapshots for
        standbys). So the other replicas are led behind the successor first: one that had received
        more than the successor when that was promoted could not follow it.
        """
        limit_s = self._terms.drain_timeout_s or _DIAL_S
        try:
            async with self._connection(old) as at_old:
                await orders.forbid_writes(at_old)
                position = await orders.end_of_wal(at_old, limit_s)
            await self._until_seen(old.name, lambda node: node.read_only)
            await self._lead_all(old, successor, limit_s)
            async with self._connection(successor) as at_successor:
                await orders.until_received(at_successor, position, limit_s)
        except (*_FAILURES, TimeoutError) as failed:
            await self._take_back(old, successor)
            raise self._refusal(old, successor, failed) from None
        except BaseException:
            await self._take_back(old, successor)
            raise

    async def _succeed(self, old: NodeView, successor: NodeView, grant: Grant) -> int:
        """Promote a successor that has everything. Result: its timeline. Raises ClientError."""
        try:
            timeline = await self._promote(successor, old.timeline or 0, grant)
            await self._until_primary(successor.name)
        except (*_FAILURES, TimeoutError) as failed:
            now = self._clock()
            with contextlib.suppress(TimeoutError):
                await self._until_seen(successor.name, lambda node: (node.sampled_at or 0) >= now)
                if self.view.node(successor.name).in_recovery:
                    await self._take_back(old, successor)
            raise self._refusal(old, successor, failed) from None
        return timeline

    async def _lead_all(self, old: NodeView, upstream: NodeView, limit_s: float) -> None:
        """Lead every replica of the old primary behind another node. Raises as the first failed."""
        others = [
            node
            for node in self.view.replicas
            if node.name != upstream.name and node.state == "up" and not node.stale
        ]
        await asyncio.gather(
            *(self._lead_to(each, upstream, old.timeline or 0, limit_s) for each in others)
        )

    async def _take_back(self, old: NodeView, successor: NodeView) -> None:
        """Let the old primary go on as if nothing had been."""
        try:
            async with self._connection(old) as at_old:
                await orders.allow_writes(at_old)
        except (*_FAILURES, TimeoutError) as failed:
            reason = f"{old.name} is still told to take no writes: {_told(failed)}"
            self._note("switchover", old.name, reason, level=logging.ERROR)
        for node in self.view.replicas:
            if node.name != successor.name and node.state == "up":
                self._spawn(self._lead(node, old, old.timeline or 0))

    def _refusal(self, old: NodeView, successor: NodeView, failed: BaseException) -> ClientError:
        reason = f"{old.name} could not hand over to {successor.name}: {_told(failed)}"
        self._failed(reason, successor.name)
        return ClientError("55000", reason, hint=_SEE_LOG)

    async def _promote(self, node: NodeView, timeline: int, grant: Grant) -> int:
        """Promote a node, and begin to lead the others to it. Result: its timeline."""
        async with self._connection(node) as connection:
            await orders.allow_writes(connection)
            if not grant.is_valid:
                raise orders.OrderFailed("the lease to promote was lost")
            promoted = await orders.promote(connection, timeline, _PROMOTE_S)
        for other in self.view.nodes:
            if other.name != node.name and other.in_recovery and other.state == "up":
                self._spawn(self._lead(other, node, promoted))
        return promoted

    async def _until_primary(self, name: str) -> None:
        """Wait until the monitor sees this node as the primary."""
        await self._until_seen(name, lambda node: self.view.primary == node.name)

    async def _until_seen(self, name: str, fact: Callable[[NodeView], bool]) -> None:
        """Wait until a fact about a node shows in the picture. Raises TimeoutError."""
        async with asyncio.timeout(_SEEN_S):
            while not fact(self.view.node(name)):
                self._news.clear()
                self._poke(name)
                await self._until_news(self._clock() + _LOOK_AGAIN_S)

    @contextlib.asynccontextmanager
    async def _holding(self, why: str) -> AsyncIterator[None]:
        """For a block: nobody is served by a primary; who waits goes on waiting."""
        self._held = f"roles are being changed: {why}"
        self._pass_on(self.view)
        try:
            yield
        finally:
            self._held = None
            self._pass_on(self.view)

    def _failed(self, sentence: str, node: str) -> None:
        self.counts["failed"] += 1
        self._note("promotion", node, sentence, level=logging.ERROR)

    # --- the other nodes -----------------------------------------------------------------------

    async def _lead(self, replica: NodeView, primary: NodeView, timeline: int) -> None:
        """Task: let a replica stream from the new primary, or report that it does not."""
        self._leading[replica.name] += 1
        try:
            await self._lead_to(replica, primary, timeline, _FOLLOW_S)
        except TimeoutError:
            reason = f"{replica.name} does not stream from {primary.name}: it is left out"
        except _FAILURES as failed:
            reason = f"{replica.name} cannot be led to {primary.name}: {_told(failed)}"
        else:
            self._note("replica", replica.name, f"{replica.name} streams from {primary.name}")
            self._poke(replica.name)
            return
        finally:
            self._leading[replica.name] -= 1
        self._note("replica", replica.name, reason, level=logging.WARNING)

    def _gather_strays(self, view: ClusterView) -> None:
        """Lead replicas that have come back to the primary of now."""
        primary = view.primary_node
        if self._terms.dry_run or primary is None or primary.timeline is None:
            return
        for replica in self._strays.due(view, self._clock(), set(+self._leading)):
            self._spawn(self._lead_back(replica, primary, primary.timeline))

    async def _lead_back(self, replica: NodeView, primary: NodeView, timeline: int) -> None:
        """Task: lead a stray, unless it follows whom it should."""
        try:
            async with self._connection(replica) as connection:
                told = (await orders.read_upstream(connection)).conninfo
        except (*_FAILURES, TimeoutError) as failed:
            _log.info("%s cannot be asked whom it follows: %s", replica.name, _told(failed))
            return
        left = why_left_alone(replica, told, self.view)
        if left is not None:
            self._note("replica", replica.name, left)
        elif self.view.primary == primary.name and not self._changing_roles.locked():
            await self._lead(replica, primary, timeline)

    async def _lead_to(
        self, replica: NodeView, upstream: NodeView, timeline: int, limit_s: float
    ) -> None:
        """Let a replica stream from another node, and wait until it does so on a timeline."""
        address = upstream.address.replication
        async with self._connection(replica) as connection:
            before = await orders.read_upstream(connection)
            if before.slot:
                async with self._connection(upstream) as at_upstream:
                    await orders.make_slot(at_upstream, before.slot)
            await orders.follow(connection, before, address)
            await orders.until_streaming(connection, before, address, timeline, limit_s)

    def _fence(self, view: ClusterView) -> None:
        """Keep a former primary from taking writes, where that is wanted."""
        if not self._terms.fence:
            return
        now = self._clock()
        for name in self._split:
            if now - self._fenced_at.get(name, -_FENCE_AGAIN_S) >= _FENCE_AGAIN_S:
                self._fenced_at[name] = now
                self._spawn(self._forbid_writes(view.node(name)))

    async def _forbid_writes(self, node: NodeView) -> None:
        """Task: make a node read-only and end its clients."""
        try:
            async with self._connection(node) as connection:
                await orders.forbid_writes(connection)
        except (*_FAILURES, TimeoutError) as failed:
            self._note(
                "fencing",
                node.name,
                f"{node.name} cannot be made read-only: {_told(failed)}",
                level=logging.ERROR,
            )
            return
        self._note("fencing", node.name, f"{node.name} was made read-only, its clients were ended")
        self._poke(node.name)

    # --- small things --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connection(self, node: NodeView) -> AsyncIterator[Any]:
        async with asyncio.timeout(_DIAL_S):
            connection = await dial(node.address, self._login)
        try:
            yield connection
        finally:
            connection.terminate()

    async def _run_hook(
        self, name: str, command: tuple[str, ...], node: NodeView, facts: Mapping[str, str]
    ) -> None:
        """Task: a command of the operator's."""
        if not command:
            return
        facts = {**facts, "PGWEIR_EVENT": name}
        went_wrong = await run_hook(command, facts, self._terms.hook_timeout_s)
        if went_wrong is None:
            self._note("hook", node.name, f"{name} succeeded for {node.name}")
        else:
            sentence = f"{name} {went_wrong}"
            self._note("hook", node.name, sentence, level=logging.ERROR)

    def _facts(
        self, node: NodeView, old: NodeView, timeline: int, kind: Kind, reason: str
    ) -> dict[str, str]:
        """What a hook learns. The address of each is the one that others replicate from."""
        facts = {"CLUSTER": self.cluster, "KIND": kind, "TIMELINE": str(timeline), "REASON": reason}
        for word, each in (("PRIMARY", node), ("OLD_PRIMARY", old)):
            host, port = each.address.replication
            facts |= {word: each.name, f"{word}_HOST": host, f"{word}_PORT": str(port)}
        return {f"PGWEIR_{key}": value for key, value in facts.items()}

    def _poke(self, node: str) -> None:
        if self._monitor is not None:
            self._monitor.poke(node)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._orders.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._orders.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            _log.error("an order of cluster %s failed", self.cluster, exc_info=bug)

    def _note(
        self, kind: Kind, node: str | None, sentence: str, *, level: int = logging.INFO
    ) -> None:
        """Log something and remember it."""
        facts = {"cluster": self.cluster, "kind": kind, "node": node}
        _log.log(level, "%s", sentence, extra={"facts": facts})
        alarming = level >= logging.WARNING
        self._events.add(self.cluster, kind, node, sentence, is_alarming=alarming)


_WORDS = {"wait": "waiting", "refuse": "nobody is promoted", "promote": "promoting"}


def _told(failed: BaseException) -> str:
    """One line, without what an asyncio timeout does not say."""
    if isinstance(failed, TimeoutError):
        return "it did not answer in time"
    if isinstance(failed, Exception):
        return str(failed) if isinstance(failed, orders.OrderFailed) else diagnose(failed)[1]
    return type(failed).__name__
